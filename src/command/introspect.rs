//! `COMMAND`: the command table, as clients read it.
//!
//! In: names of commands. Out: the rows of [`table`](super::table), spelled as Redis 7.2 does: ten fields a command,
//! subcommands nested, key positions also as key specifications.

use super::fanout::{Merge, Spread};
use super::keyspace::help;
use super::session::Session;
use super::table::{self, CommandId, Flags, Spec};
use super::{Call, Run, glob};
use crate::protocol::Args;
use crate::protocol::resp::Reply;

const ALWAYS: Flags = Flags::LOADING.or(Flags::STALE);

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] =
    &[row("command", -1, "2.8.13", "Describes all commands.", Run::Session(all)).costs(PER_COMMAND).with(SUBCOMMANDS)];

const PER_COMMAND: &str = "O(N) with the number of commands";

const fn row(name: &'static str, arity: i32, since: &'static str, summary: &'static str, run: Run) -> Spec {
    Spec::keyless("server", (name, arity, ALWAYS), since, summary, run)
}

#[rustfmt::skip]
static SUBCOMMANDS: &[Spec] = &[
    row("count", 2, "2.8.13", "Counts the commands.",
        Run::Session(|_, _, _, reply| reply.integer(table::commands().count() as i64))),
    row("docs", -2, "7.0.0", "Documents commands.", Run::Session(docs)).costs(PER_COMMAND),
    row("getkeys", -3, "2.8.13", "Returns the keys among a command's arguments.", Run::Session(get_keys)),
    row("help", 2, "5.0.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, HELP))),
    row("info", -2, "2.8.13", "Describes commands.", Run::Session(info)).costs(PER_COMMAND),
    row("list", -2, "7.0.0", "Lists the names of commands.", Run::Session(list)).costs(PER_COMMAND),
];

const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "DOCS [<command-name> ...]",
    "    Return documentation of the given commands, or of all.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "INFO [<command-name> ...]",
    "    Return details about the given commands, or all.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Return a list of all commands in this server.",
    "HELP",
    "    Print this help.",
];

fn all(_: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    reply.array(table::commands().count());
    table::commands().for_each(|command| write_info(command, reply));
}

fn info(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    if args.len() == 2 {
        return all(call, session, args, reply);
    }
    reply.array(args.len() - 2);
    for name in args.iter().skip(2) {
        match table::lookup(name) {
            Some(command) => write_info(command, reply),
            None => reply.null_array(),
        }
    }
}

/// Name, arity, flags, first key, last key, step, categories, tips, key specifications, subcommands.
fn write_info(command: CommandId, reply: &mut Reply<'_>) {
    let spec = command.spec();
    reply.array(10);
    reply.bulk(command.full_name().as_bytes());
    reply.integer(i64::from(spec.arity));
    let flags: Vec<&str> =
        Flags::NAMES.iter().filter(|(flag, _)| spec.flags.has(*flag)).map(|(_, name)| *name).collect();
    write_words(&flags, reply);
    reply.integer(i64::from(spec.keys.first));
    reply.integer(i64::from(spec.keys.last));
    reply.integer(i64::from(spec.keys.step));
    write_words(&categories(spec), reply);
    let tips = tips(spec);
    reply.set(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    write_key_specifications(spec, reply);
    reply.set(spec.subcommands.len());
    table::subcommands(command).for_each(|subcommand| write_info(subcommand, reply));
}

fn write_words(words: &[&str], reply: &mut Reply<'_>) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

/// Access categories, in Redis' order.
fn categories(spec: &Spec) -> Vec<&'static str> {
    let has_keys = spec.keys.first > 0;
    let rows = [
        (spec.group == "generic", "@keyspace"),
        (spec.flags.has(Flags::READONLY), "@read"),
        (spec.flags.has(Flags::WRITE), "@write"),
        (spec.group == "string" && has_keys, "@string"),
        (spec.flags.has(Flags::ADMIN), "@admin"),
        (spec.flags.has(Flags::FAST), "@fast"),
        (!spec.flags.has(Flags::FAST), "@slow"),
        (spec.flags.has(Flags::DANGEROUS), "@dangerous"),
        (spec.group == "connection", "@connection"),
    ];
    rows.into_iter().filter(|(applies, _)| *applies).map(|(_, name)| name).collect()
}

/// Every category that a command has, without its sign, sorted.
pub(super) fn categories_of_all() -> Vec<&'static str> {
    let mut names: Vec<&str> = table::commands().flat_map(|command| categories(command.spec())).collect();
    names.sort_unstable();
    names.dedup();
    names.iter().map(|name| &name[1..]).collect()
}

/// How a proxy or a cluster client would spread the command.
fn tips(spec: &Spec) -> &'static [&'static str] {
    match spec.run {
        Run::Spread(_, Spread::Sum) => &["request_policy:multi_shard", "response_policy:agg_sum"],
        Run::Spread(_, Spread::Pairs) => &["request_policy:multi_shard", "response_policy:all_succeeded"],
        Run::Spread(_, Spread::Each) => &["request_policy:multi_shard"],
        Run::Spread(_, Spread::Cursor) => &["nondeterministic_output", "request_policy:special"],
        Run::Everywhere(_, Merge::Sum) => &["request_policy:all_shards", "response_policy:agg_sum"],
        Run::Everywhere(_, Merge::AllOk) => &["request_policy:all_shards", "response_policy:all_succeeded"],
        _ => &[],
    }
}

/// One specification: where the keys begin, how far they go, what is done to them.
fn write_key_specifications(spec: &Spec, reply: &mut Reply<'_>) {
    if spec.keys.first == 0 {
        return reply.set(0);
    }
    let pair = |reply: &mut Reply<'_>, key: &str, value: i32| {
        reply.bulk(key.as_bytes());
        reply.integer(i64::from(value));
    };
    let kind = |reply: &mut Reply<'_>, kind: &str, fields: usize| {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(fields);
    };
    reply.set(1);
    reply.map(3);
    reply.bulk(b"flags");
    write_words(if spec.flags.has(Flags::WRITE) { &["RW", "update"] } else { &["RO", "access"] }, reply);
    reply.bulk(b"begin_search");
    kind(reply, "index", 1);
    pair(reply, "index", spec.keys.first);
    reply.bulk(b"find_keys");
    kind(reply, "range", 3);
    // Counted from the first key, unless from the end.
    let last = if spec.keys.last < 0 { spec.keys.last } else { spec.keys.last - spec.keys.first };
    pair(reply, "lastkey", last);
    pair(reply, "keystep", spec.keys.step);
    pair(reply, "limit", 0);
}

fn docs(_: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let commands: Vec<CommandId> = if args.len() == 2 {
        table::commands().collect()
    } else {
        args.iter().skip(2).filter_map(table::lookup).collect()
    };
    reply.map(commands.len());
    commands.into_iter().for_each(|command| write_docs(command, reply));
}

fn write_docs(command: CommandId, reply: &mut Reply<'_>) {
    let spec = command.spec();
    reply.bulk(command.full_name().as_bytes());
    let fields =
        [("summary", spec.summary), ("since", spec.since), ("group", spec.group), ("complexity", spec.complexity)];
    let has_subcommands = !spec.subcommands.is_empty();
    reply.map(fields.len() + usize::from(has_subcommands));
    for (key, value) in fields {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        table::subcommands(command).for_each(|subcommand| write_docs(subcommand, reply));
    }
}

fn get_keys(_: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = args.skip(2);
    let spec = match table::find(request) {
        Ok(command) => command.spec(),
        Err(table::Unfit { command: None, .. }) => return reply.error("ERR Invalid command specified"),
        Err(_) => return reply.error("ERR Invalid number of arguments specified for command"),
    };
    if spec.keys.first == 0 {
        return reply.error("ERR The command has no key arguments");
    }
    let positions: Vec<usize> = spec.keys.positions(request.len()).collect();
    reply.array(positions.len());
    positions.into_iter().for_each(|position| reply.bulk(request.get(position)));
}

fn list(_: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is = |index: usize, word: &[u8]| args.get(index).eq_ignore_ascii_case(word);
    let wanted: Box<dyn Fn(CommandId) -> bool> = match args.len() {
        2 => Box::new(|_| true),
        5 if is(2, b"filterby") && is(3, b"module") => Box::new(|_| false),
        5 if is(2, b"filterby") && is(3, b"pattern") => {
            Box::new(|command| glob::matches(args.get(4), command.full_name().as_bytes(), true))
        }
        5 if is(2, b"filterby") && is(3, b"aclcat") => Box::new(|command| {
            let categories = categories(command.spec());
            categories.iter().any(|category| args.get(4).eq_ignore_ascii_case(&category.as_bytes()[1..]))
        }),
        _ => return reply.error("ERR syntax error"),
    };
    // A filter looks at subcommands as well.
    let names: Vec<&str> = table::commands()
        .flat_map(|command| std::iter::once(command).chain(table::subcommands(command).filter(|_| args.len() > 2)))
        .filter(|command| wanted(*command))
        .map(CommandId::full_name)
        .collect();
    reply.set(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
}
