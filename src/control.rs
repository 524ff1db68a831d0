//! The control plane: what a process does beside serving. A thread of its own with `tokio-uring`.
//!
//! In: signals, the clock. Out: phases of the server, refreshed process gauges. TERM and INT drain the server, a
//! second one ends it at once. Only the process uses this; a library's server leaves the signals alone. Room for the
//! admin port.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::instance::Phase;
use crate::server::Waker;

/// The control thread of a process.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<()>,
}

impl Control {
    /// Takes over TERM and INT for this process.
    ///
    /// # Errors
    /// When the signals cannot be taken over or the thread not started.
    pub fn start(waker: Waker) -> io::Result<Control> {
        let (signals, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            tokio_uring::start(watch_signals(signals, waker));
        })?;
        Ok(Control { thread })
    }

    /// Whether the thread still runs; it ends only when its ring fails.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// A byte arrives for each signal.
async fn watch_signals(signals: UnixStream, waker: Waker) {
    let signals = tokio_uring::net::UnixStream::from_std(signals);
    let mut buffer = vec![0; 16];
    loop {
        let (result, returned) = signals.read(buffer).await;
        buffer = returned;
        match result {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        if waker.phase() == Phase::Running {
            tracing::info!("asked to end: answering what was received; a second signal ends at once");
            waker.advance(Phase::Draining);
        } else {
            tracing::warn!("asked to end at once");
            waker.advance(Phase::Stopping);
        }
    }
}
