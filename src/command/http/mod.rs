//! The JSON API: what each HTTP request means.
//!
//! In: a request as [`protocol::http`](crate::protocol::http) decodes it. Out: changes of the shard, and HTTP replies.
//! One table has every route: its rows stand in the command table, under names that RESP clients cannot send, so that
//! routing, hops, pauses and statistics are the same, and `/openapi.json` is written from it. What must stay true: one
//! keyspace with the other protocols; every request shows its credentials, and is refused before it does anything; a
//! page of another origin gets nothing unless `http-allow-origin` lets it.

use std::sync::LazyLock;

use super::connection::is_same;
use super::fanout::Spread;
use super::table::{self, Flags, Keys, Spec};
use super::{Call, CommandId, Run, Session};
use crate::config::Settings;
use crate::protocol::http::reply::{self, Head};
use crate::protocol::http::request::{AUTHORIZATION, BODY, EXPECTS, HOST, ORIGIN, Request};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output};

pub mod batch;
mod json;
mod keys;
mod lease;
mod openapi;

pub use lease::{WAITS, wait_ms};
use openapi::{Doc, Place};

/// Where all rows stand; the blank keeps RESP's clients from naming it.
const CONTAINER: &str = " http";

const READ: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE.or(Flags::FAST);
const STORE: Flags = WRITE.or(Flags::DENYOOM);
const ALWAYS: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::FAST);
const OPEN: Flags = ALWAYS.or(Flags::NO_AUTH);

/// The family's one row of the command table.
pub static COMMANDS: &[Spec] = &[Spec::keyless(
    "http",
    (CONTAINER, -2, Flags(0)),
    "1.0.0",
    "The routes of the JSON API, on its own port.",
    Run::Container,
)
.with(ROWS)];

macro_rules! routes {
    ($($name:literal, $flags:expr, $run:expr, $summary:literal, $doc:expr;)*) => {
        static ROWS: &[Spec] = &[
            $(row($name, $flags, $summary, $run),)*
            // What the decoder and `find` make.
            row(" bad", OPEN, "Answers what is no request.", Run::Session(bad)),
            row(" begin", ALWAYS, "Lets a client go on with its body.", Run::Session(begin)),
            row(" options", OPEN, "Tells what a path allows.", Run::Session(options)),
            row(" missing", ALWAYS, "Answers an unknown route.", Run::Session(missing)),
            row(" forbidden", OPEN, "Refuses another origin's page.", Run::Session(forbidden)),
            row(" unauthorized", OPEN, "Refuses whoever does not give the password.", Run::Session(unauthorized)),
        ];
        /// Every route with what `/openapi.json` tells of it.
        static ROUTES: &[(&str, &str, Doc)] = &[$(($name, $summary, $doc)),*];
    };
}

const GET_DOC: Doc = Doc::replies(&[(200, "The value"), (304, "Not modified"), (404, "No such key"), (412, "Changed")])
    .with(&[Place::Key, Place::IfMatch, Place::IfNoneMatch, Place::Lease]);

#[rustfmt::skip]
routes! {
    "GET /v1/keys/{key}", READ, Run::Spread(keys::get, Spread::Read), "Returns the value of a key.", GET_DOC;
    "HEAD /v1/keys/{key}", READ, Run::Spread(keys::get, Spread::Read), "The same without the value.", GET_DOC;
    "PUT /v1/keys/{key}", STORE, Run::Keyed(keys::put), "Stores a value with its content type.",
        Doc::replies(&[(201, "Created"), (204, "Replaced"), (412, "Condition not met"),
            (507, "Out of memory")])
            .with(&[Place::Key, Place::Ttl, Place::Nx, Place::Xx, Place::IfMatch, Place::IfNoneMatch,
                Place::CacheControl, Place::Token])
            .takes("application/octet-stream", r#"{"type":"string","format":"binary"}"#);
    "DELETE /v1/keys/{key}", WRITE, Run::Keyed(keys::delete), "Deletes a key.",
        Doc::replies(&[(204, "Deleted"), (404, "No such key"), (412, "Changed")])
            .with(&[Place::Key, Place::Nx, Place::Xx, Place::IfMatch, Place::IfNoneMatch, Place::Ttl,
                Place::Token]);
    "POST /v1/keys/{key}/incr", STORE, Run::Keyed(keys::increment), "Adds to a number.",
        Doc::replies(&[(200, "The sum"), (409, "The value is no number, or would overflow"),
            (507, "Out of memory")])
            .with(&[Place::Key, Place::By]);
    "GET /v1/keys/{key}/ttl", READ, Run::Keyed(keys::time_to_live), "Tells when a key expires.",
        Doc::replies(&[(200, "Seconds, or null: never"), (404, "No such key")]).with(&[Place::Key]);
    "POST /v1/mget", READ, Run::Spread(batch::refuse, Spread::Batch), "Returns the values of several keys.",
        Doc::replies(&[(200, "The values, null where there is none"),
            (415, "Not JSON")])
            .takes("application/json", openapi::MGET);
    "POST /v1/mset", STORE, Run::Spread(batch::refuse, Spread::Batch), "Stores several values.",
        Doc::replies(&[(200, "What came of each"), (415, "Not JSON")])
            .takes("application/json", openapi::MSET);
    "POST /v1/commands", WRITE, Run::Spread(batch::refuse, Spread::Batch), "Runs Redis commands in their order.",
        Doc::replies(&[(200, "What came of each"), (415, "Not JSON")])
            .takes("application/json", openapi::RUN);
    "GET /v1/scan", READ, Run::Spread(batch::refuse, Spread::Batch), "Walks over the keys.",
        Doc::replies(&[(200, "Some keys, and the cursor to go on with")])
            .with(&[Place::Cursor, Place::Match, Place::Count]);
    "GET /v1/stats", READ, Run::Spread(batch::refuse, Spread::Batch), "Tells the state of the server.",
        Doc::replies(&[(200, "The fields of INFO, by section")]);
    "GET /openapi.json", OPEN, Run::Session(openapi::description), "Describes this interface.",
        Doc::replies(&[(200, "OpenAPI 3.1")]);
    "GET /docs", OPEN, Run::Session(openapi::page), "Shows the description to people.",
        Doc::replies(&[(200, "A page")]).gives("text/html");
}

const fn row(name: &'static str, flags: Flags, summary: &'static str, run: Run) -> Spec {
    let spec = Spec::keyless("http", (name, BODY as i32 + 1, flags), "1.0.0", summary, run);
    if matches!(spec.run, Run::Keyed(_) | Run::Spread(_, Spread::Read)) {
        Spec { keys: Keys { first: 1, last: 1, step: 1 }, ..spec }
    } else {
        spec
    }
}

/// The rows for what no client asks for by name.
struct Special {
    container: CommandId,
    options: CommandId,
    missing: CommandId,
    forbidden: CommandId,
    unauthorized: CommandId,
}

static SPECIAL: LazyLock<Special> = LazyLock::new(|| {
    let container = table::hidden(CONTAINER);
    let row = |name: &[u8]| table::subcommand(container, name).expect("the name stands in the source");
    Special {
        container,
        options: row(b" options"),
        missing: row(b" missing"),
        forbidden: row(b" forbidden"),
        unauthorized: row(b" unauthorized"),
    }
});

/// The row for a request; there is one for every request.
pub fn find(settings: &Settings, args: Args<'_>) -> CommandId {
    let (special, request) = (&*SPECIAL, Request(args));
    let route = request.route();
    // Names are looked up without regard to case, which methods and paths have.
    let row = table::subcommand(special.container, route).filter(|row| row.spec().name.as_bytes() == route);
    let row = row.unwrap_or(if route.starts_with(b"OPTIONS ") { special.options } else { special.missing });
    if row.spec().flags.has(Flags::NO_AUTH) {
        row
    } else if !is_let_in(settings, request) {
        special.unauthorized
    } else if !is_own_origin(request) && !is_allowed_origin(settings, request) {
        special.forbidden
    } else {
        row
    }
}

fn is_let_in(settings: &Settings, request: Request<'_>) -> bool {
    let expected = settings.requirepass.as_bytes();
    expected.is_empty()
        || request
            .credentials()
            .is_some_and(|given| given.user.is_none_or(|user| user == b"default") && is_same(expected, &given.password))
}

/// Whether no page of another origin has asked: browsers tell of those.
fn is_own_origin(request: Request<'_>) -> bool {
    let origin = request.field(ORIGIN);
    let host = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme));
    origin.is_empty() || host == Some(request.field(HOST))
}

fn is_allowed_origin(settings: &Settings, request: Request<'_>) -> bool {
    let allowed = settings.http_allow_origin.as_bytes();
    !allowed.is_empty() && (allowed == b"*" || allowed == request.field(ORIGIN))
}

/// Begins a reply; a page of an origin that was let in may read it.
fn begin_reply<'o>(request: Request<'_>, status: u16, output: &'o mut Output) -> Head<'o> {
    share(Head::new(status, request.mode(), output), request.field(ORIGIN))
}

fn share<'o>(head: Head<'o>, origin: &[u8]) -> Head<'o> {
    if origin.is_empty() {
        return head;
    }
    head.field(b"Access-Control-Allow-Origin: ", origin)
        .field(b"Access-Control-Expose-Headers: ", b"ETag, Age, Corering-Lease")
        .field(b"Vary: ", b"Origin")
}

/// Answers with a body that is made for this reply.
fn answer(call: &Call<'_>, request: Request<'_>, status: u16, (kind, body): (&[u8], &[u8]), output: &mut Output) {
    let head = begin_reply(request, status, output).field(b"Content-Type: ", kind);
    if let Some(output) = head.end(body.len(), call.now.unix_ms) {
        output.extend(body);
    }
}

const JSON: &[u8] = b"application/json";
const PROBLEM: &[u8] = b"application/problem+json";

fn refuse(call: &Call<'_>, request: Request<'_>, status: u16, detail: &str, output: &mut Output) {
    answer(call, request, status, (PROBLEM, reply::problem(status, detail).as_bytes()), output);
}

/// The status was decided by the decoder.
fn bad(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    let status = std::str::from_utf8(request.field(AUTHORIZATION)).ok().and_then(|text| text.parse().ok());
    let detail = String::from_utf8_lossy(request.body());
    refuse(call, request, status.unwrap_or(400), &detail, reply.output);
    session.is_closing = true;
}

/// A client that has the password may send more than one that has not.
fn begin(_: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    session.is_authenticated = true;
    if Request(args).mode() & EXPECTS != 0 {
        reply.output.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}

/// The methods of a route's path, as `Allow` has them; empty when there is no such path.
fn methods_of(route: &[u8]) -> String {
    let path = |route: &'static str| route.split_once(' ').unwrap_or(("", route));
    let wanted = memchr::memchr(b' ', route).map_or(route, |space| &route[space + 1..]);
    let mut methods = ROUTES.iter().map(|(name, ..)| path(name)).filter(|(_, path)| path.as_bytes() == wanted);
    let Some((first, _)) = methods.next() else { return String::new() };
    methods.fold(first.to_owned(), |all, (method, _)| all + ", " + method) + ", OPTIONS"
}

/// Answers what a path allows, and a browser that asks first (the CORS protocol of the Fetch standard).
fn options(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    let methods = if request.route() == b"OPTIONS *" {
        "GET, HEAD, PUT, DELETE, POST, OPTIONS".to_owned()
    } else {
        methods_of(request.route())
    };
    if methods.is_empty() {
        return refuse(call, request, 404, "there is no such path: see /docs", reply.output);
    }
    let head = Head::new(204, request.mode(), reply.output).field(b"Allow: ", methods.as_bytes());
    let is_shared =
        !request.field(ORIGIN).is_empty() && (is_own_origin(request) || is_allowed_origin(call.settings, request));
    let head = if is_shared {
        share(head, request.field(ORIGIN))
            .field(b"Access-Control-Allow-Methods: ", methods.as_bytes())
            .field(
                b"Access-Control-Allow-Headers: ",
                b"Authorization, Content-Type, If-Match, If-None-Match, Cache-Control, Corering-Lease",
            )
            .field(b"Access-Control-Max-Age: ", b"600")
    } else {
        head
    };
    head.end(0, call.now.unix_ms);
}

fn missing(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    let methods = methods_of(request.route());
    if methods.is_empty() {
        return refuse(call, request, 404, "there is no such path: see /docs", reply.output);
    }
    let body = reply::problem(405, &format!("this path takes {methods}"));
    let head = begin_reply(request, 405, reply.output).field(b"Allow: ", methods.as_bytes());
    if let Some(output) = head.field(b"Content-Type: ", PROBLEM).end(body.len(), call.now.unix_ms) {
        output.extend(body.as_bytes());
    }
}

fn forbidden(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    let body = reply::problem(403, "pages of this origin are not let in: set http-allow-origin");
    session.is_closing = true;
    let head = Head::new(403, request.mode() | crate::protocol::http::request::IS_LAST, reply.output);
    if let Some(output) = head.field(b"Content-Type: ", PROBLEM).end(body.len(), call.now.unix_ms) {
        output.extend(body.as_bytes());
    }
}

/// The connection is closed: the body that may follow is nobody's.
fn unauthorized(call: &mut Call<'_>, session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    let body = reply::problem(401, "give the password as `Authorization: Bearer …`, or Basic with the user default");
    session.is_closing = true;
    let head = Head::new(401, request.mode() | crate::protocol::http::request::IS_LAST, reply.output)
        .field(b"WWW-Authenticate: ", b"Bearer realm=\"corering\"")
        .field(b"WWW-Authenticate: ", b"Basic realm=\"corering\", charset=\"UTF-8\"");
    if let Some(output) = head.field(b"Content-Type: ", PROBLEM).end(body.len(), call.now.unix_ms) {
        output.extend(body.as_bytes());
    }
}
