//! `corering doctor`: what of this host costs latency, why, and the command that mends it.
//!
//! In: a [`Host`], looked at twice, and the settings that a server would run with. Out: a [`Finding`] for each row of
//! [`CHECKS`]. What must stay true: nothing is changed; a check reads files below the host's root only, so that tests
//! run it on trees of their own; what a check cannot see it says.

mod cpu;
mod host;
mod memory;
mod network;
pub mod report;
mod ring;

pub use host::{Host, Plan};

/// What a check has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing that costs latency.
    Good(String),
    /// Something that does, and the command that mends it.
    Costs {
        /// What was seen.
        what: String,
        /// A command, or the flag of this server.
        fix: String,
    },
    /// The host does not tell.
    Unknown(&'static str),
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It was seen to happen.
    Verified,
    /// It follows from how the host is set up.
    Inferred,
}

/// One row of the table.
pub struct Check {
    /// What `--accept` takes.
    pub name: &'static str,
    /// Why it costs latency.
    pub why: &'static str,
    /// How sure it is.
    pub basis: Basis,
    /// Looks.
    pub look: fn(&Host) -> Look,
}

/// What one check has found.
#[derive(Debug)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// What it saw.
    pub look: Look,
    /// The operator knows and lives with it.
    pub is_accepted: bool,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Finding {
    /// Whether it costs latency and nobody has accepted that.
    pub fn costs(&self) -> bool {
        matches!(self.look, Look::Costs { .. }) && !self.is_accepted
    }
}

const fn seen(name: &'static str, why: &'static str, look: fn(&Host) -> Look) -> Check {
    Check { name, why, basis: Basis::Verified, look }
}

const fn inferred(name: &'static str, why: &'static str, look: fn(&Host) -> Look) -> Check {
    Check { name, why, basis: Basis::Inferred, look }
}

/// Every check, from what keeps the server from running to what costs it little.
#[rustfmt::skip]
pub static CHECKS: &[Check] = &[
    seen("io_uring", "without it the server does not start, but with --io epoll", ring::works),
    inferred("io", "epoll takes 1.16 times the CPU time a request with 32 connections, 1.14 times in pipelines of 16",
        ring::io),
    inferred("kernel", "the ring needs what Linux 6.1 brought", ring::kernel),
    inferred("io_uring_disabled", "the sysctl keeps some or all processes from io_uring", ring::disabled),
    inferred("memlock", "rings and their buffers are locked memory on some kernels", ring::memlock),
    seen("cpu_throttling", "a process over its quota stands still until the period of 100 ms is over", cpu::throttling),
    inferred("cpu_quota", "workers that spin or are busy use the quota up and then stand still", cpu::quota),
    inferred("cpu_sharing", "workers that share a CPU wait for each other's turns and cannot spin", cpu::sharing),
    seen("steal", "the hypervisor gives the CPU to others while requests wait", cpu::steal),
    seen("busy_processes", "their time slices of milliseconds are the tail of the requests on that CPU", cpu::busy),
    inferred("governor", "a clock that is lowered while idle takes tens of microseconds and more to rise",
        cpu::governor),
    inferred("c_states", "a CPU that sleeps deeply takes so long to wake, for each request after a pause",
        cpu::c_states),
    inferred("smt", "two workers on one physical core slow each other down", cpu::smt),
    seen("irqs", "a device's interrupts stop the worker whose CPU takes them", cpu::irqs),
    inferred("irqbalance", "it moves interrupts onto workers' CPUs at any time", cpu::irqbalance),
    inferred("numa", "memory and mail of another node cost two times as much and more", cpu::numa),
    inferred("numa_balancing", "pages are unmapped now and then to see who uses them: a fault for each",
        cpu::numa_balancing),
    inferred("clock", "the time is read on every turn of the loop; only these clocks need no system call", cpu::clock),
    inferred("mitigations", "every system call and interrupt pays for it; accept it where untrusted code runs",
        cpu::mitigations),
    inferred("huge_pages", "a look-up in a large cache waits for the page table more than for the item",
        memory::huge_pages),
    inferred("defragmentation", "whoever touches new memory first compacts memory for milliseconds",
        memory::defragmentation),
    inferred("swap", "a page that comes back from the disk costs milliseconds", memory::swap),
    inferred("overcommit", "memory is reserved as a whole; strict accounting refuses that", memory::overcommit),
    inferred("zone_reclaim", "a full node's memory is scanned before another node's is used", memory::zone_reclaim),
    inferred("cgroup_memory", "the kernel slows a group near its limit down, and ends it at the limit", memory::cgroup),
    inferred("files", "each client takes a descriptor; further ones wait unaccepted", network::files),
    seen("listen_overflows", "connections were dropped; clients try again after a second", network::listen_overflows),
    inferred("somaxconn", "the kernel cuts tcp-backlog down to it; a burst of connections is dropped",
        network::somaxconn),
    inferred("syn_backlog", "a burst of connections is dropped; clients try again after a second",
        network::syn_backlog),
    inferred("slow_start", "a connection that was idle sends large values in small steps again", network::slow_start),
    inferred("tcp_buffers", "a large value needs several round trips more", network::buffers),
    inferred("rps", "few CPUs do the network work of all workers", network::rps),
    inferred("xps", "sending on another CPU's queue takes a lock that CPUs share", network::xps),
    seen("softnet", "packets were dropped or left for later because a CPU had too many at once", network::softnet),
    seen("conntrack", "a full table drops packets of new connections", network::conntrack),
];

/// Runs every check; those named in `accepted` do not count.
pub fn examine(host: &Host, accepted: &[String]) -> Vec<Finding> {
    let examine = |check: &'static Check| {
        let is_accepted = accepted.iter().any(|name| name == check.name);
        Finding { check, look: (check.look)(host), is_accepted }
    };
    CHECKS.iter().map(examine).collect()
}

/// Shorthands for the checks.
impl Look {
    fn good(what: impl Into<String>) -> Look {
        Look::Good(what.into())
    }

    fn costs(what: impl Into<String>, fix: impl Into<String>) -> Look {
        Look::Costs { what: what.into(), fix: fix.into() }
    }
}
