//! What clients do, for the console: who is connected, which keys are asked for, which requests were slow.
//!
//! In: the workers' census, sketches and slow log. Out: JSON. What must stay true: lists are short and say how much
//! they leave out; what comes from clients is text without control letters, whatever its bytes are.

use serde_json::{Value, json};

use crate::instance::Instance;
use crate::observe::Metric;
use crate::observe::census::ClientSummary;
use crate::observe::slow::Stage;

const HOT_KEYS_SHOWN: usize = 20;
const SLOW_REQUESTS_SHOWN: usize = 32;

/// Letters of one piece of text.
const LETTERS_SHOWN: usize = 200;

/// Bytes as text: printable letters of UTF-8 as they are, all others escaped, among them those that change the
/// direction of what follows.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut letters, mut rest) = (0, bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letters == LETTERS_SHOWN {
                return text + &format!("… ({rest} more bytes)");
            }
            match letter {
                '"' | '\'' => text.push(letter),
                _ => text.extend(letter.escape_debug()),
            }
            (letters, rest) = (letters + 1, rest - letter.len_utf8());
        }
        for byte in chunk.invalid() {
            if letters == LETTERS_SHOWN {
                return text + &format!("… ({rest} more bytes)");
            }
            text.push_str(&format!("\\x{byte:02x}"));
            (letters, rest) = (letters + 1, rest - 1);
        }
    }
    text
}

/// The clients that workers told of, by worker; of one that did not answer there is null.
pub(super) fn clients(instance: &Instance, told: &[Option<Vec<ClientSummary>>]) -> Value {
    let client = |worker: usize, client: &ClientSummary| {
        let library = client.library.join(&b' ');
        json!({
            "id": client.id, "worker": worker, "protocol": client.protocol, "name": shown(&client.name),
            "address": client.peer.map_or_else(|| "unix socket".to_owned(), |peer| peer.to_string()),
            "library": shown(library.trim_ascii()),
            "age_seconds": client.age_ms as f64 / 1000.0, "idle_seconds": client.idle_ms as f64 / 1000.0,
            "unread_bytes": client.output_bytes, "input_bytes": client.input_bytes,
            "last_command": client.last_command,
        })
    };
    let workers = told.iter().enumerate();
    let all = workers.flat_map(|(worker, told)| told.iter().flatten().map(move |it| client(worker, it)));
    let silent = told.iter().enumerate().filter(|(_, told)| told.is_none()).map(|(worker, _)| worker);
    json!({
        "connected": instance.metrics.total(Metric::ConnectionsOpen), "clients": all.collect::<Vec<_>>(),
        "silent_workers": silent.collect::<Vec<_>>(),
    })
}

/// The keys that are asked for most, with estimates of their requests in the last minutes.
pub(super) fn hot_keys(instance: &Instance) -> Value {
    let sampling = u64::from(instance.settings().hotkeys_sampling);
    let (keys, total) = instance.hot.top(HOT_KEYS_SHOWN);
    let row = |known: &crate::observe::hot::HotKey| {
        let share = known.count as f64 / total.max(1) as f64;
        json!({
            "key": shown(&known.key), "requests": known.count * sampling.max(1),
            "too_high_by": known.error * sampling.max(1), "share": share,
        })
    };
    json!({"hotkeys_sampling": sampling, "keys": keys.iter().map(row).collect::<Vec<_>>()})
}

/// The newest slow requests, newest first.
pub(super) fn slow_log(instance: &Instance) -> Value {
    let settings = instance.settings();
    let row = |entry: &crate::observe::slow::SlowEntry| {
        // The last one names the stage, for clients that know of no stages.
        let named = usize::from(entry.stage != Stage::Execute);
        let arguments = &entry.arguments[..entry.arguments.len().saturating_sub(named)];
        let arguments: Vec<String> = arguments.iter().map(|argument| shown(argument)).collect();
        json!({
            "id": entry.id, "unix_seconds": entry.unix_s, "us": entry.us, "stage": entry.stage.name(),
            "arguments": arguments, "address": entry.peer, "name": shown(&entry.name),
        })
    };
    json!({
        "slower_than_us": settings.slowlog_log_slower_than, "kept": instance.slow.len(),
        "entries": instance.slow.entries(SLOW_REQUESTS_SHOWN).iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_text() {
        let rows: [(&[u8], &str); 6] = [
            (b"user:7", "user:7"),
            ("gr\u{fc}n \u{65e5}\u{672c}".as_bytes(), "gr\u{fc}n \u{65e5}\u{672c}"),
            (b"<script>'\"&\\", "<script>'\"&\\\\"),
            (b"\x00\r\n\x1b[31m\xff\xc3(", "\\0\\r\\n\\u{1b}[31m\\xff\\xc3("),
            ("\u{202e}evil\u{2066}\u{200b}".as_bytes(), "\\u{202e}evil\\u{2066}\\u{200b}"),
            (b"", ""),
        ];
        for (bytes, text) in rows {
            assert_eq!(shown(bytes), text);
        }
        assert_eq!(shown(&[b'x'; 203]), format!("{}… (3 more bytes)", "x".repeat(200)));
        assert_eq!(shown(&[0xff; 201]), format!("{}… (1 more bytes)", "\\xff".repeat(200)));
    }
}
