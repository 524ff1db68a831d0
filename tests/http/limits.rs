//! Clients that do not mean well, and pipelines.

use std::time::{Duration, Instant};

use corering::config::Settings;

use crate::server::{Client, Fronts, PATIENCE};

#[test]
fn a_fault_is_answered_behind_what_came_before_and_the_connection_closed() {
    let fronts = Fronts::with_workers(3);
    for fault in
        ["GET / HTTP/1.1\nHost: h\n\n", "PUT /v1/keys/b HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 2\r\n\r\nxGET /"]
    {
        let mut client = fronts.http();
        let put = |key: usize| format!("PUT /v1/keys/k{key} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        client.say(((0..20).map(put).collect::<String>() + fault).as_bytes());
        let heard = client.hear_end();
        let statuses: Vec<&str> = heard.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
        assert_eq!((statuses.len(), statuses[20]), (21, "400"), "{heard}");
        assert!(statuses[..20].iter().all(|status| status.starts_with("20")), "{heard}");
        assert!(heard.contains("Connection: close"));
    }
}

#[test]
fn a_request_that_drips_is_given_up() {
    let settings = Settings { workers: 1, http_request_timeout: Duration::from_secs(1), ..Settings::default() };
    let fronts = Fronts::start(&settings);
    let mut idle = fronts.http();
    assert_eq!(idle.http("GET /v1/keys/a", "", "").status, 404);
    for begin in ["GET / HTTP/1.1\r\nX: ", "PUT /v1/keys/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"] {
        let mut client = fronts.http();
        client.say(begin.as_bytes());
        let since = Instant::now();
        client.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut first = [0];
        // A byte now and then keeps nobody waiting.
        while std::io::Read::read(&mut client.0, &mut first).is_err() {
            assert!(since.elapsed() < PATIENCE, "it waits for ever");
            let _ = std::io::Write::write(&mut client.0, b"x");
        }
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
        client.0.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(client.hear_end().starts_with("TTP/1.1 408 "));
    }
    // Who has asked nothing may stay.
    assert_eq!(idle.http("GET /v1/keys/a", "", "").status, 404);
}

#[test]
fn pipelined_replies_are_in_order_over_all_workers() {
    let fronts = Fronts::with_workers(3);
    let mut client = fronts.http();
    let mut all = String::new();
    for n in 0..500 {
        all += &format!("PUT /v1/keys/k{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n{n:03}");
        all += &format!("GET /v1/keys/k{n} HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    client.say(all.as_bytes());
    for n in 0..500 {
        assert_eq!(client.hear_http(true).status, 201);
        assert_eq!(client.hear_http(true).text(), format!("{n:03}"));
    }
}

/// RFC 9112, 9.6: after what cannot be read on, the reply says that the connection closes, and it does; after what is
/// only refused it stays.
#[test]
fn a_connection_is_closed_only_when_nothing_behind_the_request_can_be_trusted() {
    let fronts = Fronts::start(&Settings { workers: 2, proto_max_bulk_len: 1 << 20, ..Settings::default() });
    let put = |fields: &str| format!("PUT /v1/keys/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let get = |fields: &str| format!("GET /v1/keys/a HTTP/1.1\r\n{fields}\r\n");
    let long = "x".repeat(20_000);
    let closing = [
        (put("Content-Length: 1\r\nContent-Length: 1\r\n"), 400),
        (put("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n") + "5\nhello\r\n0\r\n\r\n", 400),
        (get("Host: h\r\nX: a\r\n folded\r\n"), 400),
        (get("Host: h\nX: y\r\n"), 400),
        (get(""), 400),
        (put("Content-Length: 1048577\r\n"), 413),
        (format!("GET /{long}"), 414),
        (put("Content-Length: 5\r\nExpect: fish\r\n"), 417),
        (get(&format!("Host: h\r\nX: {long}\r\n")), 431),
        (put("Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n".to_owned(), 505),
        (get("Host: h\r\nConnection: close\r\n"), 404),
        ("GET /v1/keys/a HTTP/1.0\r\n\r\n".to_owned(), 404),
    ];
    for (request, status) in closing {
        let mut client = fronts.http();
        client.say(request.as_bytes());
        let heard = client.hear_end();
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {heard}");
        assert!(heard.contains("\r\nConnection: close\r\n"), "{request}: {heard}");
    }
    let mut client = fronts.http();
    let staying = [
        ("GET /v1/keys/a", "", 404),
        ("GET /nowhere", "", 404),
        ("BREW /v1/keys/a", "", 405),
        ("PUT /v1/keys/a?ttl=x", "", 400),
        ("PUT /v1/keys/a?xx", "", 412),
        ("PUT /v1/keys/a", "", 201),
        ("POST /v1/keys/a/incr", "", 409),
        ("POST /v1/mget", "Content-Type: text/plain\r\n", 415),
        ("OPTIONS *", "", 204),
        ("GET /v1/keys/a", "Connection: keep-alive\r\n", 200),
    ];
    for (request, fields, status) in staying {
        let answer = client.http(request, fields, "word");
        assert_eq!((answer.status, answer.field("connection")), (status, ""), "{request}");
    }
}

/// As lines, replies are sent as they are made, and none is made for a client that does not read.
#[test]
fn a_large_batch_runs_at_the_pace_of_its_client() {
    const PAIRS: usize = 40_000;
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let (mut reader, mut other) = (fronts.http(), fronts.http());
        assert_eq!(other.http("PUT /v1/keys/large", "", &"x".repeat(8_000)).status, 201);
        let body = format!("[{}]", vec![r#"["incr","n"],["get","large"]"#; PAIRS].join(","));
        let head = "POST /v1/commands HTTP/1.1\r\nHost: h\r\nAccept: application/x-ndjson\r\n";
        reader.say(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        // What is malformed is told where it is met.
        let half = r#"[["incr","h"],["incr","h"],nonsense]"#;
        let lines = other.http("POST /v1/commands", "Accept: application/x-ndjson\r\n", half).text();
        assert!(lines.starts_with("{\"result\":1}\n{\"result\":2}\n{\"error\":\"the body is no JSON"), "{lines}");
        let count = |other: &mut Client| other.http("GET /v1/keys/n", "", "").text().parse().unwrap_or(0);
        let (mut before, since) = (0, Instant::now());
        while since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
            let now: usize = count(&mut other);
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
        // What its socket takes, and 256 KiB.
        assert!((1..PAIRS / 2).contains(&before), "{before} of {PAIRS} were run for nobody");
        let answer = reader.hear_http(true);
        assert_eq!((answer.status, answer.field("transfer-encoding")), (200, "chunked"));
        let lines: Vec<String> = answer.text().lines().map(str::to_owned).collect();
        assert_eq!((lines.len(), &lines[PAIRS * 2 - 2][..]), (PAIRS * 2, &format!("{{\"result\":{PAIRS}}}")[..]));
        assert_eq!(reader.http("GET /v1/keys/n", "", "").text(), PAIRS.to_string());
        fronts.server.stop();
    }
}
