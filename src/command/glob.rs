//! Glob patterns as `KEYS`, `SCAN MATCH` and `CONFIG GET` understand them: `*`, `?`, `[a-z]`, `[^x]`, `\` before a
//! character that is meant literally.
//!
//! In: a pattern and a text. Out: whether the whole text matches. What must stay true: the cost is at most the product
//! of both lengths, whatever the pattern (a star that fails is retried one character on, and earlier stars are never).

/// Whether a key is wanted by `KEYS` or `SCAN MATCH`, for which a lone star means everything.
pub fn selects(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || matches(pattern, key, false)
}

/// Whether `pattern` matches all of `text`; `ignore_case` compares ASCII letters without case. As in Redis, the empty
/// text is matched by the empty pattern only.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on when the present attempt fails: behind the last star, one character further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
            continue;
        }
        let step = match text.get(text_at) {
            None if pattern_at == pattern.len() => return true,
            None => return false,
            Some(_) if pattern_at == pattern.len() => None,
            Some(character) => match_one(&pattern[pattern_at..], *character, ignore_case),
        };
        match (step, retry) {
            (Some(used), _) => {
                pattern_at += used;
                text_at += 1;
            }
            (None, Some((star, from))) => {
                retry = Some((star, from + 1));
                (pattern_at, text_at) = (star, from + 1);
            }
            (None, None) => return false,
        }
    }
}

/// Matches one character with the element at the pattern's start; the element's length if it does.
fn match_one(pattern: &[u8], character: u8, ignore_case: bool) -> Option<usize> {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    match pattern[0] {
        b'?' => Some(1),
        b'[' => match_class(pattern, fold(character), fold),
        b'\\' if pattern.len() > 1 => (fold(pattern[1]) == fold(character)).then_some(2),
        literal => (fold(literal) == fold(character)).then_some(1),
    }
}

/// Matches a `[…]` class; an unclosed one ends with the pattern, as in Redis.
fn match_class(pattern: &[u8], character: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let is_negated = pattern.get(1) == Some(&b'^');
    let mut at = if is_negated { 2 } else { 1 };
    let mut is_in = false;
    while at < pattern.len() && pattern[at] != b']' {
        if pattern[at] == b'\\' && at + 1 < pattern.len() {
            is_in |= fold(pattern[at + 1]) == character;
            at += 2;
        } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
            let (from, to) = (fold(pattern[at]), fold(pattern[at + 2]));
            is_in |= (from.min(to)..=from.max(to)).contains(&character);
            at += 3;
        } else {
            is_in |= fold(pattern[at]) == character;
            at += 1;
        }
    }
    let used = (at + 1).min(pattern.len());
    (is_in != is_negated).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let rows: &[(&str, &str, bool)] = &[
            ("*", "", false),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "heeeell", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
            ("key:*", "key:1", true),
            ("**", "ab", true),
            ("a*", "", false),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), *expected, "{pattern} {text}");
        }
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(!matches(b"MAX*", b"maxmemory", false));
    }

    #[test]
    fn stars_do_not_multiply_the_cost() {
        let pattern = b"a*".repeat(200);
        let text = vec![b'a'; 10_000];
        assert!(matches(&pattern, &text, false));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text, false));
    }
}
