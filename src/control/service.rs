//! What a service manager is told: ready, alive, ending.
//!
//! In: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of the environment. Out: datagrams to that socket. What must
//! stay true: without a socket nothing happens; the watchdog is fed only while every worker turns its loop.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::pages::stuck_workers;
use crate::server::Waker;

/// The server serves.
pub const READY: &str = "READY=1";

/// The server answers what was received and ends.
pub(super) const STOPPING: &str = "STOPPING=1";

const ALIVE: &str = "WATCHDOG=1";

/// How long a service manager that does not listen may hold up the control thread.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// Tells the service manager, if there is one. That it cannot be told is no reason not to serve.
pub fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!("the service manager cannot be told {state}: {error}");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let own = UnixDatagram::unbound()?;
    own.set_write_timeout(Some(SEND_LIMIT))?;
    own.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// How often the service manager wants a sign of life: half of what it waits for.
fn interval() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|us| is_for_us && *us > 0).map(|us| Duration::from_micros(us / 2))
}

/// Feeds the watchdog, for ever, while all workers turn their loops.
pub(super) async fn watchdog(waker: Waker) {
    let Some(interval) = interval() else { return };
    loop {
        let stuck = stuck_workers(&waker).await;
        if stuck.is_empty() {
            notify(ALIVE);
        } else {
            tracing::warn!("workers {stuck:?} do not turn their loop; the watchdog is not fed");
        }
        tokio::time::sleep(interval).await;
    }
}
