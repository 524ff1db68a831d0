//! This worker's clients, for those who watch the server.
//!
//! In: a round of the [census](crate::observe::census) that this worker has told nothing for. Out: a summary of its
//! first clients. What must stay true: it is looked at only when another thread has written to the control socket.

use crate::command::Front;
use crate::observe::census::{CLIENTS_MAX, ClientSummary, NAME_BYTES_MAX};
use crate::protocol::resp::Version;

use super::Core;
use super::connection::Connection;

impl Core {
    /// Tells what is asked for.
    pub(super) fn tell_clients(&self) {
        let Some(round) = self.instance.census.awaited(self.index) else { return };
        let admitted = self.connections.iter().map(|(_, connection)| connection).filter(|it| it.is_admitted);
        let clients = admitted.take(CLIENTS_MAX).map(|connection| summary(connection, self.now.mono_ns));
        self.instance.census.tell(self.index, round, clients.collect());
    }
}

fn summary(connection: &Connection, now_ns: u64) -> ClientSummary {
    let session = &connection.session;
    let begin = |name: &[u8]| name[..name.len().min(NAME_BYTES_MAX)].into();
    let protocol = match (session.front, session.version) {
        (Front::Memcache, _) => "memcached",
        (Front::Http, _) => "HTTP",
        (Front::Resp | Front::RespCluster | Front::RespCore, Version::Resp2) => "RESP2",
        (Front::Resp | Front::RespCluster | Front::RespCore, Version::Resp3) => "RESP3",
    };
    ClientSummary {
        id: session.id,
        peer: connection.addresses.map(|(peer, _)| peer),
        protocol,
        name: begin(&session.name),
        library: [begin(session.library_name.as_bytes()), begin(session.library_version.as_bytes())],
        age_ms: now_ns.saturating_sub(connection.connected_ns) / 1_000_000,
        idle_ms: now_ns.saturating_sub(connection.active_ns) / 1_000_000,
        input_bytes: connection.input_bytes(),
        output_bytes: connection.output_bytes(),
        last_command: session.last_command.map(|command| command.full_name().trim_start()),
    }
}
