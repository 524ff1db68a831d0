//! Random requests: every command of the cache core, with ordinary and with awkward arguments.
//!
//! What must stay true: a request's reply does not depend on when it is executed. So an expire time has either passed
//! long ago or is far away, and a key that is stored with a time that has passed is read at once, because until then
//! Redis counts it as a key.

use std::collections::VecDeque;

use crate::arguments::{FLOATS, INTEGERS, JUNK, KEYS, NOT_FLOATS, NOT_INTEGERS, PATTERNS, TEXTS};
use crate::random::Random;

/// A command's name and its arguments.
pub(crate) type Request = Vec<Vec<u8>>;

/// A request as text, long arguments shortened.
pub(crate) fn show(request: &Request) -> String {
    let arguments = request.iter().map(|argument| match argument.len() {
        0..=80 => format!("\"{}\"", argument.escape_ascii()),
        len => format!("\"{}…\" ({len} bytes)", argument[..60].escape_ascii()),
    });
    arguments.collect::<Vec<_>>().join(" ")
}

/// Commands with how often each comes up.
const WEIGHTS: &[(u64, &str)] = &[
    (60, "get"),
    (120, "set"),
    (15, "setex"),
    (15, "psetex"),
    (20, "setnx"),
    (20, "getset"),
    (15, "getdel"),
    (40, "getex"),
    (30, "mget"),
    (30, "mset"),
    (20, "msetnx"),
    (30, "append"),
    (20, "strlen"),
    (40, "getrange"),
    (10, "substr"),
    (30, "setrange"),
    (30, "incr"),
    (20, "decr"),
    (40, "incrby"),
    (30, "decrby"),
    (60, "incrbyfloat"),
    (30, "del"),
    (10, "unlink"),
    (20, "exists"),
    (10, "touch"),
    (20, "expire"),
    (20, "pexpire"),
    (20, "expireat"),
    (20, "pexpireat"),
    (20, "ttl"),
    (20, "pttl"),
    (20, "expiretime"),
    (20, "pexpiretime"),
    (20, "persist"),
    (10, "type"),
    (20, "rename"),
    (20, "renamenx"),
    (30, "copy"),
    (5, "randomkey"),
    (10, "keys"),
    (10, "dbsize"),
    (5, "scan"),
    (1, "flushdb"),
    (1, "flushall"),
];

/// Makes requests out of a seed.
pub(crate) struct Generator {
    random: Random,
    waiting: VecDeque<Request>,
}

impl Generator {
    /// The requests of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), waiting: VecDeque::new() }
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Request {
        if let Some(request) = self.waiting.pop_front() {
            return request;
        }
        let name = self.name();
        let mut request = vec![self.spell(name)];
        request.extend(self.arguments(name));
        // A disturbed SCAN could be one that succeeds, in any order.
        if name != "scan" && self.random.percent(5) {
            self.disturb(&mut request);
        }
        let is_absolute =
            |option: &Vec<u8>| option.eq_ignore_ascii_case(b"exat") || option.eq_ignore_ascii_case(b"pxat");
        if name == "set" && request.iter().skip(3).any(is_absolute) {
            self.waiting.push_back(vec![b"get".to_vec(), request[1].clone()]);
        }
        request
    }

    /// Options of a scan that succeeds.
    pub(crate) fn scan_options(&mut self) -> Request {
        let mut options = Request::new();
        if self.random.percent(30) {
            options.extend([self.spell("match"), self.random.pick(PATTERNS).to_vec()]);
        }
        if self.random.percent(50) {
            options.extend([self.spell("count"), self.random.pick(&[b"1".as_slice(), b"7", b"1000"]).to_vec()]);
        }
        if self.random.percent(20) {
            options
                .extend([self.spell("type"), self.random.pick(&[b"string".as_slice(), b"STRING", b"hash"]).to_vec()]);
        }
        options
    }

    fn name(&mut self) -> &'static str {
        let mut at = self.random.below(WEIGHTS.iter().map(|(weight, _)| weight).sum());
        for (weight, name) in WEIGHTS {
            if at < *weight {
                return name;
            }
            at -= weight;
        }
        unreachable!("below the sum of the weights")
    }

    fn arguments(&mut self, name: &str) -> Request {
        match name {
            "get" | "getdel" | "strlen" | "incr" | "decr" | "ttl" | "pttl" | "expiretime" | "pexpiretime"
            | "persist" | "type" => {
                vec![self.key()]
            }
            "set" => self.set(),
            "setex" => vec![self.key(), self.seconds(), self.value()],
            "psetex" => vec![self.key(), self.milliseconds(), self.value()],
            "setnx" | "getset" | "append" => vec![self.key(), self.value()],
            "getex" => self.getex(),
            "mget" | "del" | "unlink" | "exists" | "touch" => self.several(Self::key),
            "mset" | "msetnx" => (0..=self.random.below(4)).flat_map(|_| [self.key(), self.value()]).collect(),
            "getrange" | "substr" => vec![self.key(), self.position(), self.position()],
            "setrange" => vec![self.key(), self.offset(), self.value()],
            "incrby" | "decrby" => vec![self.key(), self.integer()],
            "incrbyfloat" => vec![self.key(), self.float()],
            "expire" => self.expire(Self::seconds),
            "pexpire" => self.expire(Self::milliseconds),
            "expireat" => self.expire(Self::unix_seconds),
            "pexpireat" => self.expire(Self::unix_milliseconds),
            "rename" | "renamenx" => vec![self.key(), self.key()],
            "copy" => self.copy(),
            "keys" => vec![self.random.pick(PATTERNS).to_vec()],
            "scan" => self.failing_scan(),
            "flushdb" | "flushall" => {
                let options: &[&[&[u8]]] = &[&[], &[b"sync"], &[b"ASYNC"], &[b"lazy"], &[b"sync", b"async"]];
                self.random.pick(options).iter().map(|option| option.to_vec()).collect()
            }
            "randomkey" | "dbsize" => vec![],
            _ => unreachable!("{name} has a weight and no arguments"),
        }
    }

    fn several(&mut self, mut one: impl FnMut(&mut Self) -> Vec<u8>) -> Request {
        (0..=self.random.below(5)).map(|_| one(self)).collect()
    }

    fn set(&mut self) -> Request {
        let mut request = vec![self.key(), self.value()];
        let options = self.random.pick(&[0, 0, 0, 1, 1, 1, 2, 2, 3, 4]);
        for _ in 0..options {
            match self.random.below(8) {
                0 => request.push(self.spell("nx")),
                1 => request.push(self.spell("xx")),
                2 | 3 => request.push(self.spell("get")),
                4 => request.push(self.spell("keepttl")),
                _ => self.time_option(&mut request),
            }
        }
        request
    }

    fn getex(&mut self) -> Request {
        let mut request = vec![self.key()];
        for _ in 0..self.random.pick(&[0, 1, 1, 1, 2]) {
            if self.random.percent(30) {
                request.push(self.spell("persist"));
            } else {
                self.time_option(&mut request);
            }
        }
        request
    }

    fn time_option(&mut self, request: &mut Request) {
        let (name, time) = match self.random.below(4) {
            0 => ("ex", self.seconds()),
            1 => ("px", self.milliseconds()),
            2 => ("exat", self.unix_seconds()),
            _ => ("pxat", self.unix_milliseconds()),
        };
        request.extend([self.spell(name), time]);
    }

    fn expire(&mut self, time: impl FnOnce(&mut Self) -> Vec<u8>) -> Request {
        let mut request = vec![self.key(), time(self)];
        for _ in 0..self.random.pick(&[0, 0, 1, 1, 2]) {
            let option = self.random.pick(&["nx", "xx", "gt", "lt", "gt", "lt", "ch"]);
            request.push(self.spell(option));
        }
        request
    }

    fn copy(&mut self) -> Request {
        let mut request = vec![self.key(), self.key()];
        if self.random.percent(40) {
            request.push(self.spell("replace"));
        }
        if self.random.percent(20) {
            request.extend([self.spell("db"), self.random.pick(&[b"0".as_slice(), b"1", b"-1", b"x"]).to_vec()]);
        }
        request
    }

    fn failing_scan(&mut self) -> Request {
        let requests: &[&[&[u8]]] = &[
            &[b"abc"],
            &[b" 0"],
            &[b"0x"],
            &[b"99999999999999999999999"],
            &[b"0", b"count", b"0"],
            &[b"0", b"count", b"-1"],
            &[b"0", b"count", b"x"],
            &[b"0", b"count"],
            &[b"0", b"match"],
            &[b"0", b"like", b"*"],
            &[b"0", b"type"],
            &[b"x", b"count", b"0"],
            &[b"0", b"count", b"99999999999999999999"],
            &[b"0", b"match", b"*", b"count", b""],
        ];
        self.random.pick(requests).iter().map(|argument| argument.to_vec()).collect()
    }

    /// A name in lower, upper or mixed case.
    fn spell(&mut self, name: &str) -> Vec<u8> {
        let style = self.random.below(4);
        let letter = |byte: u8| {
            if style == 1 || (style == 2 && self.random.percent(50)) { byte.to_ascii_uppercase() } else { byte }
        };
        name.bytes().map(letter).collect()
    }

    fn key(&mut self) -> Vec<u8> {
        if self.random.percent(1) { vec![b'k'; 300] } else { self.random.pick(KEYS).to_vec() }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(100) {
            0..30 => self.random.pick(TEXTS).to_vec(),
            30..55 => self.integer(),
            55..75 => self.float(),
            75..95 => self.bytes(100),
            95..98 => vec![b'v'; self.random.pick(&[16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1])],
            _ => self.bytes(40 * 1024),
        }
    }

    fn bytes(&mut self, len_max: u64) -> Vec<u8> {
        (0..self.random.below(len_max + 1)).map(|_| self.random.bits() as u8).collect()
    }

    fn integer(&mut self) -> Vec<u8> {
        match self.random.below(10) {
            0..5 => (self.random.below(2000) as i64 - 1000).to_string().into(),
            5..8 => self.random.pick(INTEGERS).to_vec(),
            8 => (self.random.bits() as i64).to_string().into(),
            _ => self.random.pick(NOT_INTEGERS).to_vec(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        let digits = self.random.bits() >> self.random.below(64);
        let sign = self.random.pick(&["", "-", "+"]);
        match self.random.below(10) {
            0 => format!("{sign}{}.{:03}", digits % 1000, self.random.below(1000)).into(),
            1 => format!("{sign}{digits}.{}", self.random.bits()).into(),
            2 => format!("{sign}{digits}e{}", self.random.below(80) as i64 - 40).into(),
            3 => format!("{sign}0x{digits:x}p{}", self.random.below(200) as i64 - 100).into(),
            4 => format!("{sign}0.{:0>width$}", digits, width = self.random.below(30) as usize).into(),
            5 => self.random.pick(NOT_FLOATS).to_vec(),
            6 => self.random.pick(INTEGERS).to_vec(),
            _ => self.random.pick(FLOATS).to_vec(),
        }
    }

    fn position(&mut self) -> Vec<u8> {
        if self.random.percent(60) {
            (self.random.below(60) as i64 - 30).to_string().into()
        } else if self.random.percent(50) {
            (self.random.below(80_000) as i64 - 40_000).to_string().into()
        } else {
            self.integer()
        }
    }

    /// Where nothing is refused, small enough for 40 KB.
    fn offset(&mut self) -> Vec<u8> {
        match self.random.below(20) {
            0 => self.random.below(40_000).to_string().into(),
            1 => self.random.pick(NOT_INTEGERS).to_vec(),
            2 => self
                .random
                .pick(&[b"-1".as_slice(), b"536870912", b"4294967296", b"9223372036854775807", b"-9223372036854775808"])
                .to_vec(),
            _ => self.random.below(100).to_string().into(),
        }
    }

    fn seconds(&mut self) -> Vec<u8> {
        self.time(100_000, 1_000_000_000)
    }

    fn milliseconds(&mut self) -> Vec<u8> {
        self.time(100_000_000, 1_000_000_000_000)
    }

    fn unix_seconds(&mut self) -> Vec<u8> {
        if self.random.percent(15) { b"1000000000".to_vec() } else { self.time(4_000_000_000, 9_000_000_000) }
    }

    fn unix_milliseconds(&mut self) -> Vec<u8> {
        if self.random.percent(15) {
            b"1000000000000".to_vec()
        } else {
            self.time(4_000_000_000_000, 9_000_000_000_000)
        }
    }

    fn time(&mut self, from: u64, to: u64) -> Vec<u8> {
        const AWKWARD: &[&[u8]] = &[
            b"0",
            b"-1",
            b"-9223372036854775808",
            b"9223372036854775807",
            b"9223372036854775",
            b"9223372036854776",
            b"-9223372036854776",
            b"9223370000000000000",
            b"9223370000000000",
        ];
        match self.random.below(20) {
            0..2 => self.random.pick(AWKWARD).to_vec(),
            2 => self.random.pick(NOT_INTEGERS).to_vec(),
            _ => (from + self.random.below(to - from)).to_string().into(),
        }
    }

    /// Makes a request that is probably wrong.
    fn disturb(&mut self, request: &mut Request) {
        let junk = self.random.pick(JUNK).to_vec();
        let last = request.len() - 1;
        match self.random.below(5) {
            0 if last > 0 => drop(request.pop()),
            1 if last > 0 => {
                let place = 1 + self.random.below(last as u64) as usize;
                request[place] = junk;
            }
            2 if last > 2 => request.extend_from_within(last - 1..),
            3 => request.truncate(1),
            _ => request.push(junk),
        }
    }
}
