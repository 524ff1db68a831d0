//! What an item may carry beside key, value and expiry: client flags, a version, how fresh it is, who fills it.
//!
//! In: [`Attributes`]. Out: the same, packed behind the header of a record. What must stay true: an item that carries
//! none of them takes no byte for them; an item that has no version gets one that no version before has been when
//! somebody asks, and whatever changes the value drops or renews it, so that a version names one state of a key.
//!
//! ```text
//! length 1 | fields, presence, encoding 1 | flags 4 | version 8 | fresh until 6 | leased until 6 | content type, rest
//! ```

use super::UnixMs;

/// Longest content type, bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 200;

/// What an item carries beside key, value and expiry. The default carries nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// memcached's client flags.
    pub flags: u32,
    /// Names this state of the key: memcached's CAS, HTTP's ETag. 0 until somebody has asked.
    pub version: u64,
    /// From then on the value is stale: still there, but to be computed anew. 0: fresh as long as it is there.
    pub fresh_until: UnixMs,
    /// Until then one client is computing the value. 0: none is.
    pub leased_until: UnixMs,
    /// Whether there is a value.
    pub presence: Presence,
    /// Whoever stored it named its key in base64, as memcached's protocol allows.
    pub is_key_encoded: bool,
    /// HTTP's `Content-Type`, at most [`CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: &'a [u8],
}

/// Whether an item has a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It has.
    #[default]
    Value,
    /// None yet: the holder of the lease is computing it. Missing to whoever does not ask about leases.
    Awaited,
    /// The same, made by memcached's `mg … N`, to whose clients it is an empty item.
    Vivified,
    /// There is none, as somebody has found out, and needs no looking for.
    Absent,
}

/// Which items are there, to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Those with a value.
    Values,
    /// memcached's clients see vivified ones as well.
    Memcache,
    /// Whoever deals in leases sees all.
    All,
}

impl View {
    fn sees(self, presence: Presence) -> bool {
        match presence {
            Presence::Value => true,
            Presence::Vivified => self != View::Values,
            Presence::Awaited | Presence::Absent => self == View::All,
        }
    }
}

impl<'a> Attributes<'a> {
    /// What stays of them when the value is changed in part.
    pub fn of_changed_value(self) -> Self {
        Attributes { flags: self.flags, content_type: self.content_type, ..Attributes::default() }
    }

    /// Whether the value is to be computed anew.
    pub fn is_stale(&self, now: UnixMs) -> bool {
        self.fresh_until != 0 && self.fresh_until <= now
    }

    /// Whether somebody is computing it.
    pub fn is_leased(&self, now: UnixMs) -> bool {
        self.leased_until > now
    }

    /// As they lie in a record.
    pub(super) fn pack(&self) -> Packed {
        let mut packed = Packed { bytes: [0; PACKED_BYTES_MAX], len: 0 };
        if *self == Attributes::default() {
            return packed;
        }
        packed.len = 2;
        packed.bytes[1] =
            (self.presence as u8) << PRESENCE_SHIFT | if self.is_key_encoded { IS_KEY_ENCODED } else { 0 };
        packed.field(HAS_FLAGS, u64::from(self.flags), 4);
        packed.field(HAS_VERSION, self.version, 8);
        packed.field(HAS_FRESH, self.fresh_until, TIME_BYTES);
        packed.field(HAS_LEASE, self.leased_until, TIME_BYTES);
        packed.append(&self.content_type[..self.content_type.len().min(CONTENT_TYPE_BYTES_MAX)]);
        packed.bytes[0] = packed.len as u8;
        packed
    }

    /// Reads them from a record; nothing of an empty one.
    pub(super) fn unpack(extras: &'a [u8]) -> Self {
        let Some((&[_, fields], mut rest)) = extras.split_first_chunk() else { return Self::default() };
        let mut field = |is_there: u8, len: usize| {
            let mut bytes = [0; 8];
            if fields & is_there != 0 {
                let (value, behind) = rest.split_at(len);
                bytes[..len].copy_from_slice(value);
                rest = behind;
            }
            u64::from_le_bytes(bytes)
        };
        let (flags, version) = (field(HAS_FLAGS, 4) as u32, field(HAS_VERSION, 8));
        let (fresh_until, leased_until) = (field(HAS_FRESH, TIME_BYTES), field(HAS_LEASE, TIME_BYTES));
        let (presence, is_key_encoded) = (presence_of(extras), fields & IS_KEY_ENCODED != 0);
        Self { flags, version, fresh_until, leased_until, presence, is_key_encoded, content_type: rest }
    }
}

const HAS_FLAGS: u8 = 1 << 0;
const HAS_VERSION: u8 = 1 << 1;
const HAS_FRESH: u8 = 1 << 2;
const HAS_LEASE: u8 = 1 << 3;
const PRESENCE_SHIFT: u32 = 4;
const PRESENCE_MASK: u8 = 3;
const IS_KEY_ENCODED: u8 = 1 << 6;

/// Times that do not fit count as the last that does, in the year 10889.
const TIME_BYTES: usize = 6;
const TIME_MAX: UnixMs = (1 << (8 * TIME_BYTES)) - 1;

const PACKED_BYTES_MAX: usize = 2 + 4 + 8 + 2 * TIME_BYTES + CONTENT_TYPE_BYTES_MAX;
const _: () = assert!(PACKED_BYTES_MAX <= u8::MAX as usize);

fn presence_of(extras: &[u8]) -> Presence {
    match extras.get(1).map_or(0, |fields| fields >> PRESENCE_SHIFT & PRESENCE_MASK) {
        0 => Presence::Value,
        1 => Presence::Awaited,
        2 => Presence::Vivified,
        _ => Presence::Absent,
    }
}

/// Whether an item with these packed attributes is there.
#[inline]
pub(super) fn is_seen(extras: &[u8], view: View) -> bool {
    extras.is_empty() || view.sees(presence_of(extras))
}

/// Whether an item with these packed attributes has no value.
#[inline]
pub(super) fn is_hidden(extras: &[u8]) -> bool {
    !is_seen(extras, View::Values)
}

/// Packed attributes.
pub(super) struct Packed {
    bytes: [u8; PACKED_BYTES_MAX],
    len: usize,
}

impl Packed {
    /// A copy of what lies in a record.
    pub(super) fn copy_of(extras: &[u8]) -> Self {
        let mut packed = Packed { bytes: [0; PACKED_BYTES_MAX], len: 0 };
        packed.append(extras);
        packed
    }

    fn field(&mut self, is_there: u8, value: u64, len: usize) {
        if value != 0 {
            self.bytes[1] |= is_there;
            let value = if len == TIME_BYTES { value.min(TIME_MAX) } else { value };
            self.append(&value.to_le_bytes()[..len]);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl std::ops::Deref for Packed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_reads_back() {
        let none = Attributes::default();
        assert!(none.pack().is_empty());
        let rows = [
            (none, 0),
            (Attributes { flags: 5, ..none }, 6),
            (Attributes { version: 1 << 63, ..none }, 10),
            (Attributes { fresh_until: 1, leased_until: 2_000_000_000_000, ..none }, 14),
            (Attributes { presence: Presence::Absent, ..none }, 2),
            (Attributes { is_key_encoded: true, ..none }, 2),
            (Attributes { presence: Presence::Vivified, content_type: b"text/plain", ..none }, 12),
            (
                Attributes {
                    flags: u32::MAX,
                    version: u64::MAX,
                    fresh_until: TIME_MAX,
                    leased_until: TIME_MAX,
                    presence: Presence::Awaited,
                    is_key_encoded: true,
                    content_type: &[b'x'; CONTENT_TYPE_BYTES_MAX],
                },
                PACKED_BYTES_MAX,
            ),
        ];
        for (attributes, len) in rows {
            let packed = attributes.pack();
            assert_eq!((Attributes::unpack(&packed), packed.len()), (attributes, len));
            assert_eq!(*Packed::copy_of(&packed), *packed);
        }
    }
}
