//! memcached's commands: what each line means in the shard.
//!
//! In: a request as [`protocol::memcache`](crate::protocol::memcache) decodes it. Out: changes of the shard, and
//! memcached's replies. The rows stand in the command table like all others, under a name that RESP clients cannot
//! send, so that routing, hops, pauses and statistics are the same. What must stay true: one keyspace with the other
//! protocols; a refused command changes nothing; who wants no reply gets none.
//!
//! Where this differs from memcached 1.6.18 on purpose:
//!
//! - What another protocol's lease or negative entry stands for is a miss; `mg` with `N` or `R` sees the lease as `Z`.
//! - A win (`W`) lapses after `lease-timeout`, so that a client that has died holds nobody up.
//! - `l` counts from when the item's segment was opened.
//! - `E` and `ms … s` and `md … x` of later versions are there; client flags above 32 bits are refused.
//! - Times up to the year 2106 are to come, where memcached takes those beyond 2038 for past.
//! - `decr` pads with spaces as memcached does, so that RESP's `INCR` refuses such a number.

use std::sync::LazyLock;

use super::connection::authenticate;
use super::fanout::{Merge, Spread};
use super::table::{self, Flags, Keys, Spec};
use super::{Call, Client, CommandId, Converse, Execute, Run, Session};
use crate::protocol::memcache::{self, Exptime, text};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output};
use crate::shard::{Expiry, Item, UnixMs, View};

mod arithmetic;
mod meta;
mod stats;
mod storage;

/// The level of memcached that this is compatible with.
pub const VERSION: &str = "1.6.18";

/// Where all rows stand; the blank keeps RESP's clients from naming it.
const CONTAINER: &str = " memcache";

const READ: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE.or(Flags::FAST);
const STORE: Flags = WRITE.or(Flags::DENYOOM);
const ALWAYS: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::FAST);

/// The family's one row of the command table.
pub static COMMANDS: &[Spec] = &[Spec::keyless(
    "memcache",
    (CONTAINER, -2, Flags(0)),
    "1.0.0",
    "The commands of memcached's protocol, on its own port.",
    Run::Container,
)
.with(ROWS)];

#[rustfmt::skip]
static ROWS: &[Spec] = &[
    keyed("add", -6, STORE, "Stores an item when there is none.", storage::store),
    keyed("append", -6, STORE, "Appends to the value of an item.", storage::store),
    session("cache_memlimit", -2, ALWAYS, "Sets the memory for the process, in MiB.", stats::limit_memory),
    keyed("cas", -7, STORE, "Stores an item when its version has not changed.", storage::store),
    keyed("decr", -3, STORE, "Subtracts from a number, down to 0.", arithmetic::classic),
    keyed("delete", -2, WRITE, "Deletes an item.", delete),
    everywhere("flush_all", -1, WRITE, "Deletes all items, now or in so many seconds.", flush_all),
    retrieval("gat", 2, WRITE, "Returns items and sets when they expire.",
        |call, args, reply| get_and_touch(call, args, false, reply)),
    retrieval("gats", 2, WRITE, "The same with their versions.",
        |call, args, reply| get_and_touch(call, args, true, reply)),
    retrieval("get", 1, READ, "Returns items.", |call, args, reply| get(call, args, false, reply)),
    retrieval("gets", 1, READ, "Returns items with their versions.", |call, args, reply| get(call, args, true, reply)),
    keyed("incr", -3, STORE, "Adds to a number, modulo 2^64.", arithmetic::classic),
    keyed("ma", -2, STORE, "Adds to or subtracts from a number, with flags.", arithmetic::meta),
    keyed("md", -2, WRITE, "Deletes an item or marks it stale.", meta::delete),
    keyed("me", -2, READ, "Tells what is known of an item.", meta::debug),
    keyed("mg", -2, WRITE, "Returns of an item what the flags ask for, and who is to compute it anew.", meta::get),
    session("mn", -1, ALWAYS, "Answers, so that a client knows what came before is done.",
        |_, _, _, reply| line(reply.output, "MN")),
    keyed("ms", -4, STORE, "Stores an item, with flags.", storage::meta),
    keyed("prepend", -6, STORE, "Puts bytes before the value of an item.", storage::store),
    session("quit", -1, ALWAYS.or(Flags::NO_AUTH), "Closes the connection.",
        |_, session, _, _| session.is_closing = true),
    keyed("replace", -6, STORE, "Stores an item when there is one.", storage::store),
    keyed("set", -6, STORE, "Stores an item.", storage::store),
    session("shutdown", -1, ALWAYS, "Is refused, as memcached does unless told otherwise.",
        |_, _, _, reply| line(reply.output, text::SHUTDOWN_REFUSED)),
    session("stats", -1, ALWAYS, "Tells the state of the server.", stats::stats),
    keyed("touch", -3, WRITE, "Sets when an item expires.", touch),
    session("verbosity", -2, ALWAYS, "Is accepted; the log level is a setting.", verbosity),
    session("version", -1, ALWAYS, "Tells the version that this is compatible with.",
        |_, _, _, reply| line(reply.output, &format!("VERSION {VERSION}"))),
    // What the decoder and `find` make.
    session(" bad", 2, ALWAYS.or(Flags::NO_AUTH), "Answers what is no request.",
        |_, _, args, reply| line_bytes(reply.output, args.get(1))),
    session(" unknown", -1, ALWAYS, "Answers an unknown command.", |_, _, _, reply| line(reply.output, text::ERROR)),
    session(" auth", -2, ALWAYS.or(Flags::NO_AUTH), "Takes the password.", auth),
    session(" unauthenticated", -1, ALWAYS.or(Flags::NO_AUTH), "Refuses whoever has not given the password.",
        |_, _, _, reply| line(reply.output, text::UNAUTHENTICATED)),
    everywhere(" reset", -2, ALWAYS, "Sets the counters to zero.", stats::reset),
    keyed(" unstorable", 4, WRITE, "Answers a request whose data has no room.", storage::unstorable),
];

const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1 };

const fn keyed(name: &'static str, arity: i32, flags: Flags, summary: &'static str, run: Execute) -> Spec {
    Spec { keys: ONE_KEY, ..Spec::keyless("memcache", (name, arity, flags), "1.0.0", summary, Run::Keyed(run)) }
}

const fn retrieval(name: &'static str, first: i32, flags: Flags, summary: &'static str, run: Execute) -> Spec {
    let run = Run::Spread(run, Spread::Retrieval);
    let spec = Spec::keyless("memcache", (name, -1 - first, flags), "1.0.0", summary, run);
    Spec { keys: Keys { first, last: -1, step: 1 }, ..spec }.costs("O(N) where N is the number of keys")
}

const fn everywhere(name: &'static str, arity: i32, flags: Flags, summary: &'static str, run: Execute) -> Spec {
    Spec::keyless("memcache", (name, arity, flags), "1.0.0", summary, Run::Everywhere(run, Merge::First))
}

const fn session(name: &'static str, arity: i32, flags: Flags, summary: &'static str, run: Converse) -> Spec {
    Spec::keyless("memcache", (name, arity, flags), "1.0.0", summary, Run::Session(run))
}

/// The rows for what no client asks for by name.
struct Special {
    container: CommandId,
    unknown: CommandId,
    auth: CommandId,
    unauthenticated: CommandId,
    reset: CommandId,
}

static SPECIAL: LazyLock<Special> = LazyLock::new(|| {
    let container = table::hidden(CONTAINER);
    let row = |name: &[u8]| table::subcommand(container, name).expect("the name stands in the source");
    Special {
        container,
        unknown: row(b" unknown"),
        auth: row(b" auth"),
        unauthenticated: row(b" unauthenticated"),
        reset: row(b" reset"),
    }
});

/// The row for a request; there is one for every request.
pub fn find(client: Client, args: Args<'_>) -> CommandId {
    let (special, name) = (&*SPECIAL, args.get(0));
    let row = table::subcommand(special.container, name).filter(|row| {
        let (arity, count) = (row.spec().arity, args.len() as i32);
        // Names are looked up without regard to case, which memcached's have.
        row.spec().name.as_bytes() == name && if arity < 0 { count >= -arity } else { count == arity }
    });
    let row = row.unwrap_or(special.unknown);
    let is_reset = name == b"stats" && args.len() == 2 && args.get(1) == b"reset";
    let row = if is_reset { special.reset } else { row };
    if client.is_authenticated || row.spec().flags.has(Flags::NO_AUTH) {
        return row;
    }
    if name == b"set" { special.auth } else { special.unauthenticated }
}

/// Ends a reply of one line.
fn line(output: &mut Output, text: &str) {
    line_bytes(output, text.as_bytes());
}

fn line_bytes(output: &mut Output, text: &[u8]) {
    output.extend(text);
    output.extend(b"\r\n");
}

/// The same, unless the client wants no reply.
fn line_unless(is_quiet: bool, output: &mut Output, text: &str) {
    if !is_quiet {
        line(output, text);
    }
}

/// When an item with this time expires; 0: never.
fn expires_at(exptime: Exptime, now: UnixMs) -> UnixMs {
    match exptime {
        Exptime::Never => 0,
        Exptime::Now => 1,
        Exptime::Seconds(seconds) => now + u64::from(seconds) * 1000,
        Exptime::UnixSeconds(seconds) => (u64::from(seconds) * 1000).max(1),
    }
}

fn expiry_at(expires_at: UnixMs) -> Expiry {
    if expires_at == 0 { Expiry::Never } else { Expiry::At(expires_at) }
}

/// An item's value and a line end.
#[inline]
fn write_value(item: &Item<'_>, output: &mut Output) {
    match item.shared {
        Some(value) => output.splice(value.clone()),
        None => output.extend(item.value),
    }
    output.extend(b"\r\n");
}

fn get(call: &mut Call<'_>, args: Args<'_>, with_version: bool, reply: &mut Reply<'_>) {
    retrieve(call, args.skip(1), with_version, None, reply.output);
}

fn get_and_touch(call: &mut Call<'_>, args: Args<'_>, with_version: bool, reply: &mut Reply<'_>) {
    match memcache::exptime(args.get(1)) {
        Ok(exptime) => retrieve(call, args.skip(2), with_version, Some(exptime), reply.output),
        Err(text) => line(reply.output, text),
    }
}

fn retrieve(call: &mut Call<'_>, keys: Args<'_>, with_version: bool, touch: Option<Exptime>, output: &mut Output) {
    let (start, now) = (output.len(), call.now.unix_ms);
    for key in keys.iter() {
        if let Err(text) = memcache::key(key) {
            output.truncate(start);
            return line(output, text);
        }
        let version = if with_version { call.shard.version(View::Memcache, key, now) } else { None };
        if let Some(item) = call.shard.get_as(View::Memcache, key, now) {
            memcache::write_value_line(key, item.attributes().flags, item.value.len(), version, output);
            write_value(&item, output);
            // It is returned once more even when it has expired by this.
            if let Some(exptime) = touch {
                call.shard.change(key, now, |at, _| *at = expires_at(exptime, now));
            }
        }
    }
    output.extend(b"END\r\n");
}

fn touch(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let (is_quiet, now) = (memcache::is_quiet(args), call.now.unix_ms);
    let touched = if args.len() > 4 {
        Err(text::ERROR)
    } else {
        memcache::key(args.get(1)).and_then(|key| memcache::exptime(args.get(2)).map(|exptime| (key, exptime)))
    };
    line_unless(
        is_quiet,
        reply.output,
        match touched {
            Ok((key, exptime)) => {
                let at = Some(expires_at(exptime, now)).filter(|at| *at != 0);
                let is_there = call.shard.set_expiry_as(View::Memcache, key, at, now);
                if is_there { "TOUCHED" } else { "NOT_FOUND" }
            }
            Err(text) => text,
        },
    );
}

fn delete(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_quiet = args.len() > 2 && memcache::is_quiet(args);
    let has_zero = args.len() > 2 && args.get(2) == b"0";
    let text = match (memcache::key(args.get(1)), args.len()) {
        (_, 5..) => text::ERROR,
        (_, 3) if !has_zero && !is_quiet => text::BAD_DELETE,
        (_, 4) if !has_zero || !is_quiet => text::BAD_DELETE,
        (Err(text), _) => text,
        (Ok(key), _) if call.shard.delete_as(View::Memcache, key, call.now.unix_ms) => "DELETED",
        (Ok(_), _) => "NOT_FOUND",
    };
    line_unless(is_quiet, reply.output, text);
}

fn flush_all(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_quiet = args.len() > 1 && memcache::is_quiet(args);
    let exptime = match args.len() - usize::from(is_quiet) {
        1 => Ok(Exptime::Never),
        2 => memcache::exptime(args.get(1)),
        _ => Err(text::ERROR),
    };
    let now = call.now.unix_ms;
    line_unless(
        is_quiet,
        reply.output,
        match exptime {
            Err(text) => text,
            Ok(exptime) => {
                match expires_at(exptime, now) {
                    at if at > now => call.shard.clear_at(at),
                    _ => call.shard.clear(),
                }
                "OK"
            }
        },
    );
}

fn verbosity(_: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let text = match args.len() {
        2 | 3 if memcache::delta(args.get(1)).is_ok() => "OK",
        2 | 3 => text::BAD_FORMAT,
        _ => text::ERROR,
    };
    line_unless(memcache::is_quiet(args), reply.output, text);
}

/// `set <anything> 0 0 <bytes>` with `user password` as its data.
fn auth(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let mut words = args.get(args.len() - 1).split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    line(
        reply.output,
        match (words.next(), words.next()) {
            (Some(user), Some(password)) if authenticate(call, session, user, password) => "STORED",
            (Some(_), Some(_)) => text::AUTHENTICATION_FAILED,
            _ => text::BAD_CREDENTIALS_FORMAT,
        },
    );
}
