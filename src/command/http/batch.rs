//! Routes that stand for Redis commands: `/v1/commands`, `/v1/mget`, `/v1/mset`, `/v1/scan`, `/v1/stats`.
//!
//! In: a request's body or query. Out: commands, run through the command table where each has its keys, and one reply
//! of all their replies. What must stay true: commands take effect in their order, as in a pipeline; each is refused on
//! its own; the work of a round is bounded; commands that concern a connection have none here.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};

use super::json::{self, Unfit};
use super::{Call, JSON, Request, share};
use crate::command::route::{Entrance, Route, route};
use crate::command::{Fanout, Round, Session, check, cluster, table};
use crate::protocol::http::reply::Head;
use crate::protocol::http::request::{ACCEPT, ORIGIN};

use crate::protocol::resp::{Reply, Value, Version, parse};
use crate::protocol::{Args, Output, Requests};

/// Commands of one round.
const ROUND_PARTS_MAX: usize = 128;

/// Commands of one request.
const COMMANDS_MAX: usize = 100_000;

/// Bytes of one reply.
const REPLY_BYTES_MAX: usize = 256 << 20;

const NDJSON: &[u8] = b"application/x-ndjson";

/// What concerns a connection.
const REFUSED: &[&str] = &["auth", "hello", "reset", "quit", "select", "client|reply"];

/// How the replies are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `[{"result": …}, {"error": …}]`
    Results,
    /// The same, one a line.
    Lines,
    /// `{"values": […]}`
    Values,
    /// `{"stored": […]}`
    Stored,
    /// `{"cursor": …, "keys": […]}`
    Keys,
    /// Sections with fields.
    Sections,
}

type Command = Vec<Vec<u8>>;

/// Reads a request: how it is to be answered, and its commands.
fn read(request: Request<'_>) -> Result<(Shape, Vec<Command>), Unfit> {
    let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Command>();
    let (shape, commands) = match request.route() {
        b"GET /v1/stats" => (Shape::Sections, vec![words(&[b"info"])]),
        b"GET /v1/scan" => (Shape::Keys, vec![scan(request)?]),
        b"POST /v1/mget" => {
            let body = json::body(request)?;
            let keys = body.get("keys").and_then(Json::as_array);
            let keys = keys.ok_or_else(|| Unfit::new(400, r#"the body is to be {"keys": [key, …]}"#))?;
            let get = |key: &Json| Ok(vec![b"get".to_vec(), json::bytes(key)?]);
            (Shape::Values, keys.iter().map(get).collect::<Result<_, _>>()?)
        }
        b"POST /v1/mset" => {
            let body = json::body(request)?;
            let unfit =
                || Unfit::new(400, r#"the body is to be {"items": [{"key": …, "value": …, "ttl": seconds}, …]}"#);
            let items = body.get("items").and_then(Json::as_array).ok_or_else(unfit)?;
            (
                Shape::Stored,
                items.iter().map(|item| set(item).and_then(|set| set.ok_or_else(unfit))).collect::<Result<_, _>>()?,
            )
        }
        _ => {
            let lines = request.field(ACCEPT).split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
            let shape = if lines.into_iter().any(|kind| kind == NDJSON) { Shape::Lines } else { Shape::Results };
            let body = json::body(request)?;
            let unfit = || Unfit::new(400, r#"the body is to be [["set", "key", "value"], ["get", "key"], …]"#);
            let commands = body.as_array().ok_or_else(unfit)?;
            let command = |json: &Json| {
                let words = json.as_array().filter(|words| !words.is_empty()).ok_or_else(unfit)?;
                words.iter().map(json::bytes).collect::<Result<Command, _>>()
            };
            (shape, commands.iter().map(command).collect::<Result<_, _>>()?)
        }
    };
    if commands.len() > COMMANDS_MAX {
        return Err(Unfit::new(413, format!("a request has {COMMANDS_MAX} commands, keys or items at most")));
    }
    Ok((shape, commands))
}

/// `SET` of an item; `None` when it is none.
fn set(item: &Json) -> Result<Option<Command>, Unfit> {
    let (Some(key), Some(value)) = (item.get("key"), item.get("value")) else { return Ok(None) };
    let mut set = vec![b"set".to_vec(), json::bytes(key)?, json::bytes(value)?];
    if let Some(ttl) = item.get("ttl").filter(|ttl| !ttl.is_null()) {
        let seconds = ttl.as_u64().filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| Unfit::new(400, "ttl is a number of seconds, 1 or more"))?;
        set.extend([b"ex".to_vec(), seconds.to_string().into_bytes()]);
    }
    for (name, option) in [("nx", b"nx"), ("xx", b"xx")] {
        if item.get(name).is_some_and(|flag| *flag == Json::Bool(true)) {
            set.push(option.to_vec());
        }
    }
    Ok(Some(set))
}

fn scan(request: Request<'_>) -> Result<Command, Unfit> {
    let parameter = |name| {
        let malformed = |()| Unfit::new(400, format!("the escapes of {name} are malformed"));
        request.parameter(name).transpose().map_err(malformed)
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = parameter("cursor")?.map_or(b"0".to_vec(), std::borrow::Cow::into_owned);
    number(&cursor).ok_or_else(|| Unfit::new(400, "cursor is 0, or the one of the reply before"))?;
    let mut scan = vec![b"scan".to_vec(), cursor];
    if let Some(pattern) = parameter("match")? {
        scan.extend([b"match".to_vec(), pattern.into_owned()]);
    }
    if let Some(count) = parameter("count")? {
        let count = number(&count).filter(|count| (1..=10_000).contains(count));
        let count = count.ok_or_else(|| Unfit::new(400, "count is 1 to 10000"))?;
        scan.extend([b"count".to_vec(), count.to_string().into_bytes()]);
    }
    Ok(scan)
}

/// Answers a request that could not be planned.
pub(super) fn refuse(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = Request(args);
    match read(request) {
        Err(unfit) => unfit.write(call, request, reply.output),
        Ok(_) => super::refuse(call, request, 500, "the request could not be planned", reply.output),
    }
}

/// What is to be done next.
#[derive(Debug)]
enum Step {
    /// Commands that each run on one worker.
    Round(Round),
    /// One that runs on several.
    Fanout(Box<Fanout>, Round),
    /// One that was refused, with its error.
    Refused(Vec<u8>),
}

/// Which replies come next.
#[derive(Debug)]
enum Current {
    /// Those of a round of commands.
    Round,
    /// Those of a part of a command over several workers.
    Fanout(Box<Fanout>),
    /// One that nobody has asked for.
    Nobody,
}

/// Commands that are being carried out for one request.
#[derive(Debug)]
pub struct Batch {
    steps: VecDeque<Step>,
    current: Current,
    shape: Shape,
    mode: u8,
    origin: Vec<u8>,
    unix_ms: u64,
    /// What is there of the body.
    body: String,
    /// Replies of which it is made in the end.
    last: Option<Value>,
    resume_ms: Option<u64>,
}

/// Plans a request; `None` when it is malformed, and running it says so.
pub fn plan(args: Args<'_>, from: Entrance<'_>) -> Option<(Batch, Round)> {
    let request = Request(args);
    let (shape, commands) = read(request).ok()?;
    let mut batch = Batch {
        steps: VecDeque::new(),
        current: Current::Nobody,
        shape,
        mode: request.mode(),
        origin: request.field(ORIGIN).to_vec(),
        unix_ms: from.unix_ms,
        body: String::new(),
        last: None,
        resume_ms: None,
    };
    for command in &commands {
        batch.add(command, from);
    }
    if !matches!(batch.steps.front(), Some(Step::Round(_) | Step::Fanout(..))) {
        // A plan begins with a round.
        let mut round = Round::default();
        round.requests.push_copy(b"ping");
        round.finish(from.here, table::hidden("ping"));
        return Some((batch, round));
    }
    let first = batch.next_round()?;
    Some((batch, first))
}

impl Batch {
    fn add(&mut self, words: &Command, from: Entrance<'_>) {
        let mut request = Requests::default();
        words.iter().for_each(|word| request.push_copy(word));
        request.finish();
        let args = request.get(0, &[]);
        let command = match table::find(args) {
            Ok(command) => command,
            Err(unfit) => return self.steps.push_back(Step::Refused(unfit.text)),
        };
        let name = command.full_name();
        if REFUSED.contains(&name) {
            let text = format!("ERR '{name}' concerns a connection, which HTTP requests do not have");
            return self.steps.push_back(Step::Refused(text.into_bytes()));
        }
        let session = Session { front: from.front, is_authenticated: true, ..Session::default() };
        if let Err(text) = check(&session, command.spec()) {
            return self.steps.push_back(Step::Refused(text.into()));
        }
        let worker = match route(command, args, None, from) {
            Route::Here => from.here,
            Route::Worker(worker) => worker,
            Route::Fanout(plan, round) => return self.steps.push_back(Step::Fanout(plan, round)),
            Route::Moved(slot) => {
                return self.steps.push_back(Step::Refused(cluster::moved(from.map, slot, None).into_bytes()));
            }
            Route::CrossSlot => return self.steps.push_back(Step::Refused(cluster::CROSS_SLOT.into())),
        };
        if !matches!(self.steps.back(), Some(Step::Round(round)) if round.parts.len() < ROUND_PARTS_MAX) {
            self.steps.push_back(Step::Round(Round::default()));
        }
        if let Some(Step::Round(round)) = self.steps.back_mut() {
            round.requests.push_request(args);
            round.parts.push((worker, command));
        }
    }

    /// The version that the present parts' replies are wanted in.
    pub fn reply_version(&self) -> Version {
        match &self.current {
            Current::Fanout(plan) => plan.reply_version(Version::Resp3),
            Current::Round | Current::Nobody => Version::Resp3,
        }
    }

    /// When the next round is to be sent.
    pub fn resume_ms(&self) -> Option<u64> {
        self.resume_ms
    }

    /// Takes the replies of a round; returns the next, or writes the client's reply.
    pub fn advance(&mut self, replies: &[Output], now_ms: u64, reply: &mut Reply<'_>) -> Option<Round> {
        // A round a tick: others have their turn in between.
        self.resume_ms = Some(now_ms);
        match &mut self.current {
            Current::Nobody => {}
            Current::Round => replies.iter().for_each(|reply| self.take(reply)),
            Current::Fanout(plan) => {
                let mut output = Output::new();
                let mut joined = Reply { output: &mut output, version: Version::Resp3 };
                if let Some(round) = plan.advance(replies, now_ms, &mut joined) {
                    self.resume_ms = plan.resume_ms().or(self.resume_ms);
                    return Some(round);
                }
                self.take(&output);
            }
        }
        let next = self.next_round();
        if next.is_none() {
            self.conclude(reply.output);
        }
        next
    }

    fn next_round(&mut self) -> Option<Round> {
        loop {
            match self.steps.pop_front()? {
                Step::Refused(text) => self.show(Value::Error(text)),
                Step::Round(round) => {
                    self.current = Current::Round;
                    return Some(round);
                }
                Step::Fanout(plan, round) => {
                    self.current = Current::Fanout(plan);
                    return Some(round);
                }
            }
        }
    }

    fn take(&mut self, reply: &Output) {
        // A deeper reply than the parser follows is none of this server's.
        self.show(parse(&reply.to_vec()).ok().flatten().map_or(Value::Null, |(value, _)| value));
    }

    /// Adds a command's reply to the body.
    fn show(&mut self, value: Value) {
        let value = if self.body.len() > REPLY_BYTES_MAX {
            Value::Error(b"ERR the reply of this request is too large: ask for less".to_vec())
        } else {
            value
        };
        let shown = match (self.shape, &value) {
            (Shape::Keys | Shape::Sections, _) => {
                self.last = Some(value);
                return;
            }
            (Shape::Results | Shape::Lines, Value::Error(text)) => json!({ "error": json::text_of_error(text) }),
            (Shape::Results | Shape::Lines, value) => json!({ "result": json::value(value) }),
            (Shape::Stored, Value::Simple(_)) => json!(true),
            (Shape::Stored, Value::Null) => json!(false),
            (_, value) => json::value(value),
        };
        if self.shape == Shape::Lines {
            self.body.push_str(&format!("{shown}\n"));
        } else {
            self.body.push_str(if self.body.is_empty() { "" } else { "," });
            self.body.push_str(&shown.to_string());
        }
    }

    fn conclude(&mut self, output: &mut Output) {
        let all = std::mem::take(&mut self.body);
        let body = match (self.shape, self.last.take()) {
            (Shape::Results, _) => format!("[{all}]"),
            (Shape::Values, _) => format!("{{\"values\":[{all}]}}"),
            (Shape::Stored, _) => format!("{{\"stored\":[{all}]}}"),
            (Shape::Sections, Some(Value::Bulk(text) | Value::Verbatim(_, text))) => json::sections(&text).to_string(),
            (Shape::Keys, Some(Value::Array(parts))) if parts.len() == 2 => {
                json!({ "cursor": json::value(&parts[0]), "keys": json::value(&parts[1]) }).to_string()
            }
            (Shape::Lines | Shape::Sections | Shape::Keys, _) => all,
        };
        let kind = if self.shape == Shape::Lines { NDJSON } else { JSON };
        let head = share(Head::new(200, self.mode, output), &self.origin).field(b"Content-Type: ", kind);
        if let Some(output) = head.end(body.len(), self.unix_ms) {
            output.extend(body.as_bytes());
        }
    }
}
