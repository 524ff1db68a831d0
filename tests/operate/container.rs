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

/// The image is built of what its first stage copies: what the sources include from outside `src` has to be there.
#[test]
fn the_image_has_all_that_the_sources_include() {
    let recipe = text("Containerfile");
    let first_stage = recipe.split("\nFROM ").nth(1).expect("a stage");
    let copies = first_stage.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied: Vec<PathBuf> = copies
        .flat_map(|words| words.rsplit_once(' ').expect("sources and a target").0.split(' '))
        .map(|source| top().join(source))
        .collect();
    let mut outside = 0;
    for source in sources(&top().join("src")) {
        let text = std::fs::read_to_string(&source).expect("it is there");
        for included in ["include_str!(\"", "include_bytes!(\""].iter().flat_map(|call| text.split(call).skip(1)) {
            let name = included.split('"').next().expect("a first part");
            let path = source.with_file_name(name).canonicalize().expect("what is included is there");
            assert!(copied.iter().any(|copied| path.starts_with(copied)), "{source:?} includes {path:?}");
            outside += usize::from(!path.starts_with(top().join("src")));
        }
    }
    assert!(outside >= 4, "{outside}");
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().expect("it is there")
}

/// All files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The manifest runs the image that the recipe makes.
#[test]
fn they_name_the_same_image() {
    let image = format!(" corering:{} ", env!("CARGO_PKG_VERSION"));
    let named = |name: &str| text(name).replace('\n', " ").contains(&image);
    assert!(named("Containerfile") && named("kubernetes.yaml"), "{image}");
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
