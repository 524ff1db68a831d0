//! The rules that every source file keeps, and their tables.
//!
//! In: a [`Source`]. Out: findings, each with its line and its remedy. To add a rule, write it below and give it a
//! place in [`RULES`] and a row in the test of the rules.

use crate::source::{Source, word};

/// An offence.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

/// A rule about one file.
pub(crate) type Rule = fn(&Source) -> Vec<Finding>;

/// Every rule about one file.
pub(crate) const RULES: &[Rule] = &[
    imports_go_down,
    layers_keep_to_their_world,
    header_says_what_the_file_owns,
    unsafe_code_stays_in_its_files,
    unsafe_code_has_its_argument,
    nothing_is_left_over,
    unwraps_are_for_tests,
    names_say_something,
    lines_files_and_functions_are_short,
];

/// One layer of the house: which modules it has, and which other layers they may import.
pub(crate) struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    /// Its own layer's modules may be imported too, except where `is_apart`.
    may_import: &'static [&'static str],
    /// Its modules do not import each other.
    is_apart: bool,
    /// What its code must not name.
    must_not_name: &'static [&'static str],
}

const FILES_AND_THREADS: &[&str] =
    &["std::fs", "TcpStream", "TcpListener", "UnixStream", "std::thread", "Instant::now", "SystemTime::now"];

/// From the top down.
#[rustfmt::skip]
pub(crate) const LAYERS: &[Layer] = &[
    Layer { name: "process", modules: &["main", "cli"], is_apart: false, must_not_name: &[],
        may_import: &["assembly", "loop", "edge", "meaning", "pure", "ground"] },
    Layer { name: "assembly", is_apart: false, must_not_name: &[],
        modules: &["server", "control", "listen", "snapshot", "load", "doctor", "health", "hotkeys"],
        may_import: &["loop", "edge", "meaning", "pure", "ground"] },
    Layer { name: "loop", modules: &["worker"], is_apart: false, must_not_name: FILES_AND_THREADS_OF_THE_LOOP,
        may_import: &["edge", "meaning", "pure", "ground"] },
    Layer { name: "edge", modules: &["ring", "mailbox"], is_apart: false, must_not_name: &[],
        may_import: &["pure", "ground"] },
    Layer { name: "meaning", modules: &["command"], is_apart: false, must_not_name: FILES_AND_THREADS,
        may_import: &["pure", "ground"] },
    Layer { name: "pure", modules: &["protocol", "shard"], is_apart: true, must_not_name: FILES_AND_THREADS,
        may_import: &["ground"] },
    Layer { name: "ground", is_apart: false, may_import: &[], must_not_name: &[],
        modules: &["config", "topology", "clock", "observe", "instance", "cluster"] },
];

/// The loop sleeps when a client asks for it.
const FILES_AND_THREADS_OF_THE_LOOP: &[&str] =
    &["std::fs", "TcpStream", "TcpListener", "UnixStream", "thread::spawn", "Instant::now", "SystemTime::now"];

/// The only files with unsafe code; the lint `unsafe_code` is lifted at the top of each.
pub(crate) const UNSAFE_FILES: &[&str] = &[
    "src/load/cpu.rs",
    "src/mailbox.rs",
    "src/ring/buffer.rs",
    "src/ring/socket.rs",
    "src/ring/uring.rs",
    "src/shard/index.rs",
    "src/shard/memory.rs",
    "src/topology.rs",
    "tests/start/confined.rs",
];

/// What the repository's top level may hold, beside what `.gitignore` names.
pub(crate) const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "rustfmt.toml",
    "src",
    "tests",
    "tuning",
];

/// Lines of a product file's header, at least and at most, by what its path begins with; the first that fits counts.
const HEADER_LINES: &[(&str, usize, usize)] = &[
    // The map of the whole house.
    ("src/lib.rs", 20, 100),
    ("src/", 3, 25),
];

const LINE_LETTERS_MAX: usize = 120;
const LINES_MAX: usize = 800;
/// A file that is longer asks a question.
pub(crate) const LINES_MANY: usize = 500;
/// One file in so many may be longer than [`LINES_MANY`].
pub(crate) const LONG_FILES_ONE_IN: usize = 12;
/// A screen.
pub(crate) const FUNCTION_LINES_MAX: usize = 60;

const LEFTOVER_CODE: &[&str] = &["dbg!", "todo!", "unimplemented!"];
const LEFTOVER_COMMENTS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
const BANNERS: &[&str] = &["====", "----", "****", "####", "~~~~"];

/// Words that tell nothing about a type.
const EMPTY_NAMES: &[&str] =
    &["Manager", "Handler", "Helper", "Util", "Utils", "Common", "Misc", "Data", "Context", "Base", "Wrapper"];

/// The layer of a top-level module.
pub(crate) fn layer_of(module: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.modules.contains(&module))
}

fn imports_go_down(source: &Source) -> Vec<Finding> {
    let own = source.module();
    let Some(layer) = layer_of(own).filter(|_| source.is_product()) else { return Vec::new() };
    let mut findings = Vec::new();
    for (line, name) in source.imports() {
        let Some(other) = layer_of(&name).filter(|_| name != own) else { continue };
        let is_allowed = layer.may_import.contains(&other.name) || (std::ptr::eq(layer, other) && !layer.is_apart);
        if !is_allowed {
            let what = format!("{own} ({}) imports {name} ({})", layer.name, other.name);
            let remedy = format!("it may import: {}; hand the value in from above", layer.may_import.join(", "));
            findings.push(Finding::new(&source.path, line, what, remedy));
        }
    }
    findings
}

fn layers_keep_to_their_world(source: &Source) -> Vec<Finding> {
    let Some(layer) = layer_of(source.module()).filter(|_| source.is_product()) else { return Vec::new() };
    let find = |(line, code): (usize, &str)| {
        let name = layer.must_not_name.iter().find(|name| code.contains(**name))?;
        let what = format!("the {} layer names {name}", layer.name);
        Some(Finding::new(&source.path, line, what, "take the value as an argument"))
    };
    source.code().take(source.tests_begin() - 1).filter_map(find).collect()
}

fn header_says_what_the_file_owns(source: &Source) -> Vec<Finding> {
    let lines = source.lines.iter().take_while(|line| line.starts_with("//!")).count();
    let row = HEADER_LINES.iter().find(|(begin, ..)| source.is_product() && source.path.starts_with(begin));
    // A test's header may be one sentence: what it shows.
    let (min, max) = row.map_or((1, 25), |(_, min, max)| (*min, *max));
    if (min..=max).contains(&lines) {
        return Vec::new();
    }
    let what = format!("the header has {lines} lines");
    let remedy = format!("begin with {min} to {max} lines of //!: what the file owns, in, out, what must stay true");
    vec![Finding::new(&source.path, 1, what, remedy)]
}

fn unsafe_code_stays_in_its_files(source: &Source) -> Vec<Finding> {
    let is_word =
        |code: &str| code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|w| w == "unsafe");
    let uses = source.code().filter(|(_, code)| is_word(code));
    if UNSAFE_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let remedy = format!("unsafe code lives in {}; use a type that proves it", UNSAFE_FILES.join(", "));
    uses.map(|(line, _)| Finding::new(&source.path, line, "unsafe code", remedy.clone())).collect()
}

fn unsafe_code_has_its_argument(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        if !line.trim_start().starts_with("// SAFETY:") {
            continue;
        }
        let below = source.lines[index..].iter().take_while(|line| line.trim_start().starts_with("//"));
        let argument = below.map(|line| line.trim_start()).collect::<Vec<_>>().join(" ");
        let has_form = argument.find("needs ").is_some_and(|needs| argument[needs..].contains("; holds because"));
        if !has_form {
            let remedy = "write `// SAFETY: needs …; holds because …`";
            findings.push(Finding::new(&source.path, index + 1, "SAFETY without an argument", remedy));
        }
    }
    findings
}

fn nothing_is_left_over(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The rules' own tables and rows name what they look for.
    let is_about_rules = source.path.starts_with("tests/tidy/");
    for ((line, code), text) in source.code().zip(&source.lines) {
        let comment = text.find("//").map(|at| &text[at..]).filter(|_| text.trim_start().starts_with("//"));
        let in_code = LEFTOVER_CODE.iter().find(|word| code.contains(**word));
        let in_comment = comment.and_then(|comment| LEFTOVER_COMMENTS.iter().find(|word| comment.contains(**word)));
        if let Some(found) = in_code.or(in_comment).filter(|_| !is_about_rules) {
            findings.push(Finding::new(
                &source.path,
                line,
                format!("{found} is left over"),
                "finish it or take it out",
            ));
        }
        let is_banner = comment.is_some_and(|comment| {
            let body = comment.trim_start_matches(['/', '!', ' ']);
            BANNERS.iter().any(|banner| body.starts_with(banner))
        });
        if is_banner {
            findings.push(Finding::new(&source.path, line, "a banner", "take it out; a file has one concept"));
        }
    }
    findings
}

fn unwraps_are_for_tests(source: &Source) -> Vec<Finding> {
    if !source.is_product() {
        return Vec::new();
    }
    let before_tests = source.code().take(source.tests_begin() - 1);
    let remedy = "handle it, or say with expect() why it cannot happen";
    let unwraps = before_tests.filter(|(_, code)| code.contains(".unwrap()") || code.contains(".unwrap_err()"));
    unwraps.map(|(line, _)| Finding::new(&source.path, line, "unwrap outside tests", remedy)).collect()
}

fn names_say_something(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.code() {
        for keyword in ["struct ", "enum ", "trait ", "type "] {
            let Some((before, after)) = code.split_once(keyword) else { continue };
            let name = word(after);
            let is_declaration = before.trim().is_empty() || before.trim().starts_with("pub");
            if is_declaration && EMPTY_NAMES.iter().any(|empty| name.ends_with(empty)) {
                let remedy = "name it by the field's word for what it is";
                findings.push(Finding::new(&source.path, line, format!("{name} says nothing"), remedy));
            }
        }
    }
    for (line, name, _) in source.functions() {
        if name.starts_with("do_") || name.starts_with("process_") {
            findings.push(Finding::new(
                &source.path,
                line,
                format!("{name} says nothing"),
                "use the verb for what it does",
            ));
        }
    }
    findings
}

fn lines_files_and_functions_are_short(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        let letters = line.chars().count();
        if letters > LINE_LETTERS_MAX {
            let what = format!("{letters} letters, {LINE_LETTERS_MAX} are the most");
            findings.push(Finding::new(&source.path, index + 1, what, "break the line"));
        }
    }
    if source.lines.len() > LINES_MAX {
        let what = format!("{} lines, {LINES_MAX} are too many", source.lines.len());
        findings.push(Finding::new(&source.path, LINES_MAX, what, "make it a folder with a file per concept"));
    }
    for (line, name, length) in source.functions() {
        if length > FUNCTION_LINES_MAX {
            let what = format!("{name} has {length} lines, {FUNCTION_LINES_MAX} fit on a screen");
            findings.push(Finding::new(&source.path, line, what, "give a step of it a name"));
        }
    }
    findings
}
