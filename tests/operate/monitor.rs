//! `MONITOR`: requests of all workers' clients are seen in their order, passwords are not, and who does not read holds
//! nobody up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::observed::Observed;
use crate::process::PATIENCE;

fn watch(observed: &Observed) -> BufReader<TcpStream> {
    let mut watcher = BufReader::new(observed.serving.connect());
    watcher.get_mut().write_all(b"MONITOR\r\n").expect("it reads");
    assert_eq!(next(&mut watcher), "+OK");
    watcher
}

fn next(watcher: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    watcher.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

#[test]
fn requests_of_all_workers_are_seen_without_passwords() {
    let observed = Observed::start(&["--workers", "2"]);
    let mut watchers = [watch(&observed), watch(&observed)];
    let mut clients: Vec<_> = (0..6).map(|_| observed.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(&format!("SET client:{number} \"\u{7}\\\n\u{e4}"));
        client.ask("AUTH secret");
        client.ask("CONFIG SET timeout 0");
        client.ask(&format!("GET client:{number}"));
    }
    for watcher in &mut watchers {
        let mut seen = Vec::new();
        while seen.len() < 2 * clients.len() {
            let line = next(watcher);
            assert!(!line.contains("secret") && !line.contains("CONFIG"), "{line}");
            if line.contains("\"client:") {
                seen.push(line);
            }
        }
        for number in 0..clients.len() {
            let own: Vec<&String> = seen.iter().filter(|line| line.contains(&format!("client:{number}"))).collect();
            assert!(own[0].contains(r#" [0 127.0.0.1:"#), "{}", own[0]);
            assert!(own[0].ends_with(&format!(r#"] "SET" "client:{number}" "\"\a\\\n\xc3\xa4""#)), "{}", own[0]);
            assert!(own[1].ends_with(&format!(r#"] "GET" "client:{number}""#)), "{}", own[1]);
        }
    }
    assert!(clients[0].ask("CLIENT LIST").contains("flags=O"));
    // RESET ends it.
    watchers[0].get_mut().write_all(b"RESET\r\n").expect("it reads");
    while next(&mut watchers[0]) != "+RESET" {}
    clients[0].ask("GET client:0");
    watchers[0].get_mut().write_all(b"PING\r\n").expect("it reads");
    assert_eq!(next(&mut watchers[0]), "+PONG");
}

#[test]
fn a_watcher_that_does_not_read_misses_requests_and_holds_nobody_up() {
    let observed = Observed::start(&["--workers", "1"]);
    let mut watcher = watch(&observed);
    let mut client = observed.serving.connect();
    let batch = format!("SET key {}\r\n", "v".repeat(100)).repeat(1000);
    let start = Instant::now();
    for _ in 0..60 {
        client.write_all(batch.as_bytes()).expect("it reads");
        client.read_exact(&mut [0; 5 * 1000]).expect("replies");
    }
    assert!(start.elapsed() < PATIENCE);
    // A megabyte of lines, and what the sockets hold.
    let used: u64 = observed.client().info("mem_clients_normal").parse().expect("a number");
    assert!(used < 4 << 20, "{used}");
    let busy = observed.metrics()["corering_ticks_total{worker=\"0\"}"];
    std::thread::sleep(Duration::from_millis(300));
    let later = observed.metrics()["corering_ticks_total{worker=\"0\"}"];
    assert!(later - busy < 1000.0, "it waits for the reader asleep: {} turns", later - busy);
    let mut left_out = false;
    while !left_out {
        left_out = next(&mut watcher).ends_with("requests were left out)");
    }
}
