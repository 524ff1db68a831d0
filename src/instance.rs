//! What all workers of one running server share: identity, settings, metrics, and the wish to stop.
//!
//! Nothing here is written on the request path except a worker's own metrics, which no other thread writes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::cluster::Map;
use crate::config::Settings;
use crate::config::source::Origin;
use crate::observe::Metrics;
use crate::observe::census::Census;
use crate::observe::feed::Feed;
use crate::observe::hot::HotKeys;
use crate::observe::rates::Rates;
use crate::observe::slow::Slow;

/// How far a server's life has come; it only moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Accepting and answering.
    Running = 0,
    /// Accepting no more; answering what was received, then closing.
    Draining = 1,
    /// Closing everything now.
    Stopping = 2,
}

/// One running server, as its workers and the control plane see it.
#[derive(Debug)]
pub struct Instance {
    /// Every counter and gauge, one set per worker.
    pub metrics: Metrics,
    /// Commands, bytes in and bytes out per second, as `INFO` shows them: of all workers, then of each node, at the
    /// place of its first worker.
    pub rates: Box<[Rates<3>]>,
    /// The keys that are asked for most.
    pub hot: HotKeys,
    /// What those see who watch requests.
    pub feed: Feed,
    /// What was slow.
    pub slow: Slow,
    /// Who is connected.
    pub census: Census,
    /// 40 hexadecimal digits, new for each start.
    pub run_id: String,
    /// Wall time of the start, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// How many workers there are.
    pub workers: u16,
    /// The data path's mode and flags, for INFO and the start-up line.
    pub io_mode: String,
    /// The TCP port that was bound (of interest when the setting was 0).
    pub tcp_port: u16,
    /// Where the settings came from.
    pub origin: Origin,
    settings: Mutex<Arc<Settings>>,
    settings_version: AtomicU64,
    map: Mutex<Arc<Map>>,
    /// The map's epoch.
    map_epoch: AtomicU64,
    client_id_last: AtomicU64,
    phase: AtomicU8,
    /// Writes are paused until then / everything is paused until then (`CLIENT PAUSE`), Unix milliseconds.
    paused_until_ms: AtomicU64,
    pause_all: AtomicBool,
}

impl Phase {
    /// What it is called where people and programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Draining => "draining",
            Phase::Stopping => "stopping",
        }
    }
}

impl Instance {
    /// A running server before its first tick.
    pub fn new(settings: Settings, workers: u16, run_id: String, started_unix_ms: u64) -> Self {
        Self {
            metrics: Metrics::new(workers as usize),
            rates: (0..=workers).map(|_| Rates::default()).collect(),
            hot: HotKeys::new(workers as usize),
            feed: Feed::default(),
            slow: Slow::default(),
            census: Census::new(workers as usize),
            run_id,
            started_unix_ms,
            workers,
            io_mode: String::new(),
            tcp_port: settings.port,
            origin: Origin::default(),
            settings: Mutex::new(Arc::new(settings)),
            settings_version: AtomicU64::new(1),
            map: Mutex::new(Arc::new(Map::alone(workers))),
            map_epoch: AtomicU64::new(0),
            client_id_last: AtomicU64::new(0),
            phase: AtomicU8::new(0),
            paused_until_ms: AtomicU64::new(0),
            pause_all: AtomicBool::new(false),
        }
    }

    /// The settings now; a worker asks again when [`settings_version`](Self::settings_version) has changed.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().expect("no panic while held"))
    }

    /// Changes with every change of a setting.
    pub fn settings_version(&self) -> u64 {
        self.settings_version.load(Ordering::Acquire)
    }

    /// Changes settings as a whole: `change` works on a copy, which takes effect only when it succeeds.
    ///
    /// # Errors
    /// Whatever `change` returns; nothing has changed then.
    pub fn change_settings<E>(&self, change: impl FnOnce(&mut Settings) -> Result<(), E>) -> Result<(), E> {
        let mut current = self.settings.lock().expect("no panic while held");
        let mut next = Settings::clone(&current);
        change(&mut next)?;
        *current = Arc::new(next);
        self.settings_version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The map of the slots now; a worker asks again when [`map_epoch`](Self::map_epoch) has changed.
    pub fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.lock().expect("no panic while held"))
    }

    /// The epoch of the map.
    pub fn map_epoch(&self) -> u64 {
        self.map_epoch.load(Ordering::Acquire)
    }

    /// Replaces the map as a whole. Its epoch is above the present one's.
    pub fn replace_map(&self, map: Map) {
        let mut current = self.map.lock().expect("no panic while held");
        self.map_epoch.store(map.epoch, Ordering::Release);
        *current = Arc::new(map);
    }

    /// The next client's id, from 1.
    pub fn next_client_id(&self) -> u64 {
        self.client_id_last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How far the server's life has come.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Starts, prolongs or ends (`until_unix_ms` = 0) a pause of commands.
    pub fn pause(&self, until_unix_ms: u64, all: bool) {
        self.pause_all.store(all, Ordering::Relaxed);
        self.paused_until_ms.store(until_unix_ms, Ordering::Release);
    }

    /// Until when commands are paused, and whether reads are too.
    pub fn paused(&self) -> (u64, bool) {
        (self.paused_until_ms.load(Ordering::Acquire), self.pause_all.load(Ordering::Relaxed))
    }
}
