//! `HOTKEYS`: the keys that are asked for most.
//!
//! In: a request's arguments, the workers' sketches. Out: for each key its estimated requests of the last minutes, by
//! how much the estimate may be too high, and its share of all requests in percent.

use super::arguments::{Refusal, integer};
use super::session::Session;
use super::table::{Flags, Spec};
use super::{Call, Run};
use crate::protocol::Args;
use crate::protocol::resp::Reply;

const OPERATOR: Flags = Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE).or(Flags::NOSCRIPT).or(Flags::DANGEROUS);

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] = &[Spec::keyless(
    "server",
    ("hotkeys", -1, OPERATOR),
    "7.2.5",
    "Returns the keys that are asked for most.",
    Run::Session(hot_keys),
)];

const KEYS_SHOWN: usize = 10;
const KEYS_MAX: i64 = 1000;

/// `HOTKEYS [COUNT n]`, `HOTKEYS RESET`.
fn hot_keys(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is = |index: usize, word: &[u8]| args.get(index).eq_ignore_ascii_case(word);
    let most = match args.len() {
        1 => KEYS_SHOWN,
        2 if is(1, b"reset") => {
            call.instance.hot.clear();
            return reply.simple("OK");
        }
        3 if is(1, b"count") => match integer(args.get(2)) {
            Ok(count @ 0..=KEYS_MAX) => count as usize,
            _ => return reply.error("ERR COUNT takes 0 to 1000"),
        },
        _ => return Refusal::Syntax.write(reply),
    };
    let every = u64::from(call.settings.hotkeys_sampling);
    if every == 0 {
        return reply.error("ERR requests are not sampled; CONFIG SET hotkeys-sampling 64 begins it");
    }
    let (keys, total) = call.instance.hot.top(most);
    reply.array(keys.len());
    for known in keys {
        reply.array(4);
        reply.bulk(&known.key);
        reply.integer((known.count * every) as i64);
        reply.integer((known.error * every) as i64);
        reply.double((1000.0 * known.count as f64 / total.max(1) as f64).round() / 10.0);
    }
}
