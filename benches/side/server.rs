//! Servers that are measured beside each other: processes on one CPU, started by a command, ended with their owner.
//!
//! In: a command with `{port}` in it. Out: a server that listens.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corering::load::cpu::Meter;
use corering::load::items::Items;
use corering::load::plan::Protocol;
use corering::load::sizes::Sizes;
use corering::load::{Plan, Target};
use corering::protocol::Output;
use corering::protocol::resp::{Reply, Version};
use corering::topology;

use crate::echo;
use crate::rounds::{self, Workload};

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Something that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    /// For the shell; `{port}` is where it shall listen.
    pub(crate) command: String,
    /// It gives the same reply to everything.
    pub(crate) is_echo: bool,
    /// Which workloads it is there for.
    pub(crate) suits: fn(&Workload) -> bool,
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) is_echo: bool,
    pub(crate) suits: fn(&Workload) -> bool,
    child: Child,
}

impl Peer {
    pub(crate) fn new(name: &str, protocol: Protocol, command: impl Into<String>) -> Self {
        Self { name: name.to_owned(), protocol, command: command.into(), is_echo: false, suits: |_| true }
    }

    /// This program itself, as an echo; see [`echo_if_asked`].
    pub(crate) fn echo(name: &str, kind: &str) -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        let command = format!("'{}' {ECHO} {kind} {{port}}", program.display());
        Self { is_echo: true, suits: Workload::suits_an_echo, ..Self::new(name, Protocol::Resp2, command) }
    }

    /// Starts it on one CPU and waits until it listens.
    pub(crate) fn start(&self, cpu: usize) -> Result<Running, String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| format!("no port is free: {error}"))?.port();
        let command = self.command.replace("{port}", &port.to_string());
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}; the command was: {command}", self.name);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec {command}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child begins with the affinity of the thread that starts it.
        let starter = std::thread::spawn(move || {
            topology::pin(cpu);
            shell.spawn()
        });
        let child = starter.join().expect("starting does not panic").map_err(|error| failed(&error))?;
        let Self { protocol, is_echo, suits, .. } = *self;
        let mut running = Running { name: self.name.clone(), protocol, port, is_echo, suits, child };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(failed(&format!("ended at once ({status})")));
            }
            if start.elapsed() > START_LIMIT {
                return Err(failed(&format!("does not listen within {START_LIMIT:?}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }
}

impl Running {
    pub(crate) fn target(&self) -> Target {
        Target::Tcp(format!("127.0.0.1:{}", self.port))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time of all its threads.
    pub(crate) fn meter(&self) -> Meter {
        Meter::Process(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks this program to be an echo: kind and port follow.
const ECHO: &str = "--echo";

/// Serves as an echo, until it is ended, when the command line says so.
pub(crate) fn echo_if_asked() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [flag, kind, port] = &words[..] else { return };
    let serve = echo::KINDS.iter().find(|(name, _)| name == kind).filter(|_| flag == ECHO);
    let (Some((_, serve)), Ok(port)) = (serve, port.parse::<u16>()) else { return };
    // The value that the generator expects under its first key.
    let plan = Plan { value_sizes: Sizes::Fixed(rounds::ECHO_VALUE_BYTES), ..Plan::default() };
    let (items, mut reply) = (Items::new(&plan), Output::new());
    Reply { output: &mut reply, version: Version::Resp2 }.bulk(items.value(0));
    let listener = TcpListener::bind(("127.0.0.1", port));
    match listener.and_then(|listener| serve(listener, reply.to_vec().leak())) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("echo: {error}");
            std::process::exit(1)
        }
    }
}
