//! What of the host's memory costs latency.
//!
//! In: a [`Host`], whose moving figures were read twice. Out: a [`Look`] for each function. What must stay true: a file
//! that is not there means that the host does not tell, never that all is well or ill.

use super::host::chosen;
use super::{Host, Look};

const THP: &str = "sys/kernel/mm/transparent_hugepage";

pub(super) fn huge_pages(host: &Host) -> Look {
    let Some(text) = host.text(format!("{THP}/enabled")) else { return Look::Unknown("this kernel has no huge pages") };
    match chosen(&text) {
        "never" => Look::costs("transparent_hugepage/enabled is never", format!("echo madvise > /{THP}/enabled")),
        other => Look::good(other),
    }
}

pub(super) fn defragmentation(host: &Host) -> Look {
    let Some(text) = host.text(format!("{THP}/defrag")) else { return Look::Unknown("this kernel has no huge pages") };
    match chosen(&text) {
        "always" => Look::costs("transparent_hugepage/defrag is always", format!("echo defer+madvise > /{THP}/defrag")),
        other => Look::good(other),
    }
}

pub(super) fn swap(host: &Host) -> Look {
    let Some(swaps) = host.text("proc/swaps") else { return Look::Unknown("no list of swaps") };
    let devices = swaps.lines().skip(1).count();
    match host.number("proc/sys/vm/swappiness") {
        _ if devices == 0 => Look::good("no swap"),
        Some(0..=1) => Look::good("swap for emergencies only"),
        swappiness => {
            let swappiness = swappiness.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
            Look::costs(format!("{devices} swap areas, vm.swappiness is {swappiness}"), "sysctl -w vm.swappiness=1")
        }
    }
}

pub(super) fn overcommit(host: &Host) -> Look {
    match host.number("proc/sys/vm/overcommit_memory") {
        None => Look::Unknown("no such sysctl"),
        Some(2) => Look::costs("vm.overcommit_memory is 2", "sysctl -w vm.overcommit_memory=0"),
        Some(value) => Look::good(value.to_string()),
    }
}

pub(super) fn zone_reclaim(host: &Host) -> Look {
    match host.number("proc/sys/vm/zone_reclaim_mode") {
        None => Look::Unknown("no such sysctl"),
        Some(0) => Look::good("0"),
        Some(value) => Look::costs(format!("vm.zone_reclaim_mode is {value}"), "sysctl -w vm.zone_reclaim_mode=0"),
    }
}

pub(super) fn cgroup(host: &Host) -> Look {
    let maxmemory = host.plan.maxmemory;
    match host.memory_limit() {
        None => Look::good("no limit"),
        Some((limit, _)) if maxmemory != 0 && limit >= maxmemory + maxmemory / 8 => {
            Look::good(format!("{} MiB, and maxmemory {} MiB", limit >> 20, maxmemory >> 20))
        }
        Some((limit, name)) => {
            let wanted = (limit / 4 * 3) >> 20;
            let what = format!(
                "{name} is {} MiB and maxmemory {} MiB: less than an eighth is left",
                limit >> 20,
                maxmemory >> 20
            );
            Look::costs(what, format!("--maxmemory {wanted}mb"))
        }
    }
}
