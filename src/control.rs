//! The control plane: what a process does beside serving. A thread of its own with `tokio-uring`.
//!
//! In: signals, the clock. Out: phases of the server, refreshed process gauges. TERM and INT drain the server, a
//! second one ends it at once; HUP reads the cluster's fixed map again, if there is one. Only the process uses this; a
//! library's server leaves the signals alone. Room for the admin port.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

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
        let ends = signals(&[SIGTERM, SIGINT])?;
        let reloads = if waker.has_map_file() { Some(signals(&[SIGHUP])?) } else { None };
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            tokio_uring::start(async move {
                if let Some(reloads) = reloads {
                    let waker = waker.clone();
                    tokio_uring::spawn(watch(reloads, move || reload(&waker)));
                }
                watch(ends, move || end(&waker)).await;
            });
        })?;
        Ok(Control { thread })
    }

    /// Whether the thread still runs; it ends only when its ring fails.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// A socket that gets a byte for each of these signals.
fn signals(which: &[i32]) -> io::Result<UnixStream> {
    let (socket, sender) = UnixStream::pair()?;
    for signal in which {
        signal_hook::low_level::pipe::register(*signal, sender.try_clone()?)?;
    }
    Ok(socket)
}

/// Acts when signals have come; several that come at once count as one.
async fn watch(signals: UnixStream, act: impl Fn()) {
    let signals = tokio_uring::net::UnixStream::from_std(signals);
    let mut buffer = vec![0; 16];
    loop {
        let (result, returned) = signals.read(buffer).await;
        buffer = returned;
        match result {
            Ok(count) if count > 0 => act(),
            _ => return,
        }
    }
}

fn end(waker: &Waker) {
    if waker.phase() == Phase::Running {
        tracing::info!("asked to end: answering what was received; a second signal ends at once");
        waker.advance(Phase::Draining);
    } else {
        tracing::warn!("asked to end at once");
        waker.advance(Phase::Stopping);
    }
}

fn reload(waker: &Waker) {
    match waker.reload_map() {
        Ok(Some(epoch)) => tracing::info!("the cluster's map has epoch {epoch} now"),
        Ok(None) => tracing::info!("the cluster's map has not changed"),
        Err(error) => tracing::error!("the cluster's map stays as it was: {error}"),
    }
}
