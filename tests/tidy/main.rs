//! What of the house's style can be checked: layers, headers, `unsafe`, lengths, names, leftovers, dependencies.
//!
//! Each offence is told with its place and its remedy. The rules are tables in `rules.rs`; a row is changed there, with
//! its reason, and nowhere else.

mod rules;
mod source;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use rules::{Finding, RULES};
use source::Source;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with all findings at once.
fn assert_none(findings: &[Finding]) {
    let mut told = String::new();
    for Finding { path, line, what, remedy } in findings {
        writeln!(told, "{path}:{line}: {what}; {remedy}").expect("a string takes everything");
    }
    assert!(findings.is_empty(), "{} findings\n{told}", findings.len());
}

#[test]
fn every_source_file_keeps_the_rules() {
    let sources = Source::read_all(root(), &["src", "tests", "benches"]);
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    let findings: Vec<Finding> = sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).collect();
    assert_none(&findings);
}

#[test]
fn most_files_are_short() {
    let sources = Source::read_all(root(), &["src", "tests", "benches"]);
    let long: Vec<&str> =
        sources.iter().filter(|source| source.lines.len() > rules::LINES_MANY).map(|s| s.path.as_str()).collect();
    let most = sources.len() / rules::LONG_FILES_ONE_IN;
    assert!(long.len() <= most, "more than {most} files have over {} lines: {long:?}", rules::LINES_MANY);
}

#[test]
fn every_module_has_its_layer() {
    let entries = fs::read_dir(root().join("src")).expect("src is there");
    for entry in entries {
        let name = entry.expect("a readable entry").file_name().into_string().expect("a plain name");
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "lib" || rules::layer_of(module).is_some(),
            "src/{name}: no layer holds it; give it a row of LAYERS in tests/tidy/rules.rs"
        );
    }
}

#[test]
fn unsafe_code_is_only_allowed_where_it_is_used() {
    for path in rules::UNSAFE_FILES {
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            panic!("{path}: is not there; take it out of UNSAFE_FILES in tests/tidy/rules.rs");
        };
        let source = Source::new(path, &text);
        assert!(
            source.code().any(|(_, line)| line.contains("unsafe {") || line.contains("unsafe impl")),
            "{path}: needs no unsafe code any more; take it out of UNSAFE_FILES in tests/tidy/rules.rs"
        );
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let mut findings = Vec::new();
    let mut is_dependency = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            is_dependency = line.contains("dependencies");
        }
        let has_reason = line.split_once('#').is_some_and(|(_, reason)| reason.trim().len() > 10);
        if is_dependency && line.contains('=') && !has_reason {
            let what = format!("the dependency {} has no reason", source::word(line));
            findings.push(Finding::new("Cargo.toml", index + 1, what, "end the line with `# what it is there for`"));
        }
    }
    assert_none(&findings);
}

#[test]
fn the_top_level_holds_what_the_design_names() {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect(".gitignore is there");
    let is_ignored = |name: &str| {
        ignored.lines().map(|pattern| pattern.trim_start_matches('/')).any(|pattern| match pattern.split_once('*') {
            Some((before, after)) => name.starts_with(before) && name.ends_with(after),
            None => name == pattern,
        })
    };
    for entry in fs::read_dir(root()).expect("the root is there") {
        let name = entry.expect("a readable entry").file_name().into_string().expect("a plain name");
        assert!(
            rules::TOP_LEVEL.contains(&name.as_str()) || is_ignored(&name),
            "{name}: is no entry of the top level; it belongs into src, tests, benches or tuning"
        );
    }
}

/// Each rule finds what it is there to find, and nothing in what only looks like it.
#[test]
fn rules_find_offences() {
    let header = "//! One.\n//! Two.\n//! Three.\n";
    let long_line = "x".repeat(121);
    let long_function = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(rules::FUNCTION_LINES_MAX));
    let rows: &[(&str, &str, usize, &str)] = &[
        ("src/shard/index.rs", "use crate::protocol::Output;\n", 4, "imports protocol"),
        ("src/shard/index.rs", "use crate::{config::Policy, ring::{Fd, Op}};\n", 4, "imports ring"),
        ("src/protocol/output.rs", "fn f() { crate::shard::g(); }\n", 4, "imports shard"),
        ("src/ring/uring.rs", "use crate::command::Call;\n", 4, "imports command"),
        ("src/clock.rs", "use super::worker::Worker;\n", 4, "imports worker"),
        ("src/command/string.rs", "fn f() { std::fs::read(x); }\n", 4, "std::fs"),
        ("src/protocol/output.rs", "fn f() { Instant::now(); }\n", 4, "Instant::now"),
        ("src/clock.rs", "fn f() {\n    unsafe { g() };\n}\n", 5, "unsafe"),
        ("src/clock.rs", "fn f() { todo!() }\n", 4, "todo!"),
        ("src/clock.rs", "fn f() { g().unwrap(); }\n", 4, "unwrap"),
        ("src/clock.rs", "// FIXME later\n", 4, "FIXME"),
        ("src/clock.rs", "// ===== banner =====\n", 4, "banner"),
        ("src/clock.rs", "struct TickManager;\n", 4, "TickManager"),
        ("src/clock.rs", "fn do_tick() {}\n", 4, "do_tick"),
        ("src/clock.rs", &long_line, 4, "121"),
        ("src/clock.rs", &long_function, 4, "long"),
        ("src/mailbox.rs", "// SAFETY: trust me.\n", 4, "argument"),
    ];
    for (path, text, line, what) in rows {
        let source = Source::new(path, &format!("{header}{text}"));
        let findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&source)).collect();
        assert!(
            matches!(&findings[..], [finding] if finding.line == *line && finding.what.contains(what)),
            "{path}: {text:?}: {findings:?}"
        );
    }
    let innocent = "/// Like todo!() and crate::worker.\nfn f() -> &'static str { \"unsafe dbg!() crate::ring\" }\n\
                    const C: char = '\"';\nconst R: &str = r#\"crate::server \"quoted\" \"#;\n\
                    #[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}\n";
    let source = Source::new("src/shard/index.rs", &format!("{header}{innocent}"));
    let findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&source)).collect();
    assert_none(&findings);
    let bare = Source::new("src/clock.rs", "use std::fs;\n");
    assert_eq!(RULES.iter().flat_map(|rule| rule(&bare)).count(), 1, "a file without a header");
}
