//! What of the host's CPUs costs latency: who else uses them, how they sleep, where they are.
//!
//! In: a [`Host`], whose moving figures were read twice. Out: a [`Look`] for each function. What must stay true: a file
//! that is not there means that the host does not tell, never that all is well or ill.

use std::collections::{BTreeMap, BTreeSet};

use super::{Host, Look};
use crate::topology::parse_cpu_list;

const CPU: &str = "sys/devices/system/cpu";

/// Share of a worker's CPU that others may use before it counts.
const SHARE_MAX: f64 = 0.02;

/// Busy threads that are shown and moved.
const BUSY_MAX: usize = 8;

/// Share of the time that the hypervisor may take.
const STEAL_MAX: f64 = 0.005;

/// Interrupts a second of one device that a worker's CPU may take.
const INTERRUPTS_MAX: f64 = 100.0;

/// Longest time that waking may take, microseconds.
const WAKE_US_MAX: u64 = 20;

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// A field of a file with a name and a number in each line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

pub(super) fn throttling(host: &Host) -> Look {
    let mut throttled = None;
    for group in host.groups() {
        let path = group.join("cpu.stat");
        let count = |text: &str| field(text, "nr_throttled");
        if let (Some(before), Some(now)) =
            (host.earlier(&path).and_then(count), host.text(&path).as_deref().and_then(count))
        {
            throttled = Some(throttled.unwrap_or(0) + now.saturating_sub(before));
        }
    }
    match throttled {
        None => Look::Unknown("no statistics of the control group"),
        Some(0) => Look::good("not while we looked"),
        Some(count) => Look::costs(
            format!("this control group was stopped {count} times while we looked"),
            "raise it: systemctl set-property UNIT CPUQuota=, docker update --cpus, or no CPU limit in Kubernetes",
        ),
    }
}

pub(super) fn quota(host: &Host) -> Look {
    match host.cpu_quota() {
        None => Look::good("no quota"),
        Some(cpus) => {
            let what = format!("the control group may use {cpus:.2} CPUs, for {} workers", host.plan.workers.len());
            let whole = (cpus as usize).max(1);
            Look::costs(
                what,
                format!(
                    "take the quota away and pin instead (AllowedCPUs=, --cpuset-cpus); else --workers {whole} --spin 0"
                ),
            )
        }
    }
}

pub(super) fn sharing(host: &Host) -> Look {
    let mut cpus = host.plan.workers.clone();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.len() == host.plan.workers.len() {
        return Look::good(format!("{} workers on CPUs {}", cpus.len(), list(&cpus)));
    }
    let what = format!("{} workers on CPUs {}", host.plan.workers.len(), list(&cpus));
    Look::costs(what, format!("--workers {}, or more CPUs for the process", cpus.len()))
}

/// Ticks of a CPU in /proc/stat: taken by the hypervisor, and all. Source: proc_stat(5).
fn steal_of(stat: &str, cpu: usize) -> Option<(u64, u64)> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().filter_map(|tick| tick.parse().ok()).collect();
    // The guests' time at the end is in the user's already.
    Some((*ticks.get(7)?, ticks.iter().take(8).sum()))
}

pub(super) fn steal(host: &Host) -> Look {
    let (Some(before), Some(now)) = (host.earlier("proc/stat"), host.text("proc/stat")) else {
        return Look::Unknown("no statistics of CPUs");
    };
    let share = |cpu: usize| {
        let ((stolen, all), (stolen_before, all_before)) = (steal_of(&now, cpu)?, steal_of(before, cpu)?);
        Some((stolen - stolen_before.min(stolen)) as f64 / (all - all_before.min(all)).max(1) as f64)
    };
    let worst = host.plan.workers.iter().filter_map(|cpu| Some((share(*cpu)?, *cpu)));
    match worst.max_by(|one, other| one.0.total_cmp(&other.0)) {
        None => Look::Unknown("no statistics of the workers' CPUs"),
        Some((share, cpu)) if share > STEAL_MAX => Look::costs(
            format!("the hypervisor took {:.1} % of CPU {cpu}'s time while we looked", share * 100.0),
            "a machine type with CPUs of its own; on your own hypervisor: virsh vcpupin DOMAIN VCPU CPU",
        ),
        Some(_) => Look::good("none while we looked"),
    }
}

pub(super) fn busy(host: &Host) -> Look {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    let own = std::process::id();
    let mut found: Vec<(f64, u32, String, usize)> = Vec::new();
    for (ids, thread) in host.threads() {
        // A server that runs already is what we are asked about.
        let is_ours = ids.0 == own || thread.name == "corering" || thread.name.starts_with("worker-");
        if is_ours || !host.plan.workers.contains(&thread.cpu) {
            continue;
        }
        let before = host.earlier_thread(ids).map_or(thread.ticks, |before| before.ticks);
        let share = thread.ticks.saturating_sub(before) as f64 / ticks_per_second / host.elapsed();
        if share > SHARE_MAX {
            found.push((share, ids.0, thread.name, thread.cpu));
        }
    }
    found.sort_by(|one, other| other.0.total_cmp(&one.0));
    if found.is_empty() {
        return Look::good("none while we looked");
    }
    let all = found.len();
    found.truncate(BUSY_MAX);
    let shown =
        found.iter().map(|(share, pid, name, cpu)| format!("{name} ({pid}) {:.0} % of CPU {cpu}", share * 100.0));
    let more = if all > BUSY_MAX { format!(", and {} threads more", all - BUSY_MAX) } else { String::new() };
    let what = shown.collect::<Vec<_>>().join(", ") + &more;
    Look::costs(what, elsewhere(host, &found.iter().map(|(_, pid, ..)| *pid).collect()))
}

/// The command that takes processes away from the workers' CPUs.
fn elsewhere(host: &Host, processes: &BTreeSet<u32>) -> String {
    let pids = processes.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    // It takes one process.
    let taskset = |cpus: &str| match processes.len() {
        1 => format!("taskset -acp {cpus} {pids}"),
        _ => format!("for p in {pids}; do taskset -acp {cpus} $p; done"),
    };
    match (host.other_cpus(), &host.plan.workers[..]) {
        (Some(others), _) => format!("{}, or AllowedCPUs={others} in their services", taskset(&others)),
        (None, [first, rest @ ..]) if !rest.is_empty() => {
            format!("leave them a CPU: --cpus {}, and {}", list(rest), taskset(&first.to_string()))
        }
        (None, _) => format!("this host has one CPU: run these processes elsewhere, or renice -n 19 -p {pids}"),
    }
}

pub(super) fn governor(host: &Host) -> Look {
    let of = |cpu: &usize| host.text(format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor"));
    let governors: Vec<String> = host.plan.workers.iter().filter_map(of).collect();
    match governors.iter().find(|governor| *governor != "performance") {
        _ if governors.is_empty() => {
            Look::Unknown("the clock is not this kernel's to set, as in most virtual machines")
        }
        None => Look::good("performance"),
        Some(other) => Look::costs(format!("the governor is {other}"), "cpupower frequency-set --governor performance"),
    }
}

pub(super) fn c_states(host: &Host) -> Look {
    let mut deepest = None;
    for cpu in &host.plan.workers {
        let folder = format!("{CPU}/cpu{cpu}/cpuidle");
        for state in host.names(&folder) {
            let number = |name: &str| host.number(format!("{folder}/{state}/{name}"));
            if let (Some(latency_us), Some(0)) = (number("latency"), number("disable")) {
                let name = host.text(format!("{folder}/{state}/name")).unwrap_or(state);
                deepest = deepest.max(Some((latency_us, name)));
            }
        }
    }
    match deepest {
        None => Look::Unknown("this kernel does not choose idle states, as in most virtual machines"),
        Some((latency_us, name)) if latency_us > WAKE_US_MAX => Look::costs(
            format!("waking from {name} takes {latency_us} µs"),
            format!("cpupower idle-set --disable-by-latency {WAKE_US_MAX}"),
        ),
        Some((latency_us, name)) => Look::good(format!("{name}, {latency_us} µs")),
    }
}

fn siblings(host: &Host, cpu: usize) -> Option<Vec<usize>> {
    parse_cpu_list(&host.text(format!("{CPU}/cpu{cpu}/topology/thread_siblings_list"))?)
}

pub(super) fn smt(host: &Host) -> Look {
    let workers = &host.plan.workers;
    let mut firsts = Vec::new();
    let mut pair = None;
    for cpu in workers {
        let Some(siblings) = siblings(host, *cpu) else { return Look::Unknown("no topology") };
        match siblings.iter().find(|sibling| firsts.contains(*sibling) && *sibling != cpu) {
            Some(sibling) => pair = pair.or(Some((*sibling, *cpu))),
            None => firsts.push(*cpu),
        }
    }
    match pair {
        None => Look::good("each worker has a physical core of its own"),
        Some((one, other)) => {
            Look::costs(format!("CPUs {one} and {other} are one physical core"), format!("--cpus {}", list(&firsts)))
        }
    }
}

/// Interrupts of each device on each CPU: `line → counts by CPU`. Source: proc_interrupts(5).
fn interrupts(text: &str) -> BTreeMap<u32, (BTreeMap<usize, u64>, String)> {
    let mut lines = text.lines();
    let columns = lines.next().unwrap_or_default().split_ascii_whitespace();
    let columns: Vec<usize> = columns.filter_map(|name| name.strip_prefix("CPU")?.parse().ok()).collect();
    let device = |line: &str| {
        let (number, rest) = line.trim().split_once(':')?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let counts = columns.iter().zip(&words).filter_map(|(cpu, word)| Some((*cpu, word.parse().ok()?)));
        Some((number.parse().ok()?, (counts.collect(), words.last().copied().unwrap_or_default().to_owned())))
    };
    lines.filter_map(device).collect()
}

pub(super) fn irqs(host: &Host) -> Look {
    let path = "proc/interrupts";
    let (Some(before), Some(now)) = (host.earlier(path), host.text(path)) else {
        return Look::Unknown("no statistics of interrupts");
    };
    let Some(others) = host.other_cpus() else { return Look::good("every CPU has a worker: there is no other place") };
    let before = interrupts(before);
    let mut worst: Option<(f64, u32, String, usize)> = None;
    for (line, (counts, device)) in interrupts(&now) {
        for cpu in &host.plan.workers {
            let Some(count) = counts.get(cpu) else { continue };
            let count_before = before.get(&line).and_then(|(counts, _)| counts.get(cpu)).unwrap_or(count);
            let rate = (count - count_before.min(count)) as f64 / host.elapsed();
            if rate > INTERRUPTS_MAX && worst.as_ref().is_none_or(|worst| rate > worst.0) {
                worst = Some((rate, line, device.clone(), *cpu));
            }
        }
    }
    match worst {
        None => Look::good("few on workers' CPUs while we looked"),
        Some((rate, line, device, cpu)) => Look::costs(
            format!("CPU {cpu} took {rate:.0} interrupts a second of {device} (line {line})"),
            format!("echo {others} > /proc/irq/{line}/smp_affinity_list"),
        ),
    }
}

pub(super) fn irqbalance(host: &Host) -> Look {
    let runs = host.threads().into_values().any(|thread| thread.name == "irqbalance");
    if !runs {
        return Look::good("it does not run");
    }
    let banned = format!("IRQBALANCE_BANNED_CPULIST={}", list(&host.plan.workers));
    Look::costs(
        "irqbalance runs",
        format!("systemctl disable --now irqbalance, or {banned} in /etc/default/irqbalance"),
    )
}

/// The CPUs of each node of memory.
fn nodes(host: &Host) -> Vec<(String, Vec<usize>)> {
    let folder = "sys/devices/system/node";
    let names = host
        .names(folder)
        .into_iter()
        .filter(|name| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok()));
    let cpus = |name: &String| parse_cpu_list(&host.text(format!("{folder}/{name}/cpulist"))?);
    names.filter_map(|name| Some((name.clone(), cpus(&name)?))).collect()
}

pub(super) fn numa(host: &Host) -> Look {
    let nodes = nodes(host);
    let workers = &host.plan.workers;
    let used: Vec<&(String, Vec<usize>)> =
        nodes.iter().filter(|(_, cpus)| workers.iter().any(|cpu| cpus.contains(cpu))).collect();
    let Some((first, first_cpus)) = used.first() else { return Look::Unknown("no nodes of memory") };
    if used.len() > 1 {
        let distance = host.text(format!("sys/devices/system/node/{first}/distance")).unwrap_or_default();
        let names: Vec<&str> = used.iter().map(|(name, _)| name.as_str()).collect();
        let what = format!("workers are on {}, distances of {first}: {distance}", names.join(" and "));
        let own: Vec<usize> = workers.iter().copied().filter(|cpu| first_cpus.contains(cpu)).collect();
        return Look::costs(what, format!("a server for each node, joined by a cluster-map: --cpus {}", list(&own)));
    }
    for interface in host.interfaces() {
        let node = host.text(format!("sys/class/net/{interface}/device/numa_node")).filter(|node| node != "-1");
        let Some((name, cpus)) = node.and_then(|node| nodes.iter().find(|(name, _)| *name == format!("node{node}")))
        else {
            continue;
        };
        if name != first {
            return Look::costs(
                format!("{interface} is on {name}, the workers are on {first}"),
                format!("--cpus {}", list(cpus)),
            );
        }
    }
    Look::good(format!("all on {first}"))
}

pub(super) fn numa_balancing(host: &Host) -> Look {
    match host.number("proc/sys/kernel/numa_balancing") {
        None | Some(0) => Look::good("off"),
        Some(_) if nodes(host).len() < 2 => Look::good("one node"),
        Some(value) => Look::costs(format!("kernel.numa_balancing is {value}"), "sysctl -w kernel.numa_balancing=0"),
    }
}

pub(super) fn clock(host: &Host) -> Look {
    let folder = "sys/devices/system/clocksource/clocksource0";
    let Some(current) = host.text(format!("{folder}/current_clocksource")) else {
        return Look::Unknown("no clock source");
    };
    if matches!(
        current.as_str(),
        "tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "riscv_clocksource"
    ) {
        return Look::good(current);
    }
    let available = host.text(format!("{folder}/available_clocksource")).unwrap_or_default();
    let fix = if available.split(' ').any(|name| name == "tsc") {
        format!("echo tsc > /{folder}/current_clocksource")
    } else {
        "tsc=reliable on the kernel's command line, if the processor's counter is constant".to_owned()
    };
    Look::costs(format!("the clock source is {current}"), fix)
}

/// What each entry into the kernel or exit from it pays for. Source: the kernel's admin-guide/hw-vuln.
const COSTLY: &[&str] =
    &["Mitigation: PTI", "Mitigation: IBRS", "Clear CPU buffers", "Safe RET", "untrained return thunk"];

pub(super) fn mitigations(host: &Host) -> Look {
    let folder = format!("{CPU}/vulnerabilities");
    let names = host.names(&folder);
    if names.is_empty() {
        return Look::Unknown("this kernel does not tell");
    }
    let is_costly = |name: &String| {
        let text = host.text(format!("{folder}/{name}")).unwrap_or_default();
        text.starts_with("Mitigation") && COSTLY.iter().any(|costly| text.contains(costly))
    };
    let found: Vec<String> = names.into_iter().filter(is_costly).collect();
    if found.is_empty() {
        return Look::good("none that costs at each system call");
    }
    let fix = "mitigations=off on the kernel's command line where nobody else's code runs; else --accept mitigations";
    Look::costs(format!("against {}", found.join(", ")), fix)
}
