//! The process: settings, log, server or load generator, exit code.
//!
//! In: arguments, environment, a settings file. Out: a server until a signal or a client ends it, and an exit code.
//! What must stay true: whatever keeps it from starting is one line on standard error, with cause and remedy.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use corering::cli::{self, Invocation, Task};
use corering::config::source::{self, Origin};
use corering::config::{LogFormat, LogLevel, Settings};
use corering::control::{Control, service};
use corering::doctor::{self, Host, Plan};
use corering::listen;
use corering::load::{self, bench::Event, report::table};
use corering::server::Server;

/// Exit code for bad usage and bad settings.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(message) => message.exit(),
    };
    if invocation.task == Task::Bench {
        return bench(&invocation.flags);
    }
    if invocation.task == Task::HotKeys {
        return hot_keys(&invocation.flags);
    }
    if invocation.task == Task::Health {
        return health(&invocation.flags);
    }
    let settings = match source::load(invocation.file.as_deref(), |name| std::env::var_os(name), &invocation.flags) {
        Ok(settings) => settings,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let warnings = source::unknown_variables(names);
    if invocation.task != Task::Serve {
        warnings.iter().for_each(|warning| tell(format_args!("corering: {warning}\n")));
    }
    match invocation.task {
        Task::Config => print(&source::render(&settings)),
        Task::Doctor => examine(&settings, &invocation),
        _ => serve(settings, invocation, &warnings),
    }
}

/// Measures a server and prints what it has shown.
fn bench(flags: &[(String, String)]) -> ExitCode {
    let plan = match load::options::load(flags) {
        Ok(plan) => plan,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let is_live = plan.progress && std::io::stderr().is_terminal();
    let report = load::bench::run(&plan, |event| match event {
        Event::Step(step) => tell(format_args!("{step}\n")),
        Event::Second(second) if is_live => tell(format_args!("\r{}", table::progress(second))),
        Event::Done if is_live => tell(format_args!("\n")),
        Event::Second(_) | Event::Done => {}
    });
    match report {
        Ok(report) if report.is_clean() => print(&table::render(&report)),
        Ok(report) => {
            print(&table::render(&report));
            fail(1, &"the server has refused requests or sent wrong replies")
        }
        Err(error) => fail(error.exit_code(), &error),
    }
}

/// Shows a running server's hot keys.
fn hot_keys(flags: &[(String, String)]) -> ExitCode {
    let flag = |name: &str| flags.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value);
    let Ok(count) = flag("count").parse() else {
        return fail(EXIT_USAGE, &"--count takes a number");
    };
    match corering::hotkeys::ask(flag("target"), flag("password"), count) {
        Ok(table) => print(&table),
        Err(error) => fail(1, &error),
    }
}

/// Asks a running server whether it is well.
fn health(flags: &[(String, String)]) -> ExitCode {
    let given = flags.iter().find(|(name, value)| name == "target" && !value.is_empty());
    let target = match given {
        Some((_, target)) => Ok(target.clone()),
        None => corering::health::target(|name| std::env::var_os(name)),
    };
    match target.and_then(|target| corering::health::ask(&target)) {
        Ok(text) => print(&text),
        Err(error) => fail(1, &error),
    }
}

/// How long the doctor watches the host.
const EXAMINATION: Duration = Duration::from_secs(1);

/// Looks for what costs latency on this host.
fn examine(settings: &Settings, invocation: &Invocation) -> ExitCode {
    let plan = match Plan::of(settings) {
        Ok(plan) => plan,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let host = Host::new(Path::new("/"), plan);
    std::thread::sleep(EXAMINATION);
    let findings = doctor::examine(&host, &invocation.accepted);
    let text = if invocation.is_json {
        format!("{:#}\n", doctor::report::json(&findings))
    } else {
        doctor::report::text(&findings)
    };
    match print(&text) {
        ExitCode::SUCCESS if findings.iter().any(doctor::Finding::costs) => ExitCode::FAILURE,
        code => code,
    }
}

/// Runs the server until a signal or a client ends it.
fn serve(settings: Settings, invocation: Invocation, warnings: &[String]) -> ExitCode {
    corering::shard::return_freed_memory();
    log_to_stderr(&settings);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let profile = source::profile(|name| std::env::var_os(name), &invocation.flags);
    let origin = Origin { file: invocation.file.and_then(|path| path.canonicalize().ok()), profile };
    let server = match Server::start_from(settings, origin) {
        Ok(server) => server,
        Err(error) => return fail(error.exit_code(), &error),
    };
    let mut bound = server.bound().to_vec();
    let admin = match listen::bind_admin(&server.instance().settings(), &mut bound) {
        Ok(listeners) => listeners,
        Err(error) => return fail(1, &error),
    };
    let control = match Control::start(server.waker(), admin, server.cpus().to_vec()) {
        Ok(control) => control,
        Err(error) => return fail(1, &format!("the control thread cannot be started: {error}")),
    };
    tell_ready(&server, &bound);
    if server.is_open_to_all() {
        tracing::warn!(
            "anybody who reaches this server may read and change everything: set requirepass, or change bind"
        );
    }
    service::notify(service::READY);
    match server.wait() {
        Ok(()) if !control.is_running() => fail(1, &"the control thread has failed, so the server was ended"),
        Ok(()) => {
            tracing::info!("ended");
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error),
    }
}

/// The line at start: where it listens, and with what.
fn tell_ready(server: &Server, bound: &[listen::Bound]) {
    let instance = server.instance();
    let settings = instance.settings();
    let profile = instance.origin.profile.iter().map(|name| format!("profile {name}, ")).collect::<String>();
    let memory = match settings.maxmemory {
        0 => "no limit".to_owned(),
        bytes => format!("{} MiB", bytes >> 20),
    };
    tracing::info!(
        "corering {} ready on {}: {profile}workers on CPUs {:?}, {}, memory {memory}, pid {}",
        env!("CARGO_PKG_VERSION"),
        listen::describe(bound, settings.unixsocket.as_deref()),
        server.cpus(),
        instance.io_mode,
        std::process::id(),
    );
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

/// Says something beside the output; that nobody listens is no reason to end.
fn tell(what: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_fmt(what);
}

fn fail(code: u8, what: &impl std::fmt::Display) -> ExitCode {
    tell(format_args!("corering: {what}\n"));
    ExitCode::from(code)
}

fn log_to_stderr(settings: &Settings) {
    let level = match settings.loglevel {
        LogLevel::Debug => tracing::Level::TRACE,
        LogLevel::Verbose => tracing::Level::DEBUG,
        LogLevel::Notice => tracing::Level::INFO,
        LogLevel::Warning => tracing::Level::WARN,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(level)
        // Who reads the log may have gone; telling so on the same stream would be a panic.
        .log_internal_errors(false)
        .with_target(false);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
