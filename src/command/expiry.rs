//! Commands about when a key expires: `EXPIRE` and its kin, `TTL` and its kin, `PERSIST`.
//!
//! In: a key, a time, conditions. Out: Redis' replies. What must stay true: a time that is not in the future deletes
//! the key and counts as done; no time overflows, it is refused.

use super::Call;
use super::arguments::{Refusal, TimeForm, integer, repeating};
use super::string::Outcome;
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::{TimeToLive, UnixMs};

/// `EXPIRE`'s conditions.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    /// `NX`: only when the key has no expiry.
    if_none: bool,
    /// `XX`: only when it has one.
    if_any: bool,
    /// `GT`: only when the new one is later; no expiry counts as the latest.
    if_later: bool,
    /// `LT`: only when the new one is sooner.
    if_sooner: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Self, Vec<u8>> {
        let mut conditions = Self::default();
        for option in args.iter() {
            match option.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.if_none = true,
                b"xx" => conditions.if_any = true,
                b"gt" => conditions.if_later = true,
                b"lt" => conditions.if_sooner = true,
                _ => return Err(repeating("ERR Unsupported option ", option, "")),
            }
        }
        if conditions.if_none && (conditions.if_any || conditions.if_later || conditions.if_sooner) {
            return Err(b"ERR NX and XX, GT or LT options at the same time are not compatible".to_vec());
        }
        if conditions.if_later && conditions.if_sooner {
            return Err(b"ERR GT and LT options at the same time are not compatible".to_vec());
        }
        Ok(conditions)
    }

    /// Whether an expiry at `new` (which may lie before the epoch) may replace the present one.
    fn allow(self, new: i64, present: Option<UnixMs>) -> bool {
        let is_later = present.is_some_and(|present| i128::from(new) > i128::from(present));
        let is_sooner = present.is_none_or(|present| i128::from(new) < i128::from(present));
        !(self.if_none && present.is_some()
            || self.if_any && present.is_none()
            || self.if_later && !is_later
            || self.if_sooner && !is_sooner)
    }
}

/// `EXPIRE PEXPIRE EXPIREAT PEXPIREAT`; `command` is named in the error.
pub(super) fn expire(
    call: &mut Call<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
    form: TimeForm,
    command: &'static str,
) -> Outcome {
    let conditions = match Conditions::parse(args.skip(3)) {
        Ok(conditions) => conditions,
        Err(text) => {
            reply.error_bytes(&text);
            return Ok(());
        }
    };
    let number = integer(args.get(2))?;
    let scale = match form {
        TimeForm::Seconds | TimeForm::UnixSeconds => 1000,
        TimeForm::Milliseconds | TimeForm::UnixMilliseconds => 1,
    };
    let start = if form.is_absolute() { 0 } else { call.now.unix_ms as i64 };
    let at = number.checked_mul(scale).and_then(|at| at.checked_add(start)).ok_or(Refusal::ExpireTime(command))?;

    let (key, now) = (args.get(1), call.now.unix_ms);
    let is_done = match call.shard.time_to_live(key, now) {
        TimeToLive::Missing => false,
        TimeToLive::Forever => conditions.allow(at, None),
        TimeToLive::At(present) => conditions.allow(at, Some(present)),
    };
    // A time before the epoch is as past as the epoch.
    let is_done = is_done && call.shard.set_expiry(key, Some(at.max(0) as UnixMs), now);
    reply.integer(i64::from(is_done));
    Ok(())
}

/// `TTL PTTL EXPIRETIME PEXPIRETIME`: -2 without the key, -1 without an expiry.
pub(super) fn time_to_live(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>, form: TimeForm) {
    let now = call.now.unix_ms;
    reply.integer(match call.shard.time_to_live(args.get(1), now) {
        TimeToLive::Missing => -2,
        TimeToLive::Forever => -1,
        TimeToLive::At(at) => {
            let ms = if form.is_absolute() { at } else { at.saturating_sub(now) };
            match form {
                TimeForm::Seconds | TimeForm::UnixSeconds => (ms.saturating_add(500) / 1000) as i64,
                TimeForm::Milliseconds | TimeForm::UnixMilliseconds => ms as i64,
            }
        }
    });
}

/// `PERSIST`.
pub(super) fn persist(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let (key, now) = (args.get(1), call.now.unix_ms);
    let has_expiry = matches!(call.shard.time_to_live(key, now), TimeToLive::At(_));
    reply.integer(i64::from(has_expiry && call.shard.set_expiry(key, None, now)));
}
