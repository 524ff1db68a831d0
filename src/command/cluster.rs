//! `CLUSTER` and its kin: the map of the slots, as cluster clients read it.
//!
//! In: the [`Map`], and the address that the client is connected to. Out: the replies of Redis 7.2. What must stay
//! true: every node tells the same map; nodes without an announced address are where the client already is. Nothing can
//! be changed by these commands: the map comes from the settings. `COUNTKEYSINSLOT` and `GETKEYSINSLOT` look at every
//! key of one worker, so they take as long as `KEYS`.

use std::fmt::Write;
use std::net::IpAddr;

use super::arguments::{conclude, integer, repeating};
use super::fanout::Spread;
use super::keyspace::help;
use super::session::Session;
use super::slot::slot_of;
use super::string::Outcome;
use super::table::{Flags, Spec};
use super::{Call, Run};
use crate::cluster::{Map, Node, SLOTS};
use crate::protocol::Args;
use crate::protocol::resp::Reply;

const FAST: Flags = Flags::CLUSTER.or(Flags::FAST);
const ALWAYS: Flags = FAST.or(Flags::LOADING).or(Flags::STALE);
const STALE: Flags = Flags::CLUSTER.or(Flags::STALE);

/// The family's rows of the command table.
#[rustfmt::skip]
pub static COMMANDS: &[Spec] = &[
    Spec::keyless("connection", ("asking", 1, FAST), "3.0.0",
        "Asks to be served by a slot's next owner; slots do not move, so it changes nothing.", Run::Session(ok)),
    Spec::keyless("cluster", ("cluster", -2, Flags::CLUSTER), "3.0.0", "Commands about the cluster.", Run::Container)
        .with(SUBCOMMANDS),
    Spec::keyless("connection", ("readonly", 1, ALWAYS), "3.0.0",
        "Allows reads from a replica; there are none, so it changes nothing.", Run::Session(ok)),
    Spec::keyless("connection", ("readwrite", 1, ALWAYS), "3.0.0", "Ends READONLY.", Run::Session(ok)),
];

const fn row(name: &'static str, arity: i32, since: &'static str, summary: &'static str, run: Run) -> Spec {
    Spec::keyless("cluster", (name, arity, STALE), since, summary, run)
}

#[rustfmt::skip]
static SUBCOMMANDS: &[Spec] = &[
    row("count-failure-reports", 3, "3.0.0", "Counts the reports that a node has failed: none are made.",
        Run::Session(count_failure_reports)),
    row("countkeysinslot", 3, "3.0.0", "Counts the keys of a slot.",
        Run::Spread(|call, args, reply| conclude(count_keys(call, args, reply), reply), Spread::Slot))
        .costs("O(N) with the number of the core's keys"),
    row("getkeysinslot", 4, "3.0.0", "Returns keys of a slot.",
        Run::Spread(|call, args, reply| conclude(get_keys(call, args, reply), reply), Spread::Slot))
        .costs("O(N) with the number of the core's keys"),
    row("help", 2, "5.0.0", "Lists the subcommands.", Run::Session(|_, _, _, reply| help(reply, HELP))),
    row("info", 2, "3.0.0", "Tells the state of the cluster.", Run::Session(info)),
    row("keyslot", 3, "3.0.0", "Returns a key's slot.",
        Run::Session(|_, _, args, reply| reply.integer(i64::from(slot_of(args.get(2)))))),
    row("links", 2, "7.0.0", "Lists the links between nodes: there are none.",
        Run::Session(|_, _, _, reply| reply.array(0))),
    row("myid", 2, "3.0.0", "Returns this node's id.",
        Run::Session(|call, _, _, reply| reply.bulk(call.map.node_of_worker(call.worker).id.as_bytes()))),
    row("myshardid", 2, "7.2.0", "Returns this node's shard id.",
        Run::Session(|call, _, _, reply| reply.bulk(call.map.node_of_worker(call.worker).shard_id.as_bytes()))),
    row("nodes", 2, "3.0.0", "Describes the nodes, one a line.", Run::Session(nodes)),
    row("replicas", 3, "5.0.0", "Describes the replicas of a node: there are none.", Run::Session(replicas)),
    row("shards", 2, "7.0.0", "Describes the shards.", Run::Session(shards)),
    row("slaves", 3, "3.0.0", "The same as REPLICAS.", Run::Session(replicas)),
    row("slots", 2, "3.0.0", "Tells which node has which slots.", Run::Session(slots)),
];

const HELP: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Return number of failure reports for <node-id>.",
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names stored by current node in a slot.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "LINKS",
    "    Return information about all network links between this node and its peers.",
    "MYID",
    "    Return the node id.",
    "MYSHARDID",
    "    Return the node's shard id.",
    "NODES",
    "    Return cluster configuration seen by node.",
    "REPLICAS <node-id>",
    "    Return <node-id> replicas.",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
    "SLOTS",
    "    Return information about slots range mappings.",
    "HELP",
    "    Print this help.",
];

/// The reply where clients are told that this is no cluster.
pub const DISABLED: &str = "ERR This instance has cluster support disabled";

/// The reply to a request whose keys are in several slots.
pub const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// The reply that sends a client to the node of a slot.
pub fn moved(map: &Map, slot: u16, local: Option<IpAddr>) -> String {
    let node = map.node_of(slot);
    format!("MOVED {slot} {}:{}", Address::of(node, local).endpoint, node.port)
}

fn ok(_: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    reply.simple("OK");
}

/// What a client is told of a node's address.
struct Address<'a> {
    endpoint: String,
    ip: String,
    hostname: &'a str,
}

impl<'a> Address<'a> {
    /// `local` is the address that the client is connected to; clients of a unix socket are on this host.
    fn of(node: &'a Node, local: Option<IpAddr>) -> Self {
        let host = &node.host;
        if host.endpoint.is_empty() {
            let ip = local.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_string();
            return Self { endpoint: ip.clone(), ip, hostname: &host.hostname };
        }
        Self { endpoint: host.endpoint.clone(), ip: host.ip.clone(), hostname: &host.hostname }
    }

    /// What is told beside the endpoint: whichever of address and name that is not.
    fn others(&self) -> Vec<(&'static str, &str)> {
        let both = [("ip", &self.ip[..]), ("hostname", self.hostname)];
        both.into_iter().filter(|(_, text)| !text.is_empty() && *text != self.endpoint).collect()
    }
}

fn local_ip(call: &mut Call<'_>, session: &Session) -> Option<IpAddr> {
    call.clients.view(session).and_then(|client| client.local_ip)
}

fn text(reply: &mut Reply<'_>, key: &str, value: &str) {
    reply.bulk(key.as_bytes());
    reply.bulk(value.as_bytes());
}

fn slots(call: &mut Call<'_>, session: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let local = local_ip(call, session);
    let runs = call.map.runs();
    reply.array(runs.len());
    for (range, node) in runs {
        let address = Address::of(node, local);
        let others = address.others();
        reply.array(3);
        reply.integer(i64::from(*range.start()));
        reply.integer(i64::from(*range.end()));
        reply.array(4);
        reply.bulk(address.endpoint.as_bytes());
        reply.integer(i64::from(node.port));
        reply.bulk(node.id.as_bytes());
        reply.map(others.len());
        others.into_iter().for_each(|(key, value)| text(reply, key, value));
    }
}

fn shards(call: &mut Call<'_>, session: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let local = local_ip(call, session);
    reply.array(call.map.nodes.len());
    for node in &call.map.nodes {
        let address = Address::of(node, local);
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(2 * node.slots.len());
        let ends = node.slots.iter().flat_map(|range| [*range.start(), *range.end()]);
        ends.for_each(|slot| reply.integer(i64::from(slot)));
        reply.bulk(b"nodes");
        reply.array(1);
        reply.map(if address.hostname.is_empty() { 7 } else { 8 });
        text(reply, "id", &node.id);
        reply.bulk(b"port");
        reply.integer(i64::from(node.port));
        text(reply, "ip", &address.ip);
        text(reply, "endpoint", &address.endpoint);
        if !address.hostname.is_empty() {
            text(reply, "hostname", address.hostname);
        }
        text(reply, "role", "master");
        reply.bulk(b"replication-offset");
        reply.integer(0);
        text(reply, "health", "online");
    }
}

/// A line a node. There is no cluster bus, so its port is 0.
fn nodes(call: &mut Call<'_>, session: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let local = local_ip(call, session);
    let own = &call.map.node_of_worker(call.worker).id;
    let mut lines = String::new();
    for node in &call.map.nodes {
        let address = Address::of(node, local);
        let comma = if address.hostname.is_empty() { "" } else { "," };
        let flags = if node.id == *own { "myself,master" } else { "master" };
        // Writing to a string cannot fail.
        let _ = write!(
            lines,
            "{} {}:{}@0{comma}{} {flags} - 0 0 {} connected",
            node.id, address.ip, node.port, address.hostname, call.map.epoch
        );
        for range in &node.slots {
            let _ = match (range.start(), range.end()) {
                (first, last) if first == last => write!(lines, " {first}"),
                (first, last) => write!(lines, " {first}-{last}"),
            };
        }
        lines.push('\n');
    }
    reply.verbatim("txt", &lines);
}

fn info(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let serving = call.map.nodes.iter().filter(|node| !node.slots.is_empty()).count();
    let rows = [
        ("cluster_slots_assigned", u64::from(SLOTS)),
        ("cluster_slots_ok", u64::from(SLOTS)),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", 0),
        ("cluster_known_nodes", call.map.nodes.len() as u64),
        ("cluster_size", serving as u64),
        ("cluster_current_epoch", call.map.epoch),
        ("cluster_my_epoch", call.map.epoch),
        ("cluster_stats_messages_sent", 0),
        ("cluster_stats_messages_received", 0),
        ("total_cluster_links_buffer_limit_exceeded", 0),
    ];
    let rows = rows.iter().map(|(name, value)| format!("{name}:{value}\r\n"));
    reply.verbatim("txt", &std::iter::once("cluster_state:ok\r\n".to_owned()).chain(rows).collect::<String>());
}

/// Answers about a node that must exist.
fn with_node(call: &Call<'_>, args: Args<'_>, reply: &mut Reply<'_>, answer: impl FnOnce(&mut Reply<'_>)) {
    if call.map.nodes.iter().any(|node| args.get(2).eq_ignore_ascii_case(node.id.as_bytes())) {
        answer(reply);
    } else {
        reply.error_bytes(&repeating("ERR Unknown node ", args.get(2), ""));
    }
}

fn count_failure_reports(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    with_node(call, args, reply, |reply| reply.integer(0));
}

fn replicas(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    with_node(call, args, reply, |reply| reply.array(0));
}

/// The keys of a slot, each once: a scan may show one twice.
fn keys_of(call: &mut Call<'_>, slot: i64) -> Vec<Box<[u8]>> {
    let mut found: Vec<Box<[u8]>> = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = call.shard.scan(cursor, 1024, call.now.unix_ms, &mut |item| {
            if i64::from(slot_of(item.key)) == slot {
                found.push(item.key.into());
            }
        });
        if cursor == 0 {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn count_keys(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match integer(args.get(2))? {
        slot if (0..i64::from(SLOTS)).contains(&slot) => reply.integer(keys_of(call, slot).len() as i64),
        _ => reply.error("ERR Invalid slot"),
    }
    Ok(())
}

fn get_keys(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (slot, most) = (integer(args.get(2))?, integer(args.get(3))?);
    if !(0..i64::from(SLOTS)).contains(&slot) || most < 0 {
        reply.error("ERR Invalid slot or number of keys");
        return Ok(());
    }
    let found = keys_of(call, slot);
    let shown = &found[..found.len().min(most as usize)];
    reply.array(shown.len());
    shown.iter().for_each(|key| reply.bulk(key));
    Ok(())
}
