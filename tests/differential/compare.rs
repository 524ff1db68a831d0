//! When two replies count as the same: when their bytes are equal, but for these commands.
//!
//! - `TTL PTTL EXPIRETIME PEXPIRETIME`: the servers set and read relative times at different moments.
//! - `KEYS`: no order is promised.
//! - `RANDOMKEY`: any key.
//!
//! `SCAN` is compared by the keys that a whole scan shows, and by its errors. Redis 7.2, whose level Corering is at,
//! has the same replies as 7.0 to everything that is generated.

use corering::protocol::resp::{Value, parse};

/// The servers execute a batch within this time of each other.
const SKEW_MS: i64 = 5000;

/// Whether `found` is as good as `expected`.
pub(crate) fn agree(request: &[Vec<u8>], expected: &[u8], found: &[u8]) -> bool {
    expected == found
        || match request[0].to_ascii_lowercase().as_slice() {
            b"ttl" | b"expiretime" => are_near(expected, found, SKEW_MS / 1000),
            b"pttl" | b"pexpiretime" => are_near(expected, found, SKEW_MS),
            b"keys" => sorted(expected).is_some_and(|keys| Some(keys) == sorted(found)),
            b"randomkey" => is_string(expected) && is_string(found),
            _ => false,
        }
}

fn value(reply: &[u8]) -> Option<Value> {
    parse(reply).ok()?.map(|(value, _)| value)
}

fn are_near(expected: &[u8], found: &[u8], tolerance: i64) -> bool {
    match (value(expected), value(found)) {
        (Some(Value::Integer(expected)), Some(Value::Integer(found))) => {
            expected > 0 && found > 0 && expected.abs_diff(found) <= tolerance as u64
        }
        _ => false,
    }
}

fn is_string(reply: &[u8]) -> bool {
    matches!(value(reply), Some(Value::Bulk(_)))
}

fn sorted(reply: &[u8]) -> Option<Vec<Vec<u8>>> {
    let Some(Value::Array(elements)) = value(reply) else { return None };
    let mut keys: Vec<_> = elements
        .into_iter()
        .map(|key| if let Value::Bulk(key) = key { Some(key) } else { None })
        .collect::<Option<_>>()?;
    keys.sort();
    Some(keys)
}
