//! Trees of files below /proc and /sys, and what the doctor has to find there.

use corering::config::Io;
use corering::doctor::Plan;

/// A file, its text at the first look, and at the second if it changes.
type File = (&'static str, &'static str, Option<&'static str>);

const fn still(path: &'static str, text: &'static str) -> File {
    (path, text, None)
}

const fn moving(path: &'static str, first: &'static str, second: &'static str) -> File {
    (path, first, Some(second))
}

/// A check on a tree, with workers on CPUs 0 and 1 unless the plan is changed.
pub(crate) struct Row {
    pub(crate) check: &'static str,
    pub(crate) files: &'static [File],
    pub(crate) plan: fn(&mut Plan),
    /// `None` when it is good; else a part of what is seen and one of the remedy.
    pub(crate) costs: Option<(&'static str, &'static str)>,
}

const fn good(check: &'static str, files: &'static [File]) -> Row {
    Row { check, files, plan: |_| {}, costs: None }
}

const fn bad(check: &'static str, files: &'static [File], what: &'static str, fix: &'static str) -> Row {
    Row { check, files, plan: |_| {}, costs: Some((what, fix)) }
}

fn forbid_io_uring(plan: &mut Plan) {
    (plan.io, plan.ring) = (Io::Epoll, Some(Err("not permitted".to_owned())));
}

impl Row {
    const fn plan(mut self, plan: fn(&mut Plan)) -> Row {
        self.plan = plan;
        self
    }
}

const LIMITS: File = still(
    "proc/self/limits",
    "Limit                     Soft Limit           Hard Limit           Units\n\
     Max open files            1024                 524288               files\n\
     Max locked memory         8388608              8388608              bytes",
);
const LOW_LIMITS: File = still(
    "proc/self/limits",
    "Max open files            1024                 4096                 files\n\
     Max locked memory         65536                65536                bytes",
);
const NO_LIMITS: File =
    still("proc/self/limits", "Max locked memory         unlimited            unlimited            bytes");
const UPTIME: File = moving("proc/uptime", "100.00 50.00", "101.00 51.00");
const FOUR_CPUS: File = still("sys/devices/system/cpu/online", "0-3");

const STAT: &str = "cpu  0\ncpu0 100 0 100 1000 0 0 0 5 0 0\ncpu1 100 0 100 1000 0 0 0 5 0 0";
const QUIET: File =
    moving("proc/stat", STAT, "cpu  0\ncpu0 110 0 110 1080 0 0 0 5 9 0\ncpu1 100 0 100 1100 0 0 0 5 0 0");
const STOLEN: File =
    moving("proc/stat", STAT, "cpu  0\ncpu0 110 0 110 1080 0 0 0 5 0 0\ncpu1 100 0 100 1080 0 0 0 25 0 0");

const GROUP: File = still("proc/self/cgroup", "0::/a/b");
const OLD_GROUP: File = still("proc/self/cgroup", "3:cpu,cpuacct:/x");
const OLD_PERIOD: File = still("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000");
const OLD_QUOTA: &str = "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us";
const OLD_MEMORY_GROUP: File = still("proc/self/cgroup", "5:memory:/x");
const OLD_MEMORY: &str = "sys/fs/cgroup/memory/x/memory.limit_in_bytes";
const THROTTLED: File =
    moving("sys/fs/cgroup/a/cpu.stat", "nr_periods 9\nnr_throttled 4", "nr_periods 19\nnr_throttled 7");

/// Ticks are the twelfth and thirteenth number behind the name, the CPU is the third from the end.
macro_rules! thread {
    ($name:literal, $ticks:literal, $cpu:literal) => {
        concat!(
            "77 (",
            $name,
            ") R 1 1 1 0 -1 0 0 0 0 0 ",
            $ticks,
            " 50 0 0 20 0 1 0 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 ",
            $cpu,
            " 0 0"
        )
    };
}

const THREAD: &str = "proc/77/task/77/stat";
const BUSY: File = moving(THREAD, thread!("backup (x)", "100", "1"), thread!("backup (x)", "130", "1"));
const BUSY_TOO: File = moving("proc/78/task/78/stat", thread!("indexer", "100", "0"), thread!("indexer", "120", "0"));
const BUSY_ELSEWHERE: File = moving(THREAD, thread!("backup (x)", "100", "1"), thread!("backup (x)", "130", "3"));
const BUSY_OURS: File = moving(THREAD, thread!("worker-0", "100", "1"), thread!("worker-0", "190", "1"));
const IRQBALANCE: File = still(THREAD, thread!("irqbalance", "1", "1"));

const INTERRUPTS: &str =
    "       CPU0   CPU1   CPU2\n  24:  100   200   7   PCI-MSI 1-edge  eth0-rx-0\n LOC:  5   5   5   Local";
const FEW_INTERRUPTS: File = moving(
    "proc/interrupts",
    INTERRUPTS,
    "       CPU0   CPU1   CPU2\n  24:  120   250   9000   PCI-MSI 1-edge  eth0-rx-0\n LOC:  5000   5   5   Local",
);
const MANY_INTERRUPTS: File = moving(
    "proc/interrupts",
    INTERRUPTS,
    "       CPU0   CPU1   CPU2\n  24:  100   900   7   PCI-MSI 1-edge  eth0-rx-0\n LOC:  5   5   5   Local",
);

const GOVERNOR: &str = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
const SHALLOW: [File; 4] = [
    still("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2"),
    still("sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0"),
    still("sys/devices/system/cpu/cpu0/cpuidle/state2/latency", "133"),
    still("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "1"),
];
const DEEP: &[File] = &[
    still("sys/devices/system/cpu/cpu0/cpuidle/state2/latency", "133"),
    still("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "0"),
    still("sys/devices/system/cpu/cpu0/cpuidle/state2/name", "C6"),
];
const SIBLINGS_0: &str = "sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
const SIBLINGS_1: &str = "sys/devices/system/cpu/cpu1/topology/thread_siblings_list";

const ONE_NODE: File = still("sys/devices/system/node/node0/cpulist", "0-3");
const TWO_NODES: [File; 3] = [
    still("sys/devices/system/node/node0/cpulist", "0,2"),
    still("sys/devices/system/node/node1/cpulist", "1,3"),
    still("sys/devices/system/node/node0/distance", "10 21"),
];
const CARD_ON_NODE_1: &[File] = &[
    still("sys/devices/system/node/node0/cpulist", "0-1"),
    still("sys/devices/system/node/node1/cpulist", "2-3"),
    still("sys/class/net/eth0/operstate", "up"),
    still("sys/class/net/eth0/device/numa_node", "1"),
];
const BALANCING: File = still("proc/sys/kernel/numa_balancing", "1");
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
const CLOCKS: &str = "sys/devices/system/clocksource/clocksource0/available_clocksource";
const SPECTRE: &str = "sys/devices/system/cpu/vulnerabilities/spectre_v2";
const MELTDOWN: &str = "sys/devices/system/cpu/vulnerabilities/meltdown";
const MDS: &str = "sys/devices/system/cpu/vulnerabilities/mds";

const THP: &str = "sys/kernel/mm/transparent_hugepage/enabled";
const DEFRAG: &str = "sys/kernel/mm/transparent_hugepage/defrag";
const SWAPS: File = still("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 8388604 0 -2");

const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 3 3\nIpExt: InNoRoutes\nIpExt: 0";
const OVERFLOWS: File = moving(
    "proc/net/netstat",
    NETSTAT,
    "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 8 8\nIpExt: InNoRoutes\nIpExt: 0",
);
const ETH0_UP: File = still("sys/class/net/eth0/operstate", "up");
const ONE_QUEUE: &[File] = &[
    ETH0_UP,
    still("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
    still("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
];
const TWO_SEND_QUEUES: &[File] = &[
    ETH0_UP,
    still("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
    still("sys/class/net/eth0/queues/tx-1/xps_cpus", "00,0000"),
];
const CONNECTIONS: File = still("proc/sys/net/netfilter/nf_conntrack_count", "95");
const CONNECTIONS_MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    good("io_uring", &[]),
    bad("io_uring", &[], "not permitted", "seccomp").plan(|plan| plan.ring = Some(Err("not permitted".to_owned()))),
    good("io_uring", &[]).plan(forbid_io_uring),
    good("io", &[]),
    bad("io", &[], "io_uring is to be had here", "--io uring").plan(|plan| plan.io = Io::Epoll),
    bad("io", &[], "not permitted", "seccomp.json").plan(forbid_io_uring),
    good("kernel", &[still("proc/sys/kernel/osrelease", "6.1.0-13-amd64")]),
    bad("kernel", &[still("proc/sys/kernel/osrelease", "5.15.0")], "Linux 5.15", "reboot"),
    good("io_uring_disabled", &[still("proc/sys/kernel/io_uring_disabled", "0")]),
    bad("io_uring_disabled", &[still("proc/sys/kernel/io_uring_disabled", "2")], "is 2",
        "sysctl -w kernel.io_uring_disabled=0"),
    good("memlock", &[LIMITS]),
    good("memlock", &[NO_LIMITS]),
    bad("memlock", &[LOW_LIMITS], "65536", "LimitMEMLOCK"),
    good("cpu_throttling", &[still("sys/fs/cgroup/cpu.stat", "nr_throttled 4")]),
    bad("cpu_throttling", &[GROUP, THROTTLED], "3 times", "CPUQuota"),
    good("cpu_quota", &[GROUP, still("sys/fs/cgroup/a/cpu.max", "max 100000")]),
    bad("cpu_quota", &[GROUP, still("sys/fs/cgroup/a/cpu.max", "150000 100000")], "1.50 CPUs", "--workers 1"),
    good("cpu_quota", &[OLD_GROUP, OLD_PERIOD, still(OLD_QUOTA, "-1")]),
    bad("cpu_quota", &[OLD_GROUP, OLD_PERIOD, still(OLD_QUOTA, "50000")], "0.50 CPUs", "pin instead"),
    good("cpu_sharing", &[]),
    bad("cpu_sharing", &[], "3 workers on CPUs 0,1", "--workers 2").plan(|plan| plan.workers = vec![0, 1, 0]),
    good("steal", &[QUIET]),
    bad("steal", &[STOLEN], "20.0 % of CPU 1", "vcpupin"),
    good("busy_processes", &[UPTIME, BUSY_ELSEWHERE]),
    good("busy_processes", &[UPTIME, BUSY_OURS]),
    bad("busy_processes", &[UPTIME, BUSY], "backup (x) (77) 30 % of CPU 1", "taskset -acp 0 77"),
    bad("busy_processes", &[UPTIME, FOUR_CPUS, BUSY], "30 %", "taskset -acp 2,3 77"),
    bad("busy_processes", &[UPTIME, FOUR_CPUS, BUSY, BUSY_TOO], "(77) 30 % of CPU 1, indexer (78) 20 % of CPU 0",
        "for p in 77 78; do taskset -acp 2,3 $p; done"),
    bad("busy_processes", &[UPTIME, BUSY], "30 %", "renice").plan(|plan| plan.workers = vec![1]),
    good("governor", &[still(GOVERNOR, "performance")]),
    bad("governor", &[still(GOVERNOR, "powersave")], "powersave", "cpupower frequency-set"),
    good("c_states", &SHALLOW),
    bad("c_states", DEEP, "C6 takes 133", "idle-set"),
    good("smt", &[still(SIBLINGS_0, "0,2"), still(SIBLINGS_1, "1,3")]),
    bad("smt", &[still(SIBLINGS_0, "0-1"), still(SIBLINGS_1, "0-1")], "0 and 1", "--cpus 0"),
    good("irqs", &[UPTIME, FOUR_CPUS, FEW_INTERRUPTS]),
    good("irqs", &[UPTIME, MANY_INTERRUPTS]),
    bad("irqs", &[UPTIME, FOUR_CPUS, MANY_INTERRUPTS], "CPU 1 took 700",
        "echo 2,3 > /proc/irq/24/smp_affinity_list"),
    good("irqbalance", &[BUSY]),
    bad("irqbalance", &[IRQBALANCE], "runs", "IRQBALANCE_BANNED_CPULIST=0,1"),
    good("numa", &[ONE_NODE]),
    good("numa", CARD_ON_NODE_1).plan(|plan| plan.workers = vec![2, 3]),
    bad("numa", &TWO_NODES, "node0 and node1, distances of node0: 10 21", "--cpus 0"),
    bad("numa", CARD_ON_NODE_1, "eth0 is on node1", "--cpus 2,3"),
    good("numa_balancing", &[BALANCING, ONE_NODE]),
    bad("numa_balancing", &[BALANCING, TWO_NODES[0], TWO_NODES[1]], "is 1", "sysctl -w kernel.numa_balancing=0"),
    good("clock", &[still(CLOCK, "tsc")]),
    bad("clock", &[still(CLOCK, "hpet"), still(CLOCKS, "tsc hpet acpi_pm")], "hpet", "echo tsc >"),
    bad("clock", &[still(CLOCK, "xen"), still(CLOCKS, "xen")], "xen", "command line"),
    good("mitigations", &[still(MELTDOWN, "Not affected"),
        still(SPECTRE, "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional")]),
    good("mitigations", &[still(SPECTRE, "Mitigation: Retpolines; IBPB: conditional; IBRS_FW")]),
    bad("mitigations", &[still(MELTDOWN, "Mitigation: PTI"),
        still(MDS, "Mitigation: Clear CPU buffers; SMT vulnerable")], "mds, meltdown", "--accept mitigations"),
    good("huge_pages", &[still(THP, "always [madvise] never")]),
    bad("huge_pages", &[still(THP, "always madvise [never]")], "never", "echo madvise >"),
    good("defragmentation", &[still(DEFRAG, "always defer defer+madvise [madvise] never")]),
    bad("defragmentation", &[still(DEFRAG, "[always] defer defer+madvise madvise never")], "always",
        "echo defer+madvise >"),
    good("swap", &[still("proc/swaps", "Filename Type Size Used Priority"), still("proc/sys/vm/swappiness", "60")]),
    good("swap", &[SWAPS, still("proc/sys/vm/swappiness", "1")]),
    bad("swap", &[SWAPS, still("proc/sys/vm/swappiness", "60")], "is 60", "sysctl -w vm.swappiness=1"),
    good("overcommit", &[still("proc/sys/vm/overcommit_memory", "0")]),
    bad("overcommit", &[still("proc/sys/vm/overcommit_memory", "2")], "is 2", "sysctl -w vm.overcommit_memory=0"),
    good("zone_reclaim", &[still("proc/sys/vm/zone_reclaim_mode", "0")]),
    bad("zone_reclaim", &[still("proc/sys/vm/zone_reclaim_mode", "1")], "is 1", "sysctl -w vm.zone_reclaim_mode=0"),
    good("cgroup_memory", &[still("sys/fs/cgroup/memory.max", "max")]),
    good("cgroup_memory", &[GROUP, still("sys/fs/cgroup/a/memory.max", "2147483648")]),
    bad("cgroup_memory", &[GROUP, still("sys/fs/cgroup/a/memory.high", "1073741824")], "memory.high is 1024 MiB",
        "--maxmemory 768mb"),
    good("cgroup_memory", &[OLD_MEMORY_GROUP, still(OLD_MEMORY, "9223372036854771712")])
        .plan(|plan| plan.maxmemory = 0),
    bad("cgroup_memory", &[OLD_MEMORY_GROUP, still(OLD_MEMORY, "1073741824")], "memory.limit_in_bytes is 1024 MiB",
        "--maxmemory 768mb"),
    bad("cgroup_memory", &[still("sys/fs/cgroup/memory.max", "1073741824")], "memory.max", "--maxmemory 768mb")
        .plan(|plan| plan.maxmemory = 0),
    good("files", &[LIMITS]),
    bad("files", &[LOW_LIMITS], "4096", "LimitNOFILE=10064"),
    good("listen_overflows", &[still("proc/net/netstat", NETSTAT)]),
    bad("listen_overflows", &[OVERFLOWS], "5 connections", "somaxconn"),
    good("somaxconn", &[still("proc/sys/net/core/somaxconn", "4096")]),
    bad("somaxconn", &[still("proc/sys/net/core/somaxconn", "128")], "is 128", "sysctl -w net.core.somaxconn=4096"),
    good("syn_backlog", &[still("proc/sys/net/ipv4/tcp_max_syn_backlog", "1024")]),
    bad("syn_backlog", &[still("proc/sys/net/ipv4/tcp_max_syn_backlog", "128")], "is 128",
        "sysctl -w net.ipv4.tcp_max_syn_backlog=4096"),
    good("slow_start", &[still("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0")]),
    bad("slow_start", &[still("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1")], "is 1",
        "sysctl -w net.ipv4.tcp_slow_start_after_idle=0"),
    good("tcp_buffers", &[still("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304")]),
    bad("tcp_buffers", &[still("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t212992")], "212992",
        "tcp_wmem='4096 16384 4194304'"),
    good("rps", ONE_QUEUE).plan(|plan| plan.workers = vec![0]),
    good("rps", &[ETH0_UP, still("sys/class/net/eth0/queues/rx-0/rps_cpus", "3")]),
    bad("rps", ONE_QUEUE, "1 receive queues for 2 workers", "echo 3 > $q/rps_cpus"),
    good("xps", ONE_QUEUE),
    bad("xps", TWO_SEND_QUEUES, "2 send queues",
        "echo 1 > /sys/class/net/eth0/queues/tx-0/xps_cpus; echo 2 > /sys/class/net/eth0/queues/tx-1/xps_cpus"),
    good("softnet", &[moving("proc/net/softnet_stat", "000000a0 00000001 00000000 0", "000000f0 00000001 00000000 0")]),
    bad("softnet", &[moving("proc/net/softnet_stat", "000000a0 00000001 00000000 0", "000000f0 00000002 0000000a 0")],
        "11 times", "netdev_max_backlog"),
    good("conntrack", &[]),
    good("conntrack", &[CONNECTIONS, still(CONNECTIONS_MAX, "262144")]),
    bad("conntrack", &[CONNECTIONS, still(CONNECTIONS_MAX, "100")], "95 of 100", "nf_conntrack_max=400"),
];
