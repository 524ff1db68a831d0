//! What cannot be a cluster is refused: one line with the remedy, and the exit code for bad settings.

use crate::nodes::{SLOTS, free_ports, map};
use crate::process::{corering, run};

/// Refused with exit code 2, in one line with all of these words.
fn refused(flags: &[&str], words: &[&str]) {
    let ended = run(&mut corering(flags));
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{flags:?}: {ended:?}");
    for word in words {
        assert!(ended.err.contains(word), "{word:?} is missing: {ended:?}");
    }
}

#[test]
fn settings_that_cannot_be_are_named_with_their_remedy() {
    let cores = ["--cluster-mode", "cores", "--workers", "2"];
    let rows: &[(&[&str], &[&str])] = &[
        (&["--core-port-base", "65535"], &["core-port-base 65535", "port 65536", "the last port is 65535"]),
        (&["--core-port-base", "65536"], &["--core-port-base", "0 to 65535"]),
        (&["--announce-port-base", "65535"], &["announce-port-base", "65536"]),
        (&["--port", "7001"], &["7000 to 7001 include port 7001", "change core-port-base or port"]),
        (&["--announce-host", "no.such.host.invalid"], &["announce-host", "does not resolve"]),
        (&["--cores-per-node", "0"], &["--cores-per-node", "1 to 1024"]),
        (&["--shared-port-mode", "both"], &["--shared-port-mode", "standalone|cluster"]),
        (&["--cluster-map", "/nowhere.toml"], &["/nowhere.toml", "cannot be read"]),
        (&["--cluster-map", "m", "--announce-host", "::1"], &["leave out announce-host"]),
    ];
    for (flags, words) in rows {
        refused(&[&cores[..], flags].concat(), words);
    }
    refused(&["--cluster-map", "map.toml"], &["set cluster-mode to cores"]);
}

#[test]
fn maps_that_cannot_be_are_named_with_their_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("map.toml");
    let file = path.to_str().expect("text");
    let base = free_ports(6);
    let good = map(1, base, SLOTS);
    // What is replaced by what, the process, its workers, and the words.
    let rows: &[(&str, &str, &str, &str, &[&str])] = &[
        ("0-999 ", "", "a", "2", &["no node has slots 0-999", "give every slot to one"]),
        ("13001-16383", "13002-16383", "a", "2", &["no node has slot 13001;"]),
        ("1000-2999", "900-2999", "b", "2", &["both have slots 900-999", "give every slot to one"]),
        ("", "", "d", "2", &["no process \"d\"", "a, b, c"]),
        ("", "", "a", "3", &["process a has 2 nodes", "set workers to 2"]),
        ("\"c\"", "\"b\"", "a", "2", &["\"b\" is there twice"]),
        ("epoch", "epcoh", "a", "2", &["line 1", "epcoh"]),
        ("host = \"127.0.0.1\"", "host = \"no.such.host.invalid\"", "a", "2", &["process a", "does not resolve"]),
    ];
    for (from, to, process, workers, words) in rows {
        std::fs::write(&path, good.replacen(from, to, 1)).expect("our file");
        let flags =
            ["--cluster-mode", "cores", "--workers", workers, "--cluster-map", file, "--cluster-process", process];
        refused(&flags, &[words, &["map.toml"][..]].concat());
    }
}
