//! A server inside the generator's own process, for `corering bench` without a target.
//!
//! In: settings as texts. Out: a running [`Server`], its address and its threads' CPU time. What must stay true: server
//! and generator have CPUs of their own where the host has two.

use super::cpu::{Meter, own_threads};
use super::plan::{Plan, Target};
use super::{LoadError, session};
use crate::config::Settings;
use crate::config::source::{self, BadSetting};
use crate::server::Server;
use crate::topology::Cpus;

/// A server to be measured.
#[derive(Debug)]
pub struct Embedded {
    /// The server.
    pub server: Server,
    /// Where it listens.
    pub target: Target,
    /// Its threads.
    pub meter: Meter,
}

impl Embedded {
    /// Starts a server on a port that the kernel chooses, on the CPUs that `plan` leaves free.
    ///
    /// # Errors
    /// A setting cannot be taken, or the host refuses.
    pub fn start(plan: &Plan) -> Result<Self, LoadError> {
        let environment = |_: &str| None;
        // A setting of its own comes later and counts.
        let io = std::iter::once(("io".to_owned(), plan.io.name().to_owned()));
        let given: Vec<_> = io.chain(plan.server.iter().cloned()).collect();
        // It names flags; here these are values of one.
        let named = |error: BadSetting| LoadError::Usage(format!("--server {}", error.0.trim_start_matches("--")));
        let settings = source::load(None, environment, &given).map_err(named)?;
        let mut settings = Settings { port: 0, ..settings };
        if settings.cpus == Cpus::All {
            settings.cpus = Cpus::List(session::cpus_beside(plan));
        }
        let before = own_threads();
        let server = Server::start(settings).map_err(LoadError::Start)?;
        let threads = own_threads().into_iter().filter(|thread| !before.contains(thread)).collect();
        let target = Target::Tcp(format!("127.0.0.1:{}", server.port()));
        Ok(Self { server, target, meter: Meter::Threads(threads) })
    }
}
