//! From a sequence at whose end two servers disagree to a short one that still shows it.

use crate::compare::agree;
use crate::generate::{Request, show};
use crate::peer::Peer;

/// Sequences replayed at most.
const ATTEMPTS: usize = 300;

/// Fails the test with the shortest sequence found.
pub(crate) fn report(place: &str, redis: &mut Peer, other: &mut Peer, sequence: &[Request]) -> ! {
    let (last, before) = sequence.split_last().expect("a command that differs");
    let mut replay = |before: &[Request]| {
        let mut requests = vec![vec![b"FLUSHALL".to_vec()]];
        requests.extend_from_slice(before);
        requests.push(last.clone());
        let expected = redis.exchange(&requests).pop().expect("a reply to each");
        let found = other.exchange(&requests).pop().expect("a reply to each");
        (!agree(last, &expected, &found)).then_some((expected, found))
    };
    let Some(mut replies) = replay(before) else {
        panic!("{place}: {} disagrees on {}, but not when it is replayed", other.name, show(last));
    };
    let mut kept = before.to_vec();
    let mut attempts = 0;
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 && attempts < ATTEMPTS {
        let mut start = 0;
        while start < kept.len() && attempts < ATTEMPTS {
            let end = (start + chunk).min(kept.len());
            let without: Vec<Request> = [&kept[..start], &kept[end..]].concat();
            attempts += 1;
            match replay(&without) {
                Some(different) => (kept, replies) = (without, different),
                None => start = end,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    kept.push(last.clone());
    let commands: Vec<String> = kept.iter().map(show).collect();
    let (expected, found) = (replies.0.escape_ascii(), replies.1.escape_ascii());
    panic!("{place}:\n  {}\nredis-server: {expected}\n{}: {found}", commands.join("\n  "), other.name);
}
