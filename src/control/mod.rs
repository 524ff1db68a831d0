//! The control plane: what a process does beside serving. A thread of its own with `tokio-uring`, or with tokio
//! alone where the settings ask for epoll.
//!
//! In: signals, requests to the admin port. Out: phases of the server, pages about it and the console that shows them,
//! signs of life to the service manager. TERM and INT drain the server, a second one ends it at once; HUP reads the
//! cluster's fixed map again, if there is one, and ends nothing. Only the process uses this; a library's server leaves
//! the signals alone. What must stay true: a server does not go on without its control plane; when the thread ends, the
//! server drains.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::instance::Phase;
use crate::server::{EndsServer, Waker};
use crate::topology;

mod admin;
mod console;
mod desk;
mod findings;
mod history;
mod pages;
mod people;
mod prometheus;
mod runtime;
pub mod service;
mod status;

use desk::Desk;
use runtime::{Listener, Signals};

/// The control thread of a process.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<()>,
}

impl Control {
    /// Takes over TERM, INT and HUP for this process, and serves the admin port at `listeners`. The workers have these
    /// CPUs.
    ///
    /// # Errors
    /// When the signals cannot be taken over or the thread not started.
    pub fn start(waker: Waker, listeners: Vec<TcpListener>, cpus: Vec<usize>) -> io::Result<Control> {
        let (ends, reloads) = (signals(&[SIGTERM, SIGINT])?, signals(&[SIGHUP])?);
        let run = move || run(&waker, ends, reloads, listeners, cpus);
        Ok(Control { thread: std::thread::Builder::new().name("control".to_owned()).spawn(run)? })
    }

    /// Whether the thread still runs; it ends only when its ring fails.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// What the thread does, until its ring fails.
fn run(waker: &Waker, ends: UnixStream, reloads: UnixStream, listeners: Vec<TcpListener>, cpus: Vec<usize>) {
    let _guard = EndsServer::by(waker.clone(), Phase::Draining);
    if let Ok(cpu) = usize::try_from(waker.instance().settings().control_cpu)
        && !topology::pin(cpu)
    {
        tracing::warn!("the control thread could not be pinned to CPU {cpu}");
    }
    let io = waker.instance().settings().io;
    let ended = runtime::run(io, async move {
        let (reloads, reloading) = (Signals::new(io, reloads)?, waker.clone());
        runtime::spawn(watch(reloads, move || reload(&reloading)));
        let desk = Rc::new(Desk::new(waker.clone(), cpus));
        if !listeners.is_empty() {
            runtime::spawn(desk::keep_history(Rc::clone(&desk)));
        }
        for listener in listeners {
            runtime::spawn(admin::serve(Listener::new(io, listener)?, Rc::clone(&desk)));
        }
        runtime::spawn(service::watchdog(waker.clone()));
        watch(Signals::new(io, ends)?, || end(waker)).await;
        Ok(())
    });
    if let Err(error) = ended.and_then(|result: io::Result<()>| result) {
        tracing::error!("the control thread has failed: {error}");
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

/// Acts when signals have come.
async fn watch(signals: Signals, act: impl Fn()) {
    while signals.next().await.is_some() {
        act();
    }
}

fn end(waker: &Waker) {
    if waker.phase() == Phase::Running {
        tracing::info!("asked to end: answering what was received; a second signal ends at once");
        service::notify(service::STOPPING);
        waker.advance(Phase::Draining);
    } else {
        tracing::warn!("asked to end at once");
        waker.advance(Phase::Stopping);
    }
}

fn reload(waker: &Waker) {
    if !waker.has_map_file() {
        tracing::info!("HUP reads the cluster-map again, and there is none; CONFIG SET changes settings");
        return;
    }
    match waker.reload_map() {
        Ok(Some(epoch)) => tracing::info!("the cluster's map has epoch {epoch} now"),
        Ok(None) => tracing::info!("the cluster's map has not changed"),
        Err(error) => tracing::error!("the cluster's map stays as it was: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::config::{Io, Settings};

    #[test]
    fn a_server_does_not_go_on_without_its_control_plane() {
        for (_, io) in Io::NAMES {
            let server = Server::start(Settings { port: 0, workers: 1, io: *io, ..Settings::default() }).unwrap();
            let (ends, sender) = UnixStream::pair().unwrap();
            let (reloads, _open) = UnixStream::pair().unwrap();
            let waker = server.waker();
            let thread = std::thread::spawn(move || run(&waker, ends, reloads, Vec::new(), Vec::new()));
            assert_eq!(server.waker().phase(), Phase::Running);
            // As when the ring fails: reading the signals ends.
            drop(sender);
            thread.join().unwrap();
            assert_eq!(server.waker().phase(), Phase::Draining);
            server.wait().unwrap();
        }
    }
}
