//! The same random lines to memcached and to this server: every reply is the same, but for what versions are called.
//!
//! memcached is Debian's, 1.6.18; without it the test says that it is skipped. A failure prints its seed.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corering::ring::sim::Random;

use crate::installed::is_required;
use crate::server::{Client, Fronts, free_port};

/// Sequences, and requests in each.
const SEQUENCES: u64 = 60;
const REQUESTS: usize = 150;

/// memcached itself.
struct Memcached {
    child: Child,
    port: u16,
}

impl Memcached {
    fn start() -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("memcached");
        // Its background threads, while they look at an item, keep a number from being padded with spaces.
        command.args(["-o", "no_modern"]);
        command.args(["-l", "127.0.0.1", "-u", "root", "-t", "1", "-p", &port.to_string()]);
        let child = match command.stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => {
                assert!(!is_required(), "memcached is required: {error}");
                eprintln!("skipped: memcached is not installed ({error})");
                return None;
            }
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { child, port });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("memcached does not listen");
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn one_of<'a>(random: &mut Random, choices: &[&'a str]) -> &'a str {
    choices[random.below(choices.len())]
}

/// A version as the generator names it; fronts sides fill in what they called it.
fn version(random: &mut Random) -> String {
    format!("$v{}", random.below(6))
}

/// How long a data block is said to be; now and then not as long as it is.
fn len(random: &mut Random, value: &str) -> usize {
    if random.chance(0.03) { value.len().saturating_sub(2) } else { value.len() }
}

fn key(random: &mut Random) -> String {
    format!("key{}", random.below(5))
}

fn value(random: &mut Random) -> String {
    match random.below(6) {
        0 => String::new(),
        1 | 2 => random.below(2000).to_string(),
        3 => "18446744073709551615".to_owned(),
        4 => "x".repeat(random.below(100)),
        _ => format!("v{}\u{1}", random.below(10)),
    }
}

/// One request, with `$v…` for versions.
fn request(random: &mut Random) -> String {
    let kind = random.below(16);
    // Meta commands may name the same keys in base64.
    let is_base64 = kind >= 10 && random.chance(0.2);
    let (key, base64) =
        if is_base64 { (format!("a2V5M{}==", one_of(random, KEYS_END)), " b") } else { (key(random), "") };
    let noreply = if random.chance(0.1) { " noreply" } else { "" };
    let exptime = one_of(random, &["0", "0", "0", "100", "2592000", "-1", "1", "x"]).replace('1', "100");
    match kind {
        0..=2 => {
            let verb = one_of(random, &["set", "set", "add", "replace", "append", "prepend"]);
            let (value, flags) = (value(random), one_of(random, &["0", "0", "7", "4294967295", "x"]));
            format!("{verb} {key} {flags} {exptime} {}{noreply}\r\n{value}", len(random, &value))
        }
        3 => {
            let (value, version) = (value(random), version(random));
            format!("cas {key} 3 0 {} {version}{noreply}\r\n{value}", len(random, &value))
        }
        4 => format!("{} {key} key{} key9", one_of(random, &["get", "gets"]), random.below(5)),
        5 => format!("{} {exptime} {key}", one_of(random, &["gat", "gats"])),
        6 => format!("delete {key}{}{noreply}", one_of(random, &["", "", " 0", " 1"])),
        7 => format!("{} {key} {}{noreply}", one_of(random, &["incr", "decr"]), one_of(random, DELTAS)),
        8 => format!("touch {key} {exptime}{noreply}"),
        9 => one_of(random, &["version", "verbosity 1", "flush_all", "nonsense", "get", "mx", "gets", "mg"]).to_owned(),
        10 | 11 => format!("mg {key}{base64}{}", flags(random, GET_FLAGS)),
        12 | 13 => {
            let (value, flags) = (value(random), flags(random, SET_FLAGS));
            format!("ms {key} {}{base64}{flags}\r\n{value}", len(random, &value))
        }
        14 => format!("md {key}{base64}{}", flags(random, DELETE_FLAGS)),
        _ => format!("ma {key}{base64}{}", flags(random, DELTA_FLAGS)),
    }
}

/// How `0` to `4` end in base64.
const KEYS_END: &[&str] = &["A", "Q", "g", "w"];
const DELTAS: &[&str] = &["1", "5", "1000", "18446744073709551615", "x", "-1", "+1"];
const GET_FLAGS: &[&str] = &[
    "c", "f", "k", "Oab", "q", "s", "t", "v", "v", "u", "N0", "N50", "R30", "R500", "T60", "T0", "T-1", "Tx", "Px",
    "Lx", "l", "h", "h",
];
const SET_FLAGS: &[&str] =
    &["c", "C$", "F5", "I", "k", "Oab", "q", "T90", "T0", "T-1", "ME", "MA", "MP", "MR", "MS", "MX", "F", "C"];
const DELETE_FLAGS: &[&str] = &["C$", "I", "k", "Oab", "q", "T40", "!", "Tx"];
const DELTA_FLAGS: &[&str] =
    &["C$", "N0", "N80", "J10", "D7", "T70", "MI", "MD", "M+", "M-", "MX", "q", "t", "c", "v", "v", "k", "Oab", "Dx"];

/// Some flags, in any order; now and then one of them twice.
fn flags(random: &mut Random, known: &[&str]) -> String {
    let mut flags = String::new();
    for _ in 0..random.below(6) {
        let flag = one_of(random, known);
        let is_there = flags.contains(&format!(" {}", &flag[..1]));
        if !is_there || random.chance(0.02) {
            flags.push(' ');
            flags.push_str(flag);
            if flag.ends_with('$') {
                flags.pop();
                flags.push_str(&version(random));
            }
        }
    }
    flags
}

/// One of the two servers, and what it has called the versions that were seen so far.
struct Side {
    client: Client,
    /// Its name of each version, by the order in which they were first seen; a version is one of its key only.
    /// Keys and their versions, in the order of their first mention.
    named: Vec<(String, String)>,
    numbers: HashMap<(String, String), usize>,
}

impl Side {
    fn new(port: u16) -> Self {
        Self { client: Client::to(port), named: Vec::new(), numbers: HashMap::new() }
    }

    /// The reply to a request, with versions replaced by when they were first seen.
    fn ask(&mut self, request: &str) -> String {
        let mut filled = request.to_owned();
        let key = request.split_ascii_whitespace().nth(1).unwrap_or_default();
        while let Some(at) = filled.find("$v") {
            let back = usize::from(filled.as_bytes()[at + 2] - b'0');
            // Of the same key: which of two keys' versions is the older one is not known across workers.
            let mut known = self.named.iter().rev().filter(|(other, _)| other == key);
            let version = known.nth(back).map_or("1", |(_, version)| version.as_str()).to_owned();
            filled.replace_range(at..at + 3, &version);
        }
        filled.push_str("\r\n");
        let heard = String::from_utf8_lossy(&self.client.ask(filled.as_bytes())).into_owned();
        self.rename(request, &heard)
    }

    fn rename(&mut self, request: &str, heard: &str) -> String {
        let has_versions = request.starts_with("gets") || request.starts_with("gats");
        let mut renamed = String::new();
        for line in heard.split_inclusive("\r\n") {
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            let is_meta = matches!(words[0], "HD" | "VA" | "EX" | "NS" | "NF");
            for (index, word) in words.iter().enumerate() {
                let number = match word.strip_prefix('c') {
                    Some(number) if is_meta && index > 0 => Some(number),
                    _ if has_versions && words[0] == "VALUE" && index == 4 => Some(*word),
                    _ => None,
                };
                renamed.push(' ');
                match number.filter(|number| *number != "0" && number.parse::<u64>().is_ok()) {
                    Some(number) => {
                        let key = if is_meta { request.split(' ').nth(1).unwrap_or_default() } else { words[1] };
                        renamed.push_str(&self.name(key.trim_end(), number));
                    }
                    None => renamed.push_str(word),
                }
            }
            renamed.push_str("\r\n");
        }
        renamed
    }

    fn name(&mut self, key: &str, version: &str) -> String {
        let next = self.numbers.len();
        let number = *self.numbers.entry((key.to_owned(), version.to_owned())).or_insert(next);
        if number == next {
            self.named.push((key.to_owned(), version.to_owned()));
        }
        format!("version{number}")
    }
}

/// The key that a request names first, however it is spelt.
fn key_of(request: &str) -> String {
    let word = request.split_ascii_whitespace().nth(1).unwrap_or_default();
    let end = KEYS_END.iter().position(|end| word == format!("a2V5M{end}=="));
    end.map_or_else(|| word.to_owned(), |number| format!("key{number}"))
}

#[test]
fn replies_are_memcacheds_own() {
    let Some(memcached) = Memcached::start() else { return };
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        for seed in 0..SEQUENCES {
            let mut random = Random::new(seed);
            let (mut theirs, mut ours) = (Side::new(memcached.port), Side::new(fronts.memcache_port));
            for side in [&mut theirs, &mut ours] {
                side.ask("flush_all");
            }
            let mut asked: Vec<String> = Vec::new();
            for _ in 0..REQUESTS {
                let request = request(&mut random);
                asked.push(request.clone());
                let (expected, heard) = (theirs.ask(&request), ours.ask(&request));
                let (expected, heard) = (settle(&expected), settle(&heard));
                let key = key_of(&request);
                let last: Vec<&String> = asked.iter().filter(|request| key_of(request) == key).collect();
                let last = &last[last.len().saturating_sub(12)..];
                assert_eq!(
                    heard, expected,
                    "seed {seed}, {workers} workers, {:?} {:?}, after {last:#?}",
                    theirs.named, ours.named
                );
            }
        }
        fronts.server.stop();
    }
}

/// memcached counts whole seconds, so a time to live may be one less there, and the time since an access one more. What
/// has just expired has 2^32 seconds left there, less how long it has been up.
fn settle(reply: &str) -> String {
    let settle_word = |word: &str| match word.strip_prefix('t').and_then(|seconds| seconds.parse::<i64>().ok()) {
        Some(seconds) if seconds > 1 << 31 => "t0".to_owned(),
        Some(seconds) if seconds > 0 => format!("t{}", (seconds + 5) / 10 * 10),
        _ if matches!(word, "l1" | "l2") => "l0".to_owned(),
        _ => word.to_owned(),
    };
    // The last word of a line as well.
    let reply = reply.replace("\r\n", " \r\n");
    reply.split(' ').map(settle_word).collect::<Vec<_>>().join(" ")
}
