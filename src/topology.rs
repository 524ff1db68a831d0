//! The host as the workers see it: which CPUs the process may use, and how much memory there is.
//!
//! In: the kernel's files under /proc and /sys, the affinity mask. Out: a CPU for each worker. What must stay true:
//! only CPUs of the process's own mask are handed out, so cpusets, containers and `taskset` are obeyed.

use std::fs;

/// Why workers cannot be placed as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed {
    /// The CPUs asked for that the process may not use.
    pub cpus: Vec<usize>,
    /// Those it may.
    pub allowed: Vec<usize>,
}

impl std::fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cpus: this process may not use {:?}; it may use {:?} (cpuset, container or taskset)",
            self.cpus, self.allowed
        )
    }
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
    let refused: Vec<usize> = cpus.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if !refused.is_empty() {
        return Err(NotAllowed { cpus: refused, allowed });
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
        assert_eq!(refused.cpus, [8000]);
    }

    #[test]
    fn there_is_memory() {
        assert!(memory_bytes() > 1 << 20);
    }
}
