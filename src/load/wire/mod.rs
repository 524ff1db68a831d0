//! The protocols as a client speaks them: requests to bytes, and replies read and checked as they arrive.
//!
//! In: requests; received bytes, cut anywhere. Out: bytes to send; for each reply what it was and whether it is what
//! was asked for. Values are compared where they lie, piece by piece, and never gathered. What must stay true: replies
//! are taken in the order of the requests; bytes that are no reply end in [`Broken`], never in a panic.
//!
//! ```text
//!            line of the protocol             all bytes             line end
//!   Line ────────────────────────► Body ─────────────────► LineEnd ──────────► Line
//!     │ ▲                            └───────── (HTTP has none) ─────────────────┘
//!     └─┘ further lines of the same reply; after the last one the next reply begins
//! ```

use std::collections::VecDeque;

use super::draw::Request;
use super::items::Items;
use super::plan::{Operation, Plan, Protocol};
use crate::protocol::Output;

mod http;
mod memcache;
mod resp;

/// Longest line of a reply; Redis' longest is an error text.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Values from this size on are sent from where they lie.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// A request that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Its kind.
    pub operation: Operation,
    /// How many keys it names.
    pub keys: u16,
    /// When its latency began, nanoseconds of the run.
    pub since_ns: u64,
}

/// What a connection has asked and was not answered.
#[derive(Debug, Default)]
pub(super) struct Pending {
    asked: VecDeque<Asked>,
    /// Their keys, in the same order.
    keys: VecDeque<u32>,
}

impl Pending {
    /// Adds a request with its keys.
    #[inline]
    pub(super) fn push(&mut self, asked: Asked, keys: &[u32]) {
        debug_assert_eq!(asked.keys as usize, keys.len());
        self.asked.push_back(asked);
        match keys {
            [only] => self.keys.push_back(*only),
            _ => self.keys.extend(keys),
        }
    }

    /// How many requests are unanswered.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// The unanswered requests, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter()
    }
}

/// A reply as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// Values found.
    pub hits: u32,
    /// Values not found.
    pub misses: u32,
    /// It is of another type, length or content than it must be.
    pub is_wrong: bool,
    /// The server refused the request, in these words.
    pub error: Option<String>,
    /// Keys of the request whose part of the reply was read.
    keys_taken: u16,
    /// Lines read.
    lines: u32,
    /// RESP: elements of an array that are still to come.
    elements: u64,
    /// HTTP: the status.
    status: u16,
    /// HTTP: the announced length of the body.
    body_bytes: u64,
}

/// The value that was asked for.
static HIT: Reply = Reply {
    hits: 1,
    misses: 0,
    is_wrong: false,
    error: None,
    keys_taken: 1,
    lines: 1,
    elements: 0,
    status: 0,
    body_bytes: 0,
};

impl Reply {
    /// Takes the next key of the request that is being answered.
    fn take_key(&mut self, pending: &mut Pending) -> Option<u32> {
        if self.keys_taken >= pending.asked.front()?.keys {
            return None;
        }
        self.keys_taken += 1;
        pending.keys.pop_front()
    }

    fn refuse(&mut self, text: &[u8]) {
        self.error = Some(String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned());
    }
}

/// What follows a line of a reply.
#[derive(Debug)]
enum Next {
    /// Another line.
    Line,
    /// A body.
    Body {
        len: u64,
        /// The key whose value it must be.
        key: Option<u32>,
        has_line_end: bool,
        /// The reply ends with it.
        is_last: bool,
    },
    /// Nothing: the reply is complete.
    End,
}

/// The bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub String);

impl Broken {
    fn line(what: &str, line: &[u8]) -> Self {
        Broken(format!("{what}: \"{}\"", line[..line.len().min(60)].escape_ascii()))
    }
}

/// Writes requests.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    protocol: Protocol,
    resp_get: resp::Get,
    http_prefix: Vec<u8>,
    http_suffix: Vec<u8>,
    ttl_seconds: Vec<u8>,
}

impl Encoder {
    /// For the protocol of `plan`, and its items.
    pub(super) fn new(plan: &Plan, items: &Items) -> Self {
        Self {
            protocol: plan.protocol,
            resp_get: resp::Get::new(items),
            http_prefix: plan.http_prefix.clone().into_bytes(),
            http_suffix: plan.http_suffix.clone().into_bytes(),
            ttl_seconds: plan.ttl.as_secs().max(1).to_string().into_bytes(),
        }
    }

    /// Appends a request for `keys`, of which there is at least one.
    #[inline]
    pub(super) fn encode(&mut self, operation: Operation, keys: &[u32], items: &Items, output: &mut Output) {
        match self.protocol {
            Protocol::Resp2 | Protocol::Resp3 => {
                resp::encode(operation, keys, items, (&mut self.resp_get, &self.ttl_seconds), output);
            }
            Protocol::Memcache => memcache::encode(operation, keys, items, &self.ttl_seconds, output),
            Protocol::Http => http::encode(operation, keys[0], items, self, output),
        }
    }
}

/// How many keys a request names.
pub(super) fn keys_of(request: Request) -> u16 {
    match request.operation {
        Operation::MultiGet(count) => count,
        _ => 1,
    }
}

fn append_value(items: &Items, key: u32, output: &mut Output) {
    if items.value_bytes(key) < SHARED_BYTES_MIN {
        output.extend(items.value(key));
    } else {
        output.splice(items.shared_value(key));
    }
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Line,
    Body {
        left: u64,
        key: Option<u32>,
        has_line_end: bool,
        is_last: bool,
    },
    LineEnd {
        is_last: bool,
    },
}

/// Reads the replies on one connection.
#[derive(Debug)]
pub(super) struct Reader {
    protocol: Protocol,
    stage: Stage,
    reply: Reply,
    /// The beginning of a line that is cut.
    cut: Vec<u8>,
}

impl Reader {
    /// Before the first reply.
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, stage: Stage::Line, reply: Reply::default(), cut: Vec::new() }
    }

    /// Takes received bytes; calls `answered` for each reply that they complete.
    ///
    /// # Errors
    /// The bytes are no reply to what was asked. The connection is of no further use.
    #[inline]
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        pending: &mut Pending,
        items: &Items,
        mut answered: impl FnMut(Asked, &Reply),
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if let Some(len) = self.whole_value(bytes, pending, items) {
                bytes = &bytes[len..];
                pending.keys.pop_front();
                pending.asked.pop_front().into_iter().for_each(|asked| answered(asked, &HIT));
                continue;
            }
            let (taken, is_complete) = match self.stage {
                Stage::Line => self.read_line(bytes, pending, items)?,
                Stage::Body { .. } => self.read_body(bytes, items),
                Stage::LineEnd { is_last } => self.read_line_end(bytes, is_last)?,
            };
            bytes = &bytes[taken..];
            if is_complete {
                self.finish(pending, &mut answered);
            }
        }
        Ok(())
    }

    /// The length of the reply that begins here, if it is the usual one, all there: the value that was asked for. All
    /// others are read step by step.
    #[inline]
    fn whole_value(&self, bytes: &[u8], pending: &Pending, items: &Items) -> Option<usize> {
        let is_resp = matches!(self.protocol, Protocol::Resp2 | Protocol::Resp3);
        let begins = matches!(self.stage, Stage::Line) && self.cut.is_empty() && self.reply.lines == 0;
        let asked = pending.asked.front().filter(|_| is_resp && begins)?;
        let key = pending.keys.front().filter(|_| asked.operation == Operation::Get)?;
        resp::whole_value(bytes, items.value(*key))
    }

    /// How many bytes were taken, and whether the reply is complete.
    fn read_line(&mut self, bytes: &[u8], pending: &mut Pending, items: &Items) -> Result<(usize, bool), Broken> {
        if pending.is_empty() {
            return Err(Broken::line("it sent what nobody asked for", bytes));
        }
        let end = memchr::memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        if self.cut.len() + taken > LINE_BYTES_MAX {
            return Err(Broken::line("it sent too long a line", bytes));
        }
        if end.is_none() || !self.cut.is_empty() {
            self.cut.extend_from_slice(&bytes[..taken]);
        }
        if end.is_none() {
            return Ok((taken, false));
        }
        let cut = std::mem::take(&mut self.cut);
        let line = if cut.is_empty() { &bytes[..taken] } else { &cut[..] };
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(Broken::line("it sent a line that does not end with CR LF", line));
        };
        let next = match self.protocol {
            Protocol::Resp2 | Protocol::Resp3 => resp::line(text, &mut self.reply, pending),
            Protocol::Memcache => memcache::line(text, &mut self.reply, pending),
            Protocol::Http => http::line(text, &mut self.reply, pending),
        }?;
        self.reply.lines += 1;
        self.cut = cut;
        self.cut.clear();
        let is_complete = match next {
            Next::Line => false,
            Next::End => true,
            Next::Body { len, key, has_line_end, is_last } => {
                let key = key.filter(|key| {
                    let is_right_length = items.value_bytes(*key) as u64 == len;
                    self.reply.is_wrong |= !is_right_length;
                    is_right_length
                });
                self.stage = Stage::Body { left: len, key, has_line_end, is_last };
                len == 0 && !has_line_end && self.end_body()
            }
        };
        Ok((taken, is_complete))
    }

    fn read_body(&mut self, bytes: &[u8], items: &Items) -> (usize, bool) {
        let Stage::Body { left, key, .. } = &mut self.stage else { return (0, false) };
        let taken = bytes.len().min(*left as usize);
        if let Some(key) = *key {
            let value = items.value(key);
            let at = value.len() - *left as usize;
            self.reply.is_wrong |= value[at..at + taken] != bytes[..taken];
        }
        *left -= taken as u64;
        let is_complete = *left == 0 && self.end_body();
        (taken, is_complete)
    }

    /// Leaves the body; whether the reply ends with it.
    fn end_body(&mut self) -> bool {
        let Stage::Body { has_line_end, is_last, .. } = self.stage else { return false };
        self.stage = if has_line_end { Stage::LineEnd { is_last } } else { Stage::Line };
        !has_line_end && is_last
    }

    fn read_line_end(&mut self, bytes: &[u8], is_last: bool) -> Result<(usize, bool), Broken> {
        let wanted = &b"\r\n"[self.cut.len()..];
        let taken = wanted.len().min(bytes.len());
        if bytes[..taken] != wanted[..taken] {
            return Err(Broken::line("it sent a value that is longer than announced", bytes));
        }
        if taken < wanted.len() {
            self.cut.push(b'\r');
            return Ok((taken, false));
        }
        self.cut.clear();
        self.stage = Stage::Line;
        Ok((taken, is_last))
    }

    fn finish(&mut self, pending: &mut Pending, answered: &mut impl FnMut(Asked, &Reply)) {
        while self.reply.take_key(pending).is_some() {}
        if let Some(asked) = pending.asked.pop_front() {
            answered(asked, &self.reply);
        }
        self.reply = Reply::default();
    }
}

/// An unsigned number.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
