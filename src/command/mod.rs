//! What each command means: the only layer that knows both [`protocol`](crate::protocol) and [`shard`](crate::shard).
//!
//! In: a request's [`Args`]. Out: where it must run ([`Route`]), and, when it runs, a reply appended to an
//! [`Output`](crate::protocol::Output). One [`table`] describes every command: its name, arity, flags, keys and the
//! function that runs it; help, `COMMAND`, routing and arity checks all read it. What must stay true: a command
//! touches no descriptor, no thread and no clock; results are the same with one worker and with many.
//!
//! # Redis 7.2 is the measure
//!
//! Replies are compared with those of redis-server 7.0 byte for byte. Where 7.2 differs from that, as 7.2: `CLIENT
//! SETINFO` and `CLIENT NO-TOUCH` exist, `CLIENT LIST` ends with the library's name and version, `CLUSTER MYSHARDID`
//! exists, doubles are printed with the shortest digits.
//!
//! Where this server differs on purpose:
//!
//! - In a cluster the map comes from the settings: there are no replicas, no bus and no commands that change it;
//!   `INFO` on a node's port tells the node's figures.
//! - With several workers, commands over several keys are atomic key by key ([`fanout`] says how each behaves).
//! - `CONFIG SET` says in its own words what a setting takes; the settings are those of [`config`](crate::config).
//! - `CLIENT TRACKING ON` is refused; `CLIENT NO-EVICT` and `NO-TOUCH` are shown by `CLIENT LIST` and change nothing.
//! - `DEBUG SLEEP` stops the workers of the client's CPU, not all; `SHUTDOWN SAVE` is refused, for nothing is saved.
//! - `SLOWLOG` times commands over keys by a sample while its threshold is 1 ms or more; it also knows requests that
//!   were slow elsewhere than in their command, and says where. `HOTKEYS` is ours; `ACL` knows the one user there is.
//! - A request may hold as many arguments as `client-query-buffer-limit` has room for, at eight bytes each.
//! - `OBJECT FREQ` counts to 3, and `OBJECT IDLETIME` is the age of the segment that an unused item lies in.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use crate::clock::Now;
use crate::cluster::Map;
use crate::config::Settings;
use crate::instance::Instance;
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::Shard;

pub mod acl;
pub mod arguments;
pub mod client;
pub mod cluster;
pub mod connection;
pub mod expiry;
pub mod fanout;
pub mod float;
pub mod glob;
pub mod hot;
pub mod http;
pub mod info;
pub mod introspect;
pub mod keyspace;
pub mod latency;
pub mod lease;
pub mod memcache;
pub mod memory;
pub mod number;
pub mod route;
pub mod server;
pub mod session;
pub mod slot;
pub mod string;
pub mod table;

pub use fanout::{Fanout, Round};
pub use route::{Entrance, Route, route};
pub use session::{Client, Front, Session};
pub use table::{CommandId, Flags};

/// What a command may use while it runs on the worker that owns its keys.
pub struct Call<'a> {
    /// That worker's shard.
    pub shard: &'a mut Shard,
    /// That worker's clients.
    pub clients: &'a mut dyn Clients,
    /// What all workers share.
    pub instance: &'a Instance,
    /// The settings of this tick.
    pub settings: &'a Settings,
    /// Who has which slots.
    pub map: &'a Map,
    /// Through which kind of listener the client came.
    pub front: Front,
    /// The worker's index.
    pub worker: u16,
    /// The id of the client that asked, wherever it is connected (`CLIENT KILL … SKIPME`).
    pub caller: u64,
    /// The time of this tick.
    pub now: Now,
}

impl Call<'_> {
    /// The workers whose keys and figures the client sees: those of the node, or all.
    pub fn reach(&self) -> Range<u16> {
        route::reach(self.map, self.front, self.worker)
    }
}

/// Runs on the worker that owns the keys; knows nothing of the client but the reply's version.
pub type Execute = fn(&mut Call<'_>, Args<'_>, &mut Reply<'_>);

/// Runs on the worker that owns the connection; may change the client's session.
pub type Converse = fn(&mut Call<'_>, &mut Session, Args<'_>, &mut Reply<'_>);

/// Where a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the connection's worker, whatever the keys.
    Session(Converse),
    /// Where its keys are; all of them on one worker.
    Keyed(Execute),
    /// Several keys, which may be on several workers; see [`fanout`].
    Spread(Execute, fanout::Spread),
    /// On every worker; see [`fanout`].
    Everywhere(Execute, fanout::Merge),
    /// Only with a subcommand.
    Container,
}

impl Run {
    /// What runs without a session.
    #[inline]
    pub fn execute(self) -> Option<Execute> {
        match self {
            Run::Keyed(execute) | Run::Spread(execute, _) | Run::Everywhere(execute, _) => Some(execute),
            Run::Session(_) | Run::Container => None,
        }
    }
}

/// A client as `CLIENT LIST` shows it.
pub struct ClientView<'a> {
    /// What the client told of itself.
    pub session: &'a Session,
    /// The peer's address.
    pub peer: String,
    /// The address the client connected to.
    pub local: String,
    /// The same without its port; unix sockets have none.
    pub local_ip: Option<IpAddr>,
    /// It is connected from this host.
    pub is_local: bool,
    /// Descriptor number.
    pub fd: i32,
    /// Milliseconds since it connected.
    pub age_ms: u64,
    /// Milliseconds since its last request.
    pub idle_ms: u64,
    /// Bytes received and not yet a whole request.
    pub input_bytes: usize,
    /// Bytes of replies not yet sent.
    pub output_bytes: usize,
}

/// What a command can see and do of the worker that runs it, beside its shard.
pub trait Clients {
    /// One client, by its own session (`CLIENT INFO`); `None` when it is not one of this worker's.
    fn view<'a>(&mut self, session: &'a Session) -> Option<ClientView<'a>>;
    /// Shows every client that is connected.
    fn for_each(&mut self, show: &mut dyn FnMut(&ClientView<'_>));
    /// Closes a client; `false` when there is none with that id.
    fn kill(&mut self, id: u64) -> bool;
    /// Blocks this worker for so long (`DEBUG SLEEP`); a simulated one only pretends.
    fn stall(&mut self, duration: Duration);
}

/// Finds the row for a request in the table of what the client speaks.
///
/// # Errors
/// No row fits; memcached's commands and HTTP's routes have one for that as well.
#[inline]
pub fn find(client: Client, settings: &Settings, args: Args<'_>) -> Result<CommandId, table::Unfit> {
    match client.front {
        Front::Resp | Front::RespCluster | Front::RespCore => table::find(args),
        Front::Memcache => Ok(memcache::find(client, args)),
        Front::Http => Ok(http::find(settings, args)),
    }
}

/// Whether the client may run this command at all.
///
/// # Errors
/// The text of the error reply.
#[inline]
pub fn check(session: &Session, spec: &table::Spec) -> Result<(), &'static str> {
    // Every request over HTTP shows its credentials, which [`find`] has looked at.
    let is_known = session.is_authenticated || session.front == Front::Http;
    if !is_known && !spec.flags.has(table::Flags::NO_AUTH) {
        return Err("NOAUTH Authentication required.");
    }
    if spec.flags.has(table::Flags::CLUSTER) && !session.front.is_cluster() {
        return Err(cluster::DISABLED);
    }
    Ok(())
}
