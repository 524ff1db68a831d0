//! The binary as a child: started with arguments and an environment of its own, watched, ended when the test ends.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The binary, with nothing of our own environment that could set it up but which ring is tried.
pub(crate) fn corering(arguments: &[&str]) -> Command {
    corering_at(Path::new(env!("CARGO_BIN_EXE_corering")), arguments)
}

/// The same, for a copy of the binary.
pub(crate) fn corering_at(binary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(std::env::var_os("CORERING_IO").map(|io| ("CORERING_IO", io)));
    command
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// How a process ended that was expected to end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Starts a process. A copy of the binary that was just written is busy as long as another thread's child, between its
/// fork and its exec, still has our descriptor.
fn spawn(command: &mut Command) -> Child {
    for _ in 0..100 {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            started => return started.expect("the binary starts"),
        }
    }
    panic!("the binary is busy for a second");
}

/// Starts it and lets it run.
pub(crate) fn start(command: &mut Command) -> Running {
    Running { child: spawn(command) }
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let mut child = start(command);
    let (out, err) = (child.child.stdout.take(), child.child.stderr.take());
    let status = child.wait();
    let text = |pipe: &mut dyn Read| {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("text");
        text
    };
    Ended { code: status.code(), out: text(&mut out.expect("piped")), err: text(&mut err.expect("piped")) }
}

/// A child that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as a service manager does.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("our child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that serves.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) process: Running,
    pub(crate) ready_line: String,
    /// What it has said before.
    pub(crate) warnings: String,
    log: Option<BufReader<ChildStderr>>,
    port: u16,
}

impl Serving {
    /// Starts the server and waits for its line.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Ended> {
        let mut process = start(command);
        let mut log = BufReader::new(process.child.stderr.take().expect("piped"));
        let mut all = String::new();
        loop {
            let from = all.len();
            if log.read_line(&mut all).expect("text") == 0 {
                return Err(Ended { code: process.wait().code(), out: String::new(), err: all });
            }
            let line = &all[from..];
            if let Some((_, address)) = line.split_once("ready on 127.0.0.1:") {
                let digits: String = address.chars().take_while(char::is_ascii_digit).collect();
                let port = digits.parse().expect("a port");
                let (warnings, ready_line) = (all[..from].to_owned(), line.to_owned());
                return Ok(Self { process, ready_line, warnings, log: Some(log), port });
            }
        }
    }

    /// Reads its log no longer.
    pub(crate) fn close_log(&mut self) {
        self.log = None;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }
}
