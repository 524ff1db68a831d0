//! The console: one page that shows a server at work.
//!
//! In: its parts, files of this crate. Out: the page, and what a browser may do with it. What must stay true: it holds
//! no figure, so everybody may have it; it loads nothing but the JSON of this port; nothing that was not written here
//! runs in it.

use std::io;
use std::sync::LazyLock;

use rustix::rand::{GetRandomFlags, getrandom};

/// Where the page has its parts.
const PARTS: &[(&str, &str)] = &[
    ("/*palette*/", include_str!("../load/report/palette.css")),
    ("/*style*/", include_str!("console/style.css")),
    (
        "/*script*/",
        concat!(
            include_str!("console/format.js"),
            include_str!("console/document.js"),
            include_str!("console/plot.js"),
            include_str!("console/link.js"),
            include_str!("console/figures.js"),
            include_str!("console/people.js"),
            include_str!("console/main.js"),
        ),
    ),
];

/// The page without its random word.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("console/page.html").to_owned();
    PARTS.iter().fold(page, |page, (place, part)| page.replacen(place, part, 1))
});

/// The page and its Content-Security-Policy. Style and script are known by a random word of this answer.
///
/// # Errors
/// When the kernel gives no random bytes.
pub(super) fn page() -> io::Result<(String, String)> {
    let nonce = nonce()?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'"
    );
    Ok((PAGE.replace("{nonce}", &nonce), policy))
}

/// 128 random bits.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    // So few bytes come whole, or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_each_answer_has_its_own_word() {
        let ((page, policy), (other, _)) = (page().unwrap(), page().unwrap());
        assert_ne!(page, other);
        for (place, _) in PARTS {
            assert!(!page.contains(place), "{place}");
        }
        let nonce = page.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!((nonce.len(), page.matches(nonce).count(), policy.matches(nonce).count()), (32, 2, 2));
    }

    #[test]
    fn the_script_writes_text_only() {
        let (_, script) = PARTS[2];
        for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("] {
            assert!(!script.contains(word), "{word}");
        }
    }
}
