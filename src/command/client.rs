//! `CLIENT`: what the server knows of its clients, and what can be done to them.
//!
//! In: a request's arguments and the client's session. Out: the session changed, clients closed or paused, Redis'
//! replies. `LIST` and `KILL` run on every worker, each of which knows its own clients; they are as slow as there are
//! clients.

use super::arguments::{Refusal, conclude, integer, repeating};
use super::connection::{BAD_NAME, is_valid_name};
use super::fanout::Merge;
use super::keyspace::help;
use super::session::{ReplyMode, Session};
use super::string::Outcome;
use super::table::{Flags, Spec};
use super::{Call, ClientView, Run};
use crate::protocol::Args;
use crate::protocol::resp::{Reply, Version};

const ALWAYS: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const OPERATOR: Flags = ALWAYS.or(Flags::ADMIN).or(Flags::DANGEROUS);

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] =
    &[row("client", -2, Flags(0), "2.4.0", "Commands about clients.", Run::Container).with(SUBCOMMANDS)];

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

#[rustfmt::skip]
static SUBCOMMANDS: &[Spec] = &[
    row("caching", 3, ALWAYS, "6.0.0", "Controls tracking of the next command's keys.",
        Run::Session(|_, _, _, reply| reply.error(NOT_TRACKING))),
    row("getname", 2, ALWAYS, "2.6.9", "Returns this client's name.", Run::Session(get_name)),
    row("getredir", 2, ALWAYS, "6.0.0", "Returns -1: invalidations are not redirected.",
        Run::Session(|_, _, _, reply| reply.integer(-1))),
    row("help", 2, ALWAYS, "5.0.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, HELP))),
    row("id", 2, ALWAYS, "5.0.0", "Returns this client's id.",
        Run::Session(|_, session, _, reply| reply.integer(session.id as i64))),
    row("info", 2, ALWAYS, "6.2.0", "Describes this client.", Run::Session(info)),
    row("kill", -3, OPERATOR, "2.4.0", "Closes clients.",
        Run::Everywhere(|call, args, reply| conclude(kill(call, args, reply), reply), Merge::AnyOk)).costs(PER_CLIENT),
    row("list", -2, OPERATOR, "2.4.0", "Describes the clients, one a line.",
        Run::Everywhere(list, Merge::Text)).costs(PER_CLIENT),
    row("no-evict", 3, OPERATOR, "7.0.0", "Protects this client from eviction.",
        Run::Session(|_, session, args, reply| conclude(switch(&mut session.is_no_evict, args, reply), reply))),
    row("no-touch", 3, ALWAYS, "7.2.0", "Lets this client's reads not count as use.",
        Run::Session(|_, session, args, reply| conclude(switch(&mut session.is_no_touch, args, reply), reply))),
    row("pause", -3, OPERATOR, "3.0.0", "Holds commands back for a while.", Run::Session(pause)),
    row("reply", 3, ALWAYS, "3.2.0", "Turns replies to this client on or off.",
        Run::Session(|_, session, args, reply| conclude(set_reply_mode(session, args, reply), reply))),
    row("setinfo", 4, ALWAYS, "7.2.0", "Sets the name or the version of the client's library.", Run::Session(set_info)),
    row("setname", 3, ALWAYS, "2.6.9", "Sets this client's name.", Run::Session(set_name)),
    row("tracking", -3, ALWAYS, "6.0.0", "Turns client-side caching on or off; there is only off.",
        Run::Session(|_, _, args, reply| conclude(tracking(args, reply), reply))),
    row("trackinginfo", 2, ALWAYS, "6.2.0", "Describes client-side caching: it is off.", Run::Session(tracking_info)),
    row("unblock", -3, OPERATOR, "5.0.0", "Ends a client's blocking command; there are none.",
        Run::Session(|_, _, args, reply| conclude(unblock(args, reply), reply))),
    row("unpause", 2, OPERATOR, "6.2.0", "Ends CLIENT PAUSE.",
        Run::Session(|call, _, _, reply| { call.instance.pause(0, false); reply.simple("OK"); })),
];

const PER_CLIENT: &str = "O(N) with the number of clients";

const NOT_TRACKING: &str = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
                            OPTOUT mode enabled";

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ID <client-id>",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "    * USER <username>",
    "    * SKIPME (YES|NO), default: yes",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [...]]",
    "    Return information about client connections.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Do not count reads of the current connection as use of the keys.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Set what CLIENT LIST shows of the client's library.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "HELP",
    "    Print this help.",
];

/// A client's line, with the fields of Redis 7.2; those that mean nothing here have the values of a quiet client.
fn describe(view: &ClientView<'_>) -> String {
    let session = view.session;
    let mut flags = String::new();
    for (is_set, flag) in [
        (session.is_closing, 'c'),
        (session.is_monitor, 'O'),
        (view.peer.starts_with("unix:"), 'U'),
        (session.is_no_evict, 'e'),
        (session.is_no_touch, 'T'),
    ] {
        if is_set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let version = match session.version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf={} \
         qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem=0 tot-mem={} events=r cmd={} user=default \
         redir=-1 resp={version} lib-name={} lib-ver={}\n",
        session.id,
        view.peer,
        view.local,
        view.fd,
        String::from_utf8_lossy(&session.name),
        view.age_ms / 1000,
        view.idle_ms / 1000,
        view.input_bytes,
        view.output_bytes,
        view.input_bytes + view.output_bytes,
        session.last_command.map_or("NULL", |command| command.full_name()),
        session.library_name,
        session.library_version,
    )
}

fn info(call: &mut Call<'_>, session: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let line = call.clients.view(session).map(|view| describe(&view)).unwrap_or_default();
    reply.verbatim("txt", &line);
}

fn get_name(_: &mut Call<'_>, session: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    if session.name.is_empty() { reply.null() } else { reply.bulk(&session.name) }
}

fn set_name(_: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    if !is_valid_name(args.get(2)) {
        return reply.error(BAD_NAME);
    }
    session.name = args.get(2).into();
    reply.simple("OK");
}

fn set_info(_: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let (option, value) = (args.get(2), args.get(3));
    let place = match option {
        _ if option.eq_ignore_ascii_case(b"lib-name") => &mut session.library_name,
        _ if option.eq_ignore_ascii_case(b"lib-ver") => &mut session.library_version,
        _ => return reply.error_bytes(&repeating("ERR Unrecognized option '", option, "'")),
    };
    if !is_valid_name(value) {
        const WHY: &str = " cannot contain spaces, newlines or special characters.";
        return reply.error_bytes(&repeating("ERR ", option, WHY));
    }
    *place = String::from_utf8_lossy(value).into();
    reply.simple("OK");
}

fn switch(flag: &mut bool, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    *flag = match args.get(2) {
        word if word.eq_ignore_ascii_case(b"on") => true,
        word if word.eq_ignore_ascii_case(b"off") => false,
        _ => return Err(Refusal::Syntax),
    };
    reply.simple("OK");
    Ok(())
}

fn set_reply_mode(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    session.reply_mode = match args.get(2) {
        word if word.eq_ignore_ascii_case(b"on") => ReplyMode::On,
        word if word.eq_ignore_ascii_case(b"off") => ReplyMode::Off,
        word if word.eq_ignore_ascii_case(b"skip") => ReplyMode::SkipNext,
        _ => return Err(Refusal::Syntax),
    };
    // The two other modes swallow this.
    reply.simple("OK");
    Ok(())
}

fn pause(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_for_all = match args.len() {
        3 => true,
        4 if args.get(3).eq_ignore_ascii_case(b"all") => true,
        4 if args.get(3).eq_ignore_ascii_case(b"write") => false,
        4 => return reply.error("ERR CLIENT PAUSE mode must be WRITE or ALL"),
        _ => return Refusal::Syntax.write(reply),
    };
    let Ok(timeout_ms) = integer(args.get(2)) else {
        return reply.error("ERR timeout is not an integer or out of range");
    };
    let Ok(timeout_ms) = u64::try_from(timeout_ms) else { return reply.error("ERR timeout is negative") };
    // A pause is only ever made longer and stronger, until it has passed.
    let (until_ms, was_for_all) = call.instance.paused();
    let is_for_all = is_for_all || (was_for_all && until_ms > call.now.unix_ms);
    call.instance.pause(until_ms.max(call.now.unix_ms.saturating_add(timeout_ms)), is_for_all);
    reply.simple("OK");
}

fn tracking(args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.get(2) {
        word if word.eq_ignore_ascii_case(b"on") => reply.error("ERR client-side caching is not supported"),
        word if word.eq_ignore_ascii_case(b"off") && args.len() == 3 => reply.simple("OK"),
        _ => return Err(Refusal::Syntax),
    }
    Ok(())
}

fn tracking_info(_: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
}

fn unblock(args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 4 {
        return Err(Refusal::Syntax);
    }
    let is_reason = |word: &[u8]| word.eq_ignore_ascii_case(b"timeout") || word.eq_ignore_ascii_case(b"error");
    if args.len() == 4 && !is_reason(args.get(3)) {
        reply.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        return Ok(());
    }
    integer(args.get(2))?;
    reply.integer(0);
    Ok(())
}

/// What `LIST` and `KILL` choose clients by.
#[derive(Debug, Default)]
struct Filter {
    ids: Vec<u64>,
    peer: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    /// A type of client that there are none of was asked for.
    matches_none: bool,
    /// This client is left alone.
    spared: Option<u64>,
}

impl Filter {
    fn matches(&self, view: &ClientView<'_>) -> bool {
        let is_same =
            |wanted: &Option<Vec<u8>>, address: &str| wanted.as_ref().is_none_or(|wanted| wanted == address.as_bytes());
        !self.matches_none
            && (self.ids.is_empty() || self.ids.contains(&view.session.id))
            && is_same(&self.peer, &view.peer)
            && is_same(&self.local, &view.local)
            && self.spared != Some(view.session.id)
    }

    /// `TYPE`: every client is a normal one.
    fn set_type(&mut self, word: &[u8]) -> Result<(), Vec<u8>> {
        const OTHERS: &[&str] = &["master", "slave", "replica", "pubsub"];
        if !word.eq_ignore_ascii_case(b"normal") {
            if !OTHERS.iter().any(|other| word.eq_ignore_ascii_case(other.as_bytes())) {
                return Err(repeating("ERR Unknown client type '", word, "'"));
            }
            self.matches_none = true;
        }
        Ok(())
    }

    /// The options of `KILL` after the third argument's place, in pairs.
    fn of_kill(args: Args<'_>, caller: u64) -> Result<Self, Vec<u8>> {
        let mut filter = Filter { spared: Some(caller), ..Filter::default() };
        for index in (2..args.len()).step_by(2) {
            let option = args.get(index).to_ascii_lowercase();
            if index + 1 == args.len() {
                return Err(SYNTAX.into());
            }
            let value = args.get(index + 1);
            match &option[..] {
                b"id" => match integer(value).ok().filter(|id| *id > 0) {
                    Some(id) => filter.ids = vec![id as u64],
                    None => return Err("ERR client-id should be greater than 0".into()),
                },
                b"type" => filter.set_type(value)?,
                b"addr" => filter.peer = Some(value.to_vec()),
                b"laddr" => filter.local = Some(value.to_vec()),
                b"user" if value == b"default" => {}
                b"user" => return Err(repeating("ERR No such user '", value, "'")),
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.spared = Some(caller),
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.spared = None,
                _ => return Err(SYNTAX.into()),
            }
        }
        Ok(filter)
    }

    fn of_list(args: Args<'_>) -> Result<Self, Vec<u8>> {
        let mut filter = Filter::default();
        let word = if args.len() > 2 { args.get(2).to_ascii_lowercase() } else { Vec::new() };
        match (&word[..], args.len()) {
            (_, 2) => {}
            (b"type", 4) => filter.set_type(args.get(3))?,
            (b"id", 4..) => {
                let ids = args.iter().skip(3).map(|id| integer(id).ok().and_then(|id| u64::try_from(id).ok()));
                filter.ids = ids.collect::<Option<_>>().ok_or_else(|| b"ERR Invalid client ID".to_vec())?;
            }
            _ => return Err(SYNTAX.into()),
        }
        Ok(filter)
    }
}

const SYNTAX: &str = "ERR syntax error";

fn list(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let filter = match Filter::of_list(args) {
        Ok(filter) => filter,
        Err(error) => return reply.error_bytes(&error),
    };
    let mut lines = String::new();
    call.clients.for_each(&mut |view| {
        if filter.matches(view) {
            lines.push_str(&describe(view));
        }
    });
    reply.verbatim("txt", &lines);
}

fn kill(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let is_old_form = args.len() == 3;
    let filter = if is_old_form {
        Ok(Filter { peer: Some(args.get(2).to_vec()), ..Filter::default() })
    } else {
        Filter::of_kill(args, call.caller)
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) => {
            reply.error_bytes(&error);
            return Ok(());
        }
    };
    let mut ids = Vec::new();
    call.clients.for_each(&mut |view| {
        if filter.matches(view) {
            ids.push(view.session.id);
        }
    });
    let killed = ids.into_iter().filter(|id| call.clients.kill(*id)).count();
    match (is_old_form, killed) {
        (true, 0) => reply.error("ERR No such client"),
        (true, _) => reply.simple("OK"),
        (false, _) => reply.integer(killed as i64),
    }
    Ok(())
}
