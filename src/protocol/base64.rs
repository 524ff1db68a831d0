//! Base64 as RFC 4648 has it, with padding: keys that are no text.
//!
//! In: text or bytes. Out: the other. What must stay true: malformed text leaves nothing behind.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The number that a letter stands for.
fn number(letter: u8) -> Option<u32> {
    Some(u32::from(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

/// Appends the bytes that `text` stands for; `None`, and nothing is appended, when it is empty or malformed.
pub fn decode(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let start = bytes.len();
    let decoded = decode_groups(text, bytes);
    if decoded.is_none() {
        bytes.truncate(start);
    }
    decoded
}

fn decode_groups(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let groups = text.len() / 4;
    for (index, group) in text.chunks(4).enumerate() {
        let padding = group.iter().rev().take_while(|letter| **letter == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 < groups) {
            return None;
        }
        let letters = &group[..4 - padding];
        let bits = letters.iter().try_fold(0, |bits, letter| Some(bits << 6 | number(*letter)?))? << (6 * padding);
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(())
}

/// Gives each letter of the text that stands for `bytes`.
pub fn encode(bytes: &[u8], mut letter: impl FnMut(u8)) {
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for place in 0..4 {
            let number = bits >> (18 - 6 * place) & 63;
            letter(if place <= group.len() { ALPHABET[number as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_text_and_bytes_again() {
        let rows: &[(&[u8], &[u8])] =
            &[(b"f", b"Zg=="), (b"fo", b"Zm8="), (b"foo", b"Zm9v"), (b"foob", b"Zm9vYg=="), (b"\xfb\xff\0", b"+/8A")];
        for (bytes, text) in rows {
            let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
            encode(bytes, |letter| encoded.push(letter));
            assert_eq!(encoded, *text);
            assert_eq!((decode(text, &mut decoded), &decoded[..]), (Some(()), *bytes));
        }
        for text in [&b""[..], b"Zg=", b"Zg", b"Z===", b"====", b"Zg==Zg==", b"Zm 9", b"Zm9\xff"] {
            let mut decoded = b"kept".to_vec();
            assert_eq!((decode(text, &mut decoded), &decoded[..]), (None, &b"kept"[..]), "{}", text.escape_ascii());
        }
    }
}
