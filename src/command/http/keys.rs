//! `/v1/keys/{key}` and what lies below it.
//!
//! In: requests with a key, on the worker that has it. Out: its value, changed or not. What must stay true: a `GET`
//! that hits allocates nothing and copies a value as often as RESP's does; conditions and the write they guard are one
//! step; the version that `ETag` tells is the one that memcached's `gets` and RESP's `GETVERSION` tell.

use super::super::Run;
use super::super::arguments::integer;
use super::super::table;
use super::json::{self, Unfit, check_parameters};
use super::{Call, JSON, PROBLEM, answer, begin_reply, lease, refuse};
use crate::protocol::http::reply::{Head, problem};
use crate::protocol::http::request::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, LEASE, Request, matches};

use crate::protocol::resp::{Reply, Value, Version, parse};
use crate::protocol::{Args, Output, Requests};
use crate::shard::{
    Attributes, CONTENT_TYPE_BYTES_MAX, Expiry, Fill, Item, NewValue, Shard, Stored, TimeToLive, UnixMs, View,
};

/// What a value is when nobody has said.
const BYTES: &[u8] = b"application/octet-stream";

/// Longest time to live, seconds: a hundred years.
pub(super) const TTL_SECONDS_MAX: u64 = 100 * 366 * 86_400;
pub(super) const TTL_RANGE: &str = "ttl is a number of seconds, from 1 to 100 years";

/// An item as a reply shows it.
pub(super) struct Shown<'a> {
    pub(super) item: Item<'a>,
    pub(super) attributes: Attributes<'a>,
    /// What `Corering-Lease` says, in two parts.
    pub(super) state: Option<[&'a str; 2]>,
}

const MISSING: &str = "there is no such key";
const CHANGED: &str = "the key's value is not the one that the condition names";

pub(super) fn get(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let (request, now) = (Request(args), call.now.unix_ms);
    if !request.field(LEASE).is_empty() {
        return lease::get(call, request, reply.output);
    }
    match call.shard.get(request.key(), now) {
        None => return refuse(call, request, 404, MISSING, reply.output),
        Some(item) => {
            let attributes = item.attributes();
            if attributes.version != 0 {
                return write_item(&Shown { item, attributes, state: None }, request, now, reply.output);
            }
        }
    }
    // The first who asks for the version of this state gives it one.
    call.shard.version(View::Values, request.key(), now);
    match call.shard.peek(request.key(), now) {
        Some(item) => {
            let shown = Shown { item, attributes: item.attributes(), state: None };
            write_item(&shown, request, now, reply.output);
        }
        None => refuse(call, request, 404, MISSING, reply.output),
    }
}

/// Answers with a value, unless the client has it or wants another.
#[inline]
pub(super) fn write_item(shown: &Shown<'_>, request: Request<'_>, now: UnixMs, output: &mut Output) {
    let Shown { item, attributes, state } = shown;
    let version = (attributes.version != 0).then_some(attributes.version);
    let (wanted, unwanted) = (request.field(IF_MATCH), request.field(IF_NONE_MATCH));
    let status = if !wanted.is_empty() && !matches(wanted, version, true) {
        412
    } else if !unwanted.is_empty() && matches(unwanted, version, false) {
        304
    } else {
        200
    };
    if item.shared.is_none() {
        output.reserve(item.value.len() + 320);
    }
    let head = begin_reply(request, status, output);
    let head = match version {
        Some(version) => write_age(head.tag(version), version, item, attributes, now),
        None => head,
    };
    let head = match state {
        Some(state) => head.field(b"Corering-Lease: ", state.concat().as_bytes()),
        None => head,
    };
    if status != 200 {
        let body = if status == 412 { problem(412, CHANGED) } else { String::new() };
        let head = if status == 412 { head.field(b"Content-Type: ", PROBLEM) } else { head };
        if let Some(output) = head.end(body.len(), now) {
            output.extend(body.as_bytes());
        }
        return;
    }
    let kind = if attributes.content_type.is_empty() { BYTES } else { attributes.content_type };
    let Some(output) = head.field(b"Content-Type: ", kind).end(item.value.len(), now) else { return };
    match item.shared {
        Some(value) => output.splice(value.clone()),
        None => output.extend(item.value),
    }
}

/// `Age`, and for how long the value is fresh, and stale but there. Both count from when the version was given.
fn write_age<'o>(head: Head<'o>, version: u64, item: &Item<'_>, of: &Attributes<'_>, now: UnixMs) -> Head<'o> {
    let stored_at = Shard::versioned_at(version);
    let head = head.number(b"Age: ", now.saturating_sub(stored_at) / 1000);
    let seconds = |until: UnixMs, from: UnixMs| until.saturating_sub(from) / 1000;
    match (of.fresh_until, item.expires_at) {
        (0, None) => head,
        (0, Some(end)) => head.number(b"Cache-Control: max-age=", seconds(end, stored_at)),
        (fresh, None) => head.number(b"Cache-Control: max-age=", seconds(fresh, stored_at)),
        (fresh, Some(end)) => {
            let mut text = *b"00000000000000000000, stale-while-revalidate=00000000000000000000";
            let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
            let parts = [
                first.format(seconds(fresh, stored_at)),
                ", stale-while-revalidate=",
                second.format(seconds(end, fresh)),
            ];
            let mut len = 0;
            for part in parts {
                text[len..len + part.len()].copy_from_slice(part.as_bytes());
                len += part.len();
            }
            head.field(b"Cache-Control: max-age=", &text[..len])
        }
    }
}

/// What a `PUT` says beside key and value.
struct Terms {
    expiry: Expiry,
    fresh_until: UnixMs,
}

/// The parameters of a write.
const OF_WRITES: &[&str] = &["ttl", "nx", "xx"];

/// `?ttl=` in seconds, or `Cache-Control: max-age, stale-while-revalidate`.
fn terms(request: Request<'_>, now: UnixMs) -> Result<Terms, Unfit> {
    let after = |seconds: u64| now + seconds.min(TTL_SECONDS_MAX) * 1000;
    check_parameters(request, OF_WRITES)?;
    let mut terms = Terms { expiry: Expiry::Never, fresh_until: 0 };
    if let Some(text) = request.parameter("ttl") {
        let seconds = text.ok().and_then(|text| integer(&text).ok()).and_then(|number| u64::try_from(number).ok());
        let seconds = seconds.filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds));
        let seconds = seconds.ok_or_else(|| Unfit::new(400, TTL_RANGE))?;
        terms.expiry = Expiry::At(after(seconds));
        return Ok(terms);
    }
    if let Some(fresh) = request.directive("max-age") {
        terms.expiry = Expiry::At(after(fresh).max(now + 1));
        if let Some(stale) = request.directive("stale-while-revalidate") {
            terms.expiry = Expiry::At(after(fresh).saturating_add(stale.min(TTL_SECONDS_MAX) * 1000).max(now + 1));
            terms.fresh_until = after(fresh);
        }
    }
    Ok(terms)
}

/// Whether the conditions of a write hold.
fn holds(call: &mut Call<'_>, request: Request<'_>) -> Result<bool, Unfit> {
    let (wanted, unwanted) = (request.field(IF_MATCH), request.field(IF_NONE_MATCH));
    let flag = |name| request.flag(name).ok_or_else(|| Unfit::new(400, format!("{name} is true or false")));
    let (needs_absent, needs_present) = (flag("nx")?, flag("xx")?);
    if wanted.is_empty() && unwanted.is_empty() && !needs_absent && !needs_present {
        return Ok(true);
    }
    let version = call.shard.version(View::Values, request.key(), call.now.unix_ms);
    Ok((wanted.is_empty() || matches(wanted, version, true))
        && (unwanted.is_empty() || !matches(unwanted, version, false))
        && !(needs_absent && version.is_some())
        && !(needs_present && version.is_none()))
}

/// Whose lease a write is to fill.
fn token(request: Request<'_>) -> Result<Option<u64>, Unfit> {
    lease::token(request).map_err(|()| Unfit::new(400, "Corering-Lease is no token"))
}

pub(super) fn put(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    if let Err(unfit) = store(call, request, reply.output) {
        unfit.write(call, request, reply.output);
    }
}

fn store(call: &mut Call<'_>, request: Request<'_>, output: &mut Output) -> Result<(), Unfit> {
    let (key, now) = (request.key(), call.now.unix_ms);
    let content_type = request.field(CONTENT_TYPE);
    if content_type.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(Unfit::new(400, "Content-Type is longer than 200 bytes"));
    }
    let Terms { expiry, fresh_until } = terms(request, now)?;
    let token = token(request)?;
    if !holds(call, request)? {
        return Err(Unfit::new(412, CHANGED));
    }
    let value = request.shared_body().map_or(NewValue::Copied(request.body()), NewValue::Shared);
    let stored = match token {
        Some(token) => {
            call.shard.fill(key, token, &Fill { value: Some(value), expiry, fresh_until, content_type }, now)
        }
        None => {
            let version = call.shard.next_version(now);
            let attributes = Attributes { version, fresh_until, content_type, ..Attributes::default() };
            call.shard.put(key, value, expiry, &attributes, now)
        }
    };
    let status = match stored {
        Stored::Done { replaced: true } => 204,
        Stored::Done { replaced: false } => 201,
        Stored::Refused => return Err(Unfit::new(412, "the key has changed, or the lease has lapsed")),
        Stored::OutOfMemory => return Err(Unfit::new(507, "it does not fit in maxmemory")),
    };
    let version = call.shard.version(View::Values, key, now);
    let head = begin_reply(request, status, output);
    let head = if let Some(version) = version { head.tag(version) } else { head };
    head.end(0, now);
    Ok(())
}

pub(super) fn delete(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    if let Err(unfit) = remove(call, request, reply.output) {
        unfit.write(call, request, reply.output);
    }
}

fn remove(call: &mut Call<'_>, request: Request<'_>, output: &mut Output) -> Result<(), Unfit> {
    let (key, now) = (request.key(), call.now.unix_ms);
    let Terms { expiry, fresh_until } = terms(request, now)?;
    let token = token(request)?;
    if !holds(call, request)? {
        return Err(Unfit::new(412, CHANGED));
    }
    match token {
        Some(token) => {
            let fill = Fill { value: None, expiry, fresh_until, content_type: &[] };
            if call.shard.fill(key, token, &fill, now) == Stored::Refused {
                return Err(Unfit::new(412, "the key has changed, or the lease has lapsed"));
            }
        }
        None if call.shard.delete(key, now) => {}
        None => return Err(Unfit::new(404, MISSING)),
    }
    begin_reply(request, 204, output).end(0, now);
    Ok(())
}

pub(super) fn time_to_live(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let (request, now) = (Request(args), call.now.unix_ms);
    let body = match call.shard.time_to_live(request.key(), now) {
        TimeToLive::Missing => return refuse(call, request, 404, MISSING, reply.output),
        TimeToLive::Forever => r#"{"ttl":null,"ttl_ms":null}"#.to_owned(),
        TimeToLive::At(at) => {
            let ms = at.saturating_sub(now);
            format!(r#"{{"ttl":{},"ttl_ms":{ms}}}"#, ms.div_ceil(1000))
        }
    };
    answer(call, request, 200, (JSON, body.as_bytes()), reply.output);
}

/// Adds `?by=` to a number, 1 unless given, as `INCRBY` does.
pub(super) fn increment(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    if let Err(unfit) = check_parameters(request, &["by"]) {
        return unfit.write(call, request, reply.output);
    }
    let by = match request.parameter("by").unwrap_or(Ok(b"1".into())) {
        Ok(by) if integer(&by).is_ok() => by,
        _ => return refuse(call, request, 400, "by is a 64-bit integer", reply.output),
    };
    match run(call, &[b"incrby", request.key(), &by]) {
        Value::Integer(sum) => {
            answer(call, request, 200, (JSON, format!(r#"{{"value":{sum}}}"#).as_bytes()), reply.output);
        }
        Value::Error(text) => {
            let status = if text.starts_with(b"OOM") { 507 } else { 409 };
            refuse(call, request, status, &json::text_of_error(&text), reply.output);
        }
        _ => refuse(call, request, 500, "incrby gave no integer", reply.output),
    }
}

/// Runs a Redis command on a key that is this worker's.
fn run(call: &mut Call<'_>, words: &[&[u8]]) -> Value {
    let mut request = Requests::default();
    words.iter().for_each(|word| request.push_copy(word));
    request.finish();
    let args = request.get(0, &[]);
    let mut output = Output::new();
    let command = table::find(args);
    if let Ok(Run::Keyed(execute)) = command.map(|command| command.spec().run) {
        execute(call, args, &mut Reply { output: &mut output, version: Version::Resp3 });
    }
    parse(&output.to_vec()).ok().flatten().map_or(Value::Null, |(value, _)| value)
}
