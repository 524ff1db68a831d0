//! Routes that stand for Redis commands: `/v1/commands`, `/v1/mget`, `/v1/mset`, `/v1/scan`, `/v1/stats`.
//!
//! In: a request's body or query. Out: commands, run through the command table where each has its keys, and one reply
//! of all their replies. What must stay true: commands take effect in their order, as in a pipeline; each is refused on
//! its own; the work of a round is bounded; commands that concern a connection have none here. As lines
//! (`application/x-ndjson`) a batch may be as large as a value: its commands are read, and their replies sent, a round
//! at a time, and a round waits for a client that reads slowly.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::json::{self, Unfit, check_parameters};
use super::keys::{TTL_RANGE, TTL_SECONDS_MAX};
use super::{Call, JSON, Request, share};
use crate::cluster::Map;
use crate::command::route::{Entrance, Route, route};
use crate::command::{Fanout, Front, Round, Session, check, cluster, table};
use crate::protocol::http::reply::Head;
use crate::protocol::http::request::{ACCEPT, IS_OLD, ORIGIN};
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

/// Where the commands come from.
#[derive(Debug)]
enum Source {
    /// They are few, or were made from another body.
    Made(VecDeque<Command>),
    /// A JSON array; they are read from it when their turn comes.
    Body(Commands),
}

impl Source {
    fn next(&mut self) -> Result<Option<Command>, Unfit> {
        match self {
            Source::Made(commands) => Ok(commands.pop_front()),
            Source::Body(commands) => commands.next(),
        }
    }
}

/// The commands of a JSON array, one after the other.
#[derive(Clone, Debug)]
struct Commands {
    json: Bytes,
    /// What lies before was read.
    at: usize,
}

impl Commands {
    const SHAPE: &str = r#"the body is to be [["set", "key", "value"], ["get", "key"], …]"#;

    fn new(json: Bytes) -> Self {
        Self { json, at: 0 }
    }

    /// Looks at all of them; how many there are.
    fn count(&self) -> Result<usize, Unfit> {
        let mut all = self.clone();
        let mut count = 0;
        while all.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.get(self.at..)?;
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.json.get(self.at).copied()
    }

    fn next(&mut self) -> Result<Option<Command>, Unfit> {
        let is_first = self.at == 0;
        let unfit = || Unfit::new(400, Self::SHAPE);
        match self.peek() {
            Some(b'[') if is_first => self.at += 1,
            Some(b',') if !is_first => self.at += 1,
            Some(b']') if !is_first => return self.end(),
            _ => return Err(unfit()),
        }
        if is_first && self.peek() == Some(b']') {
            return self.end();
        }
        let mut values = serde_json::Deserializer::from_slice(&self.json[self.at..]).into_iter::<Json>();
        let value = values.next().ok_or_else(unfit)?;
        let value = value.map_err(|error| Unfit::new(400, format!("the body is no JSON: {error}")))?;
        self.at += values.byte_offset();
        let words = value.as_array().filter(|words| !words.is_empty()).ok_or_else(unfit)?;
        words.iter().map(json::bytes).collect::<Result<Command, _>>().map(Some)
    }

    fn end(&mut self) -> Result<Option<Command>, Unfit> {
        let end = self.at;
        self.at += 1;
        if self.peek().is_some() {
            return Err(Unfit::new(400, Self::SHAPE));
        }
        // Whoever asks again is told the same.
        self.at = end;
        Ok(None)
    }
}

/// Reads a request: how it is to be answered, and its commands.
fn read(request: Request<'_>) -> Result<(Shape, Source), Unfit> {
    let made = |shape, commands: Vec<Command>| match commands.len() {
        0..=COMMANDS_MAX => Ok((shape, Source::Made(commands.into()))),
        _ => Err(too_many()),
    };
    if request.route() != b"GET /v1/scan" {
        check_parameters(request, &[])?;
    }
    match request.route() {
        b"GET /v1/stats" => made(Shape::Sections, vec![vec![b"info".to_vec()]]),
        b"GET /v1/scan" => made(Shape::Keys, vec![scan(request)?]),
        b"POST /v1/mget" => {
            const SHAPE: &str = r#"the body is to be {"keys": [key, …]}"#;
            let body = json::body(request)?;
            let keys = json::only_field(&body, "keys").ok_or_else(|| Unfit::new(400, SHAPE))?;
            let get = |key: &Json| Ok(vec![b"get".to_vec(), json::bytes(key)?]);
            made(Shape::Values, keys.iter().map(get).collect::<Result<_, _>>()?)
        }
        b"POST /v1/mset" => {
            let body = json::body(request)?;
            let items = json::only_field(&body, "items").ok_or_else(|| Unfit::new(400, ITEMS_SHAPE))?;
            made(Shape::Stored, items.iter().map(set).collect::<Result<_, _>>()?)
        }
        _ => {
            let kinds = request.field(ACCEPT).split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
            let shape = if kinds.into_iter().any(|kind| kind == NDJSON) { Shape::Lines } else { Shape::Results };
            json::check_type(request)?;
            let body = request.shared_body().cloned();
            let commands = Commands::new(body.unwrap_or_else(|| Bytes::copy_from_slice(request.body())));
            if shape == Shape::Lines {
                // What is wrong later on is told when it is met.
                commands.clone().next()?;
            } else {
                json::check_len(request)?;
                if commands.count()? > COMMANDS_MAX {
                    return Err(too_many());
                }
            }
            Ok((shape, Source::Body(commands)))
        }
    }
}

fn too_many() -> Unfit {
    const NDJSON: &str = "/v1/commands takes more with Accept: application/x-ndjson";
    Unfit::new(413, format!("a request has {COMMANDS_MAX} commands, keys or items at most; {NDJSON}"))
}

const ITEMS_SHAPE: &str =
    r#"the body is to be {"items": [{"key": …, "value": …, "ttl": seconds, "nx": bool, "xx": bool}, …]}"#;

/// `SET` of an item.
fn set(item: &Json) -> Result<Command, Unfit> {
    let unfit = || Unfit::new(400, ITEMS_SHAPE);
    let fields = item.as_object().ok_or_else(unfit)?;
    let (Some(key), Some(value)) = (fields.get("key"), fields.get("value")) else { return Err(unfit()) };
    let mut set = vec![b"set".to_vec(), json::bytes(key)?, json::bytes(value)?];
    for (name, field) in fields {
        match (name.as_str(), field) {
            ("key" | "value", _) | ("nx" | "xx", Json::Bool(false)) => {}
            ("nx" | "xx", Json::Bool(true)) => set.push(name.clone().into_bytes()),
            ("ttl", _) => {
                let whole = field.as_f64().filter(|seconds| seconds.fract() == 0.0).map(|seconds| seconds as u64);
                let seconds = field.as_u64().or(whole).filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds));
                let seconds = seconds.ok_or_else(|| Unfit::new(400, TTL_RANGE))?;
                set.extend([b"ex".to_vec(), seconds.to_string().into_bytes()]);
            }
            _ => return Err(unfit()),
        }
    }
    Ok(set)
}

fn scan(request: Request<'_>) -> Result<Command, Unfit> {
    check_parameters(request, &["cursor", "match", "count"])?;
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
    source: Source,
    /// What of them was read, and is to be done next.
    steps: VecDeque<Step>,
    map: Arc<Map>,
    here: u16,
    current: Current,
    shape: Shape,
    mode: u8,
    origin: Vec<u8>,
    unix_ms: u64,
    /// What is there of the body, and was not sent.
    body: String,
    /// The body is sent as it is made.
    is_streamed: bool,
    has_begun: bool,
    /// Replies of which it is made in the end.
    last: Option<Value>,
    resume_ms: Option<u64>,
}

/// Plans a request; `None` when it is malformed, and running it says so.
pub fn plan(args: Args<'_>, from: Entrance<'_>) -> Option<(Batch, Round)> {
    let request = Request(args);
    let (shape, source) = read(request).ok()?;
    let mut batch = Batch {
        source,
        steps: VecDeque::new(),
        map: Arc::clone(from.map),
        here: from.here,
        current: Current::Nobody,
        shape,
        mode: request.mode(),
        origin: request.field(ORIGIN).to_vec(),
        unix_ms: from.unix_ms,
        body: String::new(),
        // HTTP/1.0 knows no chunks.
        is_streamed: shape == Shape::Lines && request.mode() & IS_OLD == 0,
        has_begun: false,
        last: None,
        resume_ms: None,
    };
    batch.read_ahead();
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
    /// Reads the commands of a round.
    fn read_ahead(&mut self) {
        for _ in 0..ROUND_PARTS_MAX {
            match self.source.next() {
                Ok(Some(command)) => self.add(&command),
                Ok(None) => return,
                Err(unfit) => {
                    self.source = Source::Made(VecDeque::new());
                    return self.steps.push_back(Step::Refused(unfit.detail.into_bytes()));
                }
            }
        }
    }

    fn add(&mut self, words: &Command) {
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
        let session = Session { front: Front::Http, is_authenticated: true, ..Session::default() };
        if let Err(text) = check(&session, command.spec()) {
            return self.steps.push_back(Step::Refused(text.into()));
        }
        let from = Entrance { map: &self.map, front: Front::Http, here: self.here, unix_ms: self.unix_ms };
        let worker = match route(command, command.spec(), args, None, from) {
            Route::Here => self.here,
            Route::Worker(worker) => worker,
            Route::Fanout(plan, round) => return self.steps.push_back(Step::Fanout(plan, round)),
            Route::Moved(slot) => {
                return self.steps.push_back(Step::Refused(cluster::moved(&self.map, slot, None).into_bytes()));
            }
            Route::CrossSlot => return self.steps.push_back(Step::Refused(cluster::CROSS_SLOT.into())),
        };
        if !matches!(self.steps.back(), Some(Step::Round(_))) {
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
        if self.is_streamed {
            self.stream(next.is_none(), reply.output);
        } else if next.is_none() {
            self.conclude(reply.output);
        }
        next
    }

    fn next_round(&mut self) -> Option<Round> {
        loop {
            if self.steps.is_empty() {
                self.read_ahead();
            }
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

    /// Sends what there is of the body as a chunk.
    fn stream(&mut self, is_last: bool, output: &mut Output) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let head = share(Head::new(200, self.mode, output), &self.origin).field(b"Content-Type: ", NDJSON);
            head.end_chunked(self.unix_ms);
        }
        let chunk = std::mem::take(&mut self.body);
        if !chunk.is_empty() {
            output.extend(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        if is_last {
            output.extend(b"0\r\n\r\n");
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
