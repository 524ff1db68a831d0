//! What the kernel tells of this process.
//!
//! Files of /proc are read on each call: for `INFO`, not for the request path.

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

fn nth(text: &str, index: usize) -> Option<u64> {
    text.split_ascii_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let before = Process::now();
        assert!(before.resident_bytes > 100_000, "{before:?}");
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 50 {
            std::hint::black_box((0..1000).sum::<u64>());
        }
        let after = Process::now();
        let spent = |process: Process| process.user_seconds + process.system_seconds;
        assert!(spent(after) > spent(before), "{before:?} {after:?}");
    }
}
