//! What a run of the load generator is to do, as checked values.
//!
//! In: nothing; [`options`](super::options) fills a [`Plan`] from texts. Out: types that the engine, the reports and
//! the benches share. What must stay true: a plan that [`Plan::check`] accepts can be run; nobody checks it again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::sizes::Sizes;
use super::trace::Trace;
use crate::config::Io;

/// Most keys: ids are kept in 32 bits.
pub const KEYS_MAX: u64 = u32::MAX as u64;

/// Longest key: memcached's limit.
pub const KEY_BYTES_MAX: usize = 250;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `host:port`.
    Tcp(String),
    /// A path.
    Unix(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Tcp(address) => f.write_str(address),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Open loop: so many requests a second arrive at random (Poisson), whatever the server does.
    PerSecond(f64),
    /// Closed loop: each connection sends again as soon as it has its replies.
    Max,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Redis' protocol.
    Resp2,
    /// Redis' protocol after `HELLO 3`.
    Resp3,
    /// memcached's text protocol.
    Memcache,
    /// HTTP/1.1 with keep-alive: `GET`, `PUT` and `DELETE` of `prefix` + key.
    Http,
}

impl Protocol {
    /// As the option spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Resp2 => "resp2",
            Protocol::Resp3 => "resp3",
            Protocol::Memcache => "memcache",
            Protocol::Http => "http",
        }
    }
}

/// Which keys are asked for.
#[derive(Clone, Debug)]
pub enum KeyChoice {
    /// All alike.
    Uniform,
    /// Key number r (from 1) with probability proportional to 1 / r^exponent.
    Zipf(f64),
    /// As recorded, over and over.
    Trace(Arc<Trace>),
}

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads a value.
    Get,
    /// Writes a value.
    Set,
    /// Adds one to a counter; counters are keys of their own.
    Increment,
    /// Reads so many values at once.
    MultiGet(u16),
    /// Removes a value.
    Delete,
    /// Writes a value that expires.
    SetExpiring,
    /// Writes a zero; memcached's counters must be there before they are added to.
    ResetCounter,
}

/// Kinds of requests and their weights.
pub type Mix = Vec<(Operation, u32)>;

/// A percentile that shall stay below a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// 0.999 for p99.9.
    pub quantile: f64,
    /// Inclusive.
    pub limit: Duration,
}

/// How the generator waits for something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Looks again and again; takes a whole CPU and notices replies at once.
    Spin,
    /// Sleeps in the kernel; for hosts with no CPU to spare, and to measure the generator's own cost.
    Sleep,
}

/// What a thread that spins does once in each turn, some microseconds long: whatever shares its CPU with the requests
/// and shall not wait for the kernel to share it out.
#[derive(Clone)]
pub struct Aside(pub Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aside")
    }
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server; none: one is started inside.
    pub target: Option<Target>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Before the key in a URL.
    pub http_prefix: String,
    /// Behind the key in the URL of a read.
    pub http_suffix: String,
    /// Asks for CLUSTER SLOTS and sends each key to its node.
    pub cluster: bool,
    /// For AUTH.
    pub password: String,
    /// The server's process, to measure its CPU time.
    pub pid: Option<u32>,
    /// Settings of the server inside.
    pub server: Vec<(String, String)>,
    /// When requests are sent.
    pub rate: Rate,
    /// Searches for the highest rate that keeps this.
    pub find_slo: Option<Objective>,
    /// Of all threads together.
    pub connections: usize,
    /// Requests that may be unanswered on one connection.
    pub pipeline: usize,
    /// The measured part.
    pub duration: Duration,
    /// Before it.
    pub warmup: Duration,
    /// A server that answers nothing for this long has failed.
    pub timeout: Duration,
    /// Number of different keys.
    pub keys: u64,
    /// Length of a key, bytes.
    pub key_bytes: usize,
    /// Length of values.
    pub value_sizes: Sizes,
    /// Which keys are asked for.
    pub key_choice: KeyChoice,
    /// Kinds of requests.
    pub mix: Mix,
    /// Time to live of values that expire.
    pub ttl: Duration,
    /// Writes every key before the warm-up.
    pub populate: bool,
    /// The same seed gives the same requests.
    pub seed: u64,
    /// Of the generator.
    pub threads: usize,
    /// CPUs for them; empty: the last ones.
    pub cpus: Vec<usize>,
    /// How the kernel is asked.
    pub io: Io,
    /// How they wait.
    pub waiting: Waiting,
    /// What else they do while they spin.
    pub aside: Option<Aside>,
    /// Shows how it goes once a second.
    pub progress: bool,
    /// Report files.
    pub files: Files,
}

/// Reports to be written.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Everything, for programs.
    pub json: Option<PathBuf>,
    /// HdrHistogram's percentile distribution.
    pub hgrm: Option<PathBuf>,
    /// A page with plots.
    pub html: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            target: None,
            protocol: Protocol::Resp2,
            http_prefix: "/v1/keys/".to_owned(),
            http_suffix: String::new(),
            cluster: false,
            password: String::new(),
            pid: None,
            server: Vec::new(),
            rate: Rate::PerSecond(50_000.0),
            find_slo: None,
            connections: 32,
            pipeline: 1,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            keys: 10_000,
            key_bytes: 16,
            value_sizes: Sizes::Fixed(64),
            key_choice: KeyChoice::Uniform,
            mix: vec![(Operation::Get, 90), (Operation::Set, 10)],
            ttl: Duration::from_secs(60),
            populate: true,
            seed: 1,
            threads: 1,
            cpus: Vec::new(),
            io: Io::Uring,
            waiting: Waiting::Spin,
            aside: None,
            progress: true,
            files: Files::default(),
        }
    }
}

impl Plan {
    /// What one option cannot see.
    ///
    /// # Errors
    /// One sentence that names the options and the remedy.
    pub fn check(&self) -> Result<(), String> {
        if self.connections < self.threads {
            return Err("--connections is below --threads; every thread needs one".to_owned());
        }
        if self.key_bytes < self.key_bytes_min() {
            let (keys, min) = (self.keys, self.key_bytes_min());
            return Err(format!("--key-size: {keys} keys need at least {min} bytes"));
        }
        let has_multi_get = self.mix.iter().any(|(operation, _)| matches!(operation, Operation::MultiGet(_)));
        if has_multi_get && self.cluster {
            return Err("--mix: the keys of one mget lie on several nodes; leave it out with --cluster".to_owned());
        }
        if has_multi_get && self.protocol == Protocol::Http {
            return Err("--mix: mget is not spoken over http".to_owned());
        }
        if self.cluster && !matches!(self.protocol, Protocol::Resp2 | Protocol::Resp3) {
            return Err("--cluster needs --protocol resp2 or resp3".to_owned());
        }
        if self.target.is_some() && !self.server.is_empty() {
            return Err(
                "--server sets up the server inside, and with --target there is none; leave one of them out".to_owned()
            );
        }
        if self.cluster && self.target.is_none() {
            return Err("--cluster needs a --target".to_owned());
        }
        if self.find_slo.is_some() && self.rate == Rate::Max {
            return Err("--find-slo searches over open loops; --rate max is a closed one".to_owned());
        }
        let is_trace = matches!(self.key_choice, KeyChoice::Trace(_));
        if matches!(self.value_sizes, Sizes::Trace) && !is_trace {
            return Err("--value-size trace needs --key-dist trace:FILE".to_owned());
        }
        Ok(())
    }

    /// A letter, and the digits of the largest id.
    fn key_bytes_min(&self) -> usize {
        2 + (self.keys - 1).checked_ilog10().unwrap_or(0) as usize
    }

    /// Whether requests arrive on a schedule.
    pub fn is_open_loop(&self) -> bool {
        matches!(self.rate, Rate::PerSecond(_))
    }
}
