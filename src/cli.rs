//! The command line: `corering [serve]` and `corering config`, with a flag for every row of the settings table;
//! `corering bench`, with a flag for every row of the load generator's table; `corering doctor`.
//!
//! In: arguments. Out: what to do, or a message for the person who typed them. Help and parsing both come from the
//! tables, so a setting cannot be missing here.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{TABLE, source};
use crate::load::options;

/// What the process is asked to do.
#[derive(Debug)]
pub struct Invocation {
    /// Which subcommand.
    pub task: Task,
    /// The settings file, from `--config` or `CORERING_CONFIG`.
    pub file: Option<PathBuf>,
    /// Settings, or options of the load generator, given as flags: key and value.
    pub flags: Vec<(String, String)>,
    /// Of `doctor`: print JSON.
    pub is_json: bool,
    /// Of `doctor`: findings that do not count.
    pub accepted: Vec<String>,
}

/// A subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Run the server.
    Serve,
    /// Print the settings as a file.
    Config,
    /// Measure a server.
    Bench,
    /// Ask a running server for its hot keys.
    HotKeys,
    /// Ask a running server whether it is well.
    Health,
    /// Look for what costs latency on this host.
    Doctor,
}

/// Reads the command line.
///
/// # Errors
/// clap's message; `--help` and `--version` are such "errors" too, with exit code 0.
pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let (task, matches) = match matches.subcommand() {
        Some(("config", inner)) => (Task::Config, inner.clone()),
        Some(("doctor", inner)) => (Task::Doctor, inner.clone()),
        Some(("hotkeys", inner)) => return Ok(asking(Task::HotKeys, given(inner, &["target", "password", "count"]))),
        Some(("health", inner)) => return Ok(asking(Task::Health, given(inner, &["target"]))),
        Some(("bench", inner)) => return Ok(asking(Task::Bench, bench_flags(inner))),
        Some((_, inner)) => (Task::Serve, inner.clone()),
        None => (Task::Serve, matches),
    };
    let file = matches.get_one::<PathBuf>("config").cloned().or_else(source::file_from_environment);
    let is_doctor = task == Task::Doctor;
    Ok(Invocation {
        task,
        file,
        flags: flags(&matches),
        is_json: is_doctor && matches.get_flag("json"),
        accepted: if is_doctor {
            matches.get_many("accept").into_iter().flatten().cloned().collect()
        } else {
            Vec::new()
        },
    })
}

/// Something that is asked of a server, without its settings.
fn asking(task: Task, flags: Vec<(String, String)>) -> Invocation {
    Invocation { task, file: None, flags, is_json: false, accepted: Vec::new() }
}

fn given(matches: &ArgMatches, names: &[&str]) -> Vec<(String, String)> {
    let value = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    names.iter().map(|name| ((*name).to_owned(), value(name))).collect()
}

fn flags(matches: &ArgMatches) -> Vec<(String, String)> {
    let given = |key: &'static str| matches.get_one::<String>(key).map(|value| (key.to_owned(), value.clone()));
    std::iter::once(source::PROFILE).chain(TABLE.iter().map(|setting| setting.key)).filter_map(given).collect()
}

/// In the order of the table; what is given again comes again.
fn bench_flags(matches: &ArgMatches) -> Vec<(String, String)> {
    let given = |name: &'static str| matches.get_many::<String>(name).into_iter().flatten();
    let of = |name: &'static str| given(name).map(move |value| (name.to_owned(), value.clone()));
    options::TABLE.iter().flat_map(|option| of(option.name)).collect()
}

fn command() -> Command {
    let about =
        "A cache server for Linux: one core, one shard, one ring. Speaks to Redis clients, memcached's and HTTP.";
    let after = "Every setting can also stand in the file (key = value) and in the environment (CORERING_KEY, with _ \
                 for -).\n\
                 Precedence, lowest first: default, profile, file, environment, flag, CONFIG SET.\n\
                 Exit codes: 0 clean, 1 failed while running, 2 bad usage or settings, 78 the host refuses \
                 what is needed.";
    let serve = with_settings(Command::new("serve").about("Run the server (the default)"));
    let config = with_settings(Command::new("config").about("Print the settings as a commented file"));
    let root = with_settings(Command::new("corering"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help(after)
        .args_conflicts_with_subcommands(true);
    // The forms of some values are too long for a column beside their explanation.
    let in_columns = |command: Command| command.next_line_help(true).max_term_width(HELP_COLUMNS);
    in_columns(root.subcommands([serve, config, bench(), doctor(), hot_keys(), health()].map(in_columns)))
}

/// Help is wrapped at the terminal's edge, and no later than here.
const HELP_COLUMNS: usize = 100;

fn doctor() -> Command {
    let about = "Look for what costs latency on this host, for a server with these settings";
    let after = "Looks for a second and changes nothing. Exit codes: 0 nothing costs latency, 1 something does, 2 bad \
                 usage or settings.";
    let names: Vec<&str> = crate::doctor::CHECKS.iter().map(|check| check.name).collect();
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    let accept = Arg::new("accept")
        .long("accept")
        .value_name("FINDING")
        .action(ArgAction::Append)
        .value_parser(clap::builder::PossibleValuesParser::new(names))
        .hide_possible_values(true)
        .help("A finding to live with: it does not count for the exit code; repeatable");
    with_settings(Command::new("doctor").about(about).after_help(after).arg(json).arg(accept))
}

fn flag(name: &'static str, form: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(form).default_value(default).help(help)
}

fn health() -> Command {
    let target = Arg::new("target").long("target").value_name("HOST:PORT").help(
        "Its admin port [default: CORERING_ADMIN_PORT on CORERING_ADMIN_BIND's first address, else 127.0.0.1:9180]",
    );
    Command::new("health")
        .about("Ask a running server's admin port whether it is well")
        .after_help("Exit codes: 0 it is well, 1 it is not or does not answer within 5 s, 2 bad usage.")
        .arg(target)
}

fn hot_keys() -> Command {
    Command::new("hotkeys")
        .about("Show which keys of a running server are asked for most (it has hotkeys-sampling set)")
        .after_help("Exit codes: 0 shown, 1 the server does not answer or samples nothing, 2 bad usage.")
        .arg(flag("target", "HOST:PORT", "127.0.0.1:6379", "The server"))
        .arg(flag("password", "TEXT", "", "Its requirepass"))
        .arg(flag("count", "0..1000", "10", "Keys to show"))
}

fn bench() -> Command {
    let about = "Measure the latency of a server: this one, or any that speaks RESP, memcached's protocol or HTTP";
    let after = "Without --target a server is started inside, so `corering bench` alone measures this host.\n\
                 Exit codes: 0 every reply was right, 1 it was not or the server failed, 2 bad usage, 78 the host \
                 refuses what is needed.";
    let options = options::TABLE.iter().map(|option| {
        let shown = if option.default.is_empty() { String::new() } else { format!(" [default: {}]", option.default) };
        Arg::new(option.name)
            .long(option.name)
            .value_name(option.form)
            .allow_negative_numbers(true)
            .action(ArgAction::Append)
            .help(format!("{}{shown}", option.doc))
            .help_heading(option.group)
    });
    Command::new("bench").about(about).after_help(after).args(options)
}

/// Settings that `-h` shows; `--help` shows all.
const USUAL: &[&str] = &[
    "port",
    "memcache-port",
    "http-port",
    "bind",
    "admin-port",
    "requirepass",
    "workers",
    "cpus",
    "cluster-mode",
    "maxmemory",
    "maxmemory-policy",
];

fn with_settings(command: Command) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Settings file (TOML); `corering config` prints one");
    let names: Vec<&str> = source::PROFILES.iter().map(|(name, _)| *name).collect();
    let profile = Arg::new(source::PROFILE)
        .long(source::PROFILE)
        .value_name(names.join("|"))
        .help("Settings for a purpose, which the file and everything else override; see tuning/README.md");
    let defaults = crate::config::Settings::default();
    let settings = TABLE.iter().map(|setting| {
        let default = (setting.show)(&defaults);
        let shown = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        Arg::new(setting.key)
            .long(setting.key)
            .value_name((setting.form)())
            .allow_negative_numbers(true)
            .help(format!("{}{shown}", setting.doc))
            .help_heading(setting.group)
            .hide_short_help(!USUAL.contains(&setting.key))
    });
    command.arg(file).arg(profile).args(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Invocation, clap::Error> {
        parse(line.split(' ').map(Into::into))
    }

    #[test]
    fn serving_is_the_default() {
        for line in ["corering --port 7000", "corering serve --port 7000"] {
            let invocation = parse_words(line).unwrap();
            assert_eq!(invocation.task, Task::Serve);
            assert_eq!(invocation.flags, [("port".to_owned(), "7000".to_owned())]);
        }
        assert_eq!(parse_words("corering config").unwrap().task, Task::Config);
    }

    #[test]
    fn bench_takes_its_own_flags() {
        let line = "corering bench --rate max --server workers=1 --server maxclients=5 --keys 10";
        let invocation = parse_words(line).unwrap();
        assert_eq!(invocation.task, Task::Bench);
        let flags: Vec<String> = invocation.flags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(flags, ["server=workers=1", "server=maxclients=5", "rate=max", "keys=10"]);
        assert_eq!(parse_words("corering bench --nonsense 1").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn usage_errors_have_exit_code_2_and_help_has_0() {
        assert_eq!(parse_words("corering --nonsense 1").unwrap_err().exit_code(), 2);
        assert_eq!(parse_words("corering --help").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn every_setting_has_its_flag_in_the_help() {
        let help = parse_words("corering --help").unwrap_err().to_string();
        let short = parse_words("corering -h").unwrap_err().to_string();
        for setting in TABLE {
            let flag = format!("--{} <", setting.key);
            assert!(help.contains(&flag), "{flag}");
            assert_eq!(short.contains(&flag), USUAL.contains(&setting.key), "{flag}");
        }
        let groups = |text: &str| TABLE.iter().filter(|row| text.contains(&format!("\n{}:\n", row.group))).count();
        assert_eq!(groups(&help), TABLE.len(), "every setting stands under its heading");
    }
}
