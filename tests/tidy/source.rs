//! A source file as the rules see it: its lines, and the same lines with comments and literals blanked out.
//!
//! In: Rust text. Out: lines, code, functions, imports. What must stay true: blanking keeps every line where it was, so
//! that a finding's line number is right. It reads what rustfmt writes, not every token sequence that rustc would
//! take.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub(crate) struct Source {
    /// From the repository's root.
    pub(crate) path: String,
    /// As written.
    pub(crate) lines: Vec<String>,
    /// As written, with spaces for comments and for what stands in quotes.
    pub(crate) code: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Self { path: path.to_owned(), lines: lines(text), code: lines(&blank(text)) }
    }

    /// Every Rust file below `folders` of the repository at `root`.
    pub(crate) fn read_all(root: &Path, folders: &[&str]) -> Vec<Self> {
        let mut paths: Vec<PathBuf> = folders.iter().flat_map(|folder| rust_files(&root.join(folder))).collect();
        paths.sort();
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root).expect("it was found below the root");
            Source::new(&path.to_string_lossy(), &text)
        };
        paths.iter().map(read).collect()
    }

    /// Whether it belongs to the library or the binary.
    pub(crate) fn is_product(&self) -> bool {
        self.path.starts_with("src/") && !self.path.ends_with("/tests.rs")
    }

    /// The top-level module of a file under `src`: `src/ring/uring.rs` is in `ring`.
    pub(crate) fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().map_or("", |first| first.trim_end_matches(".rs"))
    }

    /// Lines of code with their numbers, from 1.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// The line on which the tests at the end of the file begin, or the one after the last.
    pub(crate) fn tests_begin(&self) -> usize {
        self.code.iter().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(self.code.len()) + 1
    }

    /// The top-level modules of this crate that the file names, with their lines.
    pub(crate) fn imports(&self) -> Vec<(usize, String)> {
        let is_top_level = self.path.matches('/').count() == 1;
        let prefixes: &[&str] = if is_top_level { &["crate::", "corering::", "super::"] } else { &["crate::"] };
        let text = self.code.join("\n");
        let mut found = Vec::new();
        for prefix in prefixes {
            for (at, _) in text.match_indices(prefix) {
                let line = text[..at].matches('\n').count() + 1;
                let rest = &text[at + prefix.len()..];
                let names = rest.strip_prefix('{').map_or_else(|| vec![word(rest)], first_words);
                found.extend(names.into_iter().map(|name| (line, name.to_owned())));
            }
        }
        found
    }

    /// Functions with their first line and their length; rustfmt ends each with a brace below its beginning.
    pub(crate) fn functions(&self) -> Vec<(usize, &str, usize)> {
        let mut found = Vec::new();
        for (index, line) in self.code.iter().enumerate() {
            let Some((before, after)) = line.split_once("fn ") else { continue };
            let is_declaration = before.split_whitespace().all(|word| {
                word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(&word) || word == "in"
            });
            let indent = before.len() - before.trim_start().len();
            let end = format!("{}}}", &line[..indent]);
            let is_one_line = line.trim_end().ends_with(['}', ';']);
            let below = self.code[index..].iter().position(|line| line.starts_with(&end)).filter(|_| !is_one_line);
            if is_declaration {
                found.push((index + 1, word(after), below.unwrap_or(0) + 1));
            }
        }
        found
    }
}

/// The identifier at the beginning of `text`.
pub(crate) fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first words of the entries of `a::b, c::{d, e}}`, up to the closing brace.
fn first_words(group: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut depth, mut entry) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                words.push(word(group[entry..at].trim_start()));
                entry = at + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a readable entry").path()) {
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The text with spaces for comments, strings and characters.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let len = match letter {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' => raw_string(rest).unwrap_or(0),
            '"' => quoted(rest, '"'),
            '\'' if is_character(rest) => quoted(rest, '\''),
            _ => 0,
        };
        let (blanked, after) = rest.split_at(len);
        out.extend(blanked.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        rest = after;
        if len == 0 {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    out
}

/// The length of `r"…"` or `r#"…"#`.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    let open = 1 + hashes;
    let end = format!("\"{}", "#".repeat(hashes));
    let body = text[open..].strip_prefix('"')?;
    body.find(&end).map(|at| open + 1 + at + end.len())
}

/// A quote that opens a character, not a lifetime.
fn is_character(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    letters.next() == Some('\\') || letters.next() == Some('\'')
}

/// The length of a literal between quotes, with its escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
