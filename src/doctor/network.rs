//! What of the host's network costs latency.
//!
//! In: a [`Host`], whose moving figures were read twice. Out: a [`Look`] for each function. What must stay true: a file
//! that is not there means that the host does not tell, never that all is well or ill.

use super::{Host, Look};

/// Descriptors beside the clients' own.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Largest send buffer with which a value of 1 MiB still leaves in few steps, bytes.
const SEND_BUFFER_MIN: u64 = 1 << 20;

pub(super) fn files(host: &Host) -> Look {
    let Some(limit) = host.limit("Max open files", true) else { return Look::Unknown("no limits") };
    let needed = host.plan.maxclients + DESCRIPTORS_RESERVED;
    if limit >= needed {
        return Look::good(format!("{needed} descriptors are needed"));
    }
    let fix = format!("LimitNOFILE={needed} in the service, or ulimit -Hn {needed}, or a lower --maxclients");
    Look::costs(format!("{limit} descriptors may be open, maxclients needs {needed}"), fix)
}

/// A counter of /proc/net/netstat: a line of names, below it one of values.
fn netstat(text: &str, name: &str) -> Option<u64> {
    let (names, values) =
        text.lines().zip(text.lines().skip(1)).find(|(names, _)| names.split(' ').any(|n| n == name))?;
    let place = names.split(' ').position(|other| other == name)?;
    values.split(' ').nth(place)?.parse().ok()
}

pub(super) fn listen_overflows(host: &Host) -> Look {
    let path = "proc/net/netstat";
    let count = |text: &str| netstat(text, "ListenOverflows");
    let (before, now) = (host.earlier(path).and_then(count), host.text(path).as_deref().and_then(count));
    match (before, now) {
        (Some(before), Some(now)) if now > before => {
            let what = format!("{} connections were dropped while we looked", now - before);
            Look::costs(what, format!("sysctl -w net.core.somaxconn=4096, and --tcp-backlog {}", 4 * host.plan.backlog))
        }
        (Some(_), Some(now)) => Look::good(format!("none while we looked; {now} since the host's start")),
        _ => Look::Unknown("no counters"),
    }
}

fn at_least(host: &Host, sysctl: &str, wanted: u64) -> Look {
    match host.number(format!("proc/sys/{}", sysctl.replace('.', "/"))) {
        None => Look::Unknown("no such sysctl"),
        Some(value) if value >= wanted => Look::good(value.to_string()),
        Some(value) => Look::costs(
            format!("{sysctl} is {value} and tcp-backlog {}", host.plan.backlog),
            format!("sysctl -w {sysctl}={}", wanted.next_power_of_two().max(4096)),
        ),
    }
}

pub(super) fn somaxconn(host: &Host) -> Look {
    at_least(host, "net.core.somaxconn", host.plan.backlog)
}

pub(super) fn syn_backlog(host: &Host) -> Look {
    at_least(host, "net.ipv4.tcp_max_syn_backlog", host.plan.backlog)
}

pub(super) fn slow_start(host: &Host) -> Look {
    match host.number("proc/sys/net/ipv4/tcp_slow_start_after_idle") {
        None => Look::Unknown("no such sysctl"),
        Some(0) => Look::good("0"),
        Some(_) => {
            Look::costs("net.ipv4.tcp_slow_start_after_idle is 1", "sysctl -w net.ipv4.tcp_slow_start_after_idle=0")
        }
    }
}

pub(super) fn buffers(host: &Host) -> Look {
    let Some(sizes) = host.text("proc/sys/net/ipv4/tcp_wmem") else { return Look::Unknown("no such sysctl") };
    let sizes: Vec<u64> = sizes.split_ascii_whitespace().filter_map(|size| size.parse().ok()).collect();
    match sizes[..] {
        [_, _, most] if most >= SEND_BUFFER_MIN => Look::good(format!("{most} bytes at most")),
        [least, usual, most] => Look::costs(
            format!("net.ipv4.tcp_wmem allows {most} bytes"),
            format!("sysctl -w net.ipv4.tcp_wmem='{least} {usual} 4194304'"),
        ),
        _ => Look::Unknown("tcp_wmem has no three numbers"),
    }
}

/// A mask of CPUs as the kernel writes it: words of 32 bits in hexadecimal, the highest first.
fn mask(cpus: &[usize]) -> String {
    let words = cpus.iter().max().map_or(1, |most| most / 32 + 1);
    let word =
        |index: usize| cpus.iter().filter(|cpu| **cpu / 32 == index).fold(0_u32, |word, cpu| word | 1 << (cpu % 32));
    (0..words).rev().map(|index| format!("{:x}", word(index))).collect::<Vec<_>>().join(",")
}

/// Queues of an interface by the beginning of their names.
fn queues(host: &Host, interface: &str, kind: &str) -> Vec<String> {
    let folder = format!("sys/class/net/{interface}/queues");
    let names = host.names(&folder).into_iter().filter(|name| name.starts_with(kind));
    names.map(|name| format!("{folder}/{name}")).collect()
}

fn is_off(mask: &str) -> bool {
    mask.chars().all(|letter| matches!(letter, '0' | ','))
}

pub(super) fn rps(host: &Host) -> Look {
    let workers = host.plan.workers.len();
    let mut seen = false;
    for interface in host.interfaces() {
        let queues = queues(host, &interface, "rx-");
        let is_steered = |queue: &String| host.text(format!("{queue}/rps_cpus")).is_some_and(|mask| !is_off(&mask));
        seen |= !queues.is_empty();
        if !queues.is_empty() && queues.len() < workers && !queues.iter().any(is_steered) {
            let what = format!("{interface} has {} receive queues for {workers} workers, and RPS is off", queues.len());
            let mask = mask(&host.cpus());
            let fix = format!("for q in /sys/class/net/{interface}/queues/rx-*; do echo {mask} > $q/rps_cpus; done");
            return Look::costs(what, fix);
        }
    }
    if seen { Look::good("queues for all workers, or RPS") } else { Look::Unknown("no network interface that is up") }
}

pub(super) fn xps(host: &Host) -> Look {
    let mut seen = false;
    for interface in host.interfaces() {
        let queues = queues(host, &interface, "tx-");
        let is_steered = |queue: &String| host.text(format!("{queue}/xps_cpus")).is_some_and(|mask| !is_off(&mask));
        seen |= !queues.is_empty();
        if queues.len() > 1 && !queues.iter().any(is_steered) {
            let what = format!("{interface} has {} send queues and no CPU is assigned to them", queues.len());
            let cpus = host.cpus();
            let assign = |(index, queue): (usize, &String)| {
                let own: Vec<usize> = cpus.iter().copied().skip(index).step_by(queues.len()).collect();
                format!("echo {} > /{queue}/xps_cpus", mask(&own))
            };
            let fix: Vec<String> = queues.iter().enumerate().map(assign).collect();
            return Look::costs(what, fix.join("; "));
        }
    }
    if seen {
        Look::good("one send queue, or queues with CPUs")
    } else {
        Look::Unknown("no network interface that is up")
    }
}

/// Packets dropped and turns cut short, of all CPUs. Source: softnet_seq_show in the kernel's net/core/net-procfs.c.
fn softnet_counters(text: &str) -> u64 {
    let numbers = |line: &str| -> u64 {
        let fields = line.split_ascii_whitespace().skip(1).take(2);
        fields.filter_map(|field| u64::from_str_radix(field, 16).ok()).sum()
    };
    text.lines().map(numbers).sum()
}

pub(super) fn softnet(host: &Host) -> Look {
    let path = "proc/net/softnet_stat";
    let (Some(before), Some(now)) = (host.earlier(path), host.text(path)) else {
        return Look::Unknown("no counters");
    };
    match softnet_counters(&now).saturating_sub(softnet_counters(before)) {
        0 => Look::good("none while we looked"),
        count => Look::costs(
            format!("{count} times while we looked"),
            "sysctl -w net.core.netdev_max_backlog=5000 net.core.netdev_budget=600",
        ),
    }
}

pub(super) fn conntrack(host: &Host) -> Look {
    let number = |name: &str| host.number(format!("proc/sys/net/netfilter/nf_conntrack_{name}"));
    match (number("count"), number("max")) {
        (Some(count), Some(max)) if count * 10 >= max * 9 => Look::costs(
            format!("{count} of {max} connections are tracked"),
            format!("sysctl -w net.netfilter.nf_conntrack_max={}", max * 4),
        ),
        (Some(count), Some(max)) => Look::good(format!("{count} of {max}")),
        _ => Look::good("no connection tracking"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_reads_them() {
        for (cpus, text) in [(&[0, 1][..], "3"), (&[], "0"), (&[33], "2,0"), (&[0, 31, 64], "1,0,80000001")] {
            assert_eq!(mask(cpus), text);
        }
    }
}
