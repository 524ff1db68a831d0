//! The string commands on values that are numbers: `INCR DECR INCRBY DECRBY INCRBYFLOAT`.
//!
//! In: a request's arguments. Out: the sum, stored as text and replied. What must stay true: an absent key counts as
//! zero, the expiry stays, and nothing is allocated for a sum.

use super::Call;
use super::arguments::{Refusal, integer};
use super::float::{FloatText, LongDouble};
use super::string::{Outcome, store};
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::{Expiry, NewValue, When};

pub(super) fn incr(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(call, args.get(1), 1, reply)
}

pub(super) fn decr(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(call, args.get(1), -1, reply)
}

pub(super) fn incrby(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(call, args.get(1), integer(args.get(2))?, reply)
}

pub(super) fn decrby(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let by = integer(args.get(2))?.checked_neg().ok_or(Refusal::DecrementOverflow)?;
    add(call, args.get(1), by, reply)
}

pub(super) fn incrbyfloat(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = args.get(1);
    let float = |text: &[u8]| LongDouble::parse(text).ok_or(Refusal::NotAFloat);
    let old = match call.shard.peek(key, call.now.unix_ms) {
        Some(item) => float(item.value)?,
        None => LongDouble::ZERO,
    };
    let sum = old.plus(float(args.get(2))?).ok_or(Refusal::NotFinite)?;
    let mut text = FloatText::default();
    let text = sum.format(&mut text);
    store(call, key, NewValue::Copied(text), Expiry::Keep, When::Always)?;
    reply.bulk(text);
    Ok(())
}

fn add(call: &mut Call<'_>, key: &[u8], by: i64, reply: &mut Reply<'_>) -> Outcome {
    let old = match call.shard.peek(key, call.now.unix_ms) {
        Some(item) => integer(item.value)?,
        None => 0,
    };
    let sum = old.checked_add(by).ok_or(Refusal::Overflow)?;
    let mut digits = itoa::Buffer::new();
    store(call, key, NewValue::Copied(digits.format(sum).as_bytes()), Expiry::Keep, When::Always)?;
    reply.integer(sum);
    Ok(())
}
