//! The host as the workers see it: which CPUs the process may use, and how much memory there is.
//!
//! In: the kernel's files under /proc and /sys, the affinity mask. Out: a CPU for each worker, and its thread's place
//! in the kernel's queues. What must stay true: only CPUs of the process's own mask are handed out, so cpusets,
//! containers and `taskset` are obeyed.
#![allow(unsafe_code, reason = "sched_setscheduler(2)")]

use std::path::Path;
use std::{fs, io};

/// Which CPUs workers are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// All that the process may use.
    All,
    /// These.
    List(Vec<usize>),
    /// Of those that the process may use, the first of each core.
    OnePerCore,
    /// Of those that the process may use, the ones of a NUMA node.
    Node(usize),
}

/// How the kernel chooses which thread runs; see sched(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// As the process was started.
    Other,
    /// For work that nobody waits for.
    Batch,
    /// Before everything with a lower priority (1 to 99), as long as it wants to run.
    Fifo(u8),
    /// The same, in turn with others of the same priority.
    RoundRobin(u8),
}

/// Why workers cannot be placed as asked: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed(String);

impl std::fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Cpus {
    /// A CPU for each worker: the chosen ones in turn, `workers` times (or once each when 0).
    ///
    /// # Errors
    /// When the host has no such CPUs or the process may not use them.
    pub fn place(&self, workers: u16) -> Result<Vec<usize>, NotAllowed> {
        place_workers(&self.chosen(Path::new("/sys/devices/system"), &usable_cpus())?, workers)
    }

    /// The chosen ones of the `usable`; none for all of them.
    fn chosen(&self, devices: &Path, usable: &[usize]) -> Result<Vec<usize>, NotAllowed> {
        let list = |path: String| parse_cpu_list(fs::read_to_string(devices.join(path)).ok()?.trim());
        match self {
            Self::All => Ok(Vec::new()),
            Self::List(cpus) => Ok(cpus.clone()),
            Self::OnePerCore => {
                let siblings = |cpu| list(format!("cpu/cpu{cpu}/topology/thread_siblings_list")).unwrap_or_default();
                let is_first = |cpu: &usize| !siblings(*cpu).iter().any(|other| other < cpu && usable.contains(other));
                Ok(usable.iter().copied().filter(is_first).collect())
            }
            Self::Node(node) => {
                let Some(cpus) = list(format!("node/node{node}/cpulist")) else {
                    let nodes = fs::read_to_string(devices.join("node/online")).unwrap_or_default();
                    let nodes = if nodes.is_empty() { "none" } else { nodes.trim() };
                    return Err(NotAllowed(format!("cpus: this host has no NUMA node {node}; it has {nodes}")));
                };
                let of_node: Vec<usize> = usable.iter().copied().filter(|cpu| cpus.contains(cpu)).collect();
                if of_node.is_empty() {
                    return Err(refused(&cpus, usable));
                }
                Ok(of_node)
            }
        }
    }
}

fn refused(cpus: &[usize], usable: &[usize]) -> NotAllowed {
    NotAllowed(format!("cpus: this process may not use {cpus:?}; it may use {usable:?} (cpuset, container or taskset)"))
}

/// The CPUs that this process may use, ascending; empty only when the kernel does not tell.
pub fn usable_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// A CPU for each worker: `cpus` (or all usable ones when empty) in turn, `workers` times (or once each when 0).
///
/// # Errors
/// When `cpus` names one that the process may not use.
pub fn place_workers(cpus: &[usize], workers: u16) -> Result<Vec<usize>, NotAllowed> {
    let allowed = usable_cpus();
    let others: Vec<usize> = cpus.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if !others.is_empty() {
        return Err(refused(&others, &allowed));
    }
    let from = match (cpus, &allowed[..]) {
        ([], []) => &[0],
        ([], allowed) => allowed,
        (cpus, _) => cpus,
    };
    let count = if workers == 0 { from.len() } else { workers as usize };
    Ok(from.iter().copied().cycle().take(count).collect())
}

/// Pins the calling thread; false when the kernel refuses.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// Lets the calling thread, which a pinned one has started, run wherever the process's first thread may.
pub fn unpin() {
    let first = rustix::thread::sched_getaffinity(Some(rustix::process::getpid()));
    // Where the kernel does not tell, or refuses, it stays where it is.
    let _ = first.and_then(|cpus| rustix::thread::sched_setaffinity(None, &cpus));
}

/// Puts the calling thread into a class of the kernel's scheduler; `Other` leaves it as it is.
///
/// # Errors
/// Those of sched_setscheduler(2): EPERM without CAP_SYS_NICE, a high enough RLIMIT_RTPRIO, or real-time runtime of the
/// control group.
pub fn schedule(scheduler: Scheduler) -> io::Result<()> {
    let (policy, priority) = match scheduler {
        Scheduler::Other => return Ok(()),
        Scheduler::Batch => (libc::SCHED_BATCH, 0),
        Scheduler::Fifo(priority) => (libc::SCHED_FIFO, priority),
        Scheduler::RoundRobin(priority) => (libc::SCHED_RR, priority),
    };
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: needs parameters that are valid during the call; holds because they live in this frame.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads `0,2-5`; `None` when it is malformed.
pub fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.dedup();
    Some(cpus)
}

/// More than any host has; bounds what a typing error can ask for.
const CPUS_MAX: usize = 8192;

/// The kernel's name, release and machine, as `uname -srm` shows them.
pub fn kernel() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()].map(|part| part.to_string_lossy()).join(" ")
}

/// The host's own name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Memory that the process may use: the host's, or the cgroup's limit when that is lower. Bytes.
pub fn memory_bytes() -> u64 {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    host.map_or(u64::MAX, |kib| kib << 10).min(cgroup_memory_bytes().unwrap_or(u64::MAX))
}

/// The lowest limit on the way from the process's cgroup (version 2) to the root.
fn cgroup_memory_bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut folder = std::path::PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let mut lowest = None;
    loop {
        let limit =
            fs::read_to_string(folder.join("memory.max")).ok().and_then(|limit| limit.trim().parse::<u64>().ok());
        lowest = lowest.into_iter().chain(limit).min();
        if folder == std::path::Path::new("/sys/fs/cgroup") || !folder.pop() {
            return lowest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_cpu_list("0,2-5"), Some(vec![0, 2, 3, 4, 5]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        for bad in ["a", "3-1", "1-", "0-99999999"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn workers_are_placed_in_turn_on_usable_cpus() {
        let usable = usable_cpus();
        assert_eq!(place_workers(&[], 0), Ok(usable.clone()));
        let first = usable[0];
        assert_eq!(place_workers(&[first], 3), Ok(vec![first; 3]));
        let refused = place_workers(&[first, 8000], 0).unwrap_err();
        assert!(refused.0.contains("may not use [8000]"), "{refused}");
    }

    #[test]
    fn cpus_are_chosen_by_core_and_by_node() {
        // Two nodes of two cores, each with two threads, numbered as most hosts do.
        let host = tempfile::tempdir().unwrap();
        for cpu in 0..8 {
            let folder = host.path().join(format!("cpu/cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("thread_siblings_list"), format!("{},{}\n", cpu % 4, cpu % 4 + 4)).unwrap();
        }
        for (node, cpus) in [(0, "0-1,4-5\n"), (1, "2-3,6-7\n")] {
            let folder = host.path().join(format!("node/node{node}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpulist"), cpus).unwrap();
        }
        fs::write(host.path().join("node/online"), "0-1\n").unwrap();
        let all: Vec<usize> = (0..8).collect();
        // What is asked for, what the process may use, what it gets or is told.
        let rows: &[(Cpus, &[usize], &str)] = &[
            (Cpus::All, &all, "[]"),
            (Cpus::List(vec![3, 1]), &all, "[3, 1]"),
            (Cpus::OnePerCore, &all, "[0, 1, 2, 3]"),
            (Cpus::OnePerCore, &[1, 4, 5, 6], "[1, 4, 6]"),
            (Cpus::Node(1), &all, "[2, 3, 6, 7]"),
            (Cpus::Node(1), &[0, 7], "[7]"),
            (Cpus::Node(1), &[0, 1], "may not use [2, 3, 6, 7]; it may use [0, 1]"),
            (Cpus::Node(2), &all, "no NUMA node 2; it has 0-1"),
        ];
        for (cpus, usable, expected) in rows {
            let found = cpus.chosen(host.path(), usable).map_or_else(|error| error.0, |chosen| format!("{chosen:?}"));
            let is_expected = if expected.starts_with('[') { found == *expected } else { found.contains(expected) };
            assert!(is_expected, "{cpus:?} of {usable:?}: {found}");
        }
        // A host that does not tell.
        let nothing = host.path().join("nothing");
        assert_eq!(Cpus::OnePerCore.chosen(&nothing, &[0, 1]), Ok(vec![0, 1]));
        assert!(Cpus::Node(0).chosen(&nothing, &[0]).unwrap_err().0.contains("it has none"));
    }

    #[test]
    fn there_is_memory() {
        assert!(memory_bytes() > 1 << 20);
    }
}
