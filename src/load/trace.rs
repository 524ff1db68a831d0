//! Recorded requests: files in the CTR1 form or as comma-separated lines, plain or compressed with zstd.
//!
//! In: a file. Out: the keys in the order in which they were asked for, and the length of each key's value. What must
//! stay true: every key id is below the number of sizes, so nothing that indexes by it can fail.
//!
//! CTR1, little-endian: `CTR1`, u32 requests, u32 keys, u32 flags; u32 size\[keys\]; u32 key\[requests\]; times,
//! which are not used. Lines: seconds, key, its length, the value's length, client, operation, time to live in seconds
//! (0: for ever). Source: Yang, Yue, Rashmi, "A large scale analysis of hundreds of in-memory cache clusters at
//! Twitter" (OSDI 2020), which published its recordings in this form.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// Longest file, unpacked: a hundred times the longest published one.
const TRACE_BYTES_MAX: u64 = 4 << 30;

const MAGIC: &[u8; 4] = b"CTR1";
const ZSTD_MAGIC: &[u8; 4] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A recording.
#[derive(Debug, PartialEq, Eq)]
pub struct Trace {
    /// The key of each request, as a number from 0.
    pub requests: Vec<u32>,
    /// The length of each key's value.
    pub sizes: Vec<u32>,
    /// When, and what for; as many as requests, or none where the file does not say.
    pub details: Vec<Detail>,
}

/// What is known of a request beyond its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Seconds since the recording began.
    pub seconds: u32,
    /// Stores the key for so many seconds; 0: for ever. `None` when it reads.
    pub stored_for: Option<u32>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(path: &Path) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
        let file = std::fs::read(path).map_err(unreadable)?;
        if !file.starts_with(ZSTD_MAGIC) {
            return Self::parse(&file);
        }
        let decoder =
            ruzstd::decoding::StreamingDecoder::new(&file[..]).map_err(|error| format!("is no zstd file: {error}"))?;
        let mut unpacked = Vec::new();
        decoder.take(TRACE_BYTES_MAX).read_to_end(&mut unpacked).map_err(unreadable)?;
        Self::parse(&unpacked)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.first().is_some_and(u8::is_ascii_digit) {
            return Self::parse_lines(bytes);
        }
        let (words, _) = bytes.as_chunks::<4>();
        let [magic, requests, keys, _flags, rest @ ..] = words else {
            return Err("is no trace (CTR1): too short".to_owned());
        };
        if magic != MAGIC {
            return Err("is no trace: it does not begin with CTR1".to_owned());
        }
        let (requests, keys) = (u32::from_le_bytes(*requests) as usize, u32::from_le_bytes(*keys) as usize);
        if rest.len() < requests + keys {
            return Err(format!("is cut: {requests} requests of {keys} keys do not fit its length"));
        }
        let numbers = |words: &[[u8; 4]]| words.iter().map(|word| u32::from_le_bytes(*word)).collect::<Vec<_>>();
        let (sizes, requests) = (numbers(&rest[..keys]), numbers(&rest[keys..keys + requests]));
        let trace = Self { sizes, requests, details: Vec::new() };
        if trace.requests.is_empty() || trace.requests.iter().any(|key| *key as usize >= keys) {
            return Err("is damaged: no requests, or keys without a size".to_owned());
        }
        Ok(trace)
    }

    fn parse_lines(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is no trace: its lines are no text".to_owned())?;
        let mut ids = HashMap::new();
        let mut trace = Self { requests: Vec::new(), sizes: Vec::new(), details: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let damaged =
                || format!("line {}: {line:?} is not seconds,key,length,length,client,get|set,ttl", index + 1);
            let fields: Vec<&str> = line.split(',').collect();
            let &[seconds, key, _, size, _, operation, ttl] = &fields[..] else { return Err(damaged()) };
            let number = |text: &str| text.parse::<u32>().map_err(|_| damaged());
            let id = *ids.entry(key).or_insert(trace.sizes.len() as u32);
            if id as usize == trace.sizes.len() {
                trace.sizes.push(number(size)?);
            }
            let ttl = number(ttl)?;
            let stored_for = if operation.starts_with("get") { None } else { Some(ttl) };
            trace.requests.push(id);
            trace.details.push(Detail { seconds: number(seconds)?, stored_for });
        }
        Ok(trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(numbers: &[u32]) -> Vec<u8> {
        MAGIC.iter().copied().chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect()
    }

    #[test]
    fn a_trace_is_read() {
        let trace = Trace::parse(&file(&[3, 2, 0, 10, 20, 0, 1, 0])).unwrap();
        assert_eq!(trace, Trace { requests: vec![0, 1, 0], sizes: vec![10, 20], details: vec![] });
    }

    #[test]
    fn lines_are_read() {
        let trace = Trace::parse(b"0,a,1,10,7,get,0\n5,b,1,20,7,set,60\n6,a,1,10,7,gets,0\n").unwrap();
        assert_eq!((trace.requests, trace.sizes), (vec![0, 1, 0], vec![10, 20]));
        let details = [(0, None), (5, Some(60)), (6, None)];
        assert_eq!(trace.details, details.map(|(seconds, stored_for)| Detail { seconds, stored_for }));
        for bad in ["0,a,1,10,7,get", "x,a,1,10,7,get,0", "0,a,1,10,7,get,0\n1,a,1,-5,7,get,x"] {
            assert!(Trace::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn damage_is_refused() {
        let rows: &[(&[u32], &str)] = &[
            (&[], "too short"),
            (&[3, 2, 0, 10, 20, 0, 1], "is cut"),
            (&[u32::MAX, u32::MAX, 0], "is cut"),
            (&[0, 0, 0], "is damaged"),
            (&[1, 1, 0, 10, 1], "is damaged"),
        ];
        for (numbers, expected) in rows {
            assert!(Trace::parse(&file(numbers)).unwrap_err().contains(expected), "{numbers:?}");
        }
        assert!(Trace::parse(b"not a trace at all").unwrap_err().contains("does not begin"));
    }

    #[test]
    fn packed_files_are_unpacked() {
        let plain = file(&[3, 2, 0, 10, 20, 0, 1, 0]);
        let packed = ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Uncompressed);
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), packed).unwrap();
        assert_eq!(Trace::load(path.path()), Trace::parse(&plain));
    }
}
