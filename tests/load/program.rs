//! `corering bench` as a program: exit codes, one clear line for each failure, files.

use std::net::TcpListener;
use std::process::{Command, Output};

use super::*;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corering")).arg("bench").args(arguments).output().unwrap()
}

/// Exit code and standard error, which must be one line.
fn failure(arguments: &[&str]) -> (Option<i32>, String) {
    let output = bench(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    (output.status.code(), error)
}

#[test]
fn bad_options_are_one_line_and_exit_2() {
    let _alone = alone();
    let server =
        Fake::start(fake::split_resp, NO_DELAY, |shared, request| Answer::Bytes(fake::answer_resp(shared, request)));
    let target = server.address.to_string();
    let rows: [(&[&str], &str); 9] = [
        (&["--keys", "0"], "--keys"),
        (&["--key-dist", "pareto"], "is no distribution"),
        (&["--target", "nowhere"], "is no address"),
        (&["--cpus", "4000"], "may not use"),
        (&["--server", "prot=1"], "--server prot: there is no setting"),
        (&["--server", "workers=many"], "--server workers: \"many\" is"),
        (&["--server", "workers=1", "--target", &target], "with --target there is none"),
        (&["--target", &target, "--pid", "4194304"], "there is no such process"),
        (
            &["--target", &target, "--rate", "1", "--warmup", "0s", "--duration", "50ms", "--keys", "10"],
            "no request was due",
        ),
    ];
    for (arguments, expected) in rows {
        let (code, error) = failure(arguments);
        assert!(code == Some(2) && error.contains(expected), "{arguments:?}: {code:?} {error}");
    }
}

#[test]
fn servers_that_fail_are_one_line_and_exit_1() {
    let _alone = alone();
    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let garbage = Fake::start(
        |bytes| (!bytes.is_empty()).then(|| (vec![bytes.to_vec()], bytes.len())),
        NO_DELAY,
        |_, _| Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    );
    let silent = Fake::start(fake::split_resp, NO_DELAY, |_, _| Answer::Nothing);
    let closing = Fake::start(fake::split_resp, NO_DELAY, |_, _| Answer::Close);
    let closing_later = Fake::start(fake::split_resp, NO_DELAY, |shared, request| {
        let reply = fake::answer_resp(shared, request);
        if shared.requests.load(Ordering::Relaxed) < 500 { Answer::Bytes(reply) } else { Answer::Close }
    });
    let silent_later = Fake::start(fake::split_resp, NO_DELAY, |shared, request| {
        let reply = fake::answer_resp(shared, request);
        if shared.requests.load(Ordering::Relaxed) < 500 { Answer::Bytes(reply) } else { Answer::Nothing }
    });
    let garbage_later = Fake::start(fake::split_resp, NO_DELAY, |shared, request| {
        let reply = fake::answer_resp(shared, request);
        let count = shared.requests.load(Ordering::Relaxed);
        Answer::Bytes(if count < 500 { reply } else { b"\x00\xff garbage\r\n".to_vec() })
    });
    let locked =
        Fake::start(fake::split_resp, NO_DELAY, |_, _| Answer::Bytes(b"-NOAUTH Authentication required.\r\n".to_vec()));
    let rows = [
        (format!("127.0.0.1:{free_port}"), "nothing listens there"),
        ("/nowhere/at/all.sock".to_owned(), "there is no such socket"),
        (garbage.address.to_string(), "does not speak this protocol"),
        (silent.address.to_string(), "does not answer within"),
        (closing.address.to_string(), "closes them at the first request"),
        (closing_later.address.to_string(), "closed a connection in the middle of the run"),
        (silent_later.address.to_string(), "the server does not answer"),
        (garbage_later.address.to_string(), "has sent what is no reply"),
        (locked.address.to_string(), "give --password"),
    ];
    for (target, expected) in rows {
        let options = ["--timeout", "500ms", "--rate", "2000", "--duration", "2s", "--keys", "100", "--wait", "sleep"];
        let (code, error) = failure(&[&["--target", &target], &options[..]].concat());
        assert!(code == Some(1) && error.contains(expected), "{target}: {code:?} {error} ({expected})");
    }
}

#[test]
fn wrong_replies_make_it_exit_1_with_the_report() {
    let _alone = alone();
    let fake = Fake::start(fake::split_resp, NO_DELAY, |shared, request| {
        let right = fake::answer_resp(shared, request);
        Answer::Bytes(if request[0] == b"GET" { b"$3\r\nbad\r\n".to_vec() } else { right })
    });
    let target = fake.address.to_string();
    let output =
        bench(&["--target", &target, "--rate", "500", "--duration", "300ms", "--keys", "10", "--wait", "sleep"]);
    let (table, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        table.contains("replies were not what was asked for") && error.contains("wrong replies"),
        "{table} {error}"
    );
}

#[test]
fn without_a_target_it_measures_a_server_inside_and_writes_every_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hgrm, html) = (file("a.json"), file("a.hgrm"), file("a.html"));
    let load = ["--rate", "2000", "--duration", "1s", "--warmup", "100ms", "--server", "workers=1"];
    let files = ["--json", &json, "--hgrm", &hgrm, "--html", &html];
    let output = bench(&[&load[..], &files[..]].concat());
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["inside this process", "p99.99", "µs per reply", "0 refused, 0 wrong"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert!(report["replies"].as_u64().unwrap() > 1500 && report["server_cpu_ns_per_reply"].as_f64().unwrap() > 100.0);
    assert!(std::fs::read_to_string(hgrm).unwrap().contains("#[Max"));
    assert!(std::fs::read_to_string(html).unwrap().ends_with("</html>\n"));
    let (code, error) = failure(&["--rate", "100", "--duration", "50ms", "--json", "/nowhere/report.json"]);
    assert!(code == Some(1) && error.contains("cannot write /nowhere/report.json"), "{error}");
}

#[test]
fn the_highest_rate_that_keeps_an_objective_is_found() {
    let _alone = alone();
    let fake = Fake::resp(millis(4));
    let target = fake.address.to_string();
    let common = ["--target", &target, "--connections", "4", "--duration", "400ms", "--warmup", "50ms", "--keys", "10"];
    let output = bench(&[&common[..], &["--wait", "sleep", "--find-slo", "p50=60ms"]].concat());
    let (table, steps) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{steps}");
    // Four connections of 4 ms each: 1000/s is the limit.
    let found = table.lines().find_map(|line| line.strip_prefix("asked for")).unwrap();
    let found: f64 = found.split_whitespace().next().unwrap().parse().unwrap();
    assert!((300.0..1050.0).contains(&found), "{table} {steps}");
    assert!(steps.contains("holds"), "{steps}");
    let output = bench(&[&common[..], &["--wait", "sleep", "--find-slo", "p50=1ms"]].concat());
    let steps = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1)
            && steps.contains("stays below 1ms at no rate: even at ")
            && steps.contains(" it is "),
        "{steps}"
    );
}
