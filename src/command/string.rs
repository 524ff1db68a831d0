//! The string commands on whole values and parts of them, and the rows of the whole family.
//!
//! In: a request's arguments. Out: calls of the shard and Redis' replies. What must stay true: replies and errors are
//! Redis' byte for byte, in the order in which Redis looks at arguments and keys; a refused command changes nothing
//! (except that `MSET` may run out of memory on the way); large values are stored and sent without a copy.

use std::ops::Range;

use super::arguments::{
    Condition, ExpireTime, ExpiryOption, Refusal, SetOptions, TimeForm, conclude, getex_options, integer,
};
use super::fanout::Spread;
use super::number::{decr, decrby, incr, incrby, incrbyfloat};
use super::table::{Flags, Keys, Spec};
use super::{Call, Run};
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::{Expiry, Item, NewValue, Stored, When};

/// What running a command comes to.
pub(super) type Outcome = Result<(), Refusal>;

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.or(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.or(Flags::FAST);
const STORE: Flags = Flags::WRITE.or(Flags::DENYOOM);
const STORE_FAST: Flags = STORE.or(Flags::FAST);

/// What most rows have in common.
const STRING: Spec = Spec {
    name: "",
    arity: 0,
    flags: READ,
    keys: Keys { first: 1, last: 1, step: 1 },
    group: "string",
    since: "",
    complexity: "O(1)",
    summary: "",
    run: Run::Container,
    subcommands: &[],
};

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] = &[
    Spec {
        name: "append",
        arity: 3,
        flags: STORE_FAST,
        since: "2.0.0",
        complexity: "O(1); the append is amortised",
        summary: "Appends to the value of a key, creating it when absent.",
        run: Run::Keyed(|call, args, reply| conclude(append(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "decr",
        arity: 2,
        flags: STORE_FAST,
        since: "1.0.0",
        summary: "Decrements the integer of a key by one, from 0 when absent.",
        run: Run::Keyed(|call, args, reply| conclude(decr(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "decrby",
        arity: 3,
        flags: STORE_FAST,
        since: "1.0.0",
        summary: "Decrements the integer of a key by a number, from 0 when absent.",
        run: Run::Keyed(|call, args, reply| conclude(decrby(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "get",
        arity: 2,
        flags: READ_FAST,
        since: "1.0.0",
        summary: "Returns the value of a key.",
        run: Run::Keyed(|call, args, reply| conclude(get(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "getdel",
        arity: 2,
        flags: WRITE_FAST,
        since: "6.2.0",
        summary: "Returns the value of a key and deletes the key.",
        run: Run::Keyed(|call, args, reply| conclude(getdel(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "getex",
        arity: -2,
        flags: WRITE_FAST,
        since: "6.2.0",
        summary: "Returns the value of a key and sets or removes its expiry.",
        run: Run::Keyed(|call, args, reply| conclude(getex(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "getrange",
        arity: 4,
        flags: READ,
        since: "2.4.0",
        complexity: "O(N) where N is the length of the part returned",
        summary: "Returns a part of the value of a key.",
        run: Run::Keyed(|call, args, reply| conclude(getrange(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "getset",
        arity: 3,
        flags: STORE_FAST,
        since: "1.0.0",
        summary: "Returns the value of a key and stores another.",
        run: Run::Keyed(|call, args, reply| conclude(getset(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "incr",
        arity: 2,
        flags: STORE_FAST,
        since: "1.0.0",
        summary: "Increments the integer of a key by one, from 0 when absent.",
        run: Run::Keyed(|call, args, reply| conclude(incr(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "incrby",
        arity: 3,
        flags: STORE_FAST,
        since: "1.0.0",
        summary: "Increments the integer of a key by a number, from 0 when absent.",
        run: Run::Keyed(|call, args, reply| conclude(incrby(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "incrbyfloat",
        arity: 3,
        flags: STORE_FAST,
        since: "2.6.0",
        summary: "Increments the floating-point number of a key, from 0 when absent.",
        run: Run::Keyed(|call, args, reply| conclude(incrbyfloat(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "mget",
        arity: -2,
        flags: READ_FAST,
        keys: Keys { first: 1, last: -1, step: 1 },
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys",
        summary: "Returns the values of several keys.",
        run: Run::Spread(|call, args, reply| conclude(mget(call, args, reply), reply), Spread::Each),
        ..STRING
    },
    Spec {
        name: "mset",
        arity: -3,
        flags: STORE,
        keys: Keys { first: 1, last: -1, step: 2 },
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys",
        summary: "Stores the values of several keys.",
        run: Run::Spread(|call, args, reply| conclude(mset(call, args, reply), reply), Spread::Pairs),
        ..STRING
    },
    Spec {
        name: "msetnx",
        arity: -3,
        flags: STORE,
        keys: Keys { first: 1, last: -1, step: 2 },
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys",
        summary: "Stores the values of several keys when none of them exists.",
        run: Run::Spread(|call, args, reply| conclude(msetnx(call, args, reply), reply), Spread::AllOrNone),
        ..STRING
    },
    Spec {
        name: "psetex",
        arity: 4,
        flags: STORE,
        since: "2.6.0",
        summary: "Stores the value of a key with an expiry in milliseconds.",
        run: Run::Keyed(|call, args, reply| conclude(psetex(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "set",
        arity: -3,
        flags: STORE,
        since: "1.0.0",
        summary: "Stores the value of a key, on conditions and with an expiry if so asked.",
        run: Run::Keyed(|call, args, reply| conclude(set(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "setex",
        arity: 4,
        flags: STORE,
        since: "2.0.0",
        summary: "Stores the value of a key with an expiry in seconds.",
        run: Run::Keyed(|call, args, reply| conclude(setex(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "setnx",
        arity: 3,
        flags: STORE_FAST,
        since: "1.0.0",
        summary: "Stores the value of a key when the key does not exist.",
        run: Run::Keyed(|call, args, reply| conclude(setnx(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "setrange",
        arity: 4,
        flags: STORE,
        since: "2.2.0",
        complexity: "O(N) where N is the length of the new part",
        summary: "Overwrites a part of the value of a key, padding with zero bytes.",
        run: Run::Keyed(|call, args, reply| conclude(setrange(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "strlen",
        arity: 2,
        flags: READ_FAST,
        since: "2.2.0",
        summary: "Returns the length of the value of a key.",
        run: Run::Keyed(|call, args, reply| conclude(strlen(call, args, reply), reply)),
        ..STRING
    },
    Spec {
        name: "substr",
        arity: 4,
        flags: READ,
        since: "1.0.0",
        complexity: "O(N) where N is the length of the part returned",
        summary: "Returns a part of the value of a key; the old name of GETRANGE.",
        run: Run::Keyed(|call, args, reply| conclude(getrange(call, args, reply), reply)),
        ..STRING
    },
];

fn get(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    write_value_of(call, args.get(1), reply);
    Ok(())
}

fn mget(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(args.len() - 1);
    for key in args.skip(1).iter() {
        write_value_of(call, key, reply);
    }
    Ok(())
}

fn strlen(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let len = call.shard.get(args.get(1), call.now.unix_ms).map_or(0, |item| item.value.len());
    reply.integer(len as i64);
    Ok(())
}

fn getdel(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if write_value_of(call, args.get(1), reply) {
        call.shard.delete(args.get(1), call.now.unix_ms);
    }
    Ok(())
}

fn getex(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let option = getex_options(args.skip(2))?;
    let Some(item) = call.shard.get(args.get(1), call.now.unix_ms) else {
        reply.null();
        return Ok(());
    };
    let expires_at = match option {
        ExpiryOption::At(time) => Some(time.resolve(call.now, "getex")?),
        ExpiryOption::Unsaid | ExpiryOption::Keep | ExpiryOption::Persist => None,
    };
    write_value(&item, reply);
    if expires_at.is_some() || option == ExpiryOption::Persist {
        call.shard.set_expiry(args.get(1), expires_at, call.now.unix_ms);
    }
    Ok(())
}

fn set(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = SetOptions::parse(args.skip(3))?;
    let expiry = match options.expiry {
        ExpiryOption::At(time) => Expiry::At(time.resolve(call.now, "set")?),
        ExpiryOption::Keep => Expiry::Keep,
        ExpiryOption::Unsaid | ExpiryOption::Persist => Expiry::Never,
    };
    if !options.condition.is_none_or(|condition| holds(call, args.get(1), condition)) {
        if options.returns_old {
            write_value_of(call, args.get(1), reply);
        } else {
            reply.null();
        }
        return Ok(());
    }
    if options.returns_old {
        return exchange(call, args, expiry, options.when, reply);
    }
    if store(call, args.get(1), value_at(args, 2), expiry, options.when)? {
        reply.simple("OK");
    } else {
        reply.null();
    }
    Ok(())
}

/// Whether the item of a key is the one that the client knows.
fn holds(call: &mut Call<'_>, key: &[u8], condition: Condition<'_>) -> bool {
    let item = call.shard.peek(key, call.now.unix_ms);
    item.is_some_and(|item| match condition {
        Condition::Value(value) => item.value == value,
        Condition::Version(version) => version != 0 && item.attributes().version == version,
    })
}

fn setex(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_expiring(call, args, TimeForm::Seconds, "setex", reply)
}

fn psetex(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_expiring(call, args, TimeForm::Milliseconds, "psetex", reply)
}

fn setnx(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let is_stored = store(call, args.get(1), value_at(args, 2), Expiry::Never, When::Absent)?;
    reply.integer(i64::from(is_stored));
    Ok(())
}

fn getset(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    exchange(call, args, Expiry::Never, When::Always, reply)
}

fn mset(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    for key in pairs(args, "mset")? {
        store(call, args.get(key), value_at(args, key + 1), Expiry::Never, When::Always)?;
    }
    reply.simple("OK");
    Ok(())
}

fn msetnx(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now_ms = call.now.unix_ms;
    if pairs(args, "msetnx")?.any(|key| call.shard.peek(args.get(key), now_ms).is_some()) {
        reply.integer(0);
        return Ok(());
    }
    for key in pairs(args, "msetnx")? {
        let stored = store(call, args.get(key), value_at(args, key + 1), Expiry::Never, When::Always);
        if stored.is_err() {
            for before in (1..key).step_by(2) {
                call.shard.delete(args.get(before), now_ms);
            }
            return stored.map(drop);
        }
    }
    reply.integer(1);
    Ok(())
}

fn getrange(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    let Some(item) = call.shard.get(args.get(1), call.now.unix_ms) else {
        reply.bulk(b"");
        return Ok(());
    };
    let part = part_of(item.value.len(), start, end);
    match item.shared {
        Some(value) if part.len() >= call.settings.large_value_bytes as usize => reply.bulk_shared(&value.slice(part)),
        _ => reply.bulk(&item.value[part]),
    }
    Ok(())
}

fn setrange(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let offset = u64::try_from(integer(args.get(2))?).map_err(|_| Refusal::OffsetOutOfRange)?;
    let (key, part) = (args.get(1), args.get(3));
    if part.is_empty() {
        let len = call.shard.peek(key, call.now.unix_ms).map_or(0, |item| item.value.len());
        reply.integer(len as i64);
        return Ok(());
    }
    check_length(call, offset, part.len())?;
    let len = call.shard.set_range(key, offset as usize, part, call.now.unix_ms).ok_or(Refusal::OutOfMemory)?;
    reply.integer(len as i64);
    Ok(())
}

fn append(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, tail) = (args.get(1), args.get(2));
    if let Some(item) = call.shard.peek(key, call.now.unix_ms) {
        let len = item.value.len() as u64;
        check_length(call, len, tail.len())?;
    }
    let len = call.shard.append(key, tail, call.now.unix_ms).ok_or(Refusal::OutOfMemory)?;
    reply.integer(len as i64);
    Ok(())
}

fn set_expiring(
    call: &mut Call<'_>,
    args: Args<'_>,
    form: TimeForm,
    command: &'static str,
    reply: &mut Reply<'_>,
) -> Outcome {
    let at = ExpireTime { number: args.get(2), form }.resolve(call.now, command)?;
    store(call, args.get(1), value_at(args, 3), Expiry::At(at), When::Always)?;
    reply.simple("OK");
    Ok(())
}

/// Replies with the old value and stores the new one, which is argument 2.
fn exchange(call: &mut Call<'_>, args: Args<'_>, expiry: Expiry, when: When, reply: &mut Reply<'_>) -> Outcome {
    let start = reply.output.len();
    write_value_of(call, args.get(1), reply);
    let stored = store(call, args.get(1), value_at(args, 2), expiry, when);
    if stored.is_err() {
        reply.output.truncate(start);
    }
    stored.map(drop)
}

/// Stores a value; `false` when the condition does not hold.
pub(super) fn store(
    call: &mut Call<'_>,
    key: &[u8],
    value: NewValue<'_>,
    expiry: Expiry,
    when: When,
) -> Result<bool, Refusal> {
    match call.shard.set(key, value, expiry, when, call.now.unix_ms) {
        Stored::Done { .. } => Ok(true),
        Stored::Refused => Ok(false),
        Stored::OutOfMemory => Err(Refusal::OutOfMemory),
    }
}

/// The value in argument `index`: by reference when it has an allocation of its own.
pub(super) fn value_at(args: Args<'_>, index: usize) -> NewValue<'_> {
    args.body(index).map_or_else(|| NewValue::Copied(args.get(index)), NewValue::Shared)
}

/// Replies with the value of a key, or null; whether the key is there.
fn write_value_of(call: &mut Call<'_>, key: &[u8], reply: &mut Reply<'_>) -> bool {
    match call.shard.get(key, call.now.unix_ms) {
        Some(item) => {
            write_value(&item, reply);
            true
        }
        None => {
            reply.null();
            false
        }
    }
}

pub(super) fn write_value(item: &Item<'_>, reply: &mut Reply<'_>) {
    match item.shared {
        Some(value) => reply.bulk_shared(value),
        None => reply.bulk(item.value),
    }
}

/// The positions of the keys of `MSET` and `MSETNX`.
fn pairs(args: Args<'_>, command: &'static str) -> Result<impl Iterator<Item = usize> + use<>, Refusal> {
    if args.len().is_multiple_of(2) { Err(Refusal::Arity(command)) } else { Ok((1..args.len()).step_by(2)) }
}

fn check_length(call: &Call<'_>, len: u64, added: usize) -> Outcome {
    let total = len.saturating_add(added as u64);
    if total > call.settings.proto_max_bulk_len { Err(Refusal::TooLong) } else { Ok(()) }
}

/// The bytes from `start` to `end` inclusive of a value of `len` bytes; negative positions count from the end.
fn part_of(len: usize, start: i64, end: i64) -> Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    // An end before the first byte is the first byte, as it is in Redis.
    let place = |at: i64| if at < 0 { (len as i64 + at).max(0) } else { at } as usize;
    let (from, to) = (place(start), place(end).saturating_add(1).min(len));
    if from < to { from..to } else { 0..0 }
}
