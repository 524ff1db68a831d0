//! The doctor on trees of our own, each finding once good and once bad, and on this host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use corering::config::Io;
use corering::doctor::{self, CHECKS, Host, Look, Plan};

use crate::findings::ROWS;
use crate::process::{corering, run};

/// Writes a file of a tree.
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("our folder");
    fs::write(path, format!("{text}\n")).expect("our file");
}

/// A small server on an ordinary ring, with its workers on these CPUs.
pub(crate) fn plan(workers: &[usize]) -> Plan {
    Plan {
        workers: workers.to_vec(),
        backlog: 511,
        maxclients: 10,
        maxmemory: 0,
        ring_bytes: 0,
        io: Io::Uring,
        ring: Some(Ok(())),
    }
}

#[test]
fn every_finding_is_found_and_nothing_else() {
    for (number, row) in ROWS.iter().enumerate() {
        let root = tempfile::tempdir().expect("a folder");
        let mut plan = Plan { maxclients: 10_000, maxmemory: 1 << 30, ring_bytes: 1 << 20, ..plan(&[0, 1]) };
        (row.plan)(&mut plan);
        row.files.iter().for_each(|(path, first, _)| write(root.path(), path, first));
        let host = Host::new(root.path(), plan);
        let changed = row.files.iter().filter_map(|(path, _, second)| Some((path, (*second)?)));
        changed.for_each(|(path, second)| write(root.path(), path, second));
        let findings = doctor::examine(&host, &[]);
        let finding = findings.iter().find(|finding| finding.check.name == row.check).expect("a check");
        let is_expected = match (&finding.look, row.costs) {
            (Look::Good(_), None) => true,
            (Look::Costs { what, fix }, Some((seen, remedy))) => what.contains(seen) && fix.contains(remedy),
            _ => false,
        };
        assert!(is_expected, "row {number}: {}: {:?}, expected {:?}", row.check, finding.look, row.costs);
    }
}

#[test]
fn every_check_has_a_good_and_a_bad_row() {
    let names = |is_bad: bool| -> BTreeSet<&str> {
        ROWS.iter().filter(|row| row.costs.is_some() == is_bad).map(|row| row.check).collect()
    };
    let all: BTreeSet<&str> = CHECKS.iter().map(|check| check.name).collect();
    assert_eq!((names(false), names(true)), (all.clone(), all));
}

/// Nothing of an empty tree is bad, and much of it is unknown.
#[test]
fn a_host_that_tells_nothing_is_not_blamed() {
    let root = tempfile::tempdir().expect("a folder");
    let findings = doctor::examine(&Host::new(root.path(), plan(&[0])), &[]);
    assert!(!findings.iter().any(doctor::Finding::costs), "{findings:?}");
    assert!(findings.iter().filter(|finding| matches!(finding.look, Look::Unknown(_))).count() > 10, "{findings:?}");
    assert!(doctor::report::text(&findings).ends_with("Nothing found that costs latency.\n"));
}

#[test]
fn this_host_is_examined_and_findings_can_be_accepted() {
    let ended = run(&mut corering(&["doctor", "--json", "--workers", "1"]));
    let report: serde_json::Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let findings = report["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), CHECKS.len());
    // The tests of the server run on this host: so it has a ring.
    assert_eq!((&findings[0]["check"], &findings[0]["state"]), (&"io_uring".into(), &"good".into()));
    let costs = report["costs"].as_u64().expect("a number");
    assert_eq!(ended.code, Some(i32::from(costs > 0)), "{ended:?}");
    assert_eq!(findings.iter().filter(|finding| finding["state"] == "costs").count() as u64, costs);
    assert!(findings.iter().all(|finding| finding["fix"].is_string() == (finding["state"] == "costs")));

    let mut arguments = vec!["doctor", "--workers", "1"];
    CHECKS.iter().for_each(|check| arguments.extend(["--accept", check.name]));
    let ended = run(&mut corering(&arguments));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.out.contains("io_uring: a ring was set up") && !ended.out.contains("COSTS"), "{}", ended.out);

    for bad in [&["doctor", "--accept", "nonsense"][..], &["doctor", "--cpus", "4000"]] {
        assert_eq!(run(&mut corering(bad)).code, Some(2), "{bad:?}");
    }
}
