//! What memcached's clients make of it: their own conformance tests, and a library's everyday calls.

use std::path::Path;
use std::process::Command;

use corering::config::Settings;

use crate::installed::{has_module, python, run};
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
