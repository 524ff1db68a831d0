//! The kinds of values that a setting can have: how each is written and read.
//!
//! In: a text. Out: a checked value, or what is wrong with it and what would be right.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::topology::{Cpus, Scheduler};

/// A kind of value: its text form, both ways.
pub trait Kind<T> {
    /// What a value looks like, with its bounds; for help and errors.
    fn form(&self) -> String;
    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    fn parse(&self, text: &str) -> Result<T, String>;
    /// Writes a value so that it reads back.
    fn render(&self, value: &T) -> String;
    /// The same for people, with a unit.
    fn show(&self, value: &T) -> String {
        self.render(value)
    }
}

/// A whole number within bounds, both included.
pub struct Number(pub u64, pub u64);

impl<T: TryFrom<u64> + Copy + Into<u64>> Kind<T> for Number {
    fn form(&self) -> String {
        format!("{}..{}", self.0, self.1)
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        let number = text.parse().map_err(|_| format!("is no whole number; it takes {} to {}", self.0, self.1))?;
        within(number, self.0, self.1, |bound| bound.to_string())
    }

    fn render(&self, value: &T) -> String {
        (*value).into().to_string()
    }
}

/// A whole number that may be negative, within bounds, both included.
pub struct Signed(pub i64, pub i64);

impl Kind<i64> for Signed {
    fn form(&self) -> String {
        format!("{}..{}", self.0, self.1)
    }

    fn parse(&self, text: &str) -> Result<i64, String> {
        let number = text.parse().ok().filter(|number| (self.0..=self.1).contains(number));
        number.ok_or_else(|| format!("is no whole number from {} to {}", self.0, self.1))
    }

    fn render(&self, value: &i64) -> String {
        value.to_string()
    }
}

fn within<T: TryFrom<u64>>(number: u64, min: u64, max: u64, show: fn(u64) -> String) -> Result<T, String> {
    let is_inside = (min..=max).contains(&number);
    let narrowed = T::try_from(number).ok().filter(|_| is_inside);
    narrowed.ok_or_else(|| format!("is out of range; it takes {} to {}", show(min), show(max)))
}

/// An amount of memory, such as `512mb`, `1GiB` or plain bytes, within bounds.
pub struct Bytes(pub u64, pub u64);

impl<T: TryFrom<u64> + Copy + Into<u64>> Kind<T> for Bytes {
    fn form(&self) -> String {
        format!("{}..{}", show_bytes(self.0), show_bytes(self.1))
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        within(parse_bytes(text)?, self.0, self.1, show_bytes)
    }

    fn render(&self, value: &T) -> String {
        (*value).into().to_string()
    }

    fn show(&self, value: &T) -> String {
        show_bytes((*value).into())
    }
}

/// Multipliers as Redis has them: `k` and `kb` differ, and so do `kb` and `KiB` nowhere else but here.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1000),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
    ("tb", 1 << 40),
    ("tib", 1 << 40),
];

/// Reads an amount of memory.
///
/// # Errors
/// When it is no number or its unit is unknown.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| "is no amount of memory; write bytes, or 512mb, or 1GiB".to_owned())
}

fn show_bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| bytes.to_string(), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// An amount of memory, or a share of what the host or cgroup has; 0 for no limit.
pub struct Memory;

impl Kind<u64> for Memory {
    fn form(&self) -> String {
        "BYTES|PERCENT%".to_owned()
    }

    fn parse(&self, text: &str) -> Result<u64, String> {
        let Some(percent) = text.strip_suffix('%') else { return parse_bytes(text) };
        let percent: f64 = percent.trim().parse().map_err(|_| "is no percentage; write, say, 50%".to_owned())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err("is out of range; a share is 0% to 100%".to_owned());
        }
        Ok((crate::topology::memory_bytes() as f64 * percent / 100.0) as u64)
    }

    fn render(&self, value: &u64) -> String {
        value.to_string()
    }

    fn show(&self, value: &u64) -> String {
        if *value == crate::topology::memory_bytes() / 2 { "50%".to_owned() } else { show_bytes(*value) }
    }
}

/// A duration: a plain number in the setting's own unit, or with a unit.
pub struct Time {
    unit: Duration,
    min: u64,
    max: u64,
}

impl Time {
    /// Plain numbers are seconds; bounds in seconds.
    pub const fn seconds(min: u64, max: u64) -> Self {
        Self { unit: Duration::from_secs(1), min, max }
    }

    /// Plain numbers are microseconds; bounds in microseconds.
    pub const fn micros(min: u64, max: u64) -> Self {
        Self { unit: Duration::from_micros(1), min, max }
    }

    fn unit_name(&self) -> &'static str {
        if self.unit == Duration::from_secs(1) { "s" } else { "us" }
    }
}

impl Kind<Duration> for Time {
    fn form(&self) -> String {
        format!("{}..{}{}", self.min, self.max, self.unit_name())
    }

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = match unit.trim() {
            "" => Some(self.unit),
            "us" | "µs" => Some(Duration::from_micros(1)),
            "ms" => Some(Duration::from_millis(1)),
            "s" => Some(Duration::from_secs(1)),
            "m" | "min" => Some(Duration::from_secs(60)),
            "h" => Some(Duration::from_secs(3600)),
            "d" => Some(Duration::from_secs(86400)),
            _ => None,
        };
        let duration = unit.and_then(|unit| unit.checked_mul(number.parse().ok()?));
        let duration = duration.ok_or_else(|| "is no duration; write, say, 50us, 5ms, 10s or 2h".to_owned())?;
        let is_inside = duration >= self.unit * self.min as u32 && duration <= self.unit * self.max as u32;
        let bounds = || format!("is out of range; it takes {}", self.form());
        is_inside.then_some(duration).ok_or_else(bounds)
    }

    fn render(&self, value: &Duration) -> String {
        if value.as_nanos().is_multiple_of(self.unit.as_nanos()) {
            (value.as_nanos() / self.unit.as_nanos()).to_string()
        } else {
            format!("{}us", value.as_micros())
        }
    }

    fn show(&self, value: &Duration) -> String {
        let text = self.render(value);
        if text.ends_with('s') { text } else { text + self.unit_name() }
    }
}

/// `yes` or `no`.
pub struct Flag;

impl Kind<bool> for Flag {
    fn form(&self) -> String {
        "yes|no".to_owned()
    }

    fn parse(&self, text: &str) -> Result<bool, String> {
        match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Ok(true),
            "no" | "false" | "off" | "0" => Ok(false),
            _ => Err("is neither yes nor no".to_owned()),
        }
    }

    fn render(&self, value: &bool) -> String {
        if *value { "yes" } else { "no" }.to_owned()
    }
}

/// Any text.
pub struct Text;

impl Kind<String> for Text {
    fn form(&self) -> String {
        "TEXT".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn render(&self, value: &String) -> String {
        value.clone()
    }
}

/// A path, or nothing.
pub struct OptionalPath;

impl Kind<Option<PathBuf>> for OptionalPath {
    fn form(&self) -> String {
        "PATH".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<PathBuf>, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn render(&self, value: &Option<PathBuf>) -> String {
        value.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// File permissions.
pub struct Octal;

impl Kind<u32> for Octal {
    fn form(&self) -> String {
        "0..777 (octal)".to_owned()
    }

    fn parse(&self, text: &str) -> Result<u32, String> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| "is no file mode; write octal digits such as 700".to_owned())
    }

    fn render(&self, value: &u32) -> String {
        format!("{value:o}")
    }
}

/// Addresses, separated by spaces or commas.
pub struct List;

impl Kind<Vec<IpAddr>> for List {
    fn form(&self) -> String {
        "ADDRESS ...".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<IpAddr>, String> {
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        words
            .map(|word| match word {
                "*" => Ok(IpAddr::from([0, 0, 0, 0])),
                "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
                _ => word.parse().map_err(|_| format!("holds {word:?}, which is no IP address")),
            })
            .collect()
    }

    fn render(&self, value: &Vec<IpAddr>) -> String {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// CPU numbers and ranges of them, or a rule to find them by.
pub struct CpuChoice;

impl Kind<Cpus> for CpuChoice {
    fn form(&self) -> String {
        "0,2-5|one-per-core|numa:NODE".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Cpus, String> {
        let known = match (text, text.strip_prefix("numa:")) {
            ("", _) => Some(Cpus::All),
            ("one-per-core", _) => Some(Cpus::OnePerCore),
            (_, Some(node)) => node.parse().ok().map(Cpus::Node),
            (list, None) => crate::topology::parse_cpu_list(list).map(Cpus::List),
        };
        known.ok_or_else(|| "is no choice of CPUs; write, say, 0,2-5, or one-per-core, or numa:0".to_owned())
    }

    fn render(&self, value: &Cpus) -> String {
        match value {
            Cpus::All => String::new(),
            Cpus::List(cpus) => cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Cpus::OnePerCore => "one-per-core".to_owned(),
            Cpus::Node(node) => format!("numa:{node}"),
        }
    }
}

/// A class of the kernel's scheduler, with a priority where it has one.
pub struct Scheduling;

impl Kind<Scheduler> for Scheduling {
    fn form(&self) -> String {
        "other|batch|fifo:1..99|rr:1..99".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Scheduler, String> {
        let priority = |text: &str| text.parse().ok().filter(|priority| (1..=99).contains(priority));
        let known = match text.split_once(':') {
            None if text == "other" => Some(Scheduler::Other),
            None if text == "batch" => Some(Scheduler::Batch),
            Some(("fifo", rest)) => priority(rest).map(Scheduler::Fifo),
            Some(("rr", rest)) => priority(rest).map(Scheduler::RoundRobin),
            _ => None,
        };
        known.ok_or_else(|| "is no scheduling class; write other, batch, or, say, fifo:10 or rr:10".to_owned())
    }

    fn render(&self, value: &Scheduler) -> String {
        match value {
            Scheduler::Other => "other".to_owned(),
            Scheduler::Batch => "batch".to_owned(),
            Scheduler::Fifo(priority) => format!("fifo:{priority}"),
            Scheduler::RoundRobin(priority) => format!("rr:{priority}"),
        }
    }
}

/// One of a few names.
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind<T> for Choice<T> {
    fn form(&self) -> String {
        self.0.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|")
    }

    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or_else(|| format!("is none of {}", self.form()))
    }

    fn render(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, other)| other == value);
        found.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The names that settings use.
            pub const NAMES: &[(&str, Self)] = &[$(($text, $name::$variant),)*];

            /// The name that settings use.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

choice! {
    /// Who may use `DEBUG`.
    DebugCommands {
        /// Nobody.
        No = "no",
        /// Clients on this host.
        Local = "local",
        /// Everybody.
        Yes = "yes",
    }
}

choice! {
    /// What to evict when the memory budget is reached; Redis' names, and `cache`.
    Policy {
        /// The default: the best hit ratio measured. The same as `allkeys-lfu`.
        Cache = "cache",
        /// Evict nothing; refuse writes.
        NoEviction = "noeviction",
        /// Approximate least recently used, of all keys.
        AllKeysLru = "allkeys-lru",
        /// Approximate least frequently used, of all keys.
        AllKeysLfu = "allkeys-lfu",
        /// Any key.
        AllKeysRandom = "allkeys-random",
        /// Approximate least recently used, of keys with an expiry.
        VolatileLru = "volatile-lru",
        /// Approximate least frequently used, of keys with an expiry.
        VolatileLfu = "volatile-lfu",
        /// Any key with an expiry.
        VolatileRandom = "volatile-random",
        /// The key that expires first, approximately.
        VolatileTtl = "volatile-ttl",
    }
}

impl Policy {
    /// Whether only items with an expiry are evicted.
    pub const fn is_volatile(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::VolatileTtl | Self::VolatileRandom)
    }
}

choice! {
    /// How the kernel is asked for input and output.
    Io {
        /// With io_uring.
        Uring = "uring",
        /// With epoll, where io_uring is forbidden.
        Epoll = "epoll",
    }
}

impl Io {
    /// The kernel's own name for it, as `INFO` shows it.
    pub const fn api(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

choice! {
    /// Whether the process presents itself as a Redis Cluster.
    ClusterMode {
        /// It does not.
        Off = "off",
        /// Every core, or group of cores, is a node with a port of its own.
        Cores = "cores",
    }
}

choice! {
    /// What the shared port presents itself as beside the nodes' ports.
    SharedPortMode {
        /// A server without a cluster.
        Standalone = "standalone",
        /// An entrance to the cluster.
        Cluster = "cluster",
    }
}

choice! {
    /// How much is logged; Redis' names.
    LogLevel {
        /// Everything, for developers.
        Debug = "debug",
        /// What happens to connections.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// What needs attention.
        Warning = "warning",
    }
}

choice! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_redis_reads_it() {
        let rows = [("0", 0), ("1k", 1000), ("1kb", 1024), ("1KiB", 1024), ("512mb", 512 << 20), ("2 GB", 2 << 30)];
        for (text, bytes) in rows {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "mb", "1x", "-1", "1.5gb", "99999999999999999999", "99999999999gb"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        let half = Kind::<u64>::parse(&Memory, "50%").unwrap();
        assert!(half.abs_diff(crate::topology::memory_bytes() / 2) <= 1);
        assert!(Kind::<u64>::parse(&Memory, "101%").is_err());
    }

    #[test]
    fn times_have_units() {
        let rows = [("10", 10_000), ("5ms", 5), ("2m", 120_000), ("1h", 3_600_000)];
        for (text, ms) in rows {
            assert_eq!(Time::seconds(0, 86400).parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(Time::micros(0, 1000).parse("50"), Ok(Duration::from_micros(50)));
        assert!(Time::seconds(0, 10).parse("11").is_err());
        assert!(Time::seconds(0, 10).parse("soon").is_err());
    }

    #[test]
    fn errors_say_what_would_be_right() {
        assert_eq!(Kind::<u16>::parse(&Number(1, 9), "10").unwrap_err(), "is out of range; it takes 1 to 9");
        assert!(Choice(Policy::NAMES).parse("lru").unwrap_err().contains("allkeys-lru"));
        assert!(List.parse("127.0.0.1 nowhere").unwrap_err().contains("nowhere"));
    }
}
