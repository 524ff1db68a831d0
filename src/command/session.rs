//! What the server remembers of one client: its name, its protocol version, how it wants its replies.
//!
//! In: commands that change it. Out: what the worker and the reply encoder read. What must stay true: it belongs to the
//! connection and dies with it; `RESET` makes it new.

use super::CommandId;
use crate::protocol::resp::Reply;
use crate::protocol::resp::Version;
use crate::protocol::{Decoder, Output, http, memcache};

/// What a connection speaks and which keys it serves: decided by the listener that it came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Front {
    /// RESP, every key: those of other workers by the hop.
    #[default]
    Resp,
    /// The same, and it says that it is a cluster.
    RespCluster,
    /// RESP, the keys of the worker's node: others are for their own node's port.
    RespCore,
    /// memcached's protocol, every key of this process.
    Memcache,
    /// HTTP/1.1, every key of this process.
    Http,
}

impl Front {
    /// Whether clients are told that this is a cluster.
    pub fn is_cluster(self) -> bool {
        matches!(self, Front::RespCluster | Front::RespCore)
    }

    /// The decoder of a new connection.
    pub fn decoder(self) -> Decoder {
        match self {
            Front::Resp | Front::RespCluster | Front::RespCore => Decoder::default(),
            Front::Memcache => Decoder::Memcache(memcache::Decoder::default()),
            Front::Http => Decoder::Http(http::Decoder::default()),
        }
    }

    /// Writes an error that is no command's: `text` as RESP has it, its code first.
    pub fn write_error(self, text: &[u8], output: &mut Output) {
        match self {
            Front::Resp | Front::RespCluster | Front::RespCore => {
                Reply { output, version: Version::default() }.error_bytes(text);
            }
            Front::Memcache => memcache::write_refusal(text, output),
            Front::Http => http::reply::refusal(text, output),
        }
    }
}

/// Which replies a client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Every reply.
    #[default]
    On,
    /// None.
    Off,
    /// None for the next command.
    SkipNext,
    /// None for the command being executed, then every reply.
    Skip,
}

/// What decides which commands a client has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// Where it came in.
    pub front: Front,
    /// No password is set, or it has given it.
    pub is_authenticated: bool,
}

/// What the server remembers of one client.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Where the client came in; nothing changes it.
    pub front: Front,
    /// Unique in the server's life, from 1.
    pub id: u64,
    /// `CLIENT SETNAME`.
    pub name: Box<[u8]>,
    /// `CLIENT SETINFO LIB-NAME`.
    pub library_name: Box<str>,
    /// `CLIENT SETINFO LIB-VER`.
    pub library_version: Box<str>,
    /// Negotiated with `HELLO`.
    pub version: Version,
    /// No password is set, or the client has given it.
    pub is_authenticated: bool,
    /// `CLIENT REPLY`.
    pub reply_mode: ReplyMode,
    /// `CLIENT NO-EVICT`.
    pub is_no_evict: bool,
    /// `CLIENT NO-TOUCH`.
    pub is_no_touch: bool,
    /// `MONITOR`.
    pub is_monitor: bool,
    /// Close the connection once everything before has been answered.
    pub is_closing: bool,
    /// The last command, as `CLIENT LIST` shows it.
    pub last_command: Option<CommandId>,
}

impl Session {
    /// What decides which commands it has.
    #[inline]
    pub fn client(&self) -> Client {
        Client { front: self.front, is_authenticated: self.is_authenticated }
    }
}
