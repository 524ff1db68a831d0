//! The admin port: what it answers, that it agrees with `INFO`, and that nobody can keep it from answering.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use corering::observe::{Kind, Metric};

use crate::observed::{Observed, hear};

#[test]
fn it_answers_for_health_readiness_metrics_and_status() {
    let observed = Observed::start(&["--workers", "2"]);
    for (path, body) in [("/health", "ok\n"), ("/ready?x=1", "ready\n")] {
        let answer = observed.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    let metrics = observed.get("/metrics");
    assert!(metrics.head.contains("Content-Type: text/plain; version=0.0.4"), "{}", metrics.head);
    let status: serde_json::Value = serde_json::from_str(&observed.get("/status.json").body).expect("JSON");
    assert_eq!((&status["phase"], status["workers"].as_array().map(Vec::len)), (&"running".into(), Some(2)));
    assert_eq!(status["settings"]["workers"], "2");
    let missing = observed.get("/nothing");
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("/metrics"), "{}", missing.body);
}

#[test]
fn metrics_and_info_are_the_same_figures() {
    let observed = Observed::start(&["--workers", "2"]);
    let mut client = observed.client();
    for key in 0..40 {
        client.ask(&format!("SET key:{key} {key} EX 1000"));
    }
    for key in 0..40 {
        client.ask(&format!("GET key:{}", key * 2));
    }
    client.ask("NONSENSE");
    let metrics = observed.metrics();
    let sum = |metric: Metric| {
        (0..2).map(|worker| metrics[&format!("{}{{worker=\"{worker}\"}}", metric.exported_name())]).sum::<f64>()
    };
    let status: serde_json::Value = serde_json::from_str(&observed.get("/status.json").body).expect("JSON");
    for (metric, expected) in [
        (Metric::ConnectionsAccepted, 1.0),
        (Metric::ConnectionsOpen, 1.0),
        (Metric::Hits, 20.0),
        (Metric::Misses, 20.0),
        (Metric::ErrorReplies, 1.0),
    ] {
        assert_eq!(sum(metric), expected, "{metric:?}");
        assert_eq!(client.info(metric.name()), expected.to_string(), "{metric:?}");
        assert_eq!(status["totals"][metric.name()].as_f64(), Some(expected), "{metric:?}");
    }
    assert_eq!(sum(Metric::Keys), 40.0);
    assert_eq!(metrics["corering_command_calls_total{command=\"get\"}"], 40.0);
    assert_eq!(metrics["corering_errors_total{code=\"ERR\"}"], 1.0);
    assert!(client.info("cmdstat_set").starts_with("calls=40,"));
    assert_eq!(status["commands"]["set"]["calls"], 40);
    for metric in Metric::ALL {
        let is_total = metric.exported_name().ends_with("_total");
        assert_eq!(is_total, metric.kind() == Kind::Counter, "{metric:?}");
        assert!(metrics.contains_key(&format!("{}{{worker=\"1\"}}", metric.exported_name())), "{metric:?}");
    }
    assert!(metrics["corering_worker_cpu_seconds_total{worker=\"0\"}"] > 0.0);
    assert!(metrics["process_resident_memory_bytes"] > 1e6);
}

#[test]
fn what_other_memory_would_bring_is_told_everywhere() {
    let observed = Observed::start(&["--workers", "2", "--maxmemory", "24mb"]);
    let mut client = observed.client();
    let names = ["miss_ratio_half_memory", "miss_ratio_same_memory", "miss_ratio_double_memory"];
    assert_eq!(client.info(names[0]), "", "nothing is told before there is anything to tell");
    // Round after round over more than fits, each key the rarer the higher it is; what misses is stored.
    let value = "v".repeat(900);
    for round in 1..=40_u64 {
        let keys: Vec<String> =
            (0..60_000 / round).map(|key| format!("key:{}", key * 7919 % (60_000 / round))).collect();
        for some in keys.chunks(500).take(40) {
            let found: Vec<Option<String>> = redis::cmd("MGET").arg(some).query(&mut client.0).expect("values");
            let missed = some.iter().zip(found).filter(|(_, found)| found.is_none());
            let pairs: Vec<&str> = missed.flat_map(|(key, _)| [key.as_str(), &value]).collect();
            if !pairs.is_empty() {
                redis::cmd("MSET").arg(pairs).exec(&mut client.0).expect("OK");
            }
        }
    }
    let [half, same, double] = names.map(|name| client.info(name).parse::<f64>().expect("a ratio"));
    let [hits, misses] =
        ["keyspace_hits", "keyspace_misses"].map(|name| client.info(name).parse::<f64>().expect("a number"));
    assert!((same - misses / (hits + misses)).abs() < 0.001, "{same}: {misses} of {hits} and them");
    assert!(half > same + 0.02 && same > double + 0.02 && double > 0.0, "{half} {same} {double}");
    let status: serde_json::Value = serde_json::from_str(&observed.get("/status.json").body).expect("JSON");
    for (name, ratio) in names.iter().zip([half, same, double]) {
        assert!((status["totals"][name].as_f64().expect("a ratio") - ratio).abs() < 0.001, "{name}");
    }
    assert!(observed.metrics()[r#"corering_simulated_misses_half_memory_total{worker="1"}"#] > 0.0);
    client.ask("CONFIG RESETSTAT");
    assert_eq!(observed.metrics()[r#"corering_simulated_misses_double_memory_total{worker="0"}"#], 0.0);
}

#[test]
fn a_token_guards_what_is_not_for_probes() {
    let observed = Observed::start(&["--workers", "1", "--admin-token", "open sesame"]);
    let ask = |field: &str| observed.ask(&format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{field}\r\n"));
    for field in [
        "",
        "Authorization: Bearer open\r\n",
        "Authorization: Basic open sesame\r\n",
        "Authorization: \u{fc}bcdefgh\r\n",
    ] {
        let answer = ask(field);
        assert_eq!(answer.status, 401, "{field}");
        assert!(answer.head.contains("WWW-Authenticate: Bearer"), "{}", answer.head);
    }
    assert_eq!(ask("authorization: bearer open sesame\r\n").status, 200);
    assert_eq!((observed.get("/health").status, observed.get("/nothing").status), (200, 401));
    let status = observed.ask("GET /status.json HTTP/1.0\r\nAuthorization: Bearer open sesame\r\n\r\n");
    assert!(status.body.contains("\"admin-token\":\"(hidden)\""), "{}", status.body);
    observed.resp(&["CONFIG SET admin-token other"]);
    assert_eq!(ask("Authorization: Bearer open sesame\r\n").status, 401, "a new token counts at once");
}

#[test]
fn requests_follow_each_other_and_bad_ones_are_answered() {
    let observed = Observed::start(&["--workers", "1"]);
    let mut stream = observed.connect_admin();
    stream.write_all(b"HEAD /health HTTP/1.1\r\n\r\nGET /ready HTTP/1.1\r\n\r\n").expect("it reads");
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(b"POST /health HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answers and an end");
    let statuses: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).collect();
    assert_eq!(statuses, ["200 OK", "200 OK", "405 Method Not Allowed"], "{text}");
    assert!(text.contains("Allow: GET, HEAD") && !text.contains("ok\n"), "{text}");
    for (request, status) in
        [("\x16\x03\x01 no HTTP\r\n\r\n", 400), ("GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", 413)]
    {
        assert_eq!(observed.ask(request).status, status, "{request:?}");
    }
}

#[test]
fn those_who_hold_on_to_it_do_not_keep_others_from_it() {
    let observed = Observed::start(&["--workers", "1"]);
    let mut slow: Vec<_> = (0..64).map(|_| observed.connect_admin()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /health HTTP/1.1\r\nHo").expect("it reads");
    }
    // Of whom nothing has been read yet would make room.
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    let refused = observed.get("/health");
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("too many"), "{}", refused.body);
    // Half a request is given up after ten seconds.
    assert_eq!(hear(&mut slow[0]).status, 408);
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
    slow.iter_mut().skip(1).for_each(|stream| assert_eq!(hear(stream).status, 408));
    assert_eq!(observed.get("/health").status, 200);
}

#[test]
fn consoles_that_keep_their_connections_do_not_keep_probes_out() {
    for io in ["uring", "epoll"] {
        let observed = Observed::start(&["--workers", "1", "--io", io]);
        let ask = |stream: &mut std::net::TcpStream| {
            let mut answer = [0; 4096];
            stream.write_all(b"HEAD /ready HTTP/1.1\r\n\r\n").and_then(|()| stream.read(&mut answer)).unwrap_or(0)
        };
        let mut kept: Vec<_> = (0..64).map(|_| observed.connect_admin()).collect();
        kept.iter_mut().for_each(|stream| assert!(ask(stream) > 0));
        // Whoever has asked lately stays.
        assert!(ask(&mut kept[0]) > 0);
        assert_eq!(observed.get("/health").status, 200, "{io}");
        assert_eq!(kept[1].read(&mut [0]).expect("an end"), 0, "{io}: the one that was idle longest made room");
        assert!(ask(&mut kept[0]) > 0 && ask(&mut kept[2]) > 0, "{io}");
        (0..200).for_each(|_| assert_eq!(observed.get("/health").status, 200, "{io}"));
    }
}

#[test]
fn descriptors_are_counted_now_and_then() {
    let observed = Observed::start(&["--workers", "1"]);
    let count = || observed.metrics()["process_open_fds"];
    let (before, start) = (count(), Instant::now());
    let clients: Vec<_> = (0..50).map(|_| observed.client()).collect();
    let (at_once, elapsed) = (count(), start.elapsed());
    // On a host that stands still for seconds it tells nothing.
    assert!(at_once == before || elapsed > Duration::from_secs(4), "{before} {at_once} after {elapsed:?}");
    while count() < before + clients.len() as f64 {
        assert!(start.elapsed() < crate::process::PATIENCE, "{} of {}", count(), clients.len());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_worker_that_does_not_turn_its_loop_is_told() {
    let observed = Observed::start(&["--workers", "1"]);
    let mut client = observed.client();
    let sleeper = std::thread::spawn(move || client.ask("DEBUG SLEEP 3"));
    std::thread::sleep(Duration::from_millis(200));
    let answer = observed.get("/health");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("[0]"), "{}", answer.body);
    assert_eq!(observed.get("/ready").status, 200);
    assert_eq!(sleeper.join().expect("it ends"), "OK");
    assert_eq!(observed.get("/health").status, 200);
}

#[test]
fn a_draining_server_is_not_ready() {
    let mut observed = Observed::start(&["--workers", "1"]);
    let mut client = observed.client();
    client.ask(&format!("SET big {}", "x".repeat(8 << 20)));
    let mut reader = observed.serving.connect();
    reader.write_all(&b"GET big\r\n".repeat(8)).expect("it reads");
    reader.peek(&mut [0]).expect("it answers");
    observed.serving.process.terminate();
    let start = Instant::now();
    while observed.get("/ready").status == 200 {
        assert!(start.elapsed() < Duration::from_secs(5), "it stays ready");
    }
    assert_eq!(observed.get("/ready").body, "draining\n");
    reader.read_to_end(&mut Vec::new()).expect("all replies");
    assert_eq!(observed.serving.process.wait().code(), Some(0));
}
