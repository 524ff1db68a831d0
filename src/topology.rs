//! The host as the workers see it: which CPUs the process may use, and how much memory there is.
//!
//! In: the kernel's files under /proc and /sys, the affinity mask. Out: a CPU for each worker, and its thread's place
//! in the kernel's queues. What must stay true: only CPUs of the process's own mask are handed out, so cpusets,
//! containers and `taskset` are obeyed.
#![allow(unsafe_code, reason = "sched_setscheduler(2)")]

use std::path::{Path, PathBuf};
use std::{fs, io};

/// What a process can address: 47 bits on x86-64, and no less on other 64-bit processors.
const ADDRESSES: u64 = 1 << 47;

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
    /// A CPU for each worker: the chosen ones in turn; see [`place_workers`].
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

/// A CPU for each worker: `cpus` (or all usable ones when empty) in turn, `workers` times; when 0, once each as far as
/// the quota of the process's control groups goes.
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
    let count = if workers == 0 { workers_for(from.len(), cpu_quota(Path::new("/"))) } else { workers as usize };
    Ok(from.iter().copied().cycle().take(count).collect())
}

/// As many as there are CPUs, and no more than a quota has work for: the others would only have it used up sooner.
fn workers_for(cpus: usize, quota: Option<f64>) -> usize {
    quota.map_or(cpus, |quota| cpus.min(quota.ceil() as usize)).max(1)
}

/// Pins the calling thread; false when the kernel refuses.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// Takes the calling thread, which a worker has started, off the worker's place: it runs wherever the process's first
/// thread may, when the kernel has time for it.
pub fn leave_place() {
    let first = rustix::thread::sched_getaffinity(Some(rustix::process::getpid()));
    // Where the kernel does not tell, or refuses, it stays where it is.
    let _ = first.and_then(|cpus| rustix::thread::sched_setaffinity(None, &cpus));
    let _ = set_class(libc::SCHED_OTHER, 0);
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
    set_class(policy, priority)
}

fn set_class(policy: libc::c_int, priority: u8) -> io::Result<()> {
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
    host.map_or(u64::MAX, |kib| kib << 10).min(cgroup_memory_bytes(Path::new("/")).unwrap_or(u64::MAX))
}

/// Address space that the process may have (`ulimit -v`), bytes.
pub fn address_space_bytes() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    limit.map_or(ADDRESSES, |limit| limit.min(ADDRESSES))
}

/// The process's control groups from its own to the topmost: those of version 2, then those of version 1 that have this
/// controller. Below `root` (`/`, or a test's tree) and relative to it. Source: cgroups(7).
pub fn control_groups(root: &Path, controller: &str) -> Vec<PathBuf> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let to_root = |folder: PathBuf, path: &str| {
        let path = PathBuf::from(path.trim_start_matches('/'));
        path.ancestors().map(|path| folder.join(path)).collect::<Vec<_>>()
    };
    let of_v2 = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let of_v1 = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some((controllers, path))
    });
    let mut groups = to_root("sys/fs/cgroup".into(), of_v2);
    groups.extend(of_v1.into_iter().flat_map(|(name, path)| to_root(Path::new("sys/fs/cgroup").join(name), path)));
    groups
}

/// The lowest limit of memory of the process's control groups.
fn cgroup_memory_bytes(root: &Path) -> Option<u64> {
    cgroup_memory_limit(root, &["memory.max", "memory.limit_in_bytes"]).map(|(bytes, _)| bytes)
}

/// The lowest of the limits with these names in the process's control groups below `root`, and its name.
pub fn cgroup_memory_limit(root: &Path, names: &[&'static str]) -> Option<(u64, &'static str)> {
    // Version 1 writes the largest number of pages for "none".
    const NONE: u64 = 1 << 62;
    let groups = control_groups(root, "memory").into_iter();
    let files = groups.flat_map(|group| names.iter().map(move |name| (*name, root.join(&group).join(name))));
    let limits = files.filter_map(|(name, file)| Some((fs::read_to_string(file).ok()?.trim().parse().ok()?, name)));
    limits.filter(|(bytes, _)| *bytes < NONE).min()
}

/// The lowest quota of CPU time of the process's control groups below `root`, in CPUs; `None` without one.
pub fn cpu_quota(root: &Path) -> Option<f64> {
    let quota = |group: PathBuf| {
        let text = |name| fs::read_to_string(root.join(&group).join(name)).ok();
        let of_v1 = || Some(format!("{} {}", text("cpu.cfs_quota_us")?.trim(), text("cpu.cfs_period_us")?.trim()));
        let both = text("cpu.max").or_else(of_v1)?;
        let (quota, period) = both.trim().split_once(' ')?;
        // No quota is `max`, or -1 in version 1.
        let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0).then(|| quota as f64 / period as f64)
    };
    control_groups(root, "cpu").into_iter().filter_map(quota).min_by(f64::total_cmp)
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
        assert_eq!(place_workers(&[], usable.len() as u16), Ok(usable.clone()));
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

    /// The process's groups and files below theirs; a quota in CPUs, a limit of memory, how many workers 8 CPUs have.
    type Limited<'a> = (&'a str, &'a [(&'a str, &'a str)], (Option<f64>, Option<u64>, usize));

    #[test]
    fn control_groups_limit_workers_and_memory() {
        let rows: &[Limited<'_>] = &[
            ("", &[], (None, None, 8)),
            ("0::/a/b\n", &[("a/cpu.max", "max 100000\n"), ("a/memory.max", "max\n")], (None, None, 8)),
            ("0::/a/b\n", &[("a/cpu.max", "150000 100000\n"), ("a/memory.max", "7\n")], (Some(1.5), Some(7), 2)),
            // The lowest counts, wherever it is.
            (
                "0::/a/b\n",
                &[("a/cpu.max", "20000 100000"), ("a/b/cpu.max", "300000 100000"), ("a/b/memory.max", "9")],
                (Some(0.2), Some(9), 1),
            ),
            ("0::/\n", &[("cpu.max", "6400000 100000"), ("memory.max", "5")], (Some(64.0), Some(5), 8)),
            (
                "4:memory:/x\n3:cpu,cpuacct:/x\n",
                &[
                    ("cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n"),
                    ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
                    ("memory/x/memory.limit_in_bytes", "8\n"),
                ],
                (Some(2.5), Some(8), 3),
            ),
            // Version 1 in a container that sees its own group at the top, whatever its name outside is.
            (
                "4:memory:/docker/1f\n3:cpu:/docker/1f\n0::/\n",
                &[
                    ("cpu/cpu.cfs_quota_us", "-1"),
                    ("cpu/cpu.cfs_period_us", "100000"),
                    ("memory/memory.limit_in_bytes", "6"),
                ],
                (None, Some(6), 8),
            ),
        ];
        for (own, files, (quota, memory, workers)) in rows {
            let host = tempfile::tempdir().unwrap();
            let below = files.iter().map(|(path, text)| (Path::new("sys/fs/cgroup").join(path), text));
            for (path, text) in below.chain([("proc/self/cgroup".into(), own)]) {
                let path = host.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let found = cpu_quota(host.path());
            assert_eq!((found, cgroup_memory_bytes(host.path())), (*quota, *memory), "{own}{files:?}");
            assert_eq!(workers_for(8, found), *workers, "{own}{files:?}");
        }
    }

    #[test]
    fn a_place_is_left() {
        // The class is the 41st field; proc_pid_stat(5).
        let class = || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().parse::<i32>().unwrap()
        };
        std::thread::spawn(move || {
            schedule(Scheduler::Batch).unwrap();
            assert_eq!(class(), libc::SCHED_BATCH);
            leave_place();
            assert_eq!(class(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn there_is_memory() {
        assert!(memory_bytes() > 1 << 20);
    }
}
