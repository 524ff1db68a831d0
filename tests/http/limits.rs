//! Clients that do not mean well, and pipelines.

use std::time::{Duration, Instant};

use corering::config::Settings;

use crate::server::Fronts;

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
            assert!(since.elapsed() < crate::server::PATIENCE, "it waits for ever");
            let _ = std::io::Write::write(&mut client.0, b"x");
        }
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
        client.0.set_read_timeout(Some(crate::server::PATIENCE)).unwrap();
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
