//! What operators type: redis-cli's modes, the questions of RedisInsight, hot keys, what memory is used for.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::installed;
use crate::observed::Observed;
use crate::process::{corering, run};

/// What redis-cli prints: until it ends, or for as long as it may go on.
fn redis_cli(observed: &Observed, arguments: &[&str], limit: Option<Duration>) -> Option<String> {
    // Lines, not blocks, so that nothing is lost when it is ended.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "redis-cli", "-p", &observed.serving.port().to_string()]).args(arguments);
    installed::run(Command::new("redis-cli").arg("--version"))?;
    let Some(limit) = limit else { return installed::run(&mut command) };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it is installed");
    std::thread::sleep(limit);
    // It goes on for ever.
    child.kill().expect("our child");
    let output = child.wait_with_output().expect("it has ended");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn filled(arguments: &[&str]) -> Observed {
    let observed = Observed::start(arguments);
    let mut client = observed.client();
    (0..50).for_each(|key| _ = client.ask(&format!("SET key:{key} {}", "v".repeat(10 + key))));
    client.ask(&format!("SET large {}", "v".repeat(100_000)));
    (0..400).for_each(|_| _ = client.ask("GET key:7"));
    observed
}

#[test]
fn redis_cli_finds_big_hot_and_costly_keys() {
    let observed = filled(&["--workers", "2", "--maxmemory-policy", "allkeys-lfu"]);
    for (mode, words) in [
        ("--bigkeys", &["'\"large\"' has 100000 bytes", "51 strings"][..]),
        ("--memkeys", &["'\"large\"' has 100", "51 strings"]),
        ("--hotkeys", &["keyname: \"key:7\"", "Sampled 51 keys"]),
    ] {
        let Some(shown) = redis_cli(&observed, &[mode], None) else { return };
        words.iter().for_each(|word| assert!(shown.contains(word), "{mode}: {word}\n{shown}"));
    }
}

#[test]
fn redis_cli_shows_statistics_and_latency() {
    let observed = filled(&["--workers", "2"]);
    let second = Duration::from_secs(1);
    let Some(latency) = redis_cli(&observed, &["--latency", "-i", "1"], None) else { return };
    let figures: Vec<f64> = latency.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    assert!(figures.len() == 4 && figures[3] > 10.0, "min, max, average, samples: {latency}");
    let stat = redis_cli(&observed, &["--stat", "-i", "0.2"], Some(second)).expect("it is installed");
    let last = stat.lines().last().unwrap_or_default();
    assert!(stat.contains("keys       mem") && last.starts_with("51 "), "{stat}");
    let history = redis_cli(&observed, &["--latency-history", "-i", "1"], Some(3 * second)).expect("it is installed");
    assert!(history.contains("1.0") || history.split_whitespace().count() >= 4, "{history}");
}

/// Nothing that RedisInsight asks when it opens a database is refused.
#[test]
fn what_redisinsight_asks_is_answered() {
    let observed = filled(&["--workers", "2"]);
    let mut client = observed.client();
    for question in [
        "INFO",
        "CONFIG GET databases",
        "DBSIZE",
        "MODULE LIST",
        "COMMAND",
        "SCAN 0 COUNT 500",
        "TTL key:7",
        "TYPE key:7",
        "MEMORY USAGE key:7",
        "SLOWLOG GET 50",
        "SLOWLOG LEN",
        "CONFIG GET slowlog*",
        "ACL LIST",
        "ACL WHOAMI",
        "ACL USERS",
        "ACL CAT",
        "CLIENT LIST",
        "MEMORY STATS",
        "MEMORY DOCTOR",
        "LATENCY LATEST",
        "LATENCY DOCTOR",
        "INFO everything",
    ] {
        let answer = client.ask(question);
        assert!(!answer.is_empty() && !answer.starts_with("error"), "{question}: {answer}");
    }
    assert_eq!(
        (client.ask("ACL WHOAMI"), client.ask("ACL USERS")),
        ("default".into(), "array([bulk-string('\"default\"')])".into())
    );
    assert!(client.ask("CLUSTER INFO").contains("cluster support disabled"));
    let stats = client.ask("MEMORY STATS");
    for name in ["peak.allocated", "keys.count", "dataset.bytes", "fragmentation"] {
        assert!(stats.contains(name), "{name}: {stats}");
    }
    assert!(client.ask("MEMORY DOCTOR").contains("Nothing needs attention"));
    client.ask("CONFIG SET maxmemory 1");
    assert!(client.ask("MEMORY DOCTOR").contains("raise it, or have fewer --workers"));
}

#[test]
fn hot_keys_are_found_over_all_workers() {
    let observed = filled(&["--workers", "2", "--hotkeys-sampling", "1"]);
    let mut clients: Vec<_> = (0..4).map(|_| observed.client()).collect();
    for round in 0..50 {
        clients.iter_mut().for_each(|client| _ = client.ask("GET hot"));
        clients[0].ask(&format!("GET once:{round}"));
    }
    let top = clients[0].ask("HOTKEYS COUNT 2");
    assert!(top.starts_with("array([array([bulk-string('\"key:7\"'), int(401), int(0)"), "{top}");
    assert!(top.contains("bulk-string('\"hot\"'), int(200), int(0)"), "{top}");
    let target = format!("127.0.0.1:{}", observed.serving.port());
    let shown = run(&mut corering(&["hotkeys", "--target", &target, "--count", "1"]));
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.contains("key:7") && shown.out.contains("401") && !shown.out.contains("hot\n"), "{}", shown.out);
    assert!(!shown.out.contains("-0") && shown.out.lines().next().is_some_and(|line| line.contains("too many by")));

    assert_eq!(clients[0].ask("HOTKEYS RESET"), "OK");
    assert_eq!(clients[0].ask("HOTKEYS"), "array([])");
    for (command, error) in [("HOTKEYS COUNT x", "0 to 1000"), ("HOTKEYS NONSENSE", "syntax")] {
        let reply = clients[0].ask(command);
        assert!(reply.contains(error), "{command}: {reply}");
    }
    clients[0].ask("CONFIG SET hotkeys-sampling 0");
    assert!(clients[0].ask("HOTKEYS").contains("CONFIG SET hotkeys-sampling"));
    let shown = run(&mut corering(&["hotkeys", "--target", &target]));
    assert_eq!((shown.code, shown.err.contains("hotkeys-sampling")), (Some(1), true), "{shown:?}");
    let shown = run(&mut corering(&["hotkeys", "--target", "127.0.0.1:1"]));
    assert_eq!((shown.code, shown.err.lines().count()), (Some(1), 1), "{shown:?}");
}
