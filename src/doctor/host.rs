//! A host as the doctor sees it: files below a root, some of them read a second time to see what has changed.
//!
//! In: the root (`/`, or a test's tree), what a server would use. Out: texts and numbers; `None` for what is not there.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Io, Settings};
use crate::ring::probe;
use crate::topology::{self, NotAllowed, parse_cpu_list};

/// What a server would use of the host.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The CPU of each worker.
    pub workers: Vec<usize>,
    /// `tcp-backlog`.
    pub backlog: u64,
    /// `maxclients`.
    pub maxclients: u64,
    /// `maxmemory`, bytes; 0 for no limit.
    pub maxmemory: u64,
    /// Memory of all rings, bytes.
    pub ring_bytes: u64,
    /// `io`.
    pub io: Io,
    /// What became of a ring of io_uring that was set up as the workers' are; `None` when none was.
    pub ring: Option<Result<(), String>>,
}

impl Plan {
    /// What a server with these settings would use of this host; sets up a ring and makes it work.
    ///
    /// # Errors
    /// When the settings name CPUs that the process may not use.
    pub fn of(settings: &Settings) -> Result<Plan, NotAllowed> {
        let ring = probe::check(Io::Uring, &crate::server::ring_options(settings));
        let ring = ring.map_err(|refusal| refusal.to_string());
        Ok(Self::on(settings.cpus.place(settings.workers)?, settings, Some(ring)))
    }

    /// The same, with the workers on these CPUs, and what is known of rings already.
    pub fn on(workers: Vec<usize>, settings: &Settings, ring: Option<Result<(), String>>) -> Plan {
        let none = settings.startup_bytes(0);
        let ring_bytes = settings.startup_bytes(workers.len() as u16) - none;
        let (backlog, maxclients) = (u64::from(settings.tcp_backlog), u64::from(settings.maxclients));
        Plan { workers, backlog, maxclients, maxmemory: settings.maxmemory, ring_bytes, io: settings.io, ring }
    }
}

/// A thread as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) name: String,
    pub(super) ticks: u64,
    pub(super) cpu: usize,
}

/// Files whose change over time tells something.
const WATCHED: &[&str] = &["proc/stat", "proc/interrupts", "proc/uptime", "proc/net/netstat", "proc/net/softnet_stat"];

/// A host, looked at for the second time.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    pub(super) plan: Plan,
    /// The first look.
    earlier: HashMap<PathBuf, String>,
    earlier_threads: HashMap<(u32, u32), Thread>,
}

impl Host {
    /// Looks for the first time; what changes from here on is seen by the checks.
    pub fn new(root: &Path, plan: Plan) -> Host {
        let mut host = Host { root: root.to_owned(), plan, earlier: HashMap::new(), earlier_threads: HashMap::new() };
        let groups = host.groups().into_iter().flat_map(|group| [group.join("cpu.stat")]);
        let watched: Vec<PathBuf> = WATCHED.iter().map(PathBuf::from).chain(groups).collect();
        host.earlier = watched.into_iter().filter_map(|path| Some((path.clone(), host.text(&path)?))).collect();
        host.earlier_threads = host.threads();
        host
    }

    /// A file's text, trimmed.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read(self.root.join(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The same, at the first look.
    pub(super) fn earlier(&self, path: impl AsRef<Path>) -> Option<&str> {
        self.earlier.get(path.as_ref()).map(String::as_str)
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder, sorted; none when it is not there.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Seconds between the two looks.
    pub(super) fn elapsed(&self) -> f64 {
        let seconds = |text: &str| text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
        let now = self.text("proc/uptime").as_deref().and_then(seconds);
        let before = self.earlier("proc/uptime").and_then(seconds);
        (now.unwrap_or(0.0) - before.unwrap_or(0.0)).max(0.01)
    }

    /// CPUs that are there.
    pub(super) fn cpus(&self) -> Vec<usize> {
        let online = self.text("sys/devices/system/cpu/online");
        online.and_then(|list| parse_cpu_list(&list)).unwrap_or_else(|| self.plan.workers.clone())
    }

    /// Those without a worker, as a list for commands; `None` when every one has a worker.
    pub(super) fn other_cpus(&self) -> Option<String> {
        let others = self.cpus().into_iter().filter(|cpu| !self.plan.workers.contains(cpu));
        let others: Vec<String> = others.map(|cpu| cpu.to_string()).collect();
        (!others.is_empty()).then(|| others.join(","))
    }

    /// The process's control groups that concern CPUs and, in version 2, everything.
    pub(super) fn groups(&self) -> Vec<PathBuf> {
        topology::control_groups(&self.root, "cpu")
    }

    /// CPU time that they leave, in CPUs; `None` without a quota.
    pub(super) fn cpu_quota(&self) -> Option<f64> {
        topology::cpu_quota(&self.root)
    }

    /// The lowest limit of memory that they set, bytes, and its name.
    pub(super) fn memory_limit(&self) -> Option<(u64, &'static str)> {
        topology::cgroup_memory_limit(&self.root, &["memory.high", "memory.max", "memory.limit_in_bytes"])
    }

    /// Every thread by process and thread id.
    pub(super) fn threads(&self) -> HashMap<(u32, u32), Thread> {
        let mut threads = HashMap::new();
        let numbers =
            |path: &Path| -> Vec<u32> { self.names(path).into_iter().filter_map(|name| name.parse().ok()).collect() };
        for process in numbers(Path::new("proc")) {
            let tasks = PathBuf::from(format!("proc/{process}/task"));
            for task in numbers(&tasks) {
                let stat = self.text(tasks.join(task.to_string()).join("stat"));
                if let Some(thread) = stat.and_then(|stat| parse_thread(&stat)) {
                    threads.insert((process, task), thread);
                }
            }
        }
        threads
    }

    /// The thread at the first look.
    pub(super) fn earlier_thread(&self, ids: (u32, u32)) -> Option<&Thread> {
        self.earlier_threads.get(&ids)
    }

    /// A soft or hard limit of this process; `u64::MAX` for none. Source: proc_pid_limits(5).
    pub(super) fn limit(&self, name: &str, is_hard: bool) -> Option<u64> {
        let limits = self.text("proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let value = line.split_ascii_whitespace().nth(usize::from(is_hard))?;
        if value == "unlimited" { Some(u64::MAX) } else { value.parse().ok() }
    }

    /// Network interfaces of hardware, or virtual ones that have queues; not the loopback.
    pub(super) fn interfaces(&self) -> Vec<String> {
        let mut names = self.names("sys/class/net");
        names.retain(|name| {
            name != "lo" && self.text(format!("sys/class/net/{name}/operstate")).as_deref() == Some("up")
        });
        names
    }
}

/// Source: proc_pid_stat(5). The name, in parentheses, may hold anything.
fn parse_thread(stat: &str) -> Option<Thread> {
    let (begin, fields) = stat.rsplit_once(')')?;
    let (_, name) = begin.split_once('(')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Thread { name: name.to_owned(), ticks: number(11)? + number(12)?, cpu: number(36)? as usize })
}

/// The word in brackets: `always [madvise] never`.
pub(super) fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(word, _)| word)
}
