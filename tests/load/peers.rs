//! Every kind of load against the servers that people have: redis-server, memcached, Corering.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use corering::load::plan::KeyChoice;
use corering::load::trace::Trace;

use super::*;

/// A server of somebody else.
pub(crate) struct Peer {
    pub(crate) port: u16,
    child: Child,
}

impl Peer {
    /// Starts a program whose last argument is the port; `None` when it is not installed and need not be.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(arguments).arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            assert!(std::env::var_os("CORERING_REQUIRE_CLIENTS").is_none(), "{program} is required");
            eprintln!("skipped: {program} is not installed");
            return None;
        };
        let peer = Self { port, child };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < millis(10_000), "{program} does not start");
            std::thread::sleep(millis(20));
        }
        Some(peer)
    }

    pub(crate) fn redis() -> Option<Self> {
        let options = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--port"];
        Self::start("redis-server", &options)
    }

    pub(crate) fn target(&self) -> Target {
        Target::Tcp(format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Name and plan of every kind.
fn workloads() -> Vec<(&'static str, Plan)> {
    let base = || Plan { warmup: millis(20), duration: millis(150), ..plan(Rate::PerSecond(2000.0)) };
    let trace = Trace { sizes: vec![10, 2000, 0], requests: vec![0, 1, 1, 2], details: Vec::new() };
    let sizes = "{\"valSizeRange\": [10, 5000], \"valSizeRangeProbability\": [0.5, 0.5]}";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), sizes).unwrap();
    let measured = Sizes::parse(file.path().to_str().unwrap()).unwrap();
    let mix = |mix: &[(Operation, u32)]| Plan { mix: mix.to_vec(), ..base() };
    vec![
        ("get and set", base()),
        ("closed loop", Plan { rate: Rate::Max, ..base() }),
        ("pipeline", Plan { pipeline: 16, rate: Rate::Max, ..base() }),
        ("incr", mix(&[(Operation::Increment, 1)])),
        ("mget", mix(&[(Operation::MultiGet(10), 1)])),
        ("del", mix(&[(Operation::Get, 1), (Operation::Set, 1), (Operation::Delete, 1)])),
        ("setex", mix(&[(Operation::SetExpiring, 1)])),
        ("a range of sizes", Plan { value_sizes: Sizes::Range(0, 40_000), ..base() }),
        ("measured sizes", Plan { value_sizes: measured, ..base() }),
        ("zipf", Plan { key_choice: KeyChoice::Zipf(0.99), ..base() }),
        ("trace", Plan { key_choice: KeyChoice::Trace(Arc::new(trace)), keys: 3, value_sizes: Sizes::Trace, ..base() }),
        ("several threads", Plan { threads: 2, ..base() }),
    ]
}

fn assert_every_workload_runs(server: &str, target: &Target, protocol: Protocol) {
    for (name, plan) in workloads() {
        let report =
            run(&Plan { protocol, ..plan.clone() }, target).unwrap_or_else(|e| panic!("{server}, {name}: {e}"));
        let counts = &report.counts;
        assert!(report.is_clean(), "{server}, {name}: {counts:?} {:?}", report.errors);
        assert!(counts.answered > 150, "{server}, {name}: {counts:?}");
        let may_miss = plan.mix.iter().any(|(operation, _)| *operation == Operation::Delete);
        assert!(may_miss || counts.misses == 0, "{server}, {name}: {counts:?}");
    }
}

#[test]
fn every_workload_runs_against_redis() {
    let _alone = alone();
    let Some(redis) = Peer::redis() else { return };
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        assert_every_workload_runs("redis", &redis.target(), protocol);
    }
}

#[test]
fn every_workload_runs_against_memcached() {
    let _alone = alone();
    let Some(memcached) = Peer::start("memcached", &["-l", "127.0.0.1", "-u", "root", "-p"]) else { return };
    assert_every_workload_runs("memcached", &memcached.target(), Protocol::Memcache);
}

#[test]
fn every_workload_runs_against_corering() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corering.sock");
    let settings =
        corering::config::Settings { port: 0, workers: 2, unixsocket: Some(path.clone()), ..defaults::defaults() };
    let server = corering::Server::start(settings).unwrap();
    let tcp = Target::Tcp(format!("127.0.0.1:{}", server.port()));
    assert_every_workload_runs("corering", &tcp, Protocol::Resp2);
    assert_every_workload_runs("corering", &tcp, Protocol::Resp3);
    assert_every_workload_runs("corering by its unix socket", &Target::Unix(path), Protocol::Resp2);
    server.stop();
}
