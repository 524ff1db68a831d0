//! What memcached's clients make of it: their own tests, and a library's everyday calls. `CORERING_TEST_PYLIBMC` names
//! a folder with pylibmc's sources, which alone have its tests.

use std::path::Path;
use std::process::Command;

use corering::config::Settings;

use crate::installed::{has_module, is_required, python, run};
use crate::server::Fronts;

/// Runs a program with both numbers of workers, given the port; nothing when it is not installed.
fn run_against(settings: &Settings, command: impl Fn(u16) -> Command) -> Vec<String> {
    let mut outputs = Vec::new();
    for workers in [1, 2] {
        let fronts = Fronts::start(&Settings { workers, ..settings.clone() });
        outputs.extend(run(&mut command(fronts.memcache_port)));
        fronts.server.stop();
    }
    outputs
}

#[test]
fn memccapable_passes_all_its_text_tests() {
    let memccapable = |port: u16| {
        let mut command = Command::new("memccapable");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-a"]);
        command
    };
    for output in run_against(&Settings::default(), memccapable) {
        assert!(output.contains("All tests passed") && !output.contains("FAIL"), "{output}");
    }
}

#[test]
fn pymemcache_reads_what_it_wrote() {
    if !has_module(Command::new(python()).args(["-c", "import pymemcache"]), "pymemcache") {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/memcache/pymemcache_calls.py");
    run_against(&Settings::default(), |port| {
        let mut command = Command::new(python());
        command.arg(&script).arg(port.to_string());
        command
    });
}

fn pytest() -> Command {
    let mut command = Command::new(python());
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn pymemcache_passes_its_own_integration_tests() {
    let mut find = Command::new(python());
    find.args(["-c", "import pytest, pymemcache.test as test; print(test.__path__[0])"]);
    if !has_module(&mut find, "pymemcache with pytest") {
        return;
    }
    let folder = run(&mut find).expect("it has just run");
    // They expect a value of more than 1 MiB to be refused.
    let settings = Settings { proto_max_bulk_len: 1 << 20, ..Settings::default() };
    let outputs = run_against(&settings, |port| {
        let mut command = pytest();
        command.arg(format!("{}/test_integration.py", folder.trim()));
        command.args(["--server", "127.0.0.1", "--port", &port.to_string(), "--size", "1024"]);
        command
    });
    outputs.iter().for_each(|output| assert!(output.contains(" passed"), "{output}"));
}

/// In the text protocol, which a plugin makes all of them speak. Left out are those of keys that only the binary
/// protocol can carry, and of Amazon's configuration service, which want port 11211.
#[test]
fn pylibmc_passes_its_own_tests() {
    let Some(folder) = std::env::var_os("CORERING_TEST_PYLIBMC") else {
        assert!(!is_required(), "pylibmc's sources are required: CORERING_TEST_PYLIBMC");
        return eprintln!("skipped: CORERING_TEST_PYLIBMC names no sources of pylibmc");
    };
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/memcache");
    let outputs = run_against(&Settings::default(), |port| {
        let mut command = pytest();
        command.args(["-p", "pylibmc_text", "-k", "not autoconf and not zerokey and not utf8_encoding", "tests"]);
        command.current_dir(&folder).env("PYTHONPATH", &plugins);
        command.env("MEMCACHED_HOST", "127.0.0.1").env("MEMCACHED_PORT", port.to_string());
        command
    });
    outputs.iter().for_each(|output| assert!(output.contains(" passed"), "{output}"));
}
