//! Coordinated omission: a stall must show in an open loop, and is what a closed loop hides.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::peers::Peer;
use super::*;

/// The open loop's p99 and p99.9 show a stall of 200 ms, the closed loop's do not.
fn assert_stall_shows(open: &Report, closed: &Report) {
    for (report, name) in [(open, "open"), (closed, "closed")] {
        assert!(report.is_clean(), "{name}: {:?} {:?}", report.counts, report.errors);
        let max = ms_at(report, 1.0);
        assert!(max > 180.0, "{name}: the stall itself was seen, {max} ms");
    }
    for quantile in [0.99, 0.999] {
        let (open, closed) = (ms_at(open, quantile), ms_at(closed, quantile));
        assert!(open >= 100.0, "open loop at {quantile}: {open} ms");
        assert!(closed < 100.0, "closed loop at {quantile}: {closed} ms");
    }
}

#[test]
fn a_stall_is_charged_to_every_request_that_it_delays() {
    let _alone = alone();
    let fake = Fake::resp(NO_DELAY);
    let reports = [Rate::PerSecond(2000.0), Rate::Max].map(|rate| {
        fake.stall(millis(1200), millis(200));
        run(&Plan { duration: millis(2500), ..plan(rate) }, &fake.target()).unwrap()
    });
    let [open, closed] = &reports;
    assert_stall_shows(open, closed);
    assert!(open.quantile(0.99).is_valid, "the stall is the server's, not the generator's");
    let silent = open.timeline.iter().filter(|point| point.rate == 0.0).count();
    assert!(silent >= 1, "the time line has a gap");
}

#[test]
fn a_server_that_is_slower_than_the_schedule_is_late_not_silent() {
    let _alone = alone();
    let fake = Fake::resp(millis(5));
    let timeout = millis(500);
    let plan = Plan { connections: 1, duration: millis(1500), timeout, ..plan(Rate::PerSecond(2000.0)) };
    let report = run(&plan, &fake.target()).unwrap();
    assert!(report.is_clean(), "{:?} {:?}", report.counts, report.errors);
    assert!(ms_at(&report, 1.0) > 500.0, "{} ms", ms_at(&report, 1.0));
}

#[test]
fn a_stall_of_redis_shows_in_the_open_loop_only() {
    let _alone = alone();
    let Some(redis) = Peer::redis() else { return };
    let reports = [Rate::PerSecond(20_000.0), Rate::Max].map(|rate| {
        let port = redis.port;
        let sleeper = std::thread::spawn(move || {
            std::thread::sleep(millis(2500));
            command(port, "DEBUG SLEEP 0.2\r\n")
        });
        let plan = Plan { duration: millis(5000), connections: 32, ..plan(rate) };
        let report = run(&plan, &redis.target()).unwrap();
        assert_eq!(sleeper.join().unwrap().unwrap(), "+OK\r\n");
        report
    });
    assert_stall_shows(&reports[0], &reports[1]);
}

fn command(port: u16, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(line.as_bytes())?;
    let mut reply = [0; 64];
    let len = stream.read(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply[..len]).into_owned())
}
