//! CPU time of the server: of a process, or of some threads of ours.
//!
//! In: a process or threads. Out: the CPU time that they have had, from their clocks (clock_getcpuclockid(3)): exact
//! for threads of our own; of another process, a thread that runs at the moment counts up to the scheduler's last tick.
//! What must stay true: what cannot be read is `None`, never zero; a reading costs a system call for each process or
//! thread.

#![allow(unsafe_code, reason = "clock_gettime(2) of another process")]

use std::fs;
use std::time::Duration;

/// Whose CPU time is measured.
#[derive(Clone, Debug)]
pub enum Meter {
    /// All threads of a process.
    Process(u32),
    /// The same of a process and all those that it has started.
    Family(u32),
    /// These threads of our own process.
    Threads(Vec<u32>),
}

impl Meter {
    /// The CPU time so far.
    pub fn read(&self) -> Option<Duration> {
        match self {
            Meter::Process(pid) => cpu_time(*pid, PROCESS),
            Meter::Family(pid) => family(*pid).into_iter().map(|pid| cpu_time(pid, PROCESS)).sum(),
            Meter::Threads(threads) => threads.iter().map(|thread| cpu_time(*thread, THREAD)).sum(),
        }
    }

    /// CPUs beside which threads of a process may run on no other.
    pub fn pinned_cpus(&self) -> Vec<usize> {
        let Meter::Process(pid) = self else { return Vec::new() };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        let pinned = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
        });
        pinned.collect()
    }
}

/// A process and all that it has started, and those have.
pub fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    family
}

/// Kinds of CPU clocks, as the lowest bits of a clock's number have them (`include/linux/posix-timers.h`).
const PROCESS: libc::clockid_t = 2;
const THREAD: libc::clockid_t = 4 | PROCESS;

/// Of a process, or of a thread of our own process.
fn cpu_time(id: u32, kind: libc::clockid_t) -> Option<Duration> {
    // Zero would be ourselves, and beyond the largest of numbers (proc(5), `pid_max`) are those of others again.
    let id = libc::clockid_t::try_from(id).ok().filter(|id| (1..1 << 22).contains(id))?;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: needs room for one `timespec`; holds because `time` is one, and outlives the call.
    let result = unsafe { libc::clock_gettime(!id << 3 | kind, &raw mut time) };
    (result == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The threads of our own process.
pub fn own_threads() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The calling thread, as [`Meter::Threads`] names it; 0, which no thread has, when `/proc` is not there.
pub(super) fn own_thread() -> u32 {
    let link = fs::read_link("/proc/thread-self").ok();
    link.and_then(|link| link.file_name()?.to_str()?.parse().ok()).unwrap_or(0)
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Seconds since a process of this host began.
pub(super) fn age_seconds(pid: u32) -> Option<u64> {
    /// Of `/proc/PID/stat`, on every architecture that Linux has today (USER_HZ).
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything; field 22 is the start, and fields from 3 on follow the name.
    let start: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some((uptime as u64).saturating_sub(start / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_and_the_unknown_is_none() {
        let thread = Meter::Threads(vec![own_thread()]);
        let (own, before) = (Meter::Process(std::process::id()), thread.read().unwrap());
        let own_before = own.read().unwrap();
        while thread.read().unwrap() < before + Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let used = own.read().unwrap() - own_before;
        assert!((Duration::from_millis(20)..Duration::from_secs(60)).contains(&used), "{used:?}");
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let other = Meter::Family(busy.id());
        let has_run = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            other.read().unwrap() > Duration::from_millis(20)
        });
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(has_run && other.read().is_none());
        assert!(Meter::Process(std::process::id() + (1 << 29)).read().is_none(), "no other number for a process");
        // Other tests' threads come and go: a list may be outdated once, hardly ten times.
        assert!((0..10).any(|_| Meter::Threads(own_threads()).read().is_some()));
        assert!(Meter::Process(u32::MAX).read().is_none());
        assert!(Meter::Threads(vec![u32::MAX]).read().is_none());
        assert!(age_seconds(std::process::id()).is_some_and(|age| age < 3600));
        let cpu = crate::topology::usable_cpus()[0];
        let pinned = std::thread::spawn(move || {
            assert!(crate::topology::pin(cpu));
            Meter::Process(std::process::id()).pinned_cpus()
        });
        assert!(pinned.join().unwrap().contains(&cpu));
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
    }
}
