//! The table of `corering bench`'s options: one row gives the flag, its help and its meaning.
//!
//! In: texts. Out: a checked [`Plan`]. What must stay true: the default that the help shows is the plan's own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{
    KEY_BYTES_MAX, KEYS_MAX, KeyChoice, Mix, Objective, Operation, Plan, Protocol, Rate, Target, Waiting,
};
use super::sizes::Sizes;
use super::trace::Trace;
use crate::config::Io;
use crate::config::value::{Choice, Kind, Number, Time};
use crate::topology::parse_cpu_list;

/// One option.
#[derive(Debug)]
pub struct Opt {
    /// `--name`.
    pub name: &'static str,
    /// The heading it stands under.
    pub group: &'static str,
    /// What a value looks like.
    pub form: &'static str,
    /// As a text; empty for none.
    pub default: &'static str,
    /// A sentence.
    pub doc: &'static str,
    set: fn(&mut Plan, &str) -> Result<(), String>,
}

macro_rules! options {
    ($($group:literal { $($name:literal $form:literal [$default:literal] $doc:literal $set:expr;)* })*) => {
        /// All options, by heading.
        pub static TABLE: &[Opt] = &[$($(Opt {
            name: $name, group: $group, form: $form, default: $default, doc: $doc, set: $set,
        },)*)*];
    };
}

options! {
    "Server" {
        "target" "HOST:PORT|PATH" [""]
            "The server to measure: a TCP address or a unix socket. Without it a server is started inside."
            |plan, text| { plan.target = Some(target(text)?); Ok(()) };
        "protocol" "resp2|resp3|memcache|http" ["resp2"]
            "What the server speaks."
            |plan, text| { plan.protocol = protocol(text)?; Ok(()) };
        "http-prefix" "PATH" ["/v1/keys/"]
            "What stands before the key in a URL."
            |plan, text| { plan.http_prefix = http_prefix(text)?; Ok(()) };
        "http-suffix" "TEXT" [""]
            "What stands behind the key in the URL of a read."
            |plan, text| { plan.http_suffix = http_part(text)?; Ok(()) };
        "cluster" "yes|no" ["no"]
            "Ask for CLUSTER SLOTS and send each key to its node."
            |plan, text| { plan.cluster = is_yes(text)?; Ok(()) };
        "password" "TEXT" [""]
            "For AUTH."
            |plan, text| { plan.password = text.to_owned(); Ok(()) };
        "pid" "PID" [""]
            "The server's process, to measure its CPU time. A server on this host is usually recognised by itself."
            |plan, text| { plan.pid = Some(Number(1, 1 << 22).parse(text)?); Ok(()) };
        "server" "KEY=VALUE" [""]
            "A setting of the server inside, such as workers=1; can be given again."
            |plan, text| { plan.server.push(server_setting(text)?); Ok(()) };
    }
    "Load" {
        "rate" "NUMBER|max" ["50000"]
            "Requests a second on a random schedule (open loop). `max` sends again when replies are there (closed \
             loop)."
            |plan, text| { plan.rate = rate(text)?; Ok(()) };
        "find-slo" "pNN=TIME" [""]
            "Search for the highest rate that keeps a percentile below a time, such as p99.9=500us."
            |plan, text| { plan.find_slo = Some(objective(text)?); Ok(()) };
        "connections" "NUMBER" ["32"]
            "Connections, of all threads together."
            |plan, text| { plan.connections = count(text, 1, 1_000_000)?; Ok(()) };
        "pipeline" "NUMBER" ["1"]
            "Requests that may be unanswered on one connection; a closed loop sends so many at once."
            |plan, text| { plan.pipeline = count(text, 1, 10_000)?; Ok(()) };
        "duration" "TIME" ["10s"]
            "Length of the measured part."
            |plan, text| { plan.duration = time(text, 50_000)?; Ok(()) };
        "warmup" "TIME" ["1s"]
            "Load before the measured part."
            |plan, text| { plan.warmup = time(text, 0)?; Ok(()) };
        "timeout" "TIME" ["10s"]
            "A server that answers nothing for so long has failed."
            |plan, text| { plan.timeout = time(text, 1000)?; Ok(()) };
    }
    "Requests" {
        "mix" "KIND:WEIGHT,..." ["get:90,set:10"]
            "Kinds of requests: get, set, incr, mget:KEYS, del, setex, each with its weight."
            |plan, text| { plan.mix = mix(text)?; Ok(()) };
        "keys" "NUMBER" ["10000"]
            "Different keys."
            |plan, text| { plan.keys = Number(1, KEYS_MAX).parse(text)?; Ok(()) };
        "key-size" "BYTES" ["16"]
            "Length of a key."
            |plan, text| { plan.key_bytes = count(text, 2, KEY_BYTES_MAX as u64)?; Ok(()) };
        "value-size" "BYTES|MIN-MAX|FILE|trace" ["64"]
            "Length of a value: fixed, a range, a distribution file (CacheLib's valSizeRange), or the trace's."
            |plan, text| { plan.value_sizes = Sizes::parse(text)?; Ok(()) };
        "key-dist" "uniform|zipf:EXPONENT|trace:FILE" ["uniform"]
            "Which keys are asked for: all alike, few of them often, or as recorded (CTR1)."
            key_choice;
        "ttl" "TIME" ["60s"]
            "Time to live that setex gives."
            |plan, text| { plan.ttl = time(text, 1_000_000)?; Ok(()) };
        "populate" "yes|no" ["yes"]
            "Write every key before the warm-up."
            |plan, text| { plan.populate = is_yes(text)?; Ok(()) };
        "seed" "NUMBER" ["1"]
            "The same seed gives the same requests."
            |plan, text| { plan.seed = Number(0, u64::MAX).parse(text)?; Ok(()) };
    }
    "Generator" {
        "threads" "NUMBER" ["1"]
            "Threads, each with its share of the connections."
            |plan, text| { plan.threads = count(text, 1, 256)?; Ok(()) };
        "cpus" "LIST" [""]
            "CPUs for them, such as 1,3-5. Without it the last ones; the server inside gets the others."
            |plan, text| { plan.cpus = parse_cpu_list(text).ok_or("is no list of CPUs; write, say, 0,2-5")?; Ok(()) };
        "io" "uring|epoll" ["uring"]
            "How the generator and the server inside ask the kernel: by io_uring, or by epoll, on hosts that forbid it."
            |plan, text| { plan.io = Choice(Io::NAMES).parse(text)?; Ok(()) };
        "wait" "spin|sleep" ["spin"]
            "How to wait for replies: spinning notices them at once, sleeping leaves the CPU to others."
            |plan, text| { plan.waiting = waiting(text)?; Ok(()) };
    }
    "Report" {
        "progress" "yes|no" ["yes"]
            "Show each second as it goes, when standard error is a terminal."
            |plan, text| { plan.progress = is_yes(text)?; Ok(()) };
        "json" "FILE" [""]
            "Write the report as JSON."
            |plan, text| { plan.files.json = Some(text.into()); Ok(()) };
        "hgrm" "FILE" [""]
            "Write HdrHistogram's percentile distribution."
            |plan, text| { plan.files.hgrm = Some(text.into()); Ok(()) };
        "html" "FILE" [""]
            "Write a page with plots, readable without a network."
            |plan, text| { plan.files.html = Some(text.into()); Ok(()) };
    }
}

/// Builds a plan from options given as name and text.
///
/// # Errors
/// One sentence that names the option and the remedy.
pub fn load(given: &[(String, String)]) -> Result<Plan, String> {
    let mut plan = Plan::default();
    for (name, text) in given {
        let option = TABLE.iter().find(|option| option.name == name).ok_or(format!("there is no --{name}"))?;
        (option.set)(&mut plan, text).map_err(|error| format!("--{name}: {text:?} {error}"))?;
    }
    plan.check()?;
    Ok(plan)
}

fn target(text: &str) -> Result<Target, String> {
    let wrong = || "is no address; write host:port or the path of a unix socket".to_owned();
    if text.contains('/') {
        return Ok(Target::Unix(text.into()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(wrong());
    }
    Ok(Target::Tcp(text.to_owned()))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let known = [Protocol::Resp2, Protocol::Resp3, Protocol::Memcache, Protocol::Http];
    let found = known.into_iter().find(|protocol| protocol.name() == text);
    found.ok_or_else(|| "is no protocol; it takes resp2, resp3, memcache or http".to_owned())
}

fn http_prefix(text: &str) -> Result<String, String> {
    if text.starts_with('/') { http_part(text) } else { Err("is no path; it begins with /".to_owned()) }
}

fn http_part(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| text.to_owned()).ok_or_else(|| "is no part of a URL; it has no spaces".to_owned())
}

fn server_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is no setting; write, say, workers=1")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn count(text: &str, least: u64, most: u64) -> Result<usize, String> {
    let count: u64 = Number(least, most).parse(text)?;
    Ok(count as usize)
}

fn is_yes(text: &str) -> Result<bool, String> {
    crate::config::value::Flag.parse(text)
}

fn time(text: &str, least_us: u64) -> Result<Duration, String> {
    const DAY_US: u64 = 86_400_000_000;
    let micros = |unit| Time::micros(least_us, DAY_US).parse(unit);
    // A plain number is in seconds here.
    if text.parse::<u64>().is_ok() { micros(&format!("{text}s")) } else { micros(text) }
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) if (1.0..=1e9).contains(&rate) => Ok(Rate::PerSecond(rate)),
        _ => Err("is no rate; write requests a second, from 1, or max".to_owned()),
    }
}

fn objective(text: &str) -> Result<Objective, String> {
    let wrong = || "is no objective; write, say, p99.9=500us".to_owned();
    let (percentile, limit) = text.split_once('=').ok_or_else(wrong)?;
    let percentile: f64 = percentile.strip_prefix('p').and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    if !(0.0..100.0).contains(&percentile) {
        return Err(wrong());
    }
    Ok(Objective { quantile: percentile / 100.0, limit: time(limit, 1)? })
}

fn mix(text: &str) -> Result<Mix, String> {
    let wrong = "is no mix; write, say, get:90,set:10, of get, set, incr, del, setex, and mget:10 for ten keys";
    let mut mix = Mix::new();
    for part in text.split(',') {
        let mut words = part.split(':');
        let name = words.next().unwrap_or_default();
        let operation = match name {
            "get" => Operation::Get,
            "set" => Operation::Set,
            "incr" => Operation::Increment,
            "del" => Operation::Delete,
            "setex" => Operation::SetExpiring,
            "mget" => {
                let keys = words.next().and_then(|keys| keys.parse().ok()).filter(|keys| (1..=1000).contains(keys));
                Operation::MultiGet(keys.ok_or("has an mget without its number of keys; write, say, mget:10:5")?)
            }
            _ => return Err(wrong.to_owned()),
        };
        let weight = match words.next() {
            None => Some(1),
            Some(weight) => weight.parse().ok().filter(|weight| (1..=1_000_000).contains(weight)),
        };
        match (weight, words.next()) {
            (Some(weight), None) => mix.push((operation, weight)),
            _ => return Err(wrong.to_owned()),
        }
    }
    Ok(mix)
}

/// A trace also says how many keys there are.
fn key_choice(plan: &mut Plan, text: &str) -> Result<(), String> {
    let wrong = "is no distribution; it takes uniform, zipf:0.99 or trace:FILE";
    plan.key_choice = match text.split_once(':') {
        None if text == "uniform" => KeyChoice::Uniform,
        Some(("zipf", exponent)) => match exponent.parse::<f64>() {
            Ok(exponent) if (0.0..=10.0).contains(&exponent) => KeyChoice::Zipf(exponent),
            _ => return Err("has no exponent from 0 to 10; write, say, zipf:0.99".to_owned()),
        },
        Some(("trace", file)) => {
            let trace = Trace::load(Path::new(file))?;
            plan.keys = trace.sizes.len() as u64;
            KeyChoice::Trace(Arc::new(trace))
        }
        _ => return Err(wrong.to_owned()),
    };
    Ok(())
}

fn waiting(text: &str) -> Result<Waiting, String> {
    match text {
        "spin" => Ok(Waiting::Spin),
        "sleep" => Ok(Waiting::Sleep),
        _ => Err("is no way to wait; it takes spin or sleep".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_line(line: &str) -> Result<Plan, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let given: Vec<_> = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
        load(&given)
    }

    #[test]
    fn the_defaults_shown_are_the_defaults() {
        for option in TABLE.iter().filter(|option| !option.default.is_empty()) {
            let mut plan = Plan::default();
            (option.set)(&mut plan, option.default).unwrap_or_else(|error| panic!("{}: {error}", option.name));
            assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::default()), "{}", option.name);
        }
    }

    #[test]
    fn options_are_read() {
        let plan = load_line("rate max mix get:1,mget:10:2,incr:3 target localhost:1 duration 500ms").unwrap();
        assert_eq!(plan.rate, Rate::Max);
        assert_eq!(plan.mix, [(Operation::Get, 1), (Operation::MultiGet(10), 2), (Operation::Increment, 3)]);
        assert_eq!(plan.target, Some(Target::Tcp("localhost:1".to_owned())));
        assert_eq!(plan.duration, Duration::from_millis(500));
        let objective = load_line("find-slo p99.9=500us").unwrap().find_slo.unwrap();
        assert!((objective.quantile - 0.999).abs() < 1e-12 && objective.limit == Duration::from_micros(500));
        assert_eq!(load_line("warmup 3").unwrap().warmup, Duration::from_secs(3));
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_one_line() {
        let rows = [
            ("keys 0", "--keys: \"0\" is out of range"),
            ("key-dist pareto", "--key-dist: \"pareto\" is no distribution"),
            ("key-dist zipf:x", "has no exponent"),
            ("key-dist trace:/nowhere", "cannot be read"),
            ("value-size big", "is no length"),
            ("value-size trace", "needs --key-dist"),
            ("mix", "there is no"),
            ("mix get:0", "is no mix"),
            ("mix mget:5000", "without its number of keys"),
            ("mix get:1:2", "is no mix"),
            ("mix fly:1", "is no mix"),
            ("target nowhere", "is no address"),
            ("target :6379", "is no address"),
            ("protocol gopher", "is no protocol"),
            ("rate 0", "is no rate"),
            ("rate nan", "is no rate"),
            ("find-slo p101=1ms", "is no objective"),
            ("find-slo p99=soon", "is no duration"),
            ("find-slo p99=1ms rate max", "closed one"),
            ("connections 1 threads 2", "below --threads"),
            ("key-size 3 keys 1000", "need at least 4 bytes"),
            ("protocol http mix mget:3", "not spoken over http"),
            ("cluster yes protocol memcache target a:1", "--cluster needs"),
            ("cpus x", "is no list of CPUs"),
        ];
        for (line, expected) in rows {
            let line = if line == "mix" { "mixture x" } else { line };
            let error = load_line(line).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{line}: {error}");
        }
    }
}
