//! The load generator behind `corering bench` and the benches.
//!
//! In: a [`Plan`]. Out: a [`Report`], or a [`LoadError`] that says what the server or the host did. What must stay
//! true: nothing that a server sends can panic it; what it could not measure, it says.
//!
//! ```text
//! options ─► Plan ─► session ─┬─► engine (one per thread, pinned, its own ring) ─► recorder ─┐
//!                             │     draw: what, when    items: keys, values                  ├─► report
//!                             │     wire: requests ⇄ bytes                                   │    table json
//!                             └─► cpu: the server's CPU time ────────────────────────────────┘    hgrm html
//! ```
//!
//! An *open loop* sends on a schedule that the server cannot influence and counts latency from the scheduled time: a
//! stall is charged to every request that it delayed. A *closed loop* waits for replies before it sends again: it finds
//! the highest throughput, and hides stalls.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub mod bench;
mod connect;
pub mod cpu;
mod draw;
mod embedded;
mod engine;
pub mod items;
pub mod options;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod session;
pub mod sizes;
pub mod slo;
pub mod trace;
mod wire;

pub use embedded::Embedded;
pub use plan::{Plan, Target};
pub use report::Report;
pub use session::measure;

use crate::ring::probe::{EXIT_HOST_REFUSES, Refusal};
use crate::server::StartError;

/// Why there is no measurement.
#[derive(Debug)]
pub enum LoadError {
    /// An option cannot be taken.
    Usage(String),
    /// The server cannot be reached.
    Connect {
        /// Its address.
        target: String,
        /// Why.
        error: io::Error,
    },
    /// The server does not answer as one that speaks the protocol.
    Greeting {
        /// Its address.
        target: String,
        /// What it did.
        what: String,
    },
    /// The server refuses the first request.
    Refused {
        /// Its address.
        target: String,
        /// The request, and the refusal in its own words.
        what: String,
    },
    /// The server has closed a connection.
    Closed {
        /// Its address.
        peer: String,
        /// Replies that this thread had by then.
        answered: u64,
    },
    /// A connection has failed.
    Lost {
        /// The server's address.
        peer: String,
        /// Why.
        error: io::Error,
    },
    /// The server has sent bytes that are no reply.
    Broken(String, String),
    /// The server answers no more.
    Silent {
        /// Connections that wait for a reply.
        connections: usize,
        /// For how long.
        limit: Duration,
    },
    /// No objective can be met.
    Unmet(String),
    /// The host does not give us the ring that the options ask for.
    Ring(Refusal),
    /// The kernel refuses a ring or a thread.
    Host(io::Error),
    /// The server inside does not start.
    Start(StartError),
    /// A report cannot be written.
    File(PathBuf, io::Error),
    /// Another thread has failed.
    Stopped,
}

impl LoadError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadError::Usage(_) => 2,
            LoadError::Start(error) => error.exit_code(),
            LoadError::Ring(_) => EXIT_HOST_REFUSES,
            _ => 1,
        }
    }
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Usage(what) | LoadError::Unmet(what) => f.write_str(what),
            LoadError::Connect { target, error } => {
                let advice = match error.kind() {
                    io::ErrorKind::ConnectionRefused => "; nothing listens there",
                    io::ErrorKind::NotFound => "; there is no such socket or host",
                    _ if error.raw_os_error() == Some(libc::EMFILE) => {
                        "; raise `ulimit -n`, or ask for fewer connections"
                    }
                    _ => "",
                };
                write!(f, "cannot connect to {target}: {error}{advice}")
            }
            LoadError::Refused { target, what } => write!(f, "{target} refuses {what}"),
            LoadError::Greeting { target, what } => write!(f, "{target} {what}"),
            LoadError::Closed { peer, answered } => {
                write!(f, "{peer} has closed a connection in the middle of the run, after {answered} replies")
            }
            LoadError::Lost { peer, error } => write!(f, "a connection to {peer} has failed: {error}"),
            LoadError::Broken(peer, what) => write!(f, "{peer} has sent what is no reply: {what}"),
            LoadError::Silent { connections, limit } => {
                write!(f, "the server does not answer: {connections} connections have waited for {limit:?} (--timeout)")
            }
            LoadError::Host(error) => write!(f, "this host refuses a ring or a thread: {error}"),
            LoadError::Start(error) => error.fmt(f),
            LoadError::Ring(refusal) => refusal.fmt(f),
            LoadError::File(path, error) => write!(f, "cannot write {}: {error}", path.display()),
            LoadError::Stopped => f.write_str("another thread has failed"),
        }
    }
}

impl std::error::Error for LoadError {}
