//! Leases over HTTP, by the header `Corering-Lease`.
//!
//! | request                                          | meaning                                                      |
//! |--------------------------------------------------|--------------------------------------------------------------|
//! | `GET`, `take`, `for=milliseconds`, `wait=…`       | the value, or who is to compute it                           |
//! | `PUT`, the token                                 | the holder's value; 412 when the key has changed since       |
//! | `DELETE`, the token; `?ttl=`                     | the holder has found that there is none                      |
//!
//! The reply's header is `hit`, `stale`, `wait`, `absent`, or `token=…` for who is to compute. What must stay true:
//! without a value the status is 404, so that a client that knows nothing of leases is not misled.

use super::super::lease::version;
use super::keys::{Shown, write_item};
use super::{Call, ORIGIN, PROBLEM, refuse, reply, share};
use crate::protocol::http::request::{LEASE, Request};
use crate::protocol::{Args, Output};
use crate::shard::Leased;

/// Longest lease and longest wait, milliseconds.
const LEASE_MS_MAX: u64 = 86_400_000;
const WAIT_MS_MAX: u64 = 60_000;

/// How a reply begins that tells to wait.
pub const WAITS: &[u8] = b"HTTP/1.1 404 Not Found\r\nCorering-Lease: wait\r\n";

#[derive(Clone, Copy, Debug, Default)]
struct Options {
    lease_ms: Option<u64>,
    wait_ms: u64,
}

fn options(request: Request<'_>) -> Option<Options> {
    let mut options = Options::default();
    for part in request.field(LEASE).split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let (name, number) = match memchr::memchr(b'=', part) {
            Some(at) => (&part[..at], version(&part[at + 1..]).ok()),
            None => (part, None),
        };
        match (name, number) {
            (b"take", None) => {}
            (b"for", Some(number)) if (1..=LEASE_MS_MAX).contains(&number) => options.lease_ms = Some(number),
            (b"wait", Some(number)) => options.wait_ms = number.min(WAIT_MS_MAX),
            _ => return None,
        }
    }
    Some(options)
}

/// How long the client of a `GET` will wait for another's value.
pub fn wait_ms(args: Args<'_>) -> u64 {
    let request = Request(args);
    if request.field(LEASE).is_empty() { 0 } else { options(request).map_or(0, |options| options.wait_ms) }
}

/// Answers a `GET` with the header.
pub(super) fn get(call: &mut Call<'_>, request: Request<'_>, output: &mut Output) {
    let Some(options) = options(request) else {
        return refuse(call, request, 400, "Corering-Lease takes take, for=milliseconds, wait=milliseconds", output);
    };
    let now = call.now.unix_ms;
    let lease_ms = options.lease_ms.unwrap_or(call.settings.lease_timeout.as_millis() as u64);
    let mut digits = itoa::Buffer::new();
    let (item, state, detail) = match call.shard.lease(request.key(), now + lease_ms, now) {
        Leased::Fresh(item) => (Some(item), ["hit", ""], ""),
        Leased::Stale(item) => (Some(item), ["stale", ""], ""),
        Leased::Won { token, stale } => (stale, ["token=", digits.format(token)], "compute the value and PUT it"),
        Leased::Awaited => (None, ["wait", ""], "another client is computing the value"),
        Leased::Absent => (None, ["absent", ""], "it is known that there is no value"),
    };
    match item {
        Some(item) => {
            let attributes = item.attributes();
            write_item(&Shown { item, attributes, state: Some(state) }, request, now, output);
        }
        None => {
            let body = reply::problem(404, detail);
            let head = reply::Head::new(404, request.mode(), output);
            let head = share(head.field(b"Corering-Lease: ", state.concat().as_bytes()), request.field(ORIGIN));
            if let Some(output) = head.field(b"Content-Type: ", PROBLEM).end(body.len(), now) {
                output.extend(body.as_bytes());
            }
        }
    }
}

/// The token of a `PUT` or `DELETE`; `Err` when it is none.
pub(super) fn token(request: Request<'_>) -> Result<Option<u64>, ()> {
    let text = request.field(LEASE);
    if text.is_empty() {
        return Ok(None);
    }
    version(text.strip_prefix(b"token=").unwrap_or(text)).map(Some).map_err(|_| ())
}
