//! What `corering doctor` finds on this host, for the console.
//!
//! In: the settings and the workers' CPUs. Out: its JSON, about [`FRESH`] old at most when somebody asks often. What
//! must stay true: a thread of its own looks, of the lowest priority, so that neither the control thread nor a worker
//! waits for it; nobody looks unless somebody asks.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::{Io, Settings};
use crate::doctor::{self, Host, Plan};

/// How long findings are good enough.
const FRESH: Duration = Duration::from_secs(60);

/// How long it looks for what changes.
const EXAMINATION: Duration = Duration::from_secs(1);

/// The last findings, and who looks for the next.
#[derive(Debug, Default)]
pub(super) struct Findings {
    examination: Option<JoinHandle<Value>>,
    last: Option<(Instant, Value)>,
}

impl Findings {
    #[cfg(test)]
    pub(super) fn awaiting(examination: JoinHandle<Value>) -> Self {
        Self { examination: Some(examination), last: None }
    }

    /// The last findings, if there are any, and their age; begins an examination when they are old.
    ///
    /// # Errors
    /// When the examination cannot begin, or has failed.
    pub(super) fn ask(&mut self, settings: &Arc<Settings>, cpus: &[usize]) -> std::io::Result<Option<Value>> {
        if let Some(examination) = self.examination.take_if(|it| it.is_finished()) {
            let found = examination.join().map_err(|_| std::io::Error::other("the examination has failed"))?;
            self.last = Some((Instant::now(), found));
        }
        let is_fresh = self.last.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH);
        if !is_fresh && self.examination.is_none() {
            let (settings, cpus) = (Arc::clone(settings), cpus.to_vec());
            let examine = move || examine(&settings, cpus);
            self.examination = Some(std::thread::Builder::new().name("doctor".to_owned()).spawn(examine)?);
        }
        Ok(self.last.as_ref().map(|(at, found)| {
            let mut found = found.clone();
            found["age_seconds"] = at.elapsed().as_secs().into();
            found
        }))
    }
}

fn examine(settings: &Settings, cpus: Vec<usize>) -> Value {
    // That it is not granted costs little.
    let _ = rustix::process::nice(19);
    // The workers have their rings, or were told to do without; another one would take memory that is theirs.
    let ring = (settings.io == Io::Uring).then_some(Ok(()));
    let host = Host::new(Path::new("/"), Plan::on(cpus, settings, ring));
    std::thread::sleep(EXAMINATION);
    doctor::report::json(&doctor::examine(&host, &[]))
}
