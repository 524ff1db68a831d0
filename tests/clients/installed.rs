//! Programs and libraries that a test needs and a machine may lack: a test that misses one says that it is skipped, or
//! fails where `CORERING_REQUIRE_CLIENTS` is set. `CORERING_TEST_PYTHON` names a Python that has redis-py,
//! `CORERING_TEST_NODE_PATH` a `node_modules` that has ioredis.

#![allow(dead_code, reason = "shared by the tests of several clients")]

use std::process::{Command, Output};

/// Whether a missing client is a failure.
pub(crate) fn is_required() -> bool {
    std::env::var_os("CORERING_REQUIRE_CLIENTS").is_some()
}

/// Runs a client's program; `None`, with a word about it, when it is not installed.
pub(crate) fn run(command: &mut Command) -> Option<String> {
    let program = command.get_program().to_owned();
    match command.output() {
        Ok(output) => Some(checked(command, &output)),
        Err(error) => {
            assert!(!is_required(), "{} is required: {error}", program.display());
            eprintln!("skipped: {} is not installed ({error})", program.display());
            None
        }
    }
}

fn checked(command: &Command, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

pub(crate) fn node_path() -> String {
    std::env::var("CORERING_TEST_NODE_PATH").unwrap_or_default()
}

/// Whether an interpreter has a client library.
pub(crate) fn has_module(probe: &mut Command, name: &str) -> bool {
    let has = probe.output().is_ok_and(|output| output.status.success());
    assert!(has || !is_required(), "{name} is required");
    if !has {
        eprintln!("skipped: {name} is not installed");
    }
    has
}

/// The Python that may have redis-py.
pub(crate) fn python() -> String {
    std::env::var("CORERING_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}
