//! Servers that are measured beside each other: processes on one CPU, started by a command, ended with their owner.
//!
//! In: a command with `{port}` in it. Out: a server that listens.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corering::load::Target;
use corering::load::cpu::{Meter, family};
use corering::topology;
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Where servers listen: not where the ends of clients come from, whose ports stay taken for a minute after them
/// (`net.ipv4.ip_local_port_range`).
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Something that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    /// For the shell, in whose place the server comes; `{port}` is where it shall listen.
    pub(crate) command: String,
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) port: u16,
    child: Child,
}

impl Peer {
    pub(crate) fn new(name: &str, command: impl Into<String>) -> Self {
        Self::script(name, format!("exec {}", command.into()))
    }

    /// One that needs more than a command; the last of which it executes.
    pub(crate) fn script(name: &str, command: impl Into<String>) -> Self {
        Self { name: name.to_owned(), command: command.into() }
    }

    /// Starts it on one CPU and waits until it listens.
    pub(crate) fn start(&self, cpu: usize) -> Result<Running, String> {
        let port = free_port().ok_or("no port is free")?;
        let command = self.command.replace("{port}", &port.to_string());
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}; the command was: {command}", self.name);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child begins with the affinity of the thread that starts it.
        let starter = std::thread::spawn(move || {
            topology::pin(cpu);
            shell.spawn()
        });
        let child = starter.join().expect("starting does not panic").map_err(|error| failed(&error))?;
        let mut running = Running { port, child };
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

/// A free port with another behind it, which some servers need as well.
fn free_port() -> Option<u16> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = PORTS.start + std::process::id() as u16 % PORTS.len() as u16 / 2 * 2;
    let all = (first..PORTS.end).chain(PORTS.start..first).step_by(2);
    all.into_iter().find(|port| is_free(*port) && is_free(port + 1))
}

impl Running {
    pub(crate) fn target(&self) -> Target {
        Target::Tcp(format!("127.0.0.1:{}", self.port))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time of all its threads, and of the processes that it has started.
    pub(crate) fn meter(&self) -> Meter {
        Meter::Family(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in family(self.pid()).into_iter().skip(1).filter_map(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
