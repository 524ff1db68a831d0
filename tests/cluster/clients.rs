//! Cluster clients as people use them, unchanged, against one process with two cores and against three processes with
//! a fixed map. A counter of the server shows that no core had to send another one a message for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use redis::Commands;
use redis::cluster::ClusterClient;

use crate::installed::{has_module, node_path, python, run};
use crate::nodes::{Servers, one_process, three_processes};

/// Runs `test` against each kind of cluster.
fn with_servers(test: impl Fn(&Servers)) {
    for servers in [one_process(&[]), three_processes()] {
        test(&servers);
        assert_eq!(servers.messages(), 0, "messages between cores, with {} nodes", servers.ports.len());
    }
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

#[test]
fn redis_py_finds_every_node() {
    if !has_module(Command::new(python()).args(["-c", "import redis"]), "redis-py") {
        return;
    }
    with_servers(|servers| {
        for version in ["2", "3"] {
            let (port, nodes) = (servers.ports[0].to_string(), servers.ports.len().to_string());
            run(Command::new(python()).arg(script("redis_py_cluster.py")).args([&port, version, &nodes]));
        }
    });
}

#[test]
fn ioredis_finds_every_node() {
    if !has_module(Command::new("node").args(["-e", "require('ioredis')"]).env("NODE_PATH", node_path()), "ioredis") {
        return;
    }
    with_servers(|servers| {
        let (port, nodes) = (servers.ports[0].to_string(), servers.ports.len().to_string());
        let mut command = Command::new("node");
        run(command.arg(script("ioredis_cluster.js")).args([&port, &nodes]).env("NODE_PATH", node_path()));
    });
}

#[test]
fn redis_rs_finds_every_node() {
    with_servers(|servers| {
        for protocol in ["resp2", "resp3"] {
            let url = format!("redis://127.0.0.1:{}/?protocol={protocol}", servers.ports[0]);
            let mut connection = ClusterClient::new(vec![url]).unwrap().get_connection().unwrap();
            redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
            for key in 0..200 {
                connection.set::<_, _, ()>(format!("key:{key}"), key).unwrap();
                assert_eq!(connection.get::<_, i64>(format!("key:{key}")).unwrap(), key);
            }
            let mut pipeline = redis::cluster::cluster_pipe();
            (0..200).for_each(|key| {
                pipeline.get(format!("key:{key}"));
            });
            let values: Vec<i64> = pipeline.query(&mut connection).unwrap();
            assert_eq!(values, (0..200).collect::<Vec<_>>());
            // The client spreads these over the nodes.
            let keys: Vec<String> = (0..100).map(|key| format!("key:{key}")).collect();
            assert_eq!(connection.mget::<_, Vec<i64>>(&keys).unwrap(), (0..100).collect::<Vec<_>>());
            assert_eq!(connection.del::<_, i64>(&keys).unwrap(), 100);
            assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut connection).unwrap(), 100);
            assert!(connection.rename::<_, _, ()>("key:150", "elsewhere").is_err(), "two slots");
        }
    });
}

#[test]
fn redis_cli_follows_and_finds_the_cluster_sound() {
    with_servers(|servers| {
        let port = servers.ports[0].to_string();
        for key in 0..20 {
            let (key, value) = (format!("key:{key}"), format!("value {key}"));
            let Some(set) = run(Command::new("redis-cli").args(["-c", "-p", &port, "SET", &key, &value])) else {
                return;
            };
            assert_eq!(set.trim(), "OK");
            let got = run(Command::new("redis-cli").args(["-c", "-3", "-p", &port, "GET", &key]));
            assert_eq!(got.as_deref().map(str::trim), Some(&value[..]));
        }
        let checked = run(Command::new("redis-cli").args(["--cluster", "check", &format!("127.0.0.1:{port}")]));
        let checked = checked.unwrap_or_default();
        for line in ["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."] {
            assert!(checked.contains(line), "{checked}");
        }
        assert!(checked.contains("20 keys in"), "{checked}");
    });
}

#[test]
fn redis_benchmark_runs_on_every_node() {
    with_servers(|servers| {
        let mut command = Command::new("redis-benchmark");
        command.args(["--cluster", "-p", &servers.ports[0].to_string(), "-t", "set,get,incr"]);
        command.args(["-P", "8", "-c", "20", "-n", "20000", "-r", "1000", "-q"]);
        let Some(report) = run(&mut command) else { return };
        assert!(report.contains(&format!("Cluster has {} master nodes", servers.ports.len())), "{report}");
        let results = report.lines().flat_map(|line| line.split('\r')).filter(|line| line.contains("per second"));
        assert!(results.count() >= 3, "{report}");
        assert!(!report.to_lowercase().contains("error"), "{report}");
    });
}

#[test]
fn our_own_load_generator_runs_on_every_node() {
    with_servers(|servers| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corering"));
        command.args(["bench", "--cluster", "yes", "--target", &format!("127.0.0.1:{}", servers.ports[0])]);
        command.args(["--duration", "300ms", "--warmup", "50ms", "--rate", "3000", "--keys", "500"]);
        command.args(["--connections", "12", "--wait", "sleep"]);
        run(&mut command);
    });
}
