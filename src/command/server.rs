//! The commands for operators: `CONFIG`, `INFO`, `SHUTDOWN`, `DEBUG` and what tools ask on the side.
//!
//! In: a request's arguments. Out: settings changed as a whole or not at all, the phase moved on, Redis' replies. What
//! must stay true: a setting is only changed through its row of the settings table.

use std::time::Duration;

use super::arguments::{Refusal, conclude, integer};
use super::fanout::Merge;
use super::keyspace::help;
use super::session::Session;
use super::string::Outcome;
use super::table::{Flags, Spec};
use super::{Call, Run, glob, info};
use crate::config::{self, DebugCommands, Setting, source};
use crate::instance::Phase;
use crate::protocol::Args;
use crate::protocol::resp::Reply;

const ALWAYS: Flags = Flags::LOADING.or(Flags::STALE);
const OPERATOR: Flags = ALWAYS.or(Flags::ADMIN).or(Flags::NOSCRIPT).or(Flags::DANGEROUS);

/// The family's rows of the command table.
#[rustfmt::skip]
pub static COMMANDS: &[Spec] = &[
    row("config", -2, Flags(0), "2.0.0", "Commands about settings.", Run::Container).with(CONFIG),
    row("debug", -2, OPERATOR, "1.0.0", "For tests of clients.", Run::Container).with(DEBUG),
    row("info", -1, ALWAYS.or(Flags::DANGEROUS), "1.0.0", "Tells the state of the server.", Run::Session(info::info)),
    row("lolwut", -1, Flags::READONLY.or(Flags::FAST), "5.0.0", "Draws the cores and tells the version.",
        Run::Session(lolwut)),
    row("module", -2, Flags(0), "4.0.0", "Commands about modules.", Run::Container).with(MODULE),
    row("monitor", 1, OPERATOR, "1.0.0", "Shows the requests of all clients as they come; a slow reader misses some.",
        Run::Session(|_, session, _, reply| { session.is_monitor = true; reply.simple("OK"); })),
    row("role", 1, OPERATOR.or(Flags::FAST), "2.8.12", "Tells the role in replication: master.", Run::Session(role)),
    row("shutdown", -1, OPERATOR, "1.0.0", "Answers what was received and ends the server.",
        Run::Session(|call, session, args, reply| conclude(shutdown(call, session, args, reply), reply))),
    row("time", 1, ALWAYS.or(Flags::FAST), "2.6.0", "Returns the time, in seconds and microseconds.",
        Run::Session(time)),
    row("wait", 3, Flags(0), "3.0.0", "Returns how many replicas have the writes so far: none.",
        Run::Session(|_, _, args, reply| conclude(wait(args, reply), reply))),
];

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Spec {
    Spec::keyless("server", (name, arity, flags), since, summary, run)
}

#[rustfmt::skip]
static CONFIG: &[Spec] = &[
    row("get", -3, OPERATOR, "2.0.0", "Returns settings by name or pattern.", Run::Session(config_get))
        .costs("O(N) with the number of settings"),
    row("help", 2, ALWAYS, "5.0.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, CONFIG_HELP))),
    row("resetstat", 2, OPERATOR, "2.0.0", "Sets the counters of INFO to zero.",
        Run::Everywhere(reset_statistics, Merge::AllOk)),
    row("rewrite", 2, OPERATOR, "2.8.0", "Writes the settings to their file.", Run::Session(config_rewrite)),
    row("set", -4, OPERATOR, "2.0.0", "Changes settings, all or none.", Run::Session(config_set)),
];

#[rustfmt::skip]
static DEBUG: &[Spec] = &[
    row("help", 2, OPERATOR, "5.0.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, DEBUG_HELP))),
    row("sleep", 3, OPERATOR, "1.0.0", "Stops the workers of the client's CPU for so many seconds.",
        Run::Session(debug_sleep))
        .costs("O(N) with the time"),
];

#[rustfmt::skip]
static MODULE: &[Spec] = &[
    row("help", 2, ALWAYS, "5.0.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, MODULE_HELP))),
    row("list", 2, OPERATOR, "4.0.0", "Lists the modules: there are none.",
        Run::Session(|_, _, _, reply| reply.array(0))),
];

const CONFIG_HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
    "HELP",
    "    Print this help.",
];

const DEBUG_HELP: &[&str] = &[
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "SLEEP <seconds>",
    "    Stop the worker of this connection for <seconds>. Decimals allowed.",
    "HELP",
    "    Print this help.",
];

const MODULE_HELP: &[&str] = &[
    "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LIST",
    "    Return a list of loaded modules.",
    "HELP",
    "    Print this help.",
];

fn config_get(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_wanted = |key: &str| args.iter().skip(2).any(|pattern| glob::matches(pattern, key.as_bytes(), true));
    let own = config::TABLE.iter().map(|setting| (setting.key, (setting.get)(call.settings)));
    let foreign = config::FOREIGN.iter().map(|(key, value)| (*key, (*value).to_owned()));
    let is_cluster = if session.front.is_cluster() { "yes" } else { "no" };
    let cluster = std::iter::once(("cluster-enabled", is_cluster.to_owned()));
    let found: Vec<(&str, String)> = own.chain(foreign).chain(cluster).filter(|(key, _)| is_wanted(key)).collect();
    reply.map(found.len());
    for (key, value) in found {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

fn config_set(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    if args.len() % 2 == 1 {
        return Refusal::Syntax.write(reply);
    }
    let changed = call.instance.change_settings(|settings| {
        let mut seen: Vec<&str> = Vec::new();
        let pairs = (2..args.len()).step_by(2).map(|index| (args.get(index), args.get(index + 1)));
        // As in Redis, names are looked at before values.
        let rows = pairs.map(|(key, value)| {
            let key = String::from_utf8_lossy(key);
            let unknown = || format!("ERR Unknown option or number of arguments for CONFIG SET - '{key}'");
            config::find(&key).map(|setting| (setting, value)).ok_or_else(unknown)
        });
        let rows: Vec<(&Setting, &[u8])> = rows.collect::<Result<_, String>>()?;
        for (setting, value) in rows {
            let failed =
                |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{}') - {why}", setting.key);
            if seen.contains(&setting.key) {
                return Err(failed("duplicate parameter"));
            }
            if !setting.is_mutable {
                return Err(failed("can't set immutable config"));
            }
            seen.push(setting.key);
            let value = std::str::from_utf8(value).map_err(|_| failed("argument is no text"))?;
            (setting.set)(settings, value).map_err(|error| failed(&format!("argument {error}")))?;
        }
        settings.check().map_err(|error| format!("ERR CONFIG SET failed - {error}"))
    });
    match changed {
        Ok(()) => reply.simple("OK"),
        Err(error) => reply.error(&error),
    }
}

fn config_rewrite(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let Some(path) = &call.instance.origin.file else {
        return reply.error("ERR The server is running without a config file");
    };
    match source::rewrite(&call.instance.settings(), path) {
        Ok(()) => reply.simple("OK"),
        Err(error) => reply.error(&format!("ERR Rewriting config file: {error}")),
    }
}

fn reset_statistics(call: &mut Call<'_>, _: Args<'_>, reply: &mut Reply<'_>) {
    call.instance.metrics.worker(call.worker).reset();
    call.shard.reset_stats();
    reply.simple("OK");
}

/// Longest that `DEBUG SLEEP` may stop a worker, seconds.
const SLEEP_SECONDS_MAX: f64 = 3600.0;

fn debug_sleep(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_local = call.clients.view(session).is_some_and(|view| view.is_local);
    let is_allowed = match call.settings.enable_debug_command {
        DebugCommands::No => false,
        DebugCommands::Local => is_local,
        DebugCommands::Yes => true,
    };
    if !is_allowed {
        return reply.error(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
             from a local connection, otherwise you need to set this option in the configuration file, and then \
             restart the server.",
        );
    }
    let seconds = std::str::from_utf8(args.get(2)).ok().and_then(|text| text.parse::<f64>().ok());
    match seconds.filter(|seconds| (0.0..=SLEEP_SECONDS_MAX).contains(seconds)) {
        Some(seconds) => {
            call.clients.stall(Duration::from_secs_f64(seconds));
            reply.simple("OK");
        }
        None => Refusal::NotAFloat.write(reply),
    }
}

fn lolwut(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    // At most a line of rings.
    let rings = "(o)".repeat(usize::from(call.instance.workers).min(24));
    reply.verbatim("txt", &format!("{rings}\n\nCorering ver. {}\n", env!("CARGO_PKG_VERSION")));
}

fn role(_: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
}

fn shutdown(call: &Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut phase = Phase::Draining;
    let (mut saves, mut aborts) = (None, false);
    for word in args.iter().skip(1) {
        match &word.to_ascii_lowercase()[..] {
            b"nosave" if saves != Some(true) => saves = Some(false),
            b"save" if saves != Some(false) => saves = Some(true),
            b"now" => phase = Phase::Stopping,
            b"force" => {}
            b"abort" => aborts = true,
            _ => return Err(Refusal::Syntax),
        }
    }
    if aborts && args.len() > 2 {
        return Err(Refusal::Syntax);
    }
    if aborts {
        reply.error("ERR No shutdown in progress.");
    } else if saves == Some(true) {
        reply.error("ERR nothing can be saved: items live in memory only; use SHUTDOWN or SHUTDOWN NOSAVE");
    } else {
        call.instance.advance(phase);
        // As from Redis, the end of the connection is the reply.
        session.is_closing = true;
    }
    Ok(())
}

fn time(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    reply.array(2);
    for part in [call.now.unix_us / 1_000_000, call.now.unix_us % 1_000_000] {
        reply.bulk(itoa::Buffer::new().format(part).as_bytes());
    }
}

fn wait(args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    integer(args.get(1))?;
    match integer(args.get(2)) {
        Ok(0..) => reply.integer(0),
        Ok(_) => reply.error("ERR timeout is negative"),
        Err(_) => reply.error("ERR timeout is not an integer or out of range"),
    }
    Ok(())
}
