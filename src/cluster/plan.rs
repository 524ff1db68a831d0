//! From settings to nodes: how many there are, which cores each has, what clients are told of them.
//!
//! In: settings, and how many workers there are. Out: the epoch and the nodes of the [`Map`](super::Map), or one
//! sentence about what does not fit together and what would.

use std::net::{IpAddr, ToSocketAddrs};
use std::ops::RangeInclusive;

use super::{Host, Node, SLOTS, file};
use crate::config::{ClusterMode, Settings};
use crate::topology;

/// The nodes that the settings ask for, and the epoch of their map; ports may be left to the kernel.
///
/// # Errors
/// One sentence that names the setting or the file, and the remedy.
pub fn nodes(settings: &Settings, workers: u16) -> Result<(u64, Vec<Node>), String> {
    match (settings.cluster_mode, &settings.cluster_map) {
        (ClusterMode::Off, _) => Ok((0, vec![Node::new("", 0, vec![0..=SLOTS - 1], 0..workers)])),
        (ClusterMode::Cores, Some(path)) => file::read(path, settings, workers),
        (ClusterMode::Cores, None) => own_nodes(settings, workers).map(|nodes| (1, nodes)),
    }
}

/// The nodes of a process that is a cluster by itself.
fn own_nodes(settings: &Settings, workers: u16) -> Result<Vec<Node>, String> {
    let host = announced(&settings.announce_host, &settings.announce_hostname)
        .map_err(|error| format!("announce-host: {error}"))?;
    let first_port = settings.core_port_base;
    let process = format!("{}:{first_port}", topology::host_name());
    let groups: Vec<_> = (0..workers).step_by(settings.cores_per_node as usize).collect();
    let ports = |key: &str, base: u16| {
        let last = u32::from(base) + groups.len() as u32 - 1;
        let bad = || format!("{key} {base} and {} nodes reach port {last}; the last port is 65535", groups.len());
        if last > 65535 { Err(bad()) } else { Ok(base..=last as u16) }
    };
    let listened = ports("core-port-base", first_port)?;
    ports("announce-port-base", settings.announce_port_base)?;
    if first_port > 0 && listened.contains(&settings.port) {
        let (first, last) = (listened.start(), listened.end());
        return Err(format!(
            "the nodes' ports {first} to {last} include port {}; change core-port-base or port",
            settings.port
        ));
    }
    let told_by_number = |base: u16, index: usize| if base == 0 { 0 } else { base + index as u16 };
    let node = |(index, first): (usize, &u16)| {
        let end = (first + settings.cores_per_node).min(workers);
        let mut node = Node::new(&process, index, shares(*first, end, workers), *first..end);
        node.host.clone_from(&host);
        node.listen_port = told_by_number(first_port, index);
        node.port = match told_by_number(settings.announce_port_base, index) {
            0 => node.listen_port,
            port => port,
        };
        node
    };
    Ok(groups.iter().enumerate().map(node).collect())
}

/// The slots of the workers from `first` up to `end` when all slots are divided evenly among `workers`.
fn shares(first: u16, end: u16, workers: u16) -> Vec<RangeInclusive<u16>> {
    let begin = |worker: u16| (u32::from(worker) * u32::from(SLOTS)).div_ceil(u32::from(workers)) as u16;
    vec![begin(first)..=begin(end) - 1]
}

/// What clients are told of a process's address.
///
/// # Errors
/// When the name does not resolve.
pub(super) fn announced(host: &str, hostname: &str) -> Result<Host, String> {
    if host.is_empty() {
        return Ok(Host { hostname: hostname.to_owned(), ..Host::default() });
    }
    let ip = resolve(host)?;
    let is_name = host.parse::<IpAddr>().is_err();
    let hostname = if hostname.is_empty() && is_name { host } else { hostname };
    Ok(Host { endpoint: host.to_owned(), ip: ip.to_string(), hostname: hostname.to_owned() })
}

/// The address of a host, as this one knows it.
pub(super) fn resolve(host: &str) -> Result<IpAddr, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return if ip.is_unspecified() { Err(format!("{host} is no address that clients can reach")) } else { Ok(ip) };
    }
    let found = (host, 0).to_socket_addrs().ok().and_then(|mut found| found.next());
    let unknown = || format!("{host:?} does not resolve; give an address, or a name that this host can look up");
    found.map(|address| address.ip()).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings { cluster_mode: ClusterMode::Cores, ..Settings::default() };
        change(&mut settings);
        settings
    }

    #[test]
    fn cores_are_grouped_and_numbered() {
        let (epoch, nodes) = nodes(&settings(|s| s.cores_per_node = 2), 5).unwrap();
        assert_eq!(epoch, 1);
        let found: Vec<_> = nodes.iter().map(|node| (node.port, node.workers.clone())).collect();
        assert_eq!(found, [(7000, 0..2), (7001, 2..4), (7002, 4..5)]);
        assert_eq!(nodes.iter().map(Node::slot_count).sum::<usize>(), SLOTS as usize);
        let counts: Vec<usize> = nodes.iter().map(|node| node.slot_count() / node.workers.len()).collect();
        assert!(counts.iter().all(|count| (3276..=3277).contains(count)), "{counts:?}");
    }

    #[test]
    fn clients_are_told_what_is_announced() {
        let (_, nodes) = nodes(
            &settings(|s| {
                s.announce_host = "localhost".into();
                s.announce_port_base = 30000;
            }),
            2,
        )
        .unwrap();
        let host = &nodes[1].host;
        assert_eq!((&host.endpoint[..], &host.hostname[..]), ("localhost", "localhost"));
        assert!(host.ip == "127.0.0.1" || host.ip == "::1", "{}", host.ip);
        assert_eq!((nodes[1].port, nodes[1].listen_port), (30001, 7001));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        type Change = fn(&mut Settings);
        let rows: &[(Change, &str)] = &[
            (|s| s.core_port_base = 65535, "core-port-base 65535 and 2 nodes reach port 65536"),
            (|s| s.announce_port_base = 65535, "announce-port-base 65535 and 2 nodes"),
            (|s| s.port = 7001, "ports 7000 to 7001 include port 7001"),
            (|s| s.announce_host = "no.such.host.invalid".into(), "announce-host: \"no.such.host.invalid\" does not"),
            (|s| s.announce_host = "0.0.0.0".into(), "announce-host: 0.0.0.0 is no address"),
        ];
        for (change, what) in rows {
            let error = nodes(&settings(change), 2).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
