//! The commands on keys whatever their values: deleting, expiring, moving, listing, looking behind the curtain.
//!
//! In: a request's arguments. Out: calls of the shard and Redis' replies. What must stay true: replies and errors are
//! Redis' byte for byte; with several workers a cursor of `SCAN` leads through all of them, one after the other.

use super::arguments::{Refusal, TimeForm, conclude, integer};
use super::expiry::{expire, persist, time_to_live};
use super::fanout::{Merge, Spread};
use super::slot::{self, CURSOR_BITS};
use super::string::Outcome;
use super::table::{Flags, Keys, Spec};
use super::{Call, Execute, Run, glob};
use crate::config::Policy;
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::{Expiry, Item, NewValue, Stored, Usage, When};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = WRITE.or(Flags::FAST);
const STORE: Flags = WRITE.or(Flags::DENYOOM);
const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1 };
const TWO_KEYS: Keys = Keys { first: 1, last: 2, step: 1 };
const ALL_KEYS: Keys = Keys { first: 1, last: -1, step: 1 };
const SUBCOMMAND_KEY: Keys = Keys { first: 2, last: 2, step: 1 };
const NO_KEYS: Keys = Keys { first: 0, last: 0, step: 0 };

/// A row: name, arity, flags, keys, the Redis version that introduced it, complexity, what it does, how it runs.
#[allow(clippy::too_many_arguments, reason = "a row of the table has this many columns")]
const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: Keys,
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
    run: Run,
) -> Spec {
    Spec { name, arity, flags, keys, group: "generic", since, complexity, summary, run, subcommands: &[] }
}

const fn count_keys(execute: Execute) -> Run {
    Run::Spread(execute, Spread::Sum)
}

/// The family's rows of the command table.
#[rustfmt::skip]
pub static COMMANDS: &[Spec] = &[
    row("copy", -3, STORE, TWO_KEYS, "6.2.0", "O(N) with the value's length",
        "Copies the value of a key to another key.",
        Run::Spread(|call, args, reply| conclude(copy(call, args, reply), reply), Spread::Transfer)),
    row("dbsize", 1, READ_FAST, NO_KEYS, "1.0.0", "O(1)", "Returns the number of keys.",
        Run::Everywhere(|call, _, reply| reply.integer(call.shard.len() as i64), Merge::Sum)),
    row("del", -2, WRITE, ALL_KEYS, "1.0.0", "O(N) with the number of keys", "Deletes keys.", count_keys(delete)),
    row("exists", -2, READ_FAST, ALL_KEYS, "1.0.0", "O(N) with the number of keys", "Counts which keys exist.",
        count_keys(exists)),
    row("expire", -3, WRITE_FAST, ONE_KEY, "1.0.0", "O(1)", "Sets a key's expiry in seconds from now.",
        Run::Keyed(|call, args, reply| conclude(expire(call, args, reply, TimeForm::Seconds, "expire"), reply))),
    row("expireat", -3, WRITE_FAST, ONE_KEY, "1.2.0", "O(1)", "Sets a key's expiry as a Unix time in seconds.",
        Run::Keyed(|call, args, reply| conclude(expire(call, args, reply, TimeForm::UnixSeconds, "expireat"), reply))),
    row("expiretime", 2, READ_FAST, ONE_KEY, "7.0.0", "O(1)", "Returns a key's expiry as a Unix time in seconds.",
        Run::Keyed(|call, args, reply| time_to_live(call, args, reply, TimeForm::UnixSeconds))),
    row("flushall", -1, WRITE, NO_KEYS, "1.0.0", "O(1), the freeing goes on in slices", "Deletes all keys.",
        Run::Everywhere(|call, args, reply| conclude(flush(call, args, reply), reply), Merge::AllOk)),
    row("flushdb", -1, WRITE, NO_KEYS, "1.0.0", "O(1), the freeing goes on in slices",
        "Deletes all keys of the database.",
        Run::Everywhere(|call, args, reply| conclude(flush(call, args, reply), reply), Merge::AllOk)),
    row("keys", 2, READ, NO_KEYS, "1.0.0", "O(N) with the number of keys in the cache",
        "Lists the keys that match a pattern; SCAN does so without holding others up.",
        Run::Everywhere(keys, Merge::Concat)),
    Spec { subcommands: OBJECT, ..row("object", -2, READ, NO_KEYS, "2.2.3", "Depends on the subcommand",
        "Tells how a key's value is kept.", Run::Container) },
    row("persist", 2, WRITE_FAST, ONE_KEY, "2.2.0", "O(1)", "Removes a key's expiry.", Run::Keyed(persist)),
    row("pexpire", -3, WRITE_FAST, ONE_KEY, "2.6.0", "O(1)", "Sets a key's expiry in milliseconds from now.",
        Run::Keyed(|call, args, reply| conclude(expire(call, args, reply, TimeForm::Milliseconds, "pexpire"), reply))),
    row("pexpireat", -3, WRITE_FAST, ONE_KEY, "2.6.0", "O(1)", "Sets a key's expiry as a Unix time in milliseconds.",
        Run::Keyed(|call, args, reply|
            conclude(expire(call, args, reply, TimeForm::UnixMilliseconds, "pexpireat"), reply))),
    row("pexpiretime", 2, READ_FAST, ONE_KEY, "7.0.0", "O(1)", "Returns a key's expiry as a Unix time in milliseconds.",
        Run::Keyed(|call, args, reply| time_to_live(call, args, reply, TimeForm::UnixMilliseconds))),
    row("pttl", 2, READ_FAST, ONE_KEY, "2.6.0", "O(1)", "Returns a key's time to live in milliseconds.",
        Run::Keyed(|call, args, reply| time_to_live(call, args, reply, TimeForm::Milliseconds))),
    row("randomkey", 1, READ, NO_KEYS, "1.0.0", "O(1)", "Returns any one key.",
        Run::Everywhere(random_key, Merge::AnyPresent)),
    row("rename", 3, WRITE, TWO_KEYS, "1.0.0", "O(N) with the value's length", "Renames a key, replacing the target.",
        Run::Spread(|call, args, reply| conclude(rename(call, args, reply), reply), Spread::Transfer)),
    row("renamenx", 3, WRITE_FAST, TWO_KEYS, "1.0.0", "O(N) with the value's length",
        "Renames a key unless the target exists.",
        Run::Spread(|call, args, reply| conclude(rename_if_absent(call, args, reply), reply), Spread::Transfer)),
    row("scan", -2, READ, NO_KEYS, "2.8.0", "O(1) per call, O(N) for a whole iteration", "Iterates over the keys.",
        Run::Spread(|call, args, reply| conclude(scan(call, args, reply), reply), Spread::Cursor)),
    row("touch", -2, READ_FAST, ALL_KEYS, "3.2.1", "O(N) with the number of keys",
        "Counts which keys exist, as an access to each.", count_keys(touch)),
    row("ttl", 2, READ_FAST, ONE_KEY, "1.0.0", "O(1)", "Returns a key's time to live in seconds.",
        Run::Keyed(|call, args, reply| time_to_live(call, args, reply, TimeForm::Seconds))),
    row("type", 2, READ_FAST, ONE_KEY, "1.0.0", "O(1)", "Returns the type of a key's value.", Run::Keyed(type_of)),
    row("unlink", -2, WRITE_FAST, ALL_KEYS, "4.0.0", "O(N) with the number of keys", "Deletes keys.",
        count_keys(delete)),
    // Steps of commands over several workers; a client cannot spell a name that begins with a space.
    row(" dump", 2, READ, ONE_KEY, "", "", "", Run::Keyed(dump)),
    row(" restore", 5, STORE, ONE_KEY, "", "", "",
        Run::Keyed(|call, args, reply| conclude(restore(call, args, reply), reply))),
];

#[rustfmt::skip]
static OBJECT: &[Spec] = &[
    row("encoding", 3, READ, SUBCOMMAND_KEY, "2.2.3", "O(1)", "Returns how a value is encoded.",
        Run::Keyed(|call, args, reply|
            peek(call, args, reply, |item, reply| reply.bulk(encoding(item.value).as_bytes())))),
    row("freq", 3, READ, SUBCOMMAND_KEY, "4.0.0", "O(1)", "Returns a key's access counter.", Run::Keyed(frequency)),
    row("help", 2, READ, NO_KEYS, "6.2.0", "O(1)", "Lists the subcommands.",
        Run::Session(|_, _, _, reply| help(reply, OBJECT_HELP))),
    row("idletime", 3, READ, SUBCOMMAND_KEY, "2.2.3", "O(1)",
        "Returns about the seconds since a key was written; 0 when it was used since: the time of a use is not kept.",
        Run::Keyed(idle_time)),
    row("refcount", 3, READ, SUBCOMMAND_KEY, "2.2.3", "O(1)", "Returns 1: values are not shared between keys.",
        Run::Keyed(|call, args, reply| peek(call, args, reply, |_, reply| reply.integer(1)))),
];

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Print this help.",
];

/// Writes a `HELP` reply.
pub(super) fn help(reply: &mut Reply<'_>, lines: &[&str]) {
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
}

fn delete(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let now = call.now.unix_ms;
    reply.integer(args.iter().skip(1).filter(|key| call.shard.delete(key, now)).count() as i64);
}

fn exists(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let now = call.now.unix_ms;
    reply.integer(args.iter().skip(1).filter(|key| call.shard.peek(key, now).is_some()).count() as i64);
}

fn touch(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let now = call.now.unix_ms;
    reply.integer(args.iter().skip(1).filter(|key| call.shard.get(key, now).is_some()).count() as i64);
}

fn type_of(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_there = call.shard.peek(args.get(1), call.now.unix_ms).is_some();
    reply.simple(if is_there { "string" } else { "none" });
}

fn flush(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let is_mode = |word: &[u8]| word.eq_ignore_ascii_case(b"sync") || word.eq_ignore_ascii_case(b"async");
    match args.len() {
        1 => {}
        2 if is_mode(args.get(1)) => {}
        _ => return Err(Refusal::Syntax),
    }
    call.shard.clear();
    reply.simple("OK");
    Ok(())
}

/// An item on its way to another key.
struct Moved {
    value: bytes::Bytes,
    expiry: Expiry,
}

fn take_copy(call: &mut Call<'_>, key: &[u8]) -> Option<Moved> {
    let item = call.shard.get(key, call.now.unix_ms)?;
    // An allocation of its own: keys do not share one.
    let value = bytes::Bytes::copy_from_slice(item.value);
    Some(Moved { value, expiry: item.expires_at.map_or(Expiry::Never, Expiry::At) })
}

fn put(call: &mut Call<'_>, key: &[u8], moved: &Moved, when: When) -> Result<bool, Refusal> {
    match call.shard.set(key, NewValue::Shared(&moved.value), moved.expiry, when, call.now.unix_ms) {
        Stored::Done { .. } => Ok(true),
        Stored::Refused => Ok(false),
        Stored::OutOfMemory => Err(Refusal::OutOfMemory),
    }
}

fn rename(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if move_key(call, args, When::Always, reply)?.is_some() {
        reply.simple("OK");
    }
    Ok(())
}

fn rename_if_absent(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(is_moved) = move_key(call, args, When::Absent, reply)? {
        reply.integer(i64::from(is_moved));
    }
    Ok(())
}

/// Moves an item to another key of this shard; `None` when the error has been written.
fn move_key(call: &mut Call<'_>, args: Args<'_>, when: When, reply: &mut Reply<'_>) -> Result<Option<bool>, Refusal> {
    let (from, to) = (args.get(1), args.get(2));
    let Some(moved) = take_copy(call, from) else {
        reply.error("ERR no such key");
        return Ok(None);
    };
    if from == to {
        return Ok(Some(false));
    }
    let is_moved = put(call, to, &moved, when)?;
    if is_moved {
        call.shard.delete(from, call.now.unix_ms);
    }
    Ok(Some(is_moved))
}

fn copy(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut when = When::Absent;
    let mut options = args.iter().skip(3);
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            when = When::Always;
        } else if option.eq_ignore_ascii_case(b"db") {
            if integer(options.next().ok_or(Refusal::Syntax)?)? != 0 {
                reply.error("ERR DB index is out of range");
                return Ok(());
            }
        } else {
            return Err(Refusal::Syntax);
        }
    }
    if args.get(1) == args.get(2) {
        reply.error("ERR source and destination objects are the same");
        return Ok(());
    }
    let is_copied = match take_copy(call, args.get(1)) {
        Some(moved) => put(call, args.get(2), &moved, when)?,
        None => false,
    };
    reply.integer(i64::from(is_copied));
    Ok(())
}

/// The first step of a transfer between workers: value and expiry (-1: none), or null.
fn dump(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let Some(item) = call.shard.get(args.get(1), call.now.unix_ms) else { return reply.null_array() };
    reply.array(2);
    reply.bulk(item.value);
    reply.integer(item.expires_at.map_or(-1, |at| at as i64));
}

/// The second step of a transfer: `key value expiry replace`; 1 when stored, 0 when the key exists.
fn restore(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let expiry = u64::try_from(integer(args.get(3))?).map_or(Expiry::Never, Expiry::At);
    let when = if args.get(4) == b"1" { When::Always } else { When::Absent };
    let value = bytes::Bytes::copy_from_slice(args.get(2));
    let is_stored = put(call, args.get(1), &Moved { value, expiry }, when)?;
    reply.integer(i64::from(is_stored));
    Ok(())
}

fn random_key(call: &mut Call<'_>, _: Args<'_>, reply: &mut Reply<'_>) {
    match call.shard.random_key(call.now.unix_ms) {
        Some(key) => reply.bulk(key),
        None => reply.null(),
    }
}

/// Elements that a listing has found: their number goes in front of them, so they are kept until the end.
#[derive(Default)]
struct Listing {
    keys: Vec<Box<[u8]>>,
}

impl Listing {
    fn write(self, reply: &mut Reply<'_>) {
        reply.array(self.keys.len());
        self.keys.iter().for_each(|key| reply.bulk(key));
    }
}

fn keys(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let mut found = Listing::default();
    let mut cursor = 0;
    loop {
        cursor = call.shard.scan(cursor, 1024, call.now.unix_ms, &mut |item| {
            if glob::selects(args.get(1), item.key) {
                found.keys.push(item.key.into());
            }
        });
        if cursor == 0 {
            break;
        }
    }
    found.keys.sort_unstable();
    found.keys.dedup();
    found.write(reply);
}

/// Items looked at in one call of `SCAN`, however large its COUNT.
const SCAN_COUNT_MAX: usize = 10_000;

fn scan(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(cursor) = slot::cursor(args.get(1)) else {
        reply.error("ERR invalid cursor");
        return Ok(());
    };
    let (mut pattern, mut count, mut is_string) = (None, 10, true);
    let mut options = args.iter().skip(2);
    while let Some(option) = options.next() {
        let value = options.next().ok_or(Refusal::Syntax)?;
        if option.eq_ignore_ascii_case(b"count") {
            count = integer(value)?;
        } else if option.eq_ignore_ascii_case(b"match") {
            pattern = Some(value);
        } else if option.eq_ignore_ascii_case(b"type") {
            is_string = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(Refusal::Syntax);
        }
        if count < 1 {
            return Err(Refusal::Syntax);
        }
    }
    let mut found = Listing::default();
    let reach = call.reach();
    let is_begin = cursor == 0 && call.worker == reach.start;
    if cursor >> CURSOR_BITS != u64::from(call.worker) && !is_begin {
        // No scan has led here: it is at its end.
        reply.array(2);
        reply.bulk(b"0");
        found.write(reply);
        return Ok(());
    }
    let inner = cursor & ((1 << CURSOR_BITS) - 1);
    let next = call.shard.scan(inner, (count as usize).min(SCAN_COUNT_MAX), call.now.unix_ms, &mut |item| {
        if is_string && pattern.is_none_or(|pattern| glob::selects(pattern, item.key)) {
            found.keys.push(item.key.into());
        }
    });
    let worker = u64::from(call.worker);
    let cursor = match next {
        0 if worker + 1 < u64::from(reach.end) => (worker + 1) << CURSOR_BITS,
        0 => 0,
        next => worker << CURSOR_BITS | next,
    };
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    found.write(reply);
    Ok(())
}

/// Looks at the key of a subcommand without leaving a trace; null when there is none.
fn peek(call: &Call<'_>, args: Args<'_>, reply: &mut Reply<'_>, show: impl FnOnce(Item<'_>, &mut Reply<'_>)) {
    match call.shard.peek(args.get(2), call.now.unix_ms) {
        Some(item) => show(item, reply),
        None => reply.null(),
    }
}

/// The same for how the item is used.
pub(super) fn usage(call: &Call<'_>, args: Args<'_>, reply: &mut Reply<'_>, show: impl FnOnce(Usage, &mut Reply<'_>)) {
    match call.shard.usage(args.get(2), call.now.unix_ms) {
        Some(usage) => show(usage, reply),
        None => reply.null(),
    }
}

/// Redis' name for how it would keep the value; `raw` is what is longer than 44 bytes (Redis also says so of shorter
/// values that `APPEND` or `SETRANGE` made).
fn encoding(value: &[u8]) -> &'static str {
    const EMBEDDED_BYTES_MAX: usize = 44;
    match value {
        integer_text if integer(integer_text).is_ok() => "int",
        short if short.len() <= EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}

fn is_lfu(policy: Policy) -> bool {
    matches!(policy, Policy::AllKeysLfu | Policy::VolatileLfu)
}

fn frequency(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let policy = call.settings.maxmemory_policy;
    usage(call, args, reply, |usage, reply| {
        if is_lfu(policy) || policy == Policy::Cache {
            reply.integer(i64::from(usage.frequency));
        } else {
            reply.error(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            );
        }
    });
}

fn idle_time(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let (policy, now) = (call.settings.maxmemory_policy, call.now.unix_ms);
    usage(call, args, reply, |usage, reply| {
        if is_lfu(policy) {
            reply.error(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            );
        } else {
            reply.integer((now.saturating_sub(usage.accessed_at) / 1000) as i64);
        }
    });
}
