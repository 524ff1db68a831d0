//! `ACL`: there is one user, who may do everything; tools ask for it.
//!
//! In: a request's arguments. Out: Redis' replies for a server whose access rules nobody has touched.

use super::introspect::categories_of_all;
use super::keyspace::help;
use super::table::{Flags, Spec};
use super::{Call, Run, Session};
use crate::protocol::Args;
use crate::protocol::resp::Reply;

const ALWAYS: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::NOSCRIPT);
const OPERATOR: Flags = ALWAYS.or(Flags::ADMIN).or(Flags::DANGEROUS);

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] = &[row("acl", -2, Flags(0), "Commands about access.", Run::Container).with(SUBCOMMANDS)];

const fn row(name: &'static str, arity: i32, flags: Flags, summary: &'static str, run: Run) -> Spec {
    Spec::keyless("server", (name, arity, flags), "6.0.0", summary, run)
}

#[rustfmt::skip]
static SUBCOMMANDS: &[Spec] = &[
    row("cat", 2, ALWAYS, "Lists the categories of commands.", Run::Session(categories)),
    row("help", 2, ALWAYS, "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, HELP))),
    row("list", 2, OPERATOR, "Describes the users: there is one.", Run::Session(list)),
    row("users", 2, OPERATOR, "Lists the users: there is one.",
        Run::Session(|_, _, _, reply| { reply.array(1); reply.bulk(b"default"); })),
    row("whoami", 2, ALWAYS, "Returns the user of this connection.",
        Run::Session(|_, _, _, reply| reply.bulk(b"default"))),
];

const HELP: &[&str] = &[
    "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CAT",
    "    List all commands that belong to <category>, or all command categories when no category is specified.",
    "LIST",
    "    Show users details in config file format.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
    "HELP",
    "    Print this help.",
];

fn categories(_: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let names = categories_of_all();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
}

fn list(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let password = if call.settings.requirepass.is_empty() { "nopass" } else { "#(hidden)" };
    reply.array(1);
    reply.bulk(format!("user default on {password} ~* &* +@all").as_bytes());
}
