//! Clients that go on while the cluster is started again with other nodes: they recover within their own refresh.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Commands;
use redis::cluster::ClusterClient;

use crate::clients::script;
use crate::installed::{has_module, node_path, python};
use crate::nodes::{SLOTS, Servers, free_ports, map, start, start_of_map};
use crate::process::{PATIENCE, Serving};

/// A script that works on while the servers are started again, and says in the end whether it has found them.
struct Working {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Working {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is installed");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("text");
        assert_eq!(line, "ready\n");
        Self { child, said }
    }

    fn end(mut self) {
        writeln!(self.child.stdin.take().expect("piped"), "go on").expect("it reads");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        assert_eq!(line, "ok\n");
        assert!(self.child.wait().expect("our child").success());
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // It has ended unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clients that are installed, each at work on these nodes.
fn clients(port: u16, nodes: usize) -> Vec<Working> {
    let (port, nodes) = (port.to_string(), nodes.to_string());
    let mut clients = Vec::new();
    if has_module(Command::new(python()).args(["-c", "import redis"]), "redis-py") {
        let mut command = Command::new(python());
        clients.push(Working::start(command.arg(script("redis_py_cluster.py")).args([&port, "3", &nodes, "restart"])));
    }
    if has_module(Command::new("node").args(["-e", "require('ioredis')"]).env("NODE_PATH", node_path()), "ioredis") {
        let mut command = Command::new("node");
        command.arg(script("ioredis_cluster.js")).args([&port, &nodes, "restart"]).env("NODE_PATH", node_path());
        clients.push(Working::start(&mut command));
    }
    clients
}

/// Starts servers, puts clients to work, starts other servers in their place.
fn restart(
    port: u16,
    nodes: usize,
    is_smaller: bool,
    before: impl FnOnce() -> Vec<Serving>,
    after: impl FnOnce() -> Vec<Serving>,
) {
    let servers = before();
    let clients = clients(port, nodes);
    let url = format!("redis://127.0.0.1:{port}/");
    let client = ClusterClient::new(vec![url]).unwrap();
    let mut connection = client.get_connection().unwrap();
    (0..100).for_each(|key| connection.set::<_, _, ()>(key, key).unwrap());

    Servers::of(servers).end();
    let _servers = after();
    if is_smaller {
        // Of nodes that are gone altogether redis-rs' blocking client learns by MOVED only, and what is left of the
        // cluster has no reason to send one: it needs a new connection.
        connection = client.get_connection().unwrap();
    }
    clients.into_iter().for_each(Working::end);
    // Every key is tried each time, as an application does: redis-rs replaces a broken connection when it is used.
    let start = Instant::now();
    loop {
        let set = |key: u32| connection.set::<_, _, ()>(key, key).and_then(|()| connection.get::<_, u32>(key));
        let failed: Vec<_> = (0..100).map(set).filter(Result::is_err).collect();
        if failed.is_empty() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "redis-rs does not find the nodes again: {failed:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn clients_recover_when_there_are_more_or_fewer_cores() {
    for (before, after) in [(2, 3), (3, 1)] {
        let base = free_ports(3);
        let server = |workers: u16| {
            let (workers, base) = (workers.to_string(), base.to_string());
            vec![start(&["--workers", &workers, "--core-port-base", &base])]
        };
        restart(base, usize::from(before), after < before, || server(before), || server(after));
    }
}

#[test]
fn clients_recover_when_the_map_is_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("map.toml");
    let base = free_ports(6);
    let servers = |epoch, slots| {
        std::fs::write(&path, map(epoch, base, slots)).expect("our file");
        ["a", "b", "c"].map(|name| start_of_map(&path, name)).into()
    };
    let mut turned = SLOTS;
    turned.rotate_left(1);
    restart(base, 6, false, || servers(1, SLOTS), || servers(2, turned));
}
