//! The commands by which a client introduces itself: `HELLO`, `AUTH`, `SELECT`, `PING` and their kin.
//!
//! In: a request's arguments and the client's session. Out: the session changed, Redis' replies. What must stay true: a
//! client that has not given the password learns nothing but that; comparing passwords takes the same time whatever
//! they have in common.

use super::arguments::{Refusal, conclude, integer, repeating};
use super::session::{ReplyMode, Session};
use super::string::Outcome;
use super::table::{Flags, Spec};
use super::{Call, Run};
use crate::protocol::Args;
use crate::protocol::resp::{Reply, Version};

/// The Redis level that we are compatible with: tools switch features on it.
pub const REDIS_VERSION: &str = "7.2.5";

const ALWAYS: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const FAST: Flags = Flags::FAST.or(Flags::LOADING).or(Flags::STALE);
const OPENING: Flags = ALWAYS.or(Flags::FAST).or(Flags::NO_AUTH);

/// The family's rows of the command table.
#[rustfmt::skip]
pub static COMMANDS: &[Spec] = &[
    row("auth", -2, OPENING, "1.0.0", "Gives the password.",
        Run::Session(|call, session, args, reply| conclude(auth(call, session, args, reply), reply))),
    row("echo", 2, FAST, "1.0.0", "Returns its argument.", Run::Session(|_, _, args, reply| reply.bulk(args.get(1)))),
    row("hello", -1, OPENING, "6.0.0", "Chooses the version of the protocol, and may give password and name.",
        Run::Session(hello)),
    row("ping", -1, FAST, "1.0.0", "Returns PONG, or its argument.", Run::Session(ping)),
    row("quit", -1, OPENING, "1.0.0", "Closes the connection once everything before has been answered.",
        Run::Session(|_, session, _, reply| { reply.simple("OK"); session.is_closing = true; })),
    row("reset", 1, OPENING, "6.2.0", "Makes the session as it was when the client connected.", Run::Session(reset)),
    row("select", 2, FAST, "1.0.0", "Chooses the database; there is database 0.",
        Run::Session(|call, _, args, reply| conclude(select(call, args, reply), reply))),
];

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Spec {
    Spec::keyless("connection", (name, arity, flags), since, summary, run)
}

fn ping(_: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.get(1)),
        _ => Refusal::Arity("ping").write(reply),
    }
}

fn select(call: &Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let index = integer(args.get(1))?;
    if (0..i64::from(call.settings.databases)).contains(&index) {
        reply.simple("OK");
    } else if call.front.is_cluster() {
        reply.error("ERR SELECT is not allowed in cluster mode");
    } else {
        reply.error("ERR DB index is out of range");
    }
    Ok(())
}

fn reset(call: &mut Call<'_>, session: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    session.name = Box::default();
    session.version = Version::Resp2;
    session.reply_mode = ReplyMode::On;
    session.is_authenticated = call.settings.requirepass.is_empty();
    session.is_no_evict = false;
    session.is_no_touch = false;
    session.is_monitor = false;
    reply.simple("RESET");
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

fn auth(call: &Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (user, password) = match args.len() {
        2 if call.settings.requirepass.is_empty() => {
            reply.error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            );
            return Ok(());
        }
        2 => (&b"default"[..], args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(Refusal::Syntax),
    };
    if authenticate(call, session, user, password) {
        reply.simple("OK");
    } else {
        reply.error(WRONG_PASSWORD);
    }
    Ok(())
}

/// There is one user; without a password set, any will do.
pub(super) fn authenticate(call: &Call<'_>, session: &mut Session, user: &[u8], password: &[u8]) -> bool {
    let expected = call.settings.requirepass.as_bytes();
    let is_right = user == b"default" && (expected.is_empty() || is_same(expected, password));
    session.is_authenticated |= is_right;
    is_right
}

/// Compares in a time that depends on the lengths only.
pub fn is_same(expected: &[u8], given: &[u8]) -> bool {
    let differs = (0..expected.len().max(given.len()))
        .fold(0, |differs, index| differs | expected.get(index).unwrap_or(&0) ^ given.get(index).unwrap_or(&0));
    differs == 0 && expected.len() == given.len()
}

/// Whether a client may call itself so: printable, no spaces.
pub(super) fn is_valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

pub(super) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn hello(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let version = match (args.len() > 1).then(|| integer(args.get(1))) {
        None => session.version,
        Some(Ok(2)) => Version::Resp2,
        Some(Ok(3)) => Version::Resp3,
        Some(Ok(_)) => return reply.error("NOPROTO unsupported protocol version"),
        Some(Err(_)) => return reply.error("ERR Protocol version is not an integer or out of range"),
    };
    let (mut credentials, mut name) = (None, None);
    let mut index = 2;
    while index < args.len() {
        let option = args.get(index);
        let more = args.len() - 1 - index;
        if option.eq_ignore_ascii_case(b"auth") && more >= 2 {
            credentials = Some((args.get(index + 1), args.get(index + 2)));
            index += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && more >= 1 {
            name = Some(args.get(index + 1));
            index += 2;
        } else {
            return reply.error_bytes(&repeating("ERR Syntax error in HELLO option '", option, "'"));
        }
    }
    if let Some((user, password)) = credentials
        && !authenticate(call, session, user, password)
    {
        return reply.error(WRONG_PASSWORD);
    }
    if !session.is_authenticated {
        return reply.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        );
    }
    if let Some(name) = name {
        if !is_valid_name(name) {
            return reply.error(BAD_NAME);
        }
        session.name = name.into();
    }
    session.version = version;
    reply.version = version;
    introduce(session, reply);
}

fn introduce(session: &Session, reply: &mut Reply<'_>) {
    let version = match session.version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    };
    reply.map(7);
    let text = |reply: &mut Reply<'_>, key: &str, value: &str| {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text(reply, "server", "redis");
    text(reply, "version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(version);
    reply.bulk(b"id");
    reply.integer(session.id as i64);
    text(reply, "mode", if session.front.is_cluster() { "cluster" } else { "standalone" });
    text(reply, "role", "master");
    reply.bulk(b"modules");
    reply.array(0);
}
