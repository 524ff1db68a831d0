//! `MONITOR`: requests of this worker's clients to the feed, the feed to those of its clients that watch.
//!
//! In: batches of requests, lines of all workers. Out: lines in the output of watching connections. What must stay
//! true: while nobody watches, a batch costs one comparison; a watcher that does not read holds nobody up: it misses
//! lines and is told how many.

use std::fmt::Write;

use crate::command::{self, Flags};
use crate::protocol::Requests;

use super::Core;
use super::stages::arguments;

/// A connection that watches.
#[derive(Debug)]
pub(super) struct Watcher {
    slot: u32,
    generation: u32,
    /// The number of the first line that it has not seen.
    next: u64,
    /// It has to read, or to be answered, before it gets more.
    is_blocked: bool,
}

/// What is shown of nobody: passwords, and what operators do.
fn is_hidden(name: &str, flags: Flags) -> bool {
    flags.has(Flags::ADMIN) || matches!(name, "auth" | "hello")
}

impl Core {
    /// A client has said `MONITOR`.
    pub(super) fn watch_requests(&mut self, slot: usize) {
        let (generation, slot) = (self.connections[slot].generation, slot as u32);
        if self.watchers.iter().any(|watcher| (watcher.slot, watcher.generation) == (slot, generation)) {
            return;
        }
        let watcher = Watcher { slot, generation, next: self.instance.feed.join(), is_blocked: false };
        self.watchers.push(watcher);
    }

    /// Shows a batch to those who watch, on any worker.
    #[cold]
    pub(super) fn show_requests(&mut self, slot: usize, batch: &Requests, received: &[u8]) {
        let connection = &self.connections[slot];
        let (session, peer) = (&connection.session, connection.peer());
        for index in 0..batch.len() {
            let args = batch.get(index, received);
            let Ok(command) = command::find(session.client(), &self.settings, args) else { continue };
            let spec = command.spec();
            if is_hidden(command.full_name(), spec.flags) || command::check(session, spec).is_err() {
                continue;
            }
            let (seconds, micros) = (self.now.unix_us / 1_000_000, self.now.unix_us % 1_000_000);
            let mut line = format!("+{seconds}.{micros:06} [0 {peer}]");
            for argument in arguments(session.front, command, Some(args)) {
                line.push_str(" \"");
                quote(&argument, &mut line);
                line.push('"');
            }
            line.push_str("\r\n");
            self.instance.feed.push(&line);
        }
        // Those who watch may be others' clients.
        self.hops.ring_all();
    }

    /// Whether there are lines for a watching client of this worker.
    pub(super) fn has_lines(&self) -> bool {
        self.watchers.iter().any(|watcher| !watcher.is_blocked && watcher.next != self.instance.feed.next())
    }

    /// Hands new lines to the clients that watch.
    pub(super) fn feed_watchers(&mut self) {
        let mut watchers = std::mem::take(&mut self.watchers);
        watchers.retain_mut(|watcher| {
            let slot = watcher.slot as usize;
            let is_it = |connection: &&mut super::Connection| connection.generation == watcher.generation;
            let Some(connection) = self.connections.get_mut(slot).filter(is_it) else {
                self.instance.feed.leave();
                return false;
            };
            if !connection.session.is_monitor {
                self.instance.feed.leave();
                return false;
            }
            let is_behind = connection.output_bytes() as u64 > self.settings.output_soft_limit;
            watcher.is_blocked = is_behind || !connection.gather.is_empty();
            if watcher.next != self.instance.feed.next() && !watcher.is_blocked {
                let (lines, lost) = self.instance.feed.since(watcher.next);
                if lost > 0 {
                    connection.output.extend(format!("+({lost} requests were left out)\r\n").as_bytes());
                }
                lines.iter().for_each(|line| connection.output.extend(line.as_bytes()));
                watcher.next += lost + lines.len() as u64;
                self.mark_dirty(slot);
            }
            true
        });
        watchers.append(&mut self.watchers);
        self.watchers = watchers;
    }
}

/// As Redis quotes what is not printable.
fn quote(bytes: &[u8], line: &mut String) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend(['\\', char::from(*byte)]),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(*byte)),
            _ => _ = write!(line, "\\x{byte:02x}"),
        }
    }
}
