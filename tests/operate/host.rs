//! The script that prepares a host, on a tree of files: what it changes the doctor no longer finds, and it changes
//! everything back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use corering::doctor::{self, Host};

use crate::doctor::{plan, write};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/host/host.sh");

/// The files, what they have before and after; the second worker's CPU is the last without a device's interrupts.
const FILES: &[(&str, &str, &str)] = &[
    ("proc/sys/net/core/somaxconn", "128", "4096"),
    ("proc/sys/net/core/netdev_budget", "900", "900"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65536", "65536"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1", "0"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t212992", "4096 16384 4194304"),
    ("proc/sys/vm/swappiness", "60", "1"),
    ("proc/sys/kernel/numa_balancing", "0", "0"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", "madvise"),
    ("sys/kernel/mm/transparent_hugepage/defrag", "[always] defer defer+madvise madvise never", "defer+madvise"),
    ("sys/devices/system/cpu/online", "0-3", "0-3"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "performance"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2", "2"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0", "0"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/latency", "133", "133"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "0", "1"),
    ("proc/irq/24/smp_affinity_list", "0-3", "2,3"),
    ("proc/irq/25/smp_affinity_list", "2-3", "2-3"),
    ("proc/swaps", "Filename\n/dev/sda2", "Filename\n/dev/sda2"),
    // No worker's.
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave", "powersave"),
    ("sys/devices/system/cpu/cpu3/cpuidle/state2/latency", "133", "133"),
    ("sys/devices/system/cpu/cpu3/cpuidle/state2/disable", "0", "0"),
];

/// What is other than advised, and good all the same.
const GOOD: &[(&str, &str)] = &[
    ("proc/sys/vm/overcommit_memory", "1"),
    ("proc/sys/vm/swappiness", "60"),
    ("proc/swaps", "Filename"),
    ("proc/sys/kernel/numa_balancing", "1"),
    ("sys/devices/system/node/node0/cpulist", "0-3"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
    ("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never"),
];

/// What the script said.
fn host_sh(root: &Path, arguments: &[&str]) -> String {
    let output = Command::new("bash").arg(SCRIPT).args(arguments).arg("--root").arg(root).output().expect("bash");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn read(root: &Path) -> BTreeMap<&'static str, String> {
    let read = |path| std::fs::read_to_string(root.join(path)).expect("it is there").trim().to_owned();
    FILES.iter().map(|(path, ..)| (*path, read(path))).collect()
}

fn costs(root: &Path) -> Vec<&'static str> {
    let findings = doctor::examine(&Host::new(root, plan(&[0, 1])), &[]);
    findings.iter().filter(|finding| finding.costs()).map(|finding| finding.check.name).collect()
}

#[test]
fn a_host_is_prepared_once_and_set_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    FILES.iter().for_each(|(path, before, _)| write(root, path, before));
    let first = read(root);
    assert_eq!(
        costs(root),
        ["governor", "c_states", "huge_pages", "defragmentation", "swap", "somaxconn", "slow_start", "tcp_buffers"]
    );

    let apply = ["apply", "--workers", "0,1"];
    let dry = host_sh(root, &[&apply[..], &["--dry-run"]].concat());
    assert_eq!((dry.lines().count(), read(root)), (9, first.clone()), "{dry}");
    assert_eq!(host_sh(root, &apply), dry);
    assert_eq!(read(root), FILES.iter().map(|(path, _, after)| (*path, (*after).to_owned())).collect());
    assert_eq!(costs(root), Vec::<&str>::new());
    assert_eq!(host_sh(root, &apply), "", "again: nothing more happens");

    // Somebody else changes a value; what is set back is the first one all the same.
    write(root, "proc/sys/vm/swappiness", "30");
    host_sh(root, &apply);
    assert_eq!(host_sh(root, &["undo", "--dry-run"]).lines().count(), 9);
    host_sh(root, &["undo"]);
    let chosen = |text: &str| match text.split_once('[') {
        Some((_, rest)) => rest.split(']').next().unwrap_or_default().to_owned(),
        None => text.replace('\t', " "),
    };
    assert_eq!(read(root), first.iter().map(|(path, text)| (*path, chosen(text))).collect());
    assert_eq!(host_sh(root, &["undo"]), "");
}

#[test]
fn what_the_doctor_calls_good_stays() {
    let rows: &[&[(&str, &str)]] = &[GOOD, &[("proc/sys/vm/swappiness", "0"), ("proc/swaps", "Filename\n/dev/sda2")]];
    for files in rows {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(path, text)| write(folder.path(), path, text));
        assert_eq!(costs(folder.path()), Vec::<&str>::new());
        assert_eq!(host_sh(folder.path(), &["apply"]), "");
    }
}

#[test]
fn wrong_usage_is_explained() {
    for arguments in [&[][..], &["please"], &["apply", "--root"], &["apply", "--nonsense"]] {
        let output = Command::new("bash").arg(SCRIPT).args(arguments).output().expect("bash");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.contains("--dry-run")), (Some(2), true), "{arguments:?}: {told}");
    }
}
