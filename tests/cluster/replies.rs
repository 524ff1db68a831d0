//! What a client is told on the nodes' ports and on the shared one.

use corering::command::slot::slot_of;

use crate::nodes::{Client, SLOTS, Servers, free_ports, map, one_process, start, start_of_map, three_processes};

/// A key of the node with this port, by the map that the node tells.
fn key_of(servers: &Servers, index: usize) -> String {
    let mut client = Client::new(servers.ports[index]);
    let free = |key: &String| !client.ask(&format!("EXISTS {key}")).starts_with("-MOVED");
    (0..).map(|number| format!("key:{number}")).find(free).expect("every node has slots")
}

#[test]
fn a_node_serves_its_slots_and_says_where_the_others_are() {
    let servers = one_process(&[]);
    let (mut first, mut second) = (Client::new(servers.ports[0]), Client::new(servers.ports[1]));
    // foo is in slot 12182, the second half; b in slot 3300.
    let moved = format!("-MOVED 12182 127.0.0.1:{}\r\n", servers.ports[1]);
    let rows = [
        ("SET foo 1", &moved[..]),
        ("GET foo", &moved),
        ("SET b 1", "+OK\r\n"),
        ("GET b", "$1\r\n1\r\n"),
        ("MGET b foo", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("MSET foo 1 foo 2", &moved),
        ("MSET {b}1 1 {b}2 2", "+OK\r\n"),
        ("MGET {b}1 b {b}2", "*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n2\r\n"),
        ("DEL {b}1 {c}1", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("RENAME b {b}3", "+OK\r\n"),
        ("COPY {b}3 foo", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("READONLY", "+OK\r\n"),
        ("READWRITE", "+OK\r\n"),
        ("ASKING", "+OK\r\n"),
        ("SELECT 1", "-ERR SELECT is not allowed in cluster mode\r\n"),
        ("DBSIZE", ":3\r\n"),
        ("CLUSTER KEYSLOT foo", ":12182\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 3300", ":3\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 12182", ":0\r\n"),
        ("CLUSTER GETKEYSINSLOT 3300 2", "*2\r\n$4\r\n{b}1\r\n$4\r\n{b}2\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot\r\n"),
        ("CLUSTER COUNTKEYSINSLOT x", "-ERR value is not an integer or out of range\r\n"),
        ("CLUSTER GETKEYSINSLOT 1 -1", "-ERR Invalid slot or number of keys\r\n"),
        ("CLUSTER COUNT-FAILURE-REPORTS x", "-ERR Unknown node x\r\n"),
        ("CLUSTER LINKS", "*0\r\n"),
    ];
    for (request, reply) in rows {
        assert_eq!(first.ask(request), reply, "{request}");
    }
    assert_eq!(second.ask("SET foo 1"), "+OK\r\n");
    assert_eq!(second.ask("DBSIZE"), ":1\r\n");
    assert_eq!(second.ask("KEYS *"), "*1\r\n$3\r\nfoo\r\n");
    assert_eq!(second.ask("SCAN 0"), "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n");
    assert_eq!(second.ask("RANDOMKEY"), "$3\r\nfoo\r\n");
    assert!(second.text("INFO keyspace").contains("db0:keys=1,"));
    assert!(second.text("INFO cluster").contains("cluster_enabled:1"));
    assert!(second.text("INFO server").contains("redis_mode:cluster"));
    assert_eq!(second.ask("FLUSHALL"), "+OK\r\n");
    assert_eq!((first.ask("DBSIZE"), second.ask("DBSIZE")), (":3\r\n".into(), ":0\r\n".into()));
    assert_eq!(servers.messages(), 0);
    assert!(first.text("INFO errorstats").contains("errorstat_MOVED:count=3\r\n"));
}

#[test]
fn the_map_is_told_in_every_form() {
    let servers = one_process(&["--announce-hostname", "a.example"]);
    let [one, two] = servers.ports[..] else { panic!("two nodes") };
    let mut client = Client::new(two);
    let id = client.text("CLUSTER MYID");
    let other = Client::new(one).text("CLUSTER MYID");
    assert!(id.len() == 40 && id != other);
    assert_eq!(client.text("CLUSTER MYSHARDID").len(), 40);
    assert_eq!(client.ask(&format!("CLUSTER COUNT-FAILURE-REPORTS {other}")), ":0\r\n");
    assert_eq!(client.ask(&format!("CLUSTER REPLICAS {other}")), "*0\r\n");
    let nodes = format!(
        "{other} 127.0.0.1:{one}@0,a.example master - 0 0 1 connected 0-8191\n\
         {id} 127.0.0.1:{two}@0,a.example myself,master - 0 0 1 connected 8192-16383\n"
    );
    assert_eq!(client.text("CLUSTER NODES"), nodes);
    let info = client.text("CLUSTER INFO");
    for line in ["cluster_state:ok\r\n", "cluster_known_nodes:2\r\n", "cluster_size:2\r\n", "cluster_my_epoch:1\r\n"] {
        assert!(info.contains(line), "{info}");
    }
    let slots = |map: &str, named: &str| {
        let node = |first: u16, last: u16, port: u16, id: &str| {
            format!(
                "*3\r\n:{first}\r\n:{last}\r\n*4\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$40\r\n{id}\r\n{map}\r\n\
                 $8\r\nhostname\r\n$9\r\n{named}\r\n"
            )
        };
        format!("*2\r\n{}{}", node(0, 8191, one, &other), node(8192, 16383, two, &id))
    };
    assert_eq!(client.ask("CLUSTER SLOTS"), slots("*2", "a.example"));
    let begin = "*2\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:8191\r\n$5\r\nnodes\r\n*1\r\n*16\r\n$2\r\nid\r\n";
    assert!(client.ask("CLUSTER SHARDS").starts_with(begin));
    assert!(client.ask("HELLO 3").contains("$4\r\nmode\r\n$7\r\ncluster\r\n"));
    assert_eq!(client.ask("CLUSTER SLOTS"), slots("%1", "a.example"));
    assert!(client.ask("CLUSTER NODES").starts_with("=2"));
    let shards = client.ask("CLUSTER SHARDS");
    let shard = format!(
        "%2\r\n$5\r\nslots\r\n*2\r\n:8192\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n%8\r\n$2\r\nid\r\n$40\r\n{id}\r\n$4\r\n\
         port\r\n\
         :{two}\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$8\r\nendpoint\r\n$9\r\n127.0.0.1\r\n$8\r\nhostname\r\n$9\r\n\
         a.example\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$6\r\nonline\r\n"
    );
    assert!(shards.ends_with(&shard), "{shards}");
    // Ids outlive the process.
    servers.end();
    let base = one.to_string();
    let _again = start(&["--workers", "2", "--core-port-base", &base]);
    assert_eq!(Client::new(two).text("CLUSTER MYID"), id);
}

#[test]
fn announced_addresses_are_told_instead_of_our_own() {
    let base = free_ports(2);
    let text = base.to_string();
    let announced = ["--announce-host", "192.0.2.7", "--announce-port-base", "30000"];
    let _server = start(&[&["--workers", "2", "--core-port-base", &text][..], &announced].concat());
    let mut client = Client::new(base);
    assert_eq!(client.ask("GET foo"), "-MOVED 12182 192.0.2.7:30001\r\n");
    assert!(client.ask("CLUSTER SLOTS").contains("$9\r\n192.0.2.7\r\n:30000\r\n"));
    assert!(client.text("CLUSTER NODES").contains(" 192.0.2.7:30001@0 "));
}

/// A name is told as it is, and the address that it has here beside it.
#[test]
fn an_announced_name_is_told_with_its_address() {
    let server = start(&[
        "--workers",
        "1",
        "--core-port-base",
        "0",
        "--shared-port-mode",
        "cluster",
        "--announce-host",
        "localhost",
    ]);
    let mut client = Client::new(server.port());
    let slots = client.ask("CLUSTER SLOTS");
    assert!(slots.contains("$9\r\nlocalhost\r\n") && slots.contains("$2\r\nip\r\n"), "{slots}");
    assert!(client.text("CLUSTER NODES").contains(",localhost myself,master "));
}

#[test]
fn the_shared_port_serves_every_key_as_a_cluster_or_not() {
    for (mode, is_cluster) in [("standalone", false), ("cluster", true)] {
        let servers = one_process(&["--shared-port-mode", mode]);
        let mut shared = Client::new(servers.processes[0].port());
        assert_eq!(shared.ask("MSET foo 1 b 2 c 3"), "+OK\r\n");
        assert_eq!(shared.ask("MGET foo b c"), "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
        assert_eq!(shared.ask("DBSIZE"), ":3\r\n");
        let slots = shared.ask("CLUSTER SLOTS");
        let disabled = "-ERR This instance has cluster support disabled\r\n";
        assert_eq!(slots == disabled, !is_cluster, "{slots}");
        for request in ["READONLY", "READWRITE", "ASKING", "CLUSTER KEYSLOT foo", "CLUSTER HELP"] {
            assert_eq!(shared.ask(request) == disabled, !is_cluster, "{request}");
        }
        assert_eq!(shared.text("INFO").contains("cluster_enabled:1"), is_cluster);
        assert_eq!(shared.ask("CONFIG GET cluster-enabled").contains("yes"), is_cluster);
        if is_cluster {
            assert_eq!(shared.ask("CLUSTER COUNTKEYSINSLOT 12182"), ":1\r\n");
            assert_eq!(shared.ask("CLUSTER COUNTKEYSINSLOT 3300"), ":1\r\n");
        }
        assert!(servers.messages() > 0, "the hop is counted");
    }
}

/// Four cores, two a node: a hop inside the node, never out of it.
#[test]
fn groups_of_cores_are_nodes() {
    let base = free_ports(2);
    let text = base.to_string();
    let server = start(&["--workers", "4", "--cores-per-node", "2", "--core-port-base", &text]);
    let mut plain = Client::new(server.port());
    for key in 0..400 {
        plain.ask(&format!("SET key:{key} {key}"));
    }
    let mut sizes = Vec::new();
    for port in [base, base + 1] {
        // Several connections, for the kernel chooses which core of the node has each.
        for _ in 0..4 {
            let mut client = Client::new(port);
            let served = (0..400).filter(|key| client.ask(&format!("GET key:{key}")).starts_with('$')).count();
            assert_eq!(client.ask("DBSIZE"), format!(":{served}\r\n"));
            let (mut cursor, mut found) = ("0".to_owned(), 0);
            loop {
                let page = client.ask(&format!("SCAN {cursor} COUNT 50"));
                found += page.matches("key:").count();
                cursor = page.split("\r\n").nth(2).expect("a cursor").to_owned();
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(found, served);
            assert_eq!(client.ask("CLUSTER KEYSLOT foo"), ":12182\r\n");
            sizes.push(served);
        }
    }
    assert_eq!(sizes[0] + sizes[4], 400);
    assert!(sizes[..4].iter().all(|size| *size == sizes[0]), "{sizes:?}");
    let key = (0..).map(|n| format!("{{{n}}}")).find(|key| (4096..8192).contains(&slot_of(key.as_bytes()))).unwrap();
    assert_eq!(Client::new(base).ask(&format!("MSET {key}a 1 {key}b 2")), "+OK\r\n");
    assert_eq!(Client::new(base).ask(&format!("CLUSTER COUNTKEYSINSLOT {}", slot_of(key.as_bytes()))), ":2\r\n");
}

#[test]
fn processes_with_one_map_obey_it() {
    let servers = three_processes();
    let told: Vec<String> = servers.ports.iter().map(|port| Client::new(*port).ask("CLUSTER SLOTS")).collect();
    assert!(told.iter().all(|slots| *slots == told[0]), "{told:?}");
    let keys: Vec<String> = (0..6).map(|index| key_of(&servers, index)).collect();
    for (index, key) in keys.iter().enumerate() {
        for (other, port) in servers.ports.iter().enumerate() {
            let reply = Client::new(*port).ask(&format!("SET {key} {index}"));
            let moved = format!("-MOVED {} 127.0.0.1:{}\r\n", slot_of(key.as_bytes()), servers.ports[index]);
            assert_eq!(reply, if index == other { "+OK\r\n" } else { &moved });
        }
    }
    assert_eq!(servers.messages(), 0);
    // The shared port has the process's slots, and the others' addresses.
    let mut shared = Client::new(servers.processes[0].port());
    assert_eq!(shared.ask(&format!("MGET {} {}", keys[0], keys[1])), "*2\r\n$1\r\n0\r\n$1\r\n1\r\n");
    assert!(shared.ask(&format!("GET {}", keys[2])).starts_with("-MOVED "));
    assert!(shared.ask(&format!("MGET {} {}", keys[0], keys[2])).starts_with("-CROSSSLOT "));
}

/// A HUP reads the map again; slots that move begin empty, also when they come back.
#[test]
fn a_map_is_replaced_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("map.toml");
    let base = free_ports(6);
    let write = |epoch, slots| std::fs::write(&path, map(epoch, base, slots)).expect("our file");
    write(1, SLOTS);
    let server = start_of_map(&path, "a");
    let mut first = Client::new(base);
    let key = (0..).map(|n| format!("k{n}")).find(|key| slot_of(key.as_bytes()) < 500).expect("one");
    assert_eq!(first.ask(&format!("SET {key} old")), "+OK\r\n");
    let until = |client: &mut Client, request: &str, wanted: &str| {
        let start = std::time::Instant::now();
        while !client.ask(request).contains(wanted) {
            assert!(start.elapsed() < crate::process::PATIENCE, "{request} never shows {wanted}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    // To the second node of this process, and back.
    let swapped = ["8000-9999 1000-2999", "0-999", SLOTS[2], SLOTS[3], SLOTS[4], SLOTS[5]];
    write(2, swapped);
    server.process.signal(rustix::process::Signal::HUP);
    until(&mut first, "CLUSTER INFO", "cluster_my_epoch:2");
    let moved = format!("-MOVED {} 127.0.0.1:{}\r\n", slot_of(key.as_bytes()), base + 1);
    assert_eq!(first.ask(&format!("GET {key}")), moved);
    let mut second = Client::new(base + 1);
    until(&mut second, "CLUSTER INFO", "cluster_my_epoch:2");
    assert_eq!(second.ask(&format!("GET {key}")), "$-1\r\n");
    until(&mut first, "DBSIZE", ":0\r\n");
    assert_eq!(second.ask(&format!("SET {key} new")), "+OK\r\n");

    // What is wrong, or no newer, changes nothing.
    write(2, SLOTS);
    server.process.signal(rustix::process::Signal::HUP);
    write(3, ["0-99", SLOTS[1], SLOTS[2], SLOTS[3], SLOTS[4], SLOTS[5]]);
    server.process.signal(rustix::process::Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(second.ask(&format!("GET {key}")), "$3\r\nnew\r\n");

    write(4, SLOTS);
    server.process.signal(rustix::process::Signal::HUP);
    until(&mut first, "CLUSTER INFO", "cluster_my_epoch:4");
    assert_eq!(first.ask(&format!("GET {key}")), "$-1\r\n");
    until(&mut second, "DBSIZE", ":0\r\n");
}
