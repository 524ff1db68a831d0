//! What the admin port answers, and to whom.
//!
//! In: a [`Question`]. Out: a [`Page`]. What must stay true: no worker waits for a page; what clients store and say is
//! shown to nobody who could not ask for it as a client; without a token no other site's page reads anything in a
//! browser of this host. A reverse proxy on this host has to say for whom it asks (`Forwarded`, `X-Forwarded-…`,
//! `Via`), else its clients count as this host's.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde_json::Value;

use super::desk::Desk;
use super::{console, people, prometheus, status};
use crate::command::connection::is_same;
use crate::config::Settings;
use crate::instance::Phase;
use crate::observe::Metric;
use crate::observe::exposition;
use crate::server::Waker;

/// How long a worker may take for the turn of its loop in which it was asked for a sign of life.
const PULSE_LIMIT: Duration = Duration::from_secs(1);

const PULSE_POLL: Duration = Duration::from_millis(1);

/// A request.
#[derive(Debug)]
pub(super) struct Question {
    /// Without its query.
    pub(super) path: String,
    /// How the port was called.
    pub(super) host: String,
    /// The bearer token.
    pub(super) token: Option<Vec<u8>>,
    /// A proxy says that it asks for somebody else.
    pub(super) is_forwarded: bool,
    pub(super) is_head: bool,
    /// The connection stays open after the answer.
    pub(super) goes_on: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) media_type: &'static str,
    pub(super) body: Cow<'static, str>,
    /// What a browser may do with it (Content-Security-Policy).
    pub(super) policy: Cow<'static, str>,
    /// The methods that there are, when the one asked for is not.
    pub(super) allow: &'static str,
}

/// Nothing at all.
const NO_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

impl Page {
    fn new(status: u16, media_type: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        Self { status, media_type, body: body.into(), policy: NO_POLICY.into(), allow: "" }
    }

    fn json(value: &Value) -> Self {
        Self::new(200, JSON, value.to_string())
    }

    /// An answer to what cannot be done.
    pub(super) fn problem(status: u16, why: &str) -> Self {
        Self::new(status, TEXT, format!("{why}\n"))
    }

    /// The status with its phrase (RFC 9110, section 15).
    pub(super) fn status_line(&self) -> &'static str {
        match self.status {
            200 => "200 OK",
            400 => "400 Bad Request",
            401 => "401 Unauthorized",
            403 => "403 Forbidden",
            404 => "404 Not Found",
            405 => "405 Method Not Allowed",
            408 => "408 Request Timeout",
            413 => "413 Content Too Large",
            431 => "431 Request Header Fields Too Large",
            _ => "503 Service Unavailable",
        }
    }
}

/// Who may see a page, from everybody to few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Audience {
    /// Everybody: probes, and the console without its figures.
    All,
    /// Those with the token, if there is one; else everybody but other sites' pages in a browser of this host.
    Operators,
    /// The same; without a token those on this host. It tells of other processes.
    Neighbours,
    /// The same; without a token only while clients come by TCP and need no password.
    /// It tells keys, requests and addresses.
    Confidants,
}

use Audience::{All, Confidants, Neighbours, Operators};

/// Path, who may see it, and what it is for.
const ROUTES: &[(&str, Audience, &str)] = &[
    ("/", All, "the console: all of this, live, for people"),
    ("/health", All, "200 while every worker turns its loop"),
    ("/ready", All, "200 while clients are accepted"),
    ("/metrics", Operators, "all metrics, for Prometheus"),
    ("/status.json", Operators, "the same for programs, with the settings"),
    ("/history.json", Operators, "the last ten minutes"),
    ("/settings.json", Operators, "every setting with its default and its advice"),
    ("/doctor.json", Neighbours, "what of this host costs latency, at most a minute old"),
    ("/clients.json", Confidants, "who is connected: 32 clients of each worker at most"),
    ("/hotkeys.json", Confidants, "the keys that are asked for most"),
    ("/slowlog.json", Confidants, "the newest slow requests"),
];

/// Answers a request.
pub(super) async fn answer(question: &Question, peer: IpAddr, desk: &Desk) -> Page {
    let audience = ROUTES.iter().find(|(path, ..)| *path == question.path).map_or(Operators, |row| row.1);
    let (instance, waker) = (desk.waker.instance(), &desk.waker);
    let settings = instance.settings();
    if let Some(refusal) = refusal(audience, question, peer, &settings) {
        return refusal;
    }
    match question.path.as_str() {
        "/" => match console::page() {
            Ok((body, policy)) => Page { policy: policy.into(), ..Page::new(200, HTML, body) },
            Err(error) => Page::problem(503, &format!("there are no random bytes: {error}")),
        },
        "/health" => health(desk).await,
        "/ready" => ready(waker),
        "/metrics" => Page::new(200, exposition::MEDIA_TYPE, prometheus::metrics(instance, desk.descriptors())),
        "/status.json" => {
            let mut status = status::status(instance, &desk.history.borrow(), desk.descriptors());
            let withheld = ROUTES.iter().filter_map(|(path, audience, _)| {
                let why = withheld(*audience, question, peer, &settings)?;
                Some((path.trim_start_matches('/').to_owned(), Value::from(why)))
            });
            status["withheld"] = Value::Object(withheld.collect());
            Page::json(&status)
        }
        "/history.json" => Page::json(&desk.history.borrow().all()),
        "/settings.json" => Page::json(&status::settings(instance)),
        "/doctor.json" => match desk.findings().await {
            Ok(found) => Page::json(&found),
            Err(error) => Page::problem(503, &format!("this host cannot be examined: {error}")),
        },
        "/clients.json" => Page::json(&people::clients(instance, &desk.clients().await)),
        "/hotkeys.json" => Page::json(&desk.hot_keys()),
        "/slowlog.json" => Page::json(&people::slow_log(instance)),
        _ => {
            let routes: String = ROUTES.iter().map(|(path, _, what)| format!("{path}  {what}\n")).collect();
            Page::problem(404, &format!("there is no such page; there are\n{}", routes.trim_end()))
        }
    }
}

/// Why this client does not see the page; `None` when it may.
fn refusal(audience: Audience, question: &Question, peer: IpAddr, settings: &Settings) -> Option<Page> {
    let expected = settings.admin_token.as_bytes();
    if audience == All {
        return None;
    }
    if !expected.is_empty() {
        let is_known = question.token.as_deref().is_some_and(|given| is_same(expected, given));
        return (!is_known).then(|| Page::problem(401, "show admin-token as Authorization: Bearer"));
    }
    withheld(audience, question, peer, settings).map(|why| Page::problem(403, &why))
}

/// Why an operator does not see a page; `None` when it may.
fn withheld(audience: Audience, question: &Question, peer: IpAddr, settings: &Settings) -> Option<String> {
    if audience == All || !settings.admin_token.is_empty() {
        return None;
    }
    let is_local = peer.to_canonical().is_loopback();
    // Browsers always say how they have called; tools with HTTP/1.0 may not.
    let is_named = !is_address(&question.host) && (audience > Operators || !question.host.is_empty());
    let why = if audience == Confidants && !settings.requirepass.is_empty() {
        "clients must give a password to see this (requirepass)"
    } else if audience == Confidants && settings.bind.is_empty() {
        "clients come by the unix socket alone (bind), which is not open to every user of this host"
    } else if audience > Operators && (!is_local || question.is_forwarded) {
        "this is shown to other hosts only with a token"
    } else if is_local && is_named {
        // Another site's page, whose name leads to this host, is not to read it in an operator's browser. Such a page
        // can say that it is forwarded.
        "without a token this is shown on this host to those who call the port by localhost or its address"
    } else {
        return None;
    };
    Some(format!("{why}; to see it here, CONFIG SET admin-token and show that"))
}

/// Whether a port was called by an address or as localhost, which no other site's name can stand for.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok(),
    }
}

/// The workers that do not finish a turn of their loop within [`PULSE_LIMIT`].
pub(super) async fn stuck_workers(waker: &Waker) -> Vec<u16> {
    let instance = waker.instance();
    let ticks = |worker: u16| instance.metrics.worker(worker).get(Metric::Ticks);
    let mut awaited: Vec<(u16, u64)> = (0..instance.workers).map(|worker| (worker, ticks(worker))).collect();
    waker.wake();
    let limit = tokio::time::Instant::now() + PULSE_LIMIT;
    loop {
        awaited.retain(|(worker, before)| ticks(*worker) == *before);
        if awaited.is_empty() || tokio::time::Instant::now() >= limit {
            return awaited.into_iter().map(|(worker, _)| worker).collect();
        }
        tokio::time::sleep(PULSE_POLL).await;
    }
}

async fn health(desk: &Desk) -> Page {
    let stuck = desk.stuck_workers().await;
    match &stuck[..] {
        [] => Page::new(200, TEXT, "ok\n"),
        stuck => Page::problem(503, &format!("workers without a sign of life for {PULSE_LIMIT:?}: {stuck:?}")),
    }
}

fn ready(waker: &Waker) -> Page {
    match waker.phase() {
        Phase::Running => Page::new(200, TEXT, "ready\n"),
        phase => Page::problem(503, phase.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_do_is_shown_to_those_who_could_ask_as_clients() {
        let question = |host: &str, token: Option<&str>| Question {
            path: String::new(),
            host: host.to_owned(),
            token: token.map(|token| token.as_bytes().to_vec()),
            is_forwarded: false,
            is_head: false,
            goes_on: false,
        };
        let (here, mapped) = ("127.0.0.1", "::ffff:127.0.0.1");
        // Password, token, peer, host, token shown; who may see a page for operators, neighbours, confidants.
        type Row = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, [u16; 3]);
        let rows: [Row; 14] = [
            ("", "", here, "127.0.0.1:9180", None, [200, 200, 200]),
            ("", "", mapped, "localhost", None, [200, 200, 200]),
            ("", "", "::1", "[::1]:9180", None, [200, 200, 200]),
            ("", "", here, "LOCALHOST:9180", None, [200, 200, 200]),
            ("", "", here, "evil.example:9180", None, [403, 403, 403]),
            ("", "", here, "127.0.0.1.evil.example", None, [403, 403, 403]),
            ("", "", here, "", None, [200, 403, 403]),
            ("", "", here, "localhost:x", None, [403, 403, 403]),
            ("", "", "10.0.0.9", "10.0.0.1:9180", None, [200, 403, 403]),
            ("secret", "", here, "127.0.0.1", None, [200, 200, 403]),
            ("secret", "", here, "127.0.0.1", Some("secret"), [200, 200, 403]),
            ("secret", "open", "10.0.0.9", "any.example", Some("open"), [200, 200, 200]),
            ("", "open", here, "127.0.0.1", None, [401, 401, 401]),
            ("", "open", here, "127.0.0.1", Some("close"), [401, 401, 401]),
        ];
        for (password, token, peer, host, shown, expected) in rows {
            let settings =
                Settings { requirepass: password.to_owned(), admin_token: token.to_owned(), ..Settings::default() };
            let see = |audience| {
                let peer = peer.parse().expect("an address");
                refusal(audience, &question(host, shown), peer, &settings).map_or(200, |page| page.status)
            };
            let seen = [Operators, Neighbours, Confidants].map(see);
            assert_eq!(seen, expected, "{password} {token} {peer} {host} {shown:?}");
            assert_eq!(see(All), 200);
        }
        let seen = |settings: &Settings, question: &Question| {
            let peer = here.parse().expect("an address");
            [Operators, Neighbours, Confidants].map(|it| refusal(it, question, peer, settings).map(|page| page.status))
        };
        // The unix socket may be for few.
        let unix_only = Settings { bind: Vec::new(), ..Settings::default() };
        assert_eq!(seen(&unix_only, &question("localhost", None)), [None, None, Some(403)]);
        let forwarded = |host| Question { is_forwarded: true, ..question(host, None) };
        assert_eq!(seen(&Settings::default(), &forwarded("localhost")), [None, Some(403), Some(403)]);
        assert_eq!(seen(&Settings::default(), &forwarded("evil.example")), [Some(403); 3]);
    }
}
