//! Any sequence of operations, with any budget and policy: what the shard returns is what a map would, or nothing when
//! it had to evict; the budget holds.

#![no_main]

use std::collections::HashMap;

use corering::config::Policy;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, Stored, When};
use libfuzzer_sys::fuzz_target;

/// What a change of an expiry may take beyond the budget: it is never refused.
const BESIDE_BYTES: u64 = 256 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let [policy, mib, operations @ ..] = bytes else { return };
    let policy = Policy::NAMES[usize::from(*policy) % Policy::NAMES.len()].1;
    let budget_bytes = if *mib == 0 { u64::MAX } else { u64::from(*mib % 4 + 1) << 20 };
    let may_lack = budget_bytes != u64::MAX;
    let mut shard = Shard::new(ShardOptions { budget_bytes, policy, seed: 1 });
    let mut model: HashMap<[u8; 2], (Vec<u8>, u64)> = HashMap::new();
    let mut now = 1_000_000;
    for operation in operations.chunks_exact(6) {
        let [kind, high, low, len, fill, time] = *operation else { return };
        let key = [high % 16, low];
        now += u64::from(time);
        model.retain(|_, (_, expires_at)| *expires_at == 0 || *expires_at > now);
        // Most values are short, some have allocations of their own.
        let len = if len < 240 { usize::from(len) } else { usize::from(len - 239) * 3_000 };
        let value = vec![fill; len];
        let expires_at = if fill % 3 == 0 { now + 1 + u64::from(fill) * 10 } else { 0 };
        match kind % 9 {
            0..4 => {
                let expiry = if expires_at == 0 { Expiry::Never } else { Expiry::At(expires_at) };
                let stored = shard.set(&key, NewValue::Copied(&value), expiry, When::Always, now);
                if matches!(stored, Stored::Done { .. }) {
                    model.insert(key, (value, expires_at));
                }
            }
            4 => {
                let had = model.remove(&key).is_some();
                let has = shard.delete(&key, now);
                assert!(has == had || (may_lack && !has));
            }
            5 => {
                let has = shard.set_expiry(&key, (expires_at != 0).then_some(expires_at), now);
                assert!(has == model.contains_key(&key) || (may_lack && !has));
                match model.get_mut(&key) {
                    Some(known) if has => known.1 = expires_at,
                    _ => _ = model.remove(&key),
                }
            }
            6 => {
                let mut whole = model.get(&key).map_or(Vec::new(), |known| known.0.clone());
                if shard.peek(&key, now).is_none() {
                    model.remove(&key);
                    whole.clear();
                }
                whole.extend_from_slice(&value);
                if shard.append(&key, &value, now) == Some(whole.len()) {
                    model.entry(key).or_default().0 = whole;
                }
            }
            7 => _ = shard.maintain(now),
            _ if fill == 255 => {
                shard.clear();
                model.clear();
            }
            _ => {}
        }
        match (shard.get(&key, now), model.get(&key)) {
            (Some(item), Some((value, expires_at))) => {
                assert_eq!((item.value, item.expires_at.unwrap_or(0)), (&value[..], *expires_at));
            }
            (None, None) => {}
            (None, Some(_)) => assert!(may_lack && policy != Policy::NoEviction, "an item was lost"),
            (Some(_), None) => panic!("an item that was never stored, or was deleted"),
        }
        let used = shard.stats().used_bytes;
        assert!(used <= budget_bytes.saturating_add(BESIDE_BYTES), "{used} bytes of {budget_bytes}");
    }
});
