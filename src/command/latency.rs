//! `SLOWLOG` and `LATENCY`: what was slow, in Redis' shapes.
//!
//! In: a request's arguments; what workers have noted in [`slow`](crate::observe::slow) and timed. Out: Redis' replies.
//! An entry of the slow log whose slow stage was not the command itself says so in a last argument, `(stage: send)`;
//! `SLOWLOG GET n STAGES` adds the stage's name to each entry as a seventh element.

use std::fmt::Write;

use super::arguments::{Refusal, integer};
use super::keyspace::help;
use super::session::Session;
use super::table::{self, Flags, Spec};
use super::{Call, Run};
use crate::observe::slow::{Event, Stage};
use crate::protocol::Args;
use crate::protocol::resp::Reply;

const OPERATOR: Flags = Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE).or(Flags::NOSCRIPT).or(Flags::DANGEROUS);
const ALWAYS: Flags = Flags::LOADING.or(Flags::STALE);

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] = &[
    row("latency", -2, Flags(0), "2.8.13", "Commands about events that took long.", Run::Container).with(LATENCY),
    row("slowlog", -2, Flags(0), "2.2.12", "Commands about requests that took long.", Run::Container).with(SLOWLOG),
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
static LATENCY: &[Spec] = &[
    row("doctor", 2, OPERATOR, "2.8.13", "Explains the events in words.", Run::Session(doctor)),
    row("help", 2, ALWAYS, "2.8.13", "Lists the subcommands.",
        Run::Session(|_, _, _, reply| help(reply, LATENCY_HELP))),
    row("histogram", -2, OPERATOR, "7.0.0", "Returns how often commands took how long.", Run::Session(histogram))
        .costs("O(N) with the number of commands"),
    row("history", 3, OPERATOR, "2.8.13", "Returns the times of an event.", Run::Session(history)),
    row("latest", 2, OPERATOR, "2.8.13", "Returns the newest time of each event.", Run::Session(latest)),
    row("reset", -2, OPERATOR, "2.8.13", "Forgets events.", Run::Session(reset)),
];

#[rustfmt::skip]
static SLOWLOG: &[Spec] = &[
    row("get", -2, OPERATOR, "2.2.12", "Returns the newest slow requests.", Run::Session(get)),
    row("help", 2, ALWAYS, "6.2.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, SLOWLOG_HELP))),
    row("len", 2, OPERATOR, "2.2.12", "Counts the slow requests.",
        Run::Session(|call, _, _, reply| reply.integer(call.instance.slow.len() as i64))),
    row("reset", 2, OPERATOR, "2.2.12", "Forgets the slow requests.",
        Run::Session(|call, _, _, reply| { call.instance.slow.clear(); reply.simple("OK"); })),
];

const LATENCY_HELP: &[&str] = &[
    "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes. (default: reset all data for all event classes)",
    "HELP",
    "    Print this help.",
];

const SLOWLOG_HELP: &[&str] = &[
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>] [STAGES]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of: id, timestamp, time in microseconds, arguments array, client IP and port, client name,",
    "    and with STAGES the name of the stage that was slow.",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
    "HELP",
    "    Print this help.",
];

/// Entries that `SLOWLOG GET` returns unless told otherwise, as in Redis.
const ENTRIES_SHOWN: usize = 10;

fn get(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let has_stages = args.len() > 2 && args.get(args.len() - 1).eq_ignore_ascii_case(b"stages");
    let most = match args.len() - usize::from(has_stages) {
        2 => ENTRIES_SHOWN,
        3 => match integer(args.get(2)) {
            Ok(-1) => usize::MAX,
            Ok(count @ 0..) => count as usize,
            Ok(_) => return reply.error("ERR count should be greater than or equal to -1"),
            Err(refusal) => return refusal.write(reply),
        },
        _ => return Refusal::Syntax.write(reply),
    };
    let entries = call.instance.slow.entries(most);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6 + usize::from(has_stages));
        [entry.id, entry.unix_s, entry.us].into_iter().for_each(|number| reply.integer(number as i64));
        reply.array(entry.arguments.len());
        entry.arguments.iter().for_each(|argument| reply.bulk(argument));
        reply.bulk(entry.peer.as_bytes());
        reply.bulk(&entry.name);
        if has_stages {
            reply.bulk(entry.stage.name().as_bytes());
        }
    }
}

fn latest(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let events = call.instance.slow.events();
    reply.array(events.len());
    for (name, event) in events {
        let (unix_s, ms) = event.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(name.as_bytes());
        [unix_s, ms, event.max_ms].into_iter().for_each(|number| reply.integer(number as i64));
    }
}

fn history(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let events = call.instance.slow.events();
    let event = events.into_iter().find(|(name, _)| name.as_bytes() == args.get(2)).map(|(_, event)| event);
    let samples = event.map(|event| event.samples).unwrap_or_default();
    reply.array(samples.len());
    for (unix_s, ms) in samples {
        reply.array(2);
        reply.integer(unix_s as i64);
        reply.integer(ms as i64);
    }
}

fn reset(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_meant = |name: &str| args.len() == 2 || args.iter().skip(2).any(|wanted| wanted == name.as_bytes());
    reply.integer(call.instance.slow.reset(is_meant) as i64);
}

/// Bounds of the histogram, microseconds: Redis' own double as well.
const BOUNDS: u32 = 30;

fn histogram(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_wanted = |name: &str| {
        let is_it = |wanted: &[u8]| {
            let container = name.split('|').next().unwrap_or(name);
            wanted.eq_ignore_ascii_case(name.as_bytes()) || wanted.eq_ignore_ascii_case(container.as_bytes())
        };
        !name.starts_with(' ') && (args.len() == 2 || args.iter().skip(2).any(is_it))
    };
    let rows = table::rows().filter(|row| is_wanted(row.full_name()));
    let times = rows.map(|row| {
        let totals = call.instance.metrics.command(call.reach(), row.0);
        (row.full_name(), totals.calls, call.instance.metrics.command_times(call.reach(), row.0))
    });
    let times: Vec<_> = times.filter(|(_, calls, times)| *calls > 0 && times.count() > 0).collect();
    reply.map(times.len());
    for (name, calls, times) in times {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(calls as i64);
        reply.bulk(b"histogram_usec");
        let mut bounds = Vec::new();
        let mut seen = 0;
        for us in (0..BOUNDS).map(|power| 1_u64 << power) {
            let within = times.count_within(us * 1000);
            if within > seen {
                bounds.push((us, within));
                seen = within;
            }
        }
        reply.map(bounds.len());
        for (us, within) in bounds {
            reply.integer(us as i64);
            reply.integer(within as i64);
        }
    }
}

/// What usually lies behind an event, and what helps.
fn advice(event: &str) -> &'static str {
    const ADVICE: &[(&str, &str)] = &[
        ("command", "a command that looks at many keys or bytes: SLOWLOG GET names it; use SCAN instead of KEYS"),
        ("fast-command", "the worker was stopped while it ran: corering doctor looks for steal and other processes"),
        ("tick", "one turn of a worker's loop was long: many clients at once, or the worker was stopped"),
        ("stage-socket", "requests waited in the kernel: the worker was busy with a slow command, or had no CPU"),
        ("stage-queue", "other clients' requests were dealt with first: lower tick-requests, or spread the clients"),
        ("stage-hop", "another worker was busy: see its own events; a cluster client needs no hop (cluster-mode)"),
        ("stage-output", "replies waited for other clients' requests: lower tick-requests"),
        ("stage-send", "clients did not read their replies, or the network was slow: CLIENT LIST shows obl"),
    ];
    ADVICE.iter().find(|(name, _)| *name == event).map_or("see SLOWLOG GET", |(_, advice)| advice)
}

fn doctor(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let events = call.instance.slow.events();
    let mut text = String::new();
    if call.settings.latency_monitor_threshold == 0 {
        text.push_str(
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on, \
             CONFIG SET stage-sampling 64 names the stage.\n",
        );
    } else if events.is_empty() {
        text.push_str("No event took as long as latency-monitor-threshold.\n");
    }
    for (name, event) in &events {
        let Event { samples, max_ms } = event;
        let mean_ms = samples.iter().map(|(_, ms)| ms).sum::<u64>() / samples.len().max(1) as u64;
        let _ = writeln!(
            text,
            "{name}: {} seconds with such events, {mean_ms} ms on average, {max_ms} ms at most. {}.",
            samples.len(),
            advice(name),
        );
    }
    let slowest = Stage::ALL
        .map(|stage| (call.instance.metrics.stage_times(call.reach(), stage).quantile_ns(0.999), stage))
        .into_iter()
        .max_by_key(|(ns, _)| *ns)
        .filter(|(ns, _)| *ns > 0);
    if let Some((ns, stage)) = slowest {
        let _ = writeln!(
            text,
            "Of the stages, {} is the slowest: {} us at the 99.9th percentile (INFO stages).",
            stage.name(),
            ns / 1000,
        );
    }
    text.push_str("corering doctor tells what of the host costs latency.\n");
    reply.verbatim("txt", &text);
}
