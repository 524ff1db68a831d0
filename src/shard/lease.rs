//! Leases: of all who find a key missing or stale, one is to compute its value; the others know, and wait or take the
//! stale value.
//!
//! In: keys, how long a lease lasts, and in the end the value, or that there is none. Out: [`Leased`]. What must stay
//! true: at any time at most one lease of a key is out; a lease that was not filled in time is given to the next who
//! asks; a value is filled in only if the key has not changed since its lease was given, so that a write or a delete in
//! between is not undone.

use super::attributes::{Attributes, Presence, View};
use super::{Expiry, Item, NewValue, Shard, Stored, UnixMs};

/// What somebody gets who asks for a value and would compute it.
#[derive(Clone, Copy, Debug)]
pub enum Leased<'a> {
    /// The value.
    Fresh(Item<'a>),
    /// A value that somebody else is computing anew.
    Stale(Item<'a>),
    /// The lease: the value is to be computed and filled in with this token. There may be a stale one.
    Won {
        /// The key's version.
        token: u64,
        /// The stale value.
        stale: Option<Item<'a>>,
    },
    /// No value yet; somebody else is computing it.
    Awaited,
    /// It is known that there is none.
    Absent,
}

/// A value that was computed.
#[derive(Clone, Copy, Debug)]
pub struct Fill<'a> {
    /// `None`: there is none, which is worth knowing.
    pub value: Option<NewValue<'a>>,
    /// When it, or that knowledge, expires.
    pub expiry: Expiry,
    /// From when on it is stale; 0: never.
    pub fresh_until: UnixMs,
    /// HTTP's `Content-Type`.
    pub content_type: &'a [u8],
}

impl Shard {
    /// Looks a key up for somebody who will compute its value if told to, until `until`.
    pub fn lease(&mut self, key: &[u8], until: UnixMs, now: UnixMs) -> Leased<'_> {
        let found = self.get_as(View::All, key, now).map(|item| {
            let attributes = item.attributes();
            (attributes.presence, attributes.is_leased(now), attributes.is_stale(now))
        });
        if let Some((Presence::Awaited | Presence::Vivified, is_leased, _)) = found {
            // There is nothing for it yet. It is missed once, by who is to compute it; the others ask again and again.
            self.stats.hits -= 1;
            self.stats.misses += u64::from(!is_leased);
        }
        match found {
            None => return self.lease_missing(key, until, now),
            Some((Presence::Absent, ..)) => return Leased::Absent,
            Some((Presence::Awaited | Presence::Vivified, true, _)) => return Leased::Awaited,
            Some((Presence::Awaited, false, _)) => return self.lease_missing(key, until, now),
            Some((Presence::Vivified, false, _) | (Presence::Value, false, true)) => {
                self.change(key, now, |_, attributes| attributes.leased_until = until);
                let token = self.version(View::All, key, now).unwrap_or(0);
                let stale = self.peek_as(View::Values, key, now);
                return Leased::Won { token, stale };
            }
            Some((Presence::Value, ..)) => {}
        }
        match self.peek_as(View::Values, key, now) {
            Some(item) if item.attributes().is_stale(now) => Leased::Stale(item),
            Some(item) => Leased::Fresh(item),
            None => Leased::Awaited,
        }
    }

    /// Notes that a value is awaited. When there is no room for that, whoever asks computes.
    fn lease_missing(&mut self, key: &[u8], until: UnixMs, now: UnixMs) -> Leased<'_> {
        let token = self.next_version(now);
        let attributes =
            Attributes { version: token, leased_until: until, presence: Presence::Awaited, ..Attributes::default() };
        let _ = self.put(key, NewValue::Copied(b""), Expiry::At(until), &attributes, now);
        Leased::Won { token, stale: None }
    }

    /// Fills in what the holder of a lease has computed; [`Stored::Refused`] when the key has changed since, or the
    /// lease of a missing key has lapsed.
    pub fn fill(&mut self, key: &[u8], token: u64, fill: &Fill<'_>, now: UnixMs) -> Stored {
        let version = self.peek_as(View::All, key, now).map(|item| item.attributes().version);
        if version.is_none_or(|version| version != token || version == 0) {
            return Stored::Refused;
        }
        let attributes = Attributes {
            fresh_until: fill.fresh_until,
            content_type: fill.content_type,
            presence: if fill.value.is_some() { Presence::Value } else { Presence::Absent },
            ..Attributes::default()
        };
        self.put(key, fill.value.unwrap_or(NewValue::Copied(b"")), fill.expiry, &attributes, now)
    }
}
