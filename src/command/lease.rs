//! Leases over RESP, and conditions on versions: `GETLEASE SETLEASE GETVERSION`.
//!
//! ```text
//! GETLEASE key [FOR milliseconds] [WAIT milliseconds]            → [state, value, token]
//! SETLEASE key token value [EX s | PX ms] [FRESH ms] [ABSENT]    → OK, or null when the key has changed since
//! GETVERSION key                                                 → [value, version], or null
//! SET key value … IFVERSION version                              → OK, or null when the version is another
//! ```
//!
//! | state    | value         | token | what the client does                                                   |
//! |----------|---------------|-------|------------------------------------------------------------------------|
//! | `hit`    | fresh         | null  | uses it                                                                |
//! | `stale`  | stale         | null  | uses it; another client computes a new one                             |
//! | `lease`  | stale or null | yes   | computes the value and stores it with `SETLEASE` and the token         |
//! | `wait`   | null          | null  | asks again later; with `WAIT` it has waited so long already            |
//! | `absent` | null          | null  | knows that there is none: a client has filled in `ABSENT`, for its EX  |
//!
//! `FOR` bounds the lease (`lease-timeout` unless given): after it the next who asks gets it. A value stored with
//! `FRESH` becomes stale after so long and stays until its expiry. What must stay true: other commands see values only:
//! a key that is awaited or absent is missing to them, and writing or deleting it ends its lease.

use super::arguments::{ExpiryOption, Refusal, conclude, expiry_option, integer};
use super::fanout::Spread;
use super::string::{Outcome, value_at, write_value};
use super::table::{Flags, Keys, Spec};
use super::{Call, Run};
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::{Expiry, Fill, Leased, Stored, View};

/// Longest `FOR` and `WAIT`.
const LEASE_MS_MAX: u64 = 86_400_000;
const WAIT_MS_MAX: u64 = 60_000;

const STORE: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] = &[
    row("getlease", -2, STORE, "Returns the value of a key, or who is to compute it.", Run::Spread(get, Spread::Lease)),
    row("getversion", 2, STORE, "Returns the value of a key and its version.", Run::Keyed(get_version)),
    row("setlease", -4, STORE, "Stores what the holder of a lease has computed.", Run::Keyed(set)),
];

const fn row(name: &'static str, arity: i32, flags: Flags, summary: &'static str, run: Run) -> Spec {
    let keys = Keys { first: 1, last: 1, step: 1 };
    Spec { keys, ..Spec::keyless("string", (name, arity, flags), "7.2.0", summary, run) }
}

/// The options of `GETLEASE`, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    lease_ms: Option<u64>,
    /// How long to wait for another's value.
    pub(super) wait_ms: u64,
}

/// Reads what follows the key.
pub(super) fn options(args: Args<'_>) -> Result<Options, Refusal> {
    let mut options = Options::default();
    for index in (2..args.len()).step_by(2) {
        let number = if index + 1 < args.len() { integer(args.get(index + 1))? } else { return Err(Refusal::Syntax) };
        let number = u64::try_from(number).map_err(|_| Refusal::ExpireTime("getlease"))?;
        if args.get(index).eq_ignore_ascii_case(b"for") && (1..=LEASE_MS_MAX).contains(&number) {
            options.lease_ms = Some(number);
        } else if args.get(index).eq_ignore_ascii_case(b"wait") {
            options.wait_ms = number.min(WAIT_MS_MAX);
        } else {
            return Err(Refusal::Syntax);
        }
    }
    Ok(options)
}

/// How a reply begins that tells to wait.
pub(super) const WAITS: &[u8] = b"*3\r\n$4\r\nwait";

fn get(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    conclude(get_lease(call, args, reply), reply);
}

fn get_lease(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = options(args)?;
    let now = call.now.unix_ms;
    let lease_ms = options.lease_ms.unwrap_or(call.settings.lease_timeout.as_millis() as u64);
    let leased = call.shard.lease(args.get(1), now + lease_ms, now);
    let (state, item, token) = match leased {
        Leased::Fresh(item) => ("hit", Some(item), None),
        Leased::Stale(item) => ("stale", Some(item), None),
        Leased::Won { token, stale } => ("lease", stale, Some(token)),
        Leased::Awaited => ("wait", None, None),
        Leased::Absent => ("absent", None, None),
    };
    reply.array(3);
    reply.bulk(state.as_bytes());
    match item {
        Some(item) => write_value(&item, reply),
        None => reply.null(),
    }
    match token {
        Some(token) => reply.bulk(itoa::Buffer::new().format(token).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

fn get_version(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let now = call.now.unix_ms;
    let version = call.shard.version(View::Values, args.get(1), now);
    match call.shard.get(args.get(1), now).zip(version) {
        Some((item, version)) => {
            reply.array(2);
            write_value(&item, reply);
            reply.bulk(itoa::Buffer::new().format(version).as_bytes());
        }
        None => reply.null_array(),
    }
}

/// A version or token: digits.
pub(super) fn version(text: &[u8]) -> Result<u64, Refusal> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Refusal::NotAnInteger)
}

fn set(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    conclude(set_lease(call, args, reply), reply);
}

fn set_lease(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = call.now.unix_ms;
    let token = version(args.get(2))?;
    let mut fill = Fill { value: Some(value_at(args, 3)), expiry: Expiry::Never, fresh_until: 0, content_type: &[] };
    let mut expiry = ExpiryOption::Unsaid;
    let rest = args.skip(4);
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        if option.eq_ignore_ascii_case(b"absent") {
            fill.value = None;
        } else if option.eq_ignore_ascii_case(b"fresh") {
            let number = integer(rest.next().ok_or(Refusal::Syntax)?)?;
            let fresh_ms = u64::try_from(number).map_err(|_| Refusal::ExpireTime("setlease"))?;
            fill.fresh_until = now.saturating_add(fresh_ms);
        } else {
            expiry_option(&mut expiry, option, &mut rest)?;
        }
    }
    if let ExpiryOption::At(time) = expiry {
        fill.expiry = Expiry::At(time.resolve(call.now, "setlease")?);
    }
    match call.shard.fill(args.get(1), token, &fill, now) {
        Stored::Done { .. } => reply.simple("OK"),
        Stored::Refused => reply.null(),
        Stored::OutOfMemory => return Err(Refusal::OutOfMemory),
    }
    Ok(())
}
