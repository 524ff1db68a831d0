//! The arguments of a request, and what they say.
//!
//! In: [`Args`] as the decoder makes them. Out: typed parts. What must stay true: a part that is malformed is told from
//! one that is not there.
//!
//! | argument | what                                                                                    |
//! |----------|-----------------------------------------------------------------------------------------|
//! | 0        | the route: method and path, with `{key}` for the key                                    |
//! | 1        | the key, decoded                                                                        |
//! | 2        | the query, as it was sent                                                               |
//! | 3        | one byte: how the reply is to be                                                        |
//! | 4–12     | the values of [`FIELDS`]                                                                |
//! | 13       | the body                                                                                |

use std::borrow::Cow;

use bytes::Bytes;

use super::head::decode_percent;
use crate::protocol::{Args, base64};

/// Argument: method and path.
pub const ROUTE: usize = 0;
/// Argument: the key.
pub const KEY: usize = 1;
/// Argument: the query, as it was sent.
pub const QUERY: usize = 2;
/// Argument: how the reply is to be.
pub const MODE: usize = 3;
/// Argument: `Authorization`; of a fault, its status.
pub const AUTHORIZATION: usize = 4;
/// Argument: `Content-Type`.
pub const CONTENT_TYPE: usize = 5;
/// Argument: `If-Match`.
pub const IF_MATCH: usize = 6;
/// Argument: `If-None-Match`.
pub const IF_NONE_MATCH: usize = 7;
/// Argument: `Origin`.
pub const ORIGIN: usize = 8;
/// Argument: `Host`.
pub const HOST: usize = 9;
/// Argument: `Cache-Control`.
pub const CACHE_CONTROL: usize = 10;
/// Argument: `Accept`.
pub const ACCEPT: usize = 11;
/// Argument: `Corering-Lease`.
pub const LEASE: usize = 12;
/// Argument: the body; of a fault, its detail.
pub const BODY: usize = 13;

/// The connection is closed after the reply.
pub const IS_LAST: u8 = 1 << 0;
/// The reply's body is left out.
pub const IS_HEAD: u8 = 1 << 1;
/// The request is HTTP/1.0.
pub const IS_OLD: u8 = 1 << 2;
/// The client waits before it sends the body.
pub const EXPECTS: u8 = 1 << 3;

/// A header field that requests are made of.
pub struct Field {
    /// Its name, in lower case.
    pub name: &'static [u8],
    /// It may not be given twice.
    pub is_single: bool,
}

const fn single(name: &'static [u8]) -> Field {
    Field { name, is_single: true }
}

const fn list(name: &'static [u8]) -> Field {
    Field { name, is_single: false }
}

/// In the order of their arguments.
pub const FIELDS: [Field; BODY - AUTHORIZATION] = [
    single(b"authorization"),
    single(b"content-type"),
    single(b"if-match"),
    single(b"if-none-match"),
    single(b"origin"),
    single(b"host"),
    list(b"cache-control"),
    list(b"accept"),
    single(b"corering-lease"),
];

/// What a client shows to be let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `None` for a bearer's token.
    pub user: Option<Vec<u8>>,
    /// The password, or the token.
    pub password: Vec<u8>,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a>(pub Args<'a>);

impl<'a> Request<'a> {
    /// Method and path, with `{key}` for the key.
    pub fn route(self) -> &'a [u8] {
        self.0.get(ROUTE)
    }

    /// The key.
    pub fn key(self) -> &'a [u8] {
        self.0.get(KEY)
    }

    /// The value of a header field, by its argument; empty when it is not there.
    pub fn field(self, index: usize) -> &'a [u8] {
        self.0.get(index)
    }

    /// How the reply is to be: bits as [`IS_LAST`].
    pub fn mode(self) -> u8 {
        self.0.get(MODE).first().copied().unwrap_or(IS_LAST)
    }

    /// The body.
    pub fn body(self) -> &'a [u8] {
        self.0.get(BODY)
    }

    /// The body when it has an allocation of its own.
    pub fn shared_body(self) -> Option<&'a Bytes> {
        self.0.body(BODY)
    }

    /// The parameters of the query, not decoded.
    fn parameters(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.get(QUERY).split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
            let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            (&pair[..end], &pair[(end + 1).min(pair.len())..])
        })
    }

    /// The value of a parameter; `Err` when it is given twice.
    fn only(self, name: &str) -> Option<Result<&'a [u8], ()>> {
        let mut values = self.parameters().filter(|(given, _)| *given == name.as_bytes()).map(|(_, value)| value);
        values.next().map(|value| if values.next().is_none() { Ok(value) } else { Err(()) })
    }

    /// A parameter of the query, decoded; `Err` when its escapes are malformed, or it is given twice.
    pub fn parameter(self, name: &str) -> Option<Result<Cow<'a, [u8]>, ()>> {
        let Ok(value) = self.only(name)? else { return Some(Err(())) };
        if !value.iter().any(|byte| matches!(byte, b'%' | b'+')) {
            return Some(Ok(Cow::Borrowed(value)));
        }
        let mut bytes = Vec::new();
        Some(decode_percent(value, true, &mut bytes).map(|()| Cow::Owned(bytes)))
    }

    /// The name of the first parameter that is not among `known`, as it was sent: a misspelt one.
    pub fn unknown_parameter(self, known: &[&str]) -> Option<&'a [u8]> {
        let is_known = |name: &[u8]| known.iter().any(|known| known.as_bytes() == name);
        self.parameters().map(|(name, _)| name).find(|name| !is_known(name))
    }

    /// Whether a condition is given, by its name or with a value; `None` when that is no boolean.
    pub fn flag(self, name: &str) -> Option<bool> {
        match self.only(name) {
            None | Some(Ok(b"0" | b"false")) => Some(false),
            Some(Ok(b"" | b"1" | b"true")) => Some(true),
            Some(_) => None,
        }
    }

    /// `Authorization`, as Bearer (RFC 6750) or Basic (RFC 7617).
    pub fn credentials(self) -> Option<Credentials> {
        let value = self.field(AUTHORIZATION);
        let space = memchr::memchr(b' ', value)?;
        let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return Some(Credentials { user: None, password: rest.to_vec() });
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let mut both = Vec::new();
        base64::decode(rest, &mut both)?;
        let colon = memchr::memchr(b':', &both)?;
        Some(Credentials { user: Some(both[..colon].to_vec()), password: both[colon + 1..].to_vec() })
    }

    /// The seconds of a directive of `Cache-Control`.
    pub fn directive(self, name: &str) -> Option<u64> {
        let mut directives = self.field(CACHE_CONTROL).split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        directives.find_map(|directive| {
            let equals = memchr::memchr(b'=', directive)?;
            let is_named = directive[..equals].eq_ignore_ascii_case(name.as_bytes());
            let digits = std::str::from_utf8(&directive[equals + 1..]).ok()?.trim_matches('"');
            // What is too large counts as the most that counts (RFC 9111).
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            (is_named && is_number).then(|| digits.parse().unwrap_or(u64::from(u32::MAX)))
        })
    }
}

/// Whether a list of entity tags, or `*`, names this version; `None`: there is none. A weak tag never matches where
/// `is_strong`.
pub fn matches(list: &[u8], version: Option<u64>, is_strong: bool) -> bool {
    if list == b"*" {
        return version.is_some();
    }
    let Some(version) = version else { return false };
    let mut digits = itoa::Buffer::new();
    let wanted = digits.format(version).as_bytes();
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
        let tag = if is_strong { tag } else { tag.strip_prefix(b"W/").unwrap_or(tag) };
        tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")) == Some(wanted)
    })
}
