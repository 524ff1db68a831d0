//! The meta commands that read, mark and delete: `mg`, `md`, `me`.
//!
//! In: a key and flags. Out: of the item what the flags ask for, in their order. What must stay true: of all clients
//! that find an item missing (`N`), about to expire (`R`) or stale, one wins (`W`) and the others are told so (`Z`),
//! until the item is replaced or the win lapses.

use super::{Call, expires_at, expiry_at, line, write_value};
use crate::protocol::memcache::{self, Meta, text};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output};
use crate::shard::{Attributes, NewValue, Presence, Stored, UnixMs, View};

/// Writes the return flags that every meta command has: `O` and `k`, with the key in base64 or not.
pub(super) fn write_tokens(args: Args<'_>, index: usize, is_key_encoded: bool, output: &mut Output) {
    match args.get(index)[0] {
        b'O' => {
            output.push(b' ');
            output.extend(args.get(index));
        }
        b'k' => memcache::write_opaque_key(args.get(1), is_key_encoded, output),
        _ => {}
    }
}

/// Ends a reply that has nothing but them; the key is as the request spells it.
pub(super) fn write_all_tokens(args: Args<'_>, flags: &Meta, output: &mut Output) {
    (2..args.len()).for_each(|index| write_tokens(args, index, flags.has(b'b'), output));
    output.extend(b"\r\n");
}

/// Reads the flags of a meta command without data, and checks its key.
pub(super) fn parse(args: Args<'_>) -> Result<Meta, &'static str> {
    if args.get(1).len() > memcache::KEY_BYTES_MAX {
        return Err(text::BAD_FORMAT);
    }
    let flags = memcache::meta(args, 2, args.len())?;
    if !flags.has(b'b') {
        memcache::key(args.get(1))?;
    }
    Ok(flags)
}

/// What commands that change say of any flag that is wrong.
pub(super) fn parse_change(args: Args<'_>) -> Result<Meta, &'static str> {
    parse(args).map_err(|text| match text {
        text::BAD_FORMAT | text::TOO_MANY_FLAGS | text::OPAQUE_TOO_LONG => text,
        _ => text::INVALID_OR_DUPLICATE_FLAG,
    })
}

/// The version that a new item gets at once: the one that is asked for, or, with `c`, one to be returned. 0: none.
pub(super) fn version_of_new(call: &mut Call<'_>, flags: &Meta) -> u64 {
    match flags.new_version.unwrap_or(0) {
        0 if flags.has(b'c') => call.shard.next_version(call.now.unix_ms),
        version => version,
    }
}

/// Seconds to live as `t` returns them.
pub(super) fn write_ttl(at: UnixMs, now: UnixMs, output: &mut Output) {
    if at == 0 {
        output.extend(b" t-1");
    } else {
        output.extend(b" t");
        memcache::write_number(at.saturating_sub(now).div_ceil(1000), output);
    }
}

/// Until when whoever wins now may compute.
fn lease_until(call: &Call<'_>) -> UnixMs {
    call.now.unix_ms + call.settings.lease_timeout.as_millis() as u64
}

/// What `mg` knows of an item before it writes.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When it expires.
    expires_at: UnixMs,
    /// When it will after `N` has made it, and after `T`.
    made_at: Option<UnixMs>,
    touched_at: Option<UnixMs>,
    has_won: bool,
    /// `N` has made it, as all flags want it.
    is_made: bool,
    is_leased: bool,
    is_stale: bool,
    is_key_encoded: bool,
    /// For `c`, as it is before the item may expire.
    version: u64,
    was_hit: bool,
    idle_seconds: u64,
}

impl Seen {
    /// When it expires after a flag, and expired at `at` before.
    fn after(&self, flag: u8, at: UnixMs) -> UnixMs {
        match flag {
            b'T' => self.touched_at.unwrap_or(at),
            b'N' => self.made_at.unwrap_or(at),
            _ => at,
        }
    }

    /// Does what the flags want done, after the reply: what expires by that is returned once more.
    fn apply(&self, call: &mut Call<'_>, args: Args<'_>, flags: &Meta) {
        if self.is_made || !(self.has_won || flags.exptime.is_some()) {
            return;
        }
        let lease_until = lease_until(call);
        call.shard.change(args.get(1), call.now.unix_ms, |at, attributes| {
            *at = self.in_the_end(args);
            attributes.leased_until = if self.has_won { lease_until } else { attributes.leased_until };
        });
    }

    /// When it expires after all flags.
    fn in_the_end(&self, args: Args<'_>) -> UnixMs {
        (2..args.len()).fold(self.expires_at, |at, index| self.after(args.get(index)[0], at))
    }
}

pub(super) fn get(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let flags = match parse(args) {
        Ok(flags) => flags,
        Err(text::TOO_MANY_FLAGS) => return line(reply.output, text::TOO_MANY_GET_FLAGS),
        Err(text) => return line(reply.output, text),
    };
    match look(call, args, &flags) {
        Ok(Some(seen)) => {
            write_item(call, args, &flags, &seen, reply.output);
            seen.apply(call, args, &flags);
        }
        Ok(None) if flags.has(b'q') => {}
        Ok(None) => {
            reply.output.extend(b"EN");
            write_all_tokens(args, &flags, reply.output);
        }
        Err(text) => line(reply.output, text),
    }
}

/// Looks an item up and sees what the flags want done with it; `None` for a miss.
fn look(call: &mut Call<'_>, args: Args<'_>, flags: &Meta) -> Result<Option<Seen>, &'static str> {
    let (key, now) = (args.get(1), call.now.unix_ms);
    let Some(item) = call.shard.peek_as(View::All, key, now) else {
        return vivify(call, args, flags);
    };
    let attributes = item.attributes();
    let mut seen = Seen {
        expires_at: item.expires_at.unwrap_or(0),
        touched_at: flags.exptime.map(|exptime| expires_at(exptime, now)),
        is_leased: attributes.is_leased(now),
        is_stale: attributes.is_stale(now),
        is_key_encoded: attributes.is_key_encoded,
        ..Seen::default()
    };
    match attributes.presence {
        Presence::Absent => return Ok(None),
        // Another protocol's client is computing it.
        Presence::Awaited if seen.is_leased && (flags.vivify.or(flags.recache)).is_some() => return Ok(Some(seen)),
        Presence::Awaited => return Ok(None),
        Presence::Value | Presence::Vivified => {}
    }
    let is_due = flags.recache.is_some_and(|recache| {
        // As it stands where the flag does.
        let before = (2..args.len()).map(|index| args.get(index)[0]).take_while(|flag| *flag != b'R');
        let at = before.fold(seen.expires_at, |at, flag| seen.after(flag, at));
        at != 0 && at < expires_at(recache, now)
    });
    let has_no_value = attributes.presence == Presence::Vivified;
    seen.has_won = !seen.is_leased && (is_due || seen.is_stale || has_no_value);
    if flags.has(b'h') || flags.has(b'l') {
        let usage = call.shard.usage(key, now);
        seen.was_hit = usage.is_some_and(|usage| usage.is_read);
        seen.idle_seconds = usage.map_or(0, |usage| now.saturating_sub(usage.accessed_at) / 1000);
    }
    if flags.has(b'c') {
        seen.version = call.shard.version(View::All, key, now).unwrap_or(0);
    }
    Ok(Some(seen))
}

/// Makes an item that has no value yet, when that is wanted.
fn vivify(call: &mut Call<'_>, args: Args<'_>, flags: &Meta) -> Result<Option<Seen>, &'static str> {
    let (key, now) = (args.get(1), call.now.unix_ms);
    let Some(exptime) = flags.vivify else {
        if !flags.has(b'u') {
            // A miss counts.
            call.shard.get(key, now);
        }
        return Ok(None);
    };
    let seen = Seen {
        made_at: Some(expires_at(exptime, now)),
        touched_at: flags.exptime.map(|exptime| expires_at(exptime, now)),
        has_won: true,
        version: version_of_new(call, flags),
        ..Seen::default()
    };
    let at = seen.in_the_end(args);
    let attributes = Attributes {
        presence: Presence::Vivified,
        leased_until: lease_until(call).max(at),
        version: seen.version,
        ..Attributes::default()
    };
    match call.shard.put(key, NewValue::Copied(b""), expiry_at(at), &attributes, now) {
        Stored::Done { .. } => Ok(Some(Seen { is_made: true, ..seen })),
        Stored::Refused | Stored::OutOfMemory => Err(text::NO_MEMORY),
    }
}

fn write_item(call: &mut Call<'_>, args: Args<'_>, flags: &Meta, seen: &Seen, output: &mut Output) {
    let (key, now) = (args.get(1), call.now.unix_ms);
    let item =
        if flags.has(b'u') { call.shard.peek_as(View::All, key, now) } else { call.shard.get_as(View::All, key, now) };
    // It may have expired by `N` already; so it is shown once.
    let (value_len, client_flags) = item.map_or((0, 0), |item| (item.value.len(), item.attributes().flags));
    if flags.has(b'v') {
        output.extend(b"VA ");
        memcache::write_number(value_len as u64, output);
    } else {
        output.extend(b"HD");
    }
    let mut ttl = seen.expires_at;
    for index in 2..args.len() {
        let letter = args.get(index)[0];
        let number = match letter {
            b'T' | b'N' => {
                ttl = seen.after(letter, ttl);
                continue;
            }
            b't' => {
                write_ttl(ttl, now, output);
                continue;
            }
            b's' => value_len as u64,
            b'c' => seen.version,
            b'f' => u64::from(client_flags),
            b'l' => seen.idle_seconds,
            b'h' => u64::from(seen.was_hit),
            _ => {
                write_tokens(args, index, seen.is_key_encoded, output);
                continue;
            }
        };
        output.push(b' ');
        output.push(letter);
        memcache::write_number(number, output);
    }
    for (is_so, letter) in [(seen.is_leased, b'Z'), (seen.is_stale, b'X'), (seen.has_won, b'W')] {
        if is_so {
            output.extend(&[b' ', letter]);
        }
    }
    output.extend(b"\r\n");
    if flags.has(b'v') {
        match item {
            Some(item) => write_value(&item, output),
            None => output.extend(b"\r\n"),
        }
    }
}

pub(super) fn delete(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let flags = match parse_change(args) {
        Ok(flags) => flags,
        Err(text) => return line(reply.output, text),
    };
    let (key, now) = (args.get(1), call.now.unix_ms);
    let version = call.shard.peek_as(View::Memcache, key, now).map(|item| item.attributes().version);
    let code = match version {
        None => "NF",
        Some(version) if flags.version.is_some_and(|expected| expected != version || version == 0) => "EX",
        Some(_) => {
            remove(call, key, &flags);
            if flags.has(b'q') {
                return;
            }
            "HD"
        }
    };
    reply.output.extend(code.as_bytes());
    write_all_tokens(args, &flags, reply.output);
}

/// Deletes an item, or its value (`x`), or marks it stale (`I`).
fn remove(call: &mut Call<'_>, key: &[u8], flags: &Meta) {
    let now = call.now.unix_ms;
    if !flags.has(b'I') && !flags.has(b'x') {
        call.shard.delete_as(View::Memcache, key, now);
        return;
    }
    let at = flags.exptime.map(|exptime| expires_at(exptime, now));
    if flags.has(b'x') {
        let at = at.or(call.shard.peek_as(View::Memcache, key, now).and_then(|item| item.expires_at)).unwrap_or(0);
        // Less room is needed than before.
        call.shard.put(key, NewValue::Copied(b""), expiry_at(at), &Attributes::default(), now);
    }
    let version = flags.new_version.unwrap_or_else(|| call.shard.next_version(now));
    call.shard.change(key, now, |expires_at, attributes| {
        *expires_at = at.unwrap_or(*expires_at);
        attributes.version = version;
        if flags.has(b'I') {
            (attributes.fresh_until, attributes.leased_until) = (now, 0);
        }
    });
}

pub(super) fn debug(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    if parse(args).is_err() {
        return line(reply.output, text::BAD_FORMAT);
    }
    let (key, now) = (args.get(1), call.now.unix_ms);
    // Before the version, which may be written for it.
    let usage = call.shard.usage(key, now);
    let Some(version) = call.shard.version(View::Memcache, key, now) else {
        return line(reply.output, "EN");
    };
    let Some((item, usage)) = call.shard.peek_as(View::Memcache, key, now).zip(usage) else { return };
    reply.output.extend(b"ME ");
    memcache::write_key(key, item.attributes().is_key_encoded, reply.output);
    let expiry = item.expires_at.map_or(-1, |at| -(at.saturating_sub(now).div_ceil(1000) as i64));
    let idle_seconds = now.saturating_sub(usage.accessed_at) / 1000;
    let fetched = if usage.is_read { "yes" } else { "no" };
    let size = usage.memory_bytes;
    line(reply.output, &format!(" exp={expiry} la={idle_seconds} cas={version} fetch={fetched} cls=1 size={size}"));
}
