//! Recorded requests: files in the CTR1 form, plain or compressed with zstd.
//!
//! In: a file. Out: the keys in the order in which they were asked for, and the length of each key's value. What must
//! stay true: every key id is below the number of sizes, so nothing that indexes by it can fail.
//!
//! Source, little-endian: `CTR1`, u32 requests, u32 keys, u32 flags; u32 size\[keys\]; u32 key\[requests\]; times,
//! which are not used.

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
        let trace = Self { sizes: numbers(&rest[..keys]), requests: numbers(&rest[keys..keys + requests]) };
        if trace.requests.is_empty() || trace.requests.iter().any(|key| *key as usize >= keys) {
            return Err("is damaged: no requests, or keys without a size".to_owned());
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
        assert_eq!(trace, Trace { requests: vec![0, 1, 0], sizes: vec![10, 20] });
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
