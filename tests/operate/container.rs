//! In containers: the image's recipe and the manifest are right, as their checkers and our own tables have it.

use std::path::{Path, PathBuf};
use std::process::Command;

use corering::config::{TABLE, source};

use crate::installed;
use crate::observed::Observed;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/service").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect("it is there")
}

/// A program that lies beside the Python of the tests, or on the PATH.
fn program(name: &str) -> Command {
    let beside = Path::new(&installed::python()).with_file_name(name);
    if beside.exists() { Command::new(beside) } else { Command::new(name) }
}

#[test]
fn the_checkers_accept_them() {
    installed::run(program("hadolint").arg(file("Containerfile")));
    let manifest = file("kubernetes.yaml");
    let Some(checked) = installed::run(program("kubernetes-validate").arg("--strict").arg(manifest)) else { return };
    assert!(!checked.contains("WARN"), "{checked}");
}

/// Every variable that they set is a setting's, with a value that it takes.
#[test]
fn what_they_set_are_settings() {
    let mut seen = 0;
    for name in ["Containerfile", "kubernetes.yaml"] {
        let text = text(name);
        for (at, _) in text.match_indices("CORERING_") {
            let rest = &text[at..];
            let variable: String = rest.chars().take_while(|it| it.is_ascii_uppercase() || *it == '_').collect();
            let row = TABLE.iter().find(|row| source::variable(row.key) == variable);
            let row = row.unwrap_or_else(|| panic!("{name}: {variable} is no setting"));
            let after = &rest[variable.len()..];
            let value = after.strip_prefix('=').or_else(|| after.strip_prefix(", value: \""));
            if let Some(value) = value.and_then(|value| value.split([' ', '"', '`', ',', '\n']).next()) {
                (row.set)(&mut Default::default(), value).unwrap_or_else(|error| panic!("{name}: {variable}: {error}"));
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
}

/// The probes are pages that answer.
#[test]
fn the_probes_answer() {
    let observed = Observed::start(&["--workers", "1"]);
    let manifest = text("kubernetes.yaml");
    let paths: Vec<&str> =
        manifest.split("httpGet: {path: ").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    assert_eq!(paths, ["/ready", "/health"]);
    for path in paths {
        assert_eq!(observed.get(path).status, 200, "{path}");
    }
}
