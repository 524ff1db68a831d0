//! What the kernel tells of this process.
//!
//! Files of /proc are read on each call: for `INFO` and exporters, not for the request path.

use std::fs;

/// Memory and processor time of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Processor time in user mode, seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel, seconds.
    pub system_seconds: f64,
}

impl Process {
    /// Reads /proc/self; what cannot be read is zero. Source: proc_pid_stat(5), proc_pid_statm(5).
    pub fn now() -> Process {
        let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| nth(&text, 1)).unwrap_or(0);
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, in parentheses, may hold spaces: fields are counted from behind it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let seconds = |index: usize| nth(fields, index).unwrap_or(0) as f64 / ticks_per_second;
        Process {
            resident_bytes: pages * rustix::param::page_size() as u64,
            user_seconds: seconds(11),
            system_seconds: seconds(12),
        }
    }
}

/// Open descriptors of this process; 0 when the kernel does not tell.
pub fn open_descriptors() -> usize {
    // The folder that is being read is one of them.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// What the scheduler tells of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThreadTime {
    /// On a CPU, seconds.
    pub run_seconds: f64,
    /// Ready to run while others had the CPU, seconds.
    pub wait_seconds: f64,
}

/// The threads named `worker-0`, `worker-1`, …: number, of the first worker where several share one, and times. Source:
/// proc_pid_schedstat(5).
pub fn worker_threads() -> Vec<(u16, ThreadTime)> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut threads: Vec<(u16, ThreadTime)> = entries
        .filter_map(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let index = name.trim_end().strip_prefix("worker-")?.parse().ok()?;
            let times = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            let seconds = |field: usize| nth(&times, field).unwrap_or(0) as f64 / 1e9;
            Some((index, ThreadTime { run_seconds: seconds(0), wait_seconds: seconds(1) }))
        })
        .collect();
    threads.sort_unstable_by_key(|(index, _)| *index);
    threads
}

fn nth(text: &str, index: usize) -> Option<u64> {
    text.split_ascii_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn() {
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 50 {
            std::hint::black_box((0..1000).sum::<u64>());
        }
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let before = Process::now();
        assert!(before.resident_bytes > 100_000, "{before:?}");
        burn();
        let after = Process::now();
        let spent = |process: Process| process.user_seconds + process.system_seconds;
        assert!(spent(after) > spent(before), "{before:?} {after:?}");
        assert!(open_descriptors() > 2);
    }

    #[test]
    fn a_worker_is_known_by_its_thread() {
        let worker = std::thread::Builder::new().name("worker-900".to_owned()).spawn(|| {
            burn();
            worker_threads().into_iter().find(|(index, _)| *index == 900)
        });
        let (_, time) = worker.unwrap().join().unwrap().expect("it is listed");
        assert!(time.run_seconds > 0.01, "{time:?}");
    }
}
