//! Prometheus scrapes the admin port, and its checker has nothing against metrics, alert rules and dashboard; what
//! redis_exporter asks on the RESP port is answered.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::installed;
use crate::observed::{Observed, hear};
use crate::process::PATIENCE;

const DASHBOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/dashboards");

/// A child that does not outlive its test.
struct Tool {
    child: Child,
    port: u16,
}

impl Tool {
    /// Starts a server that listens on a port of its choice; `None` when it is not installed.
    fn start(program: &str, arguments: impl Fn(u16) -> Vec<String>) -> Option<Tool> {
        installed::run(Command::new(program).arg("--version"))?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new(program);
        command.args(arguments(port)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tool = Tool { child: command.spawn().expect("it starts"), port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(tool)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: h\r\n\r\n").as_bytes()).expect("it reads");
        hear(&mut stream).body
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of metrics in PromQL or in an exposition.
fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("corering_") || word.starts_with("process_"))
}

#[test]
fn dashboard_and_rules_name_metrics_that_there_are() {
    let observed = Observed::start(&["--workers", "1"]);
    observed.resp(&["SET a 1", "GET a"]);
    let exposition = observed.get("/metrics").body;
    let exposed: Vec<&str> = metric_names(&exposition).collect();
    let read = |name: &str| std::fs::read_to_string(format!("{DASHBOARDS}/{name}")).expect("it is there");
    let dashboard: serde_json::Value = serde_json::from_str(&read("corering.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    assert!(expressions.len() >= 10, "{expressions:?}");
    let rules = read("alerts.yml");
    let rules = rules.lines().filter_map(|line| line.trim().strip_prefix("expr:"));
    for expression in expressions.into_iter().chain(rules) {
        for name in metric_names(expression) {
            assert!(exposed.contains(&name), "{name} in {expression:?}");
        }
    }
}

#[test]
fn promtool_accepts_metrics_and_rules() {
    let rules = format!("{DASHBOARDS}/alerts.yml");
    let Some(checked) = installed::run(Command::new("promtool").args(["check", "rules", &rules])) else { return };
    assert!(checked.contains("SUCCESS"), "{checked}");
    installed::run(Command::new("promtool").args(["test", "rules", &format!("{DASHBOARDS}/alerts_test.yml")]));
    installed::run(Command::new("promtool").args(["check", "config", &format!("{DASHBOARDS}/prometheus.yml")]));

    let observed = Observed::start(&["--workers", "2"]);
    observed.resp(&["SET a 1", "GET a", "NONSENSE", "GET"]);
    let mut check = Command::new("promtool");
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("it is installed");
    let metrics = observed.get("/metrics").body;
    check.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("it reads");
    let told = check.wait_with_output().expect("it ends");
    let told = (told.status.code(), String::from_utf8_lossy(&told.stderr).into_owned());
    assert_eq!(told, (Some(0), String::new()), "{metrics}");
}

#[test]
fn prometheus_scrapes_a_server_with_the_shipped_rules() {
    let observed = Observed::start(&["--workers", "1", "--admin-token", "secret"]);
    observed.resp(&["SET a 1", "GET a", "GET a", "GET b"]);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("prometheus.yml");
    let shipped = std::fs::read_to_string(format!("{DASHBOARDS}/prometheus.yml")).expect("it is there");
    let shipped = shipped
        .replace("127.0.0.1:9180", &format!("127.0.0.1:{}", observed.admin_port))
        .replace("alerts.yml", &format!("{DASHBOARDS}/alerts.yml"))
        .replace("scrape_interval: 15s", "scrape_interval: 1s\n    authorization: {credentials: secret}");
    assert!(shipped.contains("credentials: secret"), "{shipped}");
    std::fs::write(&config, shipped).expect("our file");
    let storage = format!("--storage.tsdb.path={}", folder.path().join("data").display());
    let Some(prometheus) = Tool::start("prometheus", |port| {
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        vec![format!("--config.file={}", config.display()), storage.clone(), listen]
    }) else {
        return;
    };
    let start = Instant::now();
    let hits = loop {
        let answer = prometheus.get("/api/v1/query?query=sum(corering_hits_total)");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let value = answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned();
        if !value.is_empty() {
            break value;
        }
        assert!(start.elapsed() < PATIENCE, "nothing was scraped: {}", prometheus.get("/api/v1/targets"));
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(hits, "2");
    let rules = prometheus.get("/api/v1/rules");
    assert!(rules.contains("CoreringDown") && !rules.contains("\"health\":\"err\""), "{rules}");
}

/// Its figures agree with the server's, and none of its queries fails.
#[test]
fn redis_exporter_works_against_the_resp_port() {
    let observed = Observed::start(&["--workers", "2"]);
    observed.resp(&["SET a 1", "SET b 2 EX 1000", "GET a", "GET b", "GET c", "NONSENSE"]);
    let address = format!("redis://127.0.0.1:{}", observed.serving.port());
    let Some(exporter) = Tool::start("prometheus-redis-exporter", |port| {
        let flags = ["-is-cluster=false", "-include-system-metrics", "-check-keys=*"].map(str::to_owned);
        [format!("-redis.addr={address}"), format!("-web.listen-address=127.0.0.1:{port}")]
            .into_iter()
            .chain(flags)
            .collect()
    }) else {
        return;
    };
    let metrics = exporter.get("/metrics");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value)
    };
    for (name, expected) in [
        ("redis_up", "1"),
        ("redis_exporter_last_scrape_error{err=\"\"}", "0"),
        ("redis_keyspace_hits_total", "2"),
        ("redis_keyspace_misses_total", "1"),
        ("redis_db_keys{db=\"db0\"}", "2"),
        ("redis_db_keys_expiring{db=\"db0\"}", "1"),
        ("redis_commands_total{cmd=\"get\"}", "3"),
        ("redis_slowlog_length", "0"),
        ("redis_key_size{db=\"db0\",key=\"a\"}", "1"),
    ] {
        assert_eq!(value(name), Some(expected), "{name}\n{metrics}");
    }
    for name in
        ["redis_memory_used_bytes", "redis_memory_max_bytes", "redis_config_maxclients", "redis_uptime_in_seconds"]
    {
        assert!(value(name).is_some(), "{name}\n{metrics}");
    }
}
