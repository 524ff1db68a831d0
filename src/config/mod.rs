//! THE settings table: one row per setting gives the field of [`Settings`], the key in the file, the flag, the
//! environment variable, the text of `--help` and of the default file, and `CONFIG GET` and `SET`.
//!
//! In: texts, from a file, the environment, flags or a client. Out: [`Settings`], checked. What must stay true: every
//! value a field can have was accepted by its row's kind, so nobody checks it again; the default file parses back to
//! the defaults. Precedence, lowest first: built-in, profile, file, environment, flag, `CONFIG SET`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

pub mod source;
pub mod value;

pub use value::{ClusterMode, DebugCommands, Io, LogFormat, LogLevel, Policy, SharedPortMode};

use crate::topology::{Cpus, Scheduler};
use value::{
    Bytes, Choice, CpuChoice, Flag, Kind, List, Memory, Number, Octal, OptionalPath, Scheduling, Signed, Text, Time,
};

/// One row of the table.
pub struct Setting {
    /// As in the file and in `CONFIG GET`; `--key` is the flag, `CORERING_KEY` (with `_` for `-`) the variable.
    pub key: &'static str,
    /// The heading it stands under.
    pub group: &'static str,
    /// What it does, what its bounds mean; sentences.
    pub doc: &'static str,
    /// Whether `CONFIG SET` may change it.
    pub is_mutable: bool,
    /// What a value looks like, for `--help`.
    pub form: fn() -> String,
    /// The value as text.
    pub get: fn(&Settings) -> String,
    /// The same for people, with a unit.
    pub show: fn(&Settings) -> String,
    /// Reads a value.
    pub set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
    /// Whether its value is shown to nobody but those who ask for it by `CONFIG GET`.
    pub fn is_secret(&self) -> bool {
        matches!(self.key, "requirepass" | "admin-token")
    }
}

macro_rules! settings {
    ($($group:literal {
        $($field:ident: $type:ty = $default:expr, $key:literal $change:ident $kind:expr, $doc:literal;)*
    })*) => {
        /// Everything an operator can set, checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings { $($(#[doc = $doc] pub $field: $type,)*)* }

        impl Default for Settings {
            fn default() -> Self { Self { $($($field: $default,)*)* } }
        }

        /// All settings, by heading.
        pub static TABLE: &[Setting] = &[$($(Setting {
            key: $key,
            group: $group,
            doc: $doc,
            is_mutable: settings!(@$change),
            form: || Kind::<$type>::form(&$kind),
            get: |settings| Kind::<$type>::render(&$kind, &settings.$field),
            show: |settings| Kind::<$type>::show(&$kind, &settings.$field),
            set: |settings, text| {
                settings.$field = Kind::<$type>::parse(&$kind, text)?;
                Ok(())
            },
        },)*)*];
    };
    (@live) => { true };
    (@fixed) => { false };
}

settings! {
    "Network" {
        port: u16 = 6379, "port" fixed Number(0, 65535),
            "TCP port for RESP clients. 0 lets the kernel choose one.";
        memcache_port: u16 = 0, "memcache-port" fixed Number(0, 65535),
            "TCP port for memcached's protocol, usually 11211. 0: none.";
        http_port: u16 = 0, "http-port" fixed Number(0, 65535),
            "TCP port for the JSON API over HTTP/1.1, for example 8080. 0: none.";
        http_allow_origin: String = String::new(), "http-allow-origin" live Text,
            "Origin whose web pages may use the JSON API, such as https://example.org, or * for all. Empty: none.";
        http_request_timeout: Duration = Duration::from_secs(10), "http-request-timeout" live Time::seconds(1, 3600),
            "Longest time that an HTTP request may take to arrive; every KiB that has arrived buys a second more.";
        bind: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], "bind" fixed List,
            "Addresses to listen on, separated by spaces. The default serves this host only.";
        unixsocket: Option<PathBuf> = None, "unixsocket" fixed OptionalPath,
            "Path of a unix socket to listen on as well.";
        unixsocketperm: u32 = 0o700, "unixsocketperm" fixed Octal,
            "Permissions of the unix socket.";
        tcp_backlog: u32 = 511, "tcp-backlog" fixed Number(1, 65535),
            "Connections that may wait to be accepted, per worker; the kernel caps it at net.core.somaxconn.";
        busy_poll: u32 = 0, "busy-poll" fixed Number(0, 1_000_000),
            "Microseconds for which a receive that finds nothing asks the network device once more (SO_BUSY_POLL), \
             instead of waiting for its interrupt: for devices on a network, at the price of CPU time; loopback has \
             none. 0: what net.core.busy_read says.";
        tcp_keepalive: Duration = Duration::from_secs(300), "tcp-keepalive" fixed Time::seconds(0, 86400),
            "Probe silent connections after this long; 0 never does.";
        maxclients: u32 = 10000, "maxclients" live Number(1, 1_000_000),
            "Clients served at the same time; further ones get an error and are closed.";
        timeout: Duration = Duration::ZERO, "timeout" live Time::seconds(0, 31_536_000),
            "Close a client that has been idle for this long; 0 never does.";
        send_timeout: Duration = Duration::from_secs(60), "send-timeout" live Time::seconds(0, 86400),
            "Close a client that takes less than send-bytes of its replies in this time; 0 never does.";
    }
    "Admin" {
        admin_port: u16 = 0, "admin-port" fixed Number(0, 65535),
            "TCP port for operators, for example 9180: the console at /, /metrics, /health, /ready, /status.json. 0: \
             none.";
        admin_bind: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], "admin-bind" fixed List,
            "Addresses to listen on for operators, separated by spaces. The default serves this host only.";
        admin_token: String = String::new(), "admin-token" live Text,
            "Token that operators' requests must show as Authorization: Bearer; /health and /ready need none. Empty: \
             none is asked for; then clients, keys and slow requests are shown to this host only, and only while \
             requirepass is empty.";
    }
    "Access" {
        requirepass: String = String::new(), "requirepass" live Text,
            "Password that clients must give with AUTH or HELLO. Empty: none is asked for.";
        databases: u32 = 1, "databases" fixed Number(1, 1),
            "Number of databases. There is one.";
        enable_debug_command: DebugCommands = DebugCommands::Local, "enable-debug-command"
            fixed Choice(DebugCommands::NAMES),
            "Who may stop a CPU's workers with DEBUG SLEEP: nobody, clients on this host, everybody.";
    }
    "Cores" {
        workers: u16 = 0, "workers" fixed Number(0, 1024),
            "Workers, each with a shard and a ring of its own; those of one CPU share its thread, in turn. 0: one for \
             each CPU that the process may use, but no more than its control group's quota of CPU time is enough for \
             (rounded up).";
        cpus: Cpus = Cpus::All, "cpus" fixed CpuChoice,
            "CPUs to pin workers to: a list such as 0,2-5; one-per-core leaves SMT siblings out, which share a core's \
             caches and units; numa:0 takes those next to that node's memory. Empty: all that the process may use.";
        pin: bool = true, "pin" fixed Flag,
            "Pin each worker to its CPU.";
        control_cpu: i64 = -1, "control-cpu" fixed Signed(-1, 8191),
            "CPU of the control thread: admin port, signals, watchdog. Best one without a worker. -1: any that the \
             process may use.";
        scheduler: Scheduler = Scheduler::Other, "scheduler" fixed Scheduling,
            "How the kernel schedules workers: other as the process was started; batch is woken less eagerly; fifo:10 \
             or rr:10 go before everything with a lower priority, and need CAP_SYS_NICE. Real-time priorities are for \
             workers that share CPUs with others: what they keep from running waits.";
        spin: Duration = Duration::from_micros(50), "spin" live Time::micros(0, 1_000_000),
            "Longest time that a worker looks for work before it sleeps. It looks only while that costs less than the \
             sleeps it saves, and never when workers share a CPU; 0 never spins.";
    }
    "Cluster" {
        cluster_mode: ClusterMode = ClusterMode::Off, "cluster-mode" fixed Choice(ClusterMode::NAMES),
            "With cores, every core is a node of a Redis Cluster with a port of its own, so that cluster clients send \
             each key to the core that has it.";
        core_port_base: u16 = 7000, "core-port-base" fixed Number(0, 65535),
            "Port of the first node; the others follow. 0 lets the kernel choose. A cluster-map has its own ports.";
        cores_per_node: u16 = 1, "cores-per-node" fixed Number(1, 1024),
            "Cores that one node has: fewer connections for each client, and a hop inside the group.";
        shared_port_mode: SharedPortMode = SharedPortMode::Standalone, "shared-port-mode"
            fixed Choice(SharedPortMode::NAMES),
            "What the shared port says it is in cluster mode; it serves every key of this process either way.";
        announce_host: String = String::new(), "announce-host" fixed Text,
            "Address or name that clients are told for the nodes. Empty: the address that they are connected to.";
        announce_port_base: u16 = 0, "announce-port-base" fixed Number(0, 65535),
            "Port that clients are told for the first node; the others follow. 0: the port that it listens on.";
        announce_hostname: String = String::new(), "announce-hostname" fixed Text,
            "Name that clients are told beside the nodes' address.";
        cluster_map: Option<PathBuf> = None, "cluster-map" fixed OptionalPath,
            "File with the nodes and slots of several processes or hosts; a HUP signal reads it again.";
        cluster_process: String = String::new(), "cluster-process" fixed Text,
            "Name of this process in the cluster-map.";
    }
    "Memory" {
        maxmemory: u64 = crate::topology::memory_bytes() / 2, "maxmemory" live Memory,
            "Memory for the process, items, tables and connections: bytes, or a share of what the host or cgroup has, \
             such as 50%, the default. 0 sets no limit; else each worker has 1mb for items at least.";
        maxmemory_policy: Policy = Policy::Cache, "maxmemory-policy" live Choice(Policy::NAMES),
            "What to evict when maxmemory is reached.";
        huge_pages: bool = true, "huge-pages" fixed Flag,
            "Populate memory ahead of need, off the request path, in pages of 2 MiB where transparent_hugepage is \
             always or madvise: look-ups in a large cache become faster. A small cache has small pages in any case.";
        lock_memory: bool = false, "lock-memory" fixed Flag,
            "Keep every page in memory once it is used (mlockall), for hosts with swap: a page that was swapped out \
             costs milliseconds. Needs RLIMIT_MEMLOCK unlimited, or CAP_IPC_LOCK.";
        large_value_bytes: u32 = LARGE_VALUE_BYTES as u32, "large-value-bytes"
            live Bytes(1 << 10, LARGE_VALUE_BYTES as u64),
            "Values of this size and more have memory of their own and are sent from there without a copy. Lower saves \
             copying and costs an allocation and more pieces for each send.";
    }
    "Limits" {
        proto_max_bulk_len: u64 = 512 << 20, "proto-max-bulk-len" live Bytes(1 << 20, 1 << 32),
            "Longest argument and value.";
        client_query_buffer_limit: u64 = 1 << 30, "client-query-buffer-limit" live Bytes(1 << 20, 1 << 33),
            "Close a client when this much of its input is buffered.";
        output_soft_limit: u64 = 256 << 10, "output-soft-limit" live Bytes(1 << 10, 1 << 33),
            "While a client has this much unread, its requests wait until half of it is taken.";
        output_hard_limit: u64 = 2 << 30, "output-hard-limit" live Bytes(1 << 20, 1 << 40),
            "Close a client when this much is unread.";
        tick_requests: u32 = 128, "tick-requests" live Number(1, 1_000_000),
            "Requests executed for one client before the others have their turn.";
        tick_hop_requests: u32 = 1024, "tick-hop-requests" live Number(1, 1_000_000),
            "Requests executed for other workers before this worker's own clients have their turn.";
        hop_replies: u32 = 1024, "hop-replies" live Number(32, 65536),
            "Replies of other workers that one client may wait for at a time, while they are small: its requests wait \
             beyond that. More helps pipelines deeper than that, and takes memory.";
        lease_timeout: Duration = Duration::from_secs(10), "lease-timeout" live Time::seconds(0, 86400),
            "How long a client that was told to compute a missing or stale value may take before the next is told so.";
        send_bytes: u32 = 256 << 10, "send-bytes" live Bytes(4096, 1 << 30),
            "Bytes sent to one client before the others have their turn. While small replies leave as well, 32 KiB at \
             most, and 128 KiB for all whose replies go on.";
    }
    "Rings" {
        io: Io = Io::Uring, "io" fixed Choice(Io::NAMES),
            "How the kernel is asked: by io_uring, or by epoll, at more CPU time, on hosts that forbid io_uring. There \
             is no falling back.";
        ring_submissions: u32 = 256, "ring-submissions" fixed Number(8, 32768),
            "Submission queue entries of each ring: what one turn of the loop may ask of the kernel with one call. \
             Raise it when hundreds of clients are answered in a turn.";
        ring_completions: u32 = 4096, "ring-completions" fixed Number(16, 65536),
            "Completion queue entries of each ring: several for each client that may send at the same moment. What \
             does not fit waits in the kernel and costs more.";
        ring_buffers: u16 = 256, "ring-buffers" fixed Number(8, 32768),
            "Receive buffers of each ring at most; rounded up to a power of two. As many are in use as operations are \
             in flight, and 64 at least. Raise it when INFO shows receive_buffers_exhausted.";
        ring_buffer_bytes: u32 = 4096, "ring-buffer-bytes" fixed Bytes(512, 1 << 20),
            "Size of a receive buffer. What a client sends at once should fit: a request that does not is copied \
             together.";
        napi_busy_poll: u32 = 0, "napi-busy-poll" fixed Number(0, 1_000_000),
            "Microseconds for which a worker that waits asks the network devices itself, before it sleeps \
             (IORING_REGISTER_NAPI, Linux 6.9): saves an interrupt and a wake-up for each request from a network, at \
             the price of CPU time. Not by workers that share a CPU. 0: never.";
        napi_prefer_busy_poll: bool = false, "napi-prefer-busy-poll" fixed Flag,
            "Hold the devices' interrupts back while workers ask them (with napi-busy-poll and the device's \
             napi_defer_hard_irqs).";
    }
    "Slowness" {
        slowlog_log_slower_than: i64 = 10_000, "slowlog-log-slower-than" live Signed(-1, 1 << 40),
            "Keep requests in SLOWLOG that took longer, microseconds; below 1000 every command is timed, at some cost. \
             -1 keeps none.";
        slowlog_max_len: u32 = 128, "slowlog-max-len" live Number(0, 100_000),
            "Requests that SLOWLOG keeps.";
        latency_monitor_threshold: u64 = 0, "latency-monitor-threshold" live Number(0, 1 << 40),
            "Keep events in LATENCY that took at least so many milliseconds. 0 keeps none.";
        stage_sampling: u32 = 0, "stage-sampling" live Number(0, 1 << 20),
            "Time one batch of requests in so many stage by stage, from the socket to the kernel's send (INFO stages), \
             and name the stage of a slow request in SLOWLOG; 64 costs little. Best set before clients connect. 0: no \
             stage.";
    }
    "Keys" {
        hotkeys_sampling: u32 = 0, "hotkeys-sampling" live Number(0, 1 << 20),
            "Look at one request in about so many to find the keys that are asked for most (HOTKEYS); 64 costs little. \
             0: none.";
    }
    "Log" {
        loglevel: LogLevel = LogLevel::Notice, "loglevel" fixed Choice(LogLevel::NAMES),
            "How much is logged, to standard error.";
        log_format: LogFormat = LogFormat::Text, "log-format" fixed Choice(LogFormat::NAMES),
            "Log lines for people, or one JSON object a line.";
    }
}

/// Values of this many bytes and more have an allocation of their own, are stored without a copy when they come as
/// one, and are sent from where they lie; the most that `large-value-bytes` can be.
pub const LARGE_VALUE_BYTES: usize = 16 * 1024;

/// What a shard needs to work at all: its tables, and some segments.
pub const SHARD_BYTES_MIN: u64 = 1 << 20;

/// Memory of a process that serves nobody yet, its rings apart: the resident program.
const PROCESS_BYTES: u64 = 5 << 20;

/// Settings of Redis that clients ask for with `CONFIG GET` and that have one possible value here.
pub static FOREIGN: &[(&str, &str)] = &[("appendonly", "no"), ("replica-read-only", "yes"), ("save", "")];

/// The row of a key; keys are compared without regard to case.
pub fn find(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key.eq_ignore_ascii_case(key))
}

/// A setting's value as text; empty when there is no such setting.
pub fn text(settings: &Settings, key: &str) -> String {
    find(key).map(|setting| (setting.get)(settings)).unwrap_or_default()
}

impl Settings {
    /// Memory that `workers` take before they serve anybody.
    pub fn startup_bytes(&self, workers: u16) -> u64 {
        let buffers = u64::from(self.ring_buffers.next_power_of_two()) * u64::from(self.ring_buffer_bytes);
        let entries = u64::from(self.ring_submissions) * 64 + u64::from(self.ring_completions) * 16;
        PROCESS_BYTES + u64::from(workers) * (buffers + entries)
    }

    /// The share of the memory budget that each of `workers` gets for its items and connections.
    pub fn worker_budget_bytes(&self, workers: u16) -> u64 {
        match self.maxmemory {
            0 => u64::MAX,
            bytes => {
                let bytes = bytes.saturating_sub(self.startup_bytes(workers));
                (bytes / u64::from(workers.max(1))).max(SHARD_BYTES_MIN)
            }
        }
    }

    /// Why `maxmemory` may not be what was meant, and the remedy: `workers` take more, or there is less.
    pub fn memory_doubt(&self, workers: u16, memory_bytes: u64) -> Option<String> {
        let least = self.startup_bytes(workers) + u64::from(workers) * SHARD_BYTES_MIN;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        match self.maxmemory {
            0 => None,
            bytes if bytes < least => Some(format!(
                "maxmemory is {bytes} bytes, and the workers ({workers}) take up to {} MiB with hardly anything \
                 stored: raise it, or have fewer --workers",
                mib(least)
            )),
            bytes if bytes > memory_bytes => Some(format!(
                "maxmemory is {} MiB and there are {} MiB of memory: the kernel may end the server before anything is \
                 evicted; lower it",
                mib(bytes),
                mib(memory_bytes)
            )),
            _ => None,
        }
    }

    /// What one row cannot see.
    ///
    /// # Errors
    /// One sentence that names the settings and the remedy.
    pub fn check(&self) -> Result<(), String> {
        if self.output_hard_limit < self.output_soft_limit {
            return Err("output-hard-limit is below output-soft-limit; raise the one or lower the other".to_owned());
        }
        if self.ring_completions < self.ring_submissions {
            return Err("ring-completions is below ring-submissions; it should be several times as large".to_owned());
        }
        if self.io == Io::Epoll && self.napi_busy_poll > 0 {
            return Err("napi-busy-poll is io_uring's and io is epoll; leave one of them out".to_owned());
        }
        if self.bind.is_empty() && self.unixsocket.is_none() {
            return Err("bind is empty and no unixsocket is set; give at least one address".to_owned());
        }
        if self.admin_port != 0 && self.admin_bind.is_empty() {
            return Err("admin-bind is empty and admin-port is set; give an address or leave admin-port out".to_owned());
        }
        self.check_cluster()?;
        if let Some((_, twice)) = self.bind.iter().enumerate().find(|(at, ip)| self.bind[..*at].contains(ip)) {
            return Err(format!("bind names {twice} twice; give each address once"));
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), String> {
        let announces =
            !self.announce_host.is_empty() || !self.announce_hostname.is_empty() || self.announce_port_base != 0;
        if self.cluster_map.is_some() && self.cluster_mode == ClusterMode::Off {
            return Err("cluster-map is set and cluster-mode is off; set cluster-mode to cores".to_owned());
        }
        if self.cluster_map.is_none() && !self.cluster_process.is_empty() {
            return Err("cluster-process names a process of a cluster-map and none is set; set cluster-map or leave \
                        it out"
                .to_owned());
        }
        if self.cluster_map.is_some() && announces {
            return Err("cluster-map says what clients are told; leave out announce-host, announce-port-base and \
                        announce-hostname"
                .to_owned());
        }
        if self.cluster_mode == ClusterMode::Cores && self.bind.is_empty() {
            return Err("bind is empty and cluster-mode is cores; the nodes need an address to listen on".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_reads_back() {
        let defaults = Settings::default();
        for setting in TABLE {
            let mut settings = defaults.clone();
            for text in [(setting.get)(&defaults), (setting.show)(&defaults)] {
                (setting.set)(&mut settings, &text).unwrap_or_else(|error| panic!("{}: {text:?} {error}", setting.key));
                assert_eq!(settings, defaults, "{}", setting.key);
            }
        }
        defaults.check().unwrap();
    }

    #[test]
    fn keys_are_unique_and_documented() {
        for (index, setting) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.key != setting.key), "{} twice", setting.key);
            assert!(setting.doc.ends_with('.'), "{}", setting.key);
        }
    }

    #[test]
    fn memory_that_cannot_be_what_was_meant_is_doubted() {
        const MIB: u64 = 1 << 20;
        let least = Settings::default().startup_bytes(2) + 2 * SHARD_BYTES_MIN;
        let rows = [
            (0, None),
            (1, Some("is 1 bytes, and the workers (2) take up to")),
            (least - 1, Some("raise it")),
            (least, None),
            (8192 * MIB, None),
            (8193 * MIB, Some("is 8193 MiB and there are 8192 MiB of memory")),
        ];
        for (maxmemory, expected) in rows {
            let doubt = Settings { maxmemory, ..Settings::default() }.memory_doubt(2, 8192 * MIB);
            assert_eq!(doubt.is_some(), expected.is_some(), "{maxmemory}: {doubt:?}");
            assert!(doubt.unwrap_or_default().contains(expected.unwrap_or_default()), "{maxmemory}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let settings = Settings { output_hard_limit: 1 << 20, output_soft_limit: 2 << 20, ..Settings::default() };
        assert!(settings.check().unwrap_err().contains("output-hard-limit"));
        let settings = Settings { io: Io::Epoll, napi_busy_poll: 10, ..Settings::default() };
        assert!(settings.check().unwrap_err().contains("io is epoll"));
        let settings = Settings { bind: vec![[127, 0, 0, 1].into(); 2], ..Settings::default() };
        assert!(settings.check().unwrap_err().contains("bind names 127.0.0.1 twice"));
    }
}
