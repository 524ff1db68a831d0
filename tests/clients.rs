//! Real clients against a running server, with one worker and with two.
//!
//! A client that is not installed skips its test and says so; with `CORERING_REQUIRE_CLIENTS` set, as in CI, it fails
//! instead. `CORERING_TEST_PYTHON` names a Python that has redis-py, `CORERING_TEST_NODE_PATH` a `node_modules` that
//! has ioredis.

#[path = "fronts/defaults.rs"]
mod defaults;
#[path = "clients/installed.rs"]
mod installed;

use std::path::Path;
use std::process::Command;

use corering::Server;
use corering::config::Settings;
use installed::{has_module, node_path, python, run};
use redis::{Commands, ConnectionLike};

/// A server on a port of its own.
fn server(workers: u16) -> Server {
    let settings = Settings { port: 0, workers, ..defaults::defaults() };
    Server::start(settings).expect("the server starts")
}

/// Runs `test` with one worker and with two.
fn with_servers(test: impl Fn(&Server)) {
    for workers in [1, 2] {
        let server = server(workers);
        test(&server);
        server.stop();
    }
}

fn redis_cli(server: &Server, args: &[&str]) -> Option<String> {
    run(Command::new("redis-cli").args(["-p", &server.port().to_string()]).args(args))
}

#[test]
fn redis_cli_sets_gets_and_scans() {
    with_servers(|server| {
        let Some(pong) = redis_cli(server, &["PING"]) else { return };
        assert_eq!(pong.trim(), "PONG");
        for key in 0..50 {
            redis_cli(server, &["SET", &format!("key:{key}"), &format!("value {key}")]);
        }
        assert_eq!(redis_cli(server, &["-3", "GET", "key:7"]).as_deref().map(str::trim), Some("value 7"));
        assert_eq!(redis_cli(server, &["DBSIZE"]).as_deref().map(str::trim), Some("50"));
        let scanned = redis_cli(server, &["--scan", "--pattern", "key:*"]).unwrap_or_default();
        assert_eq!(scanned.lines().count(), 50);
        let info = redis_cli(server, &["INFO"]).unwrap_or_default();
        assert!(info.contains("redis_version:7.2"), "{info}");
        let big = redis_cli(server, &["--bigkeys"]).unwrap_or_default();
        assert!(big.contains("50 strings"), "{big}");
    });
}

#[test]
fn redis_benchmark_runs_its_tests() {
    with_servers(|server| {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &server.port().to_string(), "-t", "ping,set,get,incr,mset"]);
        command.args(["-P", "16", "-c", "50", "-n", "20000", "-r", "1000", "-q"]);
        let Some(report) = run(&mut command) else { return };
        let results =
            report.lines().flat_map(|line| line.split('\r')).filter(|line| line.contains("requests per second"));
        assert!(results.count() >= 6, "{report}");
        assert!(!report.to_lowercase().contains("error"), "{report}");
    });
}

#[test]
fn redis_py_speaks_both_versions() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/redis_py.py");
    if !has_module(Command::new(python()).args(["-c", "import redis"]), "redis-py") {
        return;
    }
    with_servers(|server| {
        for version in ["2", "3"] {
            run(Command::new(python()).arg(&script).args([&server.port().to_string(), version]));
        }
    });
}

#[test]
fn ioredis_pipelines_and_reconnects() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ioredis.js");
    if !has_module(Command::new("node").args(["-e", "require('ioredis')"]).env("NODE_PATH", node_path()), "ioredis") {
        return;
    }
    with_servers(|server| {
        run(Command::new("node").arg(&script).arg(server.port().to_string()).env("NODE_PATH", node_path()));
    });
}

#[test]
fn redis_rs_reads_what_it_wrote() {
    with_servers(|server| {
        for protocol in ["resp2", "resp3"] {
            let url = format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port());
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            connection.req_command(&redis::cmd("FLUSHALL")).unwrap();

            let big = vec![b'x'; 10 << 20];
            connection.set::<_, _, ()>("big", &big).unwrap();
            assert!(connection.get::<_, Vec<u8>>("big").unwrap() == big);

            let mut pipeline = redis::pipe();
            (0..1000).for_each(|key| {
                pipeline.set(format!("key:{key}"), key).ignore();
                pipeline.get(format!("key:{key}"));
            });
            let values: Vec<i64> = pipeline.query(&mut connection).unwrap();
            assert_eq!(values, (0..1000).collect::<Vec<_>>());

            let keys: Vec<String> = (0..100).map(|key| format!("key:{key}")).collect();
            let values: Vec<i64> = connection.mget(&keys).unwrap();
            assert_eq!(values, (0..100).collect::<Vec<_>>());
            assert_eq!(connection.del::<_, i64>(&keys).unwrap(), 100);
            assert!(!connection.exists::<_, bool>("key:5").unwrap());
            connection.rename::<_, _, ()>("key:500", "elsewhere").unwrap();
            assert_eq!(connection.get::<_, i64>("elsewhere").unwrap(), 500);
        }
    });
}
