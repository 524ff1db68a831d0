//! The file of a fixed map: several processes, each with its nodes and their slots.
//!
//! In: TOML. Out: the nodes of all processes, those of this one with its workers. What must stay true: a file that is
//! accepted has every slot exactly once, and says the same to every process that reads it.
//!
//! ```toml
//! epoch = 1                       # raise it with every change
//!
//! [[process]]
//! name = "a"                      # --cluster-process a
//! host = "10.0.0.1"               # what clients are told: an address or a name
//! hostname = "a.example"          # told beside it; may be left out
//! nodes = [
//!   { port = 7000, slots = "0-8191" },
//!   { port = 7001, slots = "8192-16383", listen-port = 17001 },
//! ]
//! ```

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use super::{Host, LAST, Node, SLOTS, plan};
use crate::config::Settings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    epoch: u64,
    process: Vec<Process>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Process {
    name: String,
    host: String,
    #[serde(default)]
    hostname: String,
    nodes: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    port: u16,
    slots: String,
    listen_port: Option<u16>,
}

/// Reads a map; `settings` say which process this is.
///
/// # Errors
/// One sentence that names the file, the place in it, and the remedy.
pub(super) fn read(path: &Path, settings: &Settings, workers: u16) -> Result<(u64, Vec<Node>), String> {
    let bad = |what: String| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    parse(&text, settings, workers).map_err(bad)
}

fn parse(text: &str, settings: &Settings, workers: u16) -> Result<(u64, Vec<Node>), String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message().lines().next().unwrap_or_default())
    })?;
    check_names(&file, &settings.cluster_process)?;
    check_addresses(&file)?;
    let mut nodes = Vec::new();
    for process in &file.process {
        let is_own = process.name == settings.cluster_process;
        if is_own {
            check_workers(process, settings, workers)?;
        }
        let host = host(process, is_own)?;
        for (index, row) in process.nodes.iter().enumerate() {
            let place = |error| format!("process {}, port {}: {error}", process.name, row.port);
            let slots = parse_slots(&row.slots).map_err(place)?;
            let first = index as u16 * settings.cores_per_node;
            let group = if is_own { first..first + settings.cores_per_node } else { 0..0 };
            let mut node = Node::new(&process.name, index, slots, group);
            node.host.clone_from(&host);
            node.port = row.port;
            node.listen_port = row.listen_port.unwrap_or(row.port);
            nodes.push(node);
        }
    }
    check_slots(&nodes)?;
    Ok((file.epoch, nodes))
}

fn check_names(file: &File, own: &str) -> Result<(), String> {
    let names: Vec<&str> = file.process.iter().map(|process| &process.name[..]).collect();
    if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(format!("the process {twice:?} is there twice; give each a name of its own"));
    }
    if own.is_empty() {
        return Err(format!("which process is this? set cluster-process to one of {}", names.join(", ")));
    }
    if !names.contains(&own) {
        return Err(format!("has no process {own:?}; set cluster-process to one of {}", names.join(", ")));
    }
    Ok(())
}

fn check_addresses(file: &File) -> Result<(), String> {
    let mut seen: Vec<(&str, u16)> = Vec::new();
    for process in &file.process {
        for row in &process.nodes {
            if row.port == 0 || row.listen_port == Some(0) {
                return Err(format!("process {}: a node's port is 1 to 65535", process.name));
            }
            let address = (&process.host[..], row.port);
            if seen.contains(&address) {
                return Err(format!("two nodes have the address {}:{}; give each its own", address.0, address.1));
            }
            seen.push(address);
        }
    }
    Ok(())
}

fn check_workers(process: &Process, settings: &Settings, workers: u16) -> Result<(), String> {
    let (nodes, each) = (process.nodes.len(), usize::from(settings.cores_per_node));
    if nodes == 0 || nodes * each > usize::from(u16::MAX) {
        return Err(format!("process {} has {nodes} nodes; give it one at least", process.name));
    }
    let needed = nodes * each;
    if needed != usize::from(workers) {
        return Err(format!(
            "process {} has {nodes} nodes of {each} cores, and there are {workers} workers; set workers to {needed}, \
             or change the nodes or cores-per-node",
            process.name
        ));
    }
    let listened: Vec<u16> = process.nodes.iter().map(|row| row.listen_port.unwrap_or(row.port)).collect();
    if let Some((_, port)) = listened.iter().enumerate().find(|(at, port)| listened[..*at].contains(port)) {
        return Err(format!("process {} would listen on port {port} twice; change listen-port", process.name));
    }
    if settings.port > 0 && listened.contains(&settings.port) {
        return Err(format!("process {} has a node on port {}; change it or port", process.name, settings.port));
    }
    Ok(())
}

/// Names of other processes may resolve later, when those run.
fn host(process: &Process, is_own: bool) -> Result<Host, String> {
    let failed = |error| format!("process {}: host: {error}", process.name);
    if process.host.is_empty() {
        return Err(failed("is empty; give the address or name that clients are to connect to".to_owned()));
    }
    match plan::announced(&process.host, &process.hostname) {
        Ok(host) => Ok(host),
        Err(error) if is_own || process.host.parse::<IpAddr>().is_ok() => Err(failed(error)),
        Err(_) => {
            let hostname = if process.hostname.is_empty() { &process.host } else { &process.hostname };
            Ok(Host { endpoint: process.host.clone(), ip: String::new(), hostname: hostname.clone() })
        }
    }
}

/// Reads `0-100 200 300-400`, ascending; commas may separate too.
fn parse_slots(text: &str) -> Result<Vec<RangeInclusive<u16>>, String> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let slot = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < SLOTS);
        match (slot(first), slot(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push(first..=last),
            _ => return Err(format!("{part:?} are no slots; write, say, 0-8191, within 0-{LAST}")),
        }
    }
    ranges.sort_by_key(|range| *range.start());
    Ok(ranges)
}

/// Every slot has one node.
fn check_slots(nodes: &[Node]) -> Result<(), String> {
    let owned = nodes.iter().flat_map(|node| node.slots.iter().map(move |range| (range, node)));
    let mut owned: Vec<_> = owned.collect();
    owned.sort_by_key(|(range, _)| *range.start());
    let name = |node: &Node| format!("{}:{}", node.host.endpoint, node.port);
    let show =
        |first: u16, last: u16| if first == last { format!("slot {first}") } else { format!("slots {first}-{last}") };
    let mut next = 0;
    let mut before: Option<&Node> = None;
    for (range, node) in owned {
        let (first, last) = (*range.start(), *range.end());
        if first > next {
            return Err(format!("no node has {}; give every slot to one", show(next, first - 1)));
        }
        if let Some(before) = before.filter(|_| first < next) {
            let shared = show(first, last.min(next - 1));
            return Err(format!("{} and {} both have {shared}; give every slot to one", name(before), name(node)));
        }
        next = last + 1;
        before = Some(node);
    }
    if next < SLOTS {
        return Err(format!("no node has {}; give every slot to one", show(next, LAST)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        epoch = 3
        [[process]]
        name = "a"
        host = "10.0.0.1"
        nodes = [{ port = 7000, slots = "0-99 200-8191" }, { port = 7001, slots = "8192-16383", listen-port = 17001 }]
        [[process]]
        name = "b"
        host = "b.no.such.host.invalid"
        nodes = [{ port = 7000, slots = "100-199" }]
    "#;

    fn settings(process: &str) -> Settings {
        Settings { cluster_process: process.to_owned(), ..Settings::default() }
    }

    #[test]
    fn every_process_reads_the_same_and_finds_itself() {
        let (epoch, nodes) = parse(GOOD, &settings("a"), 2).unwrap();
        assert_eq!(epoch, 3);
        let found: Vec<_> = nodes.iter().map(|node| (node.port, node.listen_port, node.workers.clone())).collect();
        assert_eq!(found, [(7000, 7000, 0..1), (7001, 17001, 1..2), (7000, 7000, 0..0)]);
        let host = &nodes[2].host;
        assert_eq!((&host.endpoint[..], &host.ip[..]), ("b.no.such.host.invalid", ""));
        let others = parse(&GOOD.replace("b.no.such.host.invalid", "10.0.0.2"), &settings("b"), 1).unwrap().1;
        assert_eq!(
            others.iter().map(|node| &node.id).collect::<Vec<_>>(),
            nodes.iter().map(|n| &n.id).collect::<Vec<_>>()
        );
        assert_eq!(others[2].workers, 0..1);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        // What is replaced by what, the process, its workers; what the line says.
        let rows = [
            ("", "", "", 2, "set cluster-process to one of a, b"),
            ("", "", "c", 2, "has no process \"c\"; set cluster-process to one of a, b"),
            ("", "", "a", 3, "set workers to 2"),
            ("\"b\"", "\"a\"", "a", 2, "\"a\" is there twice"),
            ("100-199", "100-200", "a", 2, "b.no.such.host.invalid:7000 and 10.0.0.1:7000 both have slot 200;"),
            ("100-199", "100-150", "a", 2, "no node has slots 151-199;"),
            ("8192-16383", "8192-16000", "a", 2, "no node has slots 16001-16383;"),
            ("0-99", "5-99", "a", 2, "no node has slots 0-4;"),
            ("16383", "16384", "a", 2, "process a, port 7001: \"8192-16384\" are no slots"),
            ("0-99", "99-0", "a", 2, "\"99-0\" are no slots"),
            ("port = 7001", "port = 7000", "a", 2, "two nodes have the address 10.0.0.1:7000"),
            ("listen-port = 17001", "listen-port = 7000", "a", 2, "would listen on port 7000 twice"),
            ("listen-port = 17001", "listen-port = 6379", "a", 2, "has a node on port 6379"),
            ("port = 7001", "port = 0", "a", 2, "1 to 65535"),
            ("port = 7001", "port = 70000", "a", 2, "line 6: "),
            ("", "", "b", 1, "process b: host: \"b.no.such.host.invalid\" does not resolve"),
            ("epoch = 3", "", "a", 2, "missing field `epoch`"),
            ("host =", "hots =", "a", 2, "unknown field `hots`"),
            ("epoch = 3", "epoch = ", "a", 2, "line 2: "),
        ];
        for (from, to, process, workers, what) in rows {
            let error = parse(&GOOD.replacen(from, to, 1), &settings(process), workers).unwrap_err();
            assert!(error.contains(what) && !error.contains('\n'), "{what}: {error}");
        }
    }
}
