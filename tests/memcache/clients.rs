//! What memcached's clients make of it: their own conformance tests, and a library's everyday calls.

use std::path::Path;
use std::process::Command;

use corering::config::Settings;

use crate::server::Both;

/// Whether a missing client is a failure.
pub(crate) fn is_required() -> bool {
    std::env::var_os("CORERING_REQUIRE_CLIENTS").is_some()
}

/// Runs a program with both numbers of workers; `None`, with a word about it, when it is not installed.
fn run_against(settings: &Settings, program: &str, args: impl Fn(u16) -> Vec<String>) -> Option<Vec<String>> {
    let mut outputs = Vec::new();
    for workers in [1, 2] {
        let both = Both::start(&Settings { workers, ..settings.clone() });
        let output = match Command::new(program).args(args(both.port)).output() {
            Ok(output) => output,
            Err(error) => {
                assert!(!is_required(), "{program} is required: {error}");
                eprintln!("skipped: {program} is not installed ({error})");
                return None;
            }
        };
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program}, {workers} workers: {text}");
        outputs.push(text);
        both.server.stop();
    }
    Some(outputs)
}

#[test]
fn memccapable_passes_all_its_text_tests() {
    let args = |port: u16| ["-h", "127.0.0.1", "-p", &port.to_string(), "-a"].map(str::to_owned).to_vec();
    for output in run_against(&Settings::default(), "memccapable", args).into_iter().flatten() {
        assert!(output.contains("All tests passed") && !output.contains("FAIL"), "{output}");
    }
}

#[test]
fn pymemcache_reads_what_it_wrote() {
    let python = std::env::var("CORERING_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python).args(["-c", "import pymemcache"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        assert!(!is_required(), "pymemcache is required");
        eprintln!("skipped: pymemcache is not installed");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/memcache/pymemcache_calls.py");
    let script = script.to_string_lossy().into_owned();
    run_against(&Settings::default(), &python, |port| vec![script.clone(), port.to_string()]);
}
