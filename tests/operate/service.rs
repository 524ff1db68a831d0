//! Under a service manager: it is told when the server is ready, alive and ending, and its checkers accept the unit.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::installed;
use crate::observed::Observed;
use crate::process::{PATIENCE, Serving, corering, run};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/service/corering.service");

/// The next word to the service manager; `None` when there is none for so long.
fn hear(socket: &UnixDatagram, limit: Duration) -> Option<String> {
    socket.set_read_timeout(Some(limit)).expect("a time-out");
    let mut bytes = [0; 100];
    let count = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

#[test]
fn a_service_manager_is_told_ready_alive_and_ending() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a free path");
    let mut command = corering(&["--port", "0", "--workers", "2"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut serving = Serving::start(&mut command).expect("it starts");
    let mut heard: Vec<String> = (0..4).filter_map(|_| hear(&socket, PATIENCE)).collect();
    heard.sort();
    assert_eq!(heard, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);

    // A worker that stands still is not alive.
    let client = redis::Client::open(("127.0.0.1", serving.port())).expect("an address");
    let mut client = client.get_connection().expect("it listens");
    let sleeper = std::thread::spawn(move || redis::cmd("DEBUG").arg("SLEEP").arg(3).query::<String>(&mut client));
    std::thread::sleep(Duration::from_millis(300));
    while hear(&socket, Duration::from_millis(10)).is_some() {}
    assert_eq!(hear(&socket, Duration::from_millis(1500)), None);
    assert_eq!(sleeper.join().expect("no panic").as_deref(), Ok("OK"));
    assert_eq!(hear(&socket, PATIENCE).as_deref(), Some("WATCHDOG=1"));

    serving.process.terminate();
    while hear(&socket, PATIENCE).expect("a word about the end") != "STOPPING=1" {}
    assert_eq!(serving.process.wait().code(), Some(0));
}

#[test]
fn a_container_asks_the_binary_whether_it_is_well() {
    let observed = Observed::start(&["--workers", "1"]);
    let target = format!("127.0.0.1:{}", observed.admin_port);
    let ask = || run(&mut corering(&["health", "--target", &target]));
    let ended = ask();
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), "ok\n", ""));
    let ended = run(corering(&["health"]).env("CORERING_ADMIN_PORT", observed.admin_port.to_string()));
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "ok\n"), "{ended:?}");
    let mut blocker = observed.serving.connect();
    blocker.write_all(b"DEBUG SLEEP 3\r\n").expect("it reads");
    std::thread::sleep(Duration::from_millis(200));
    let ended = ask();
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.err.contains("answers 503: workers without a sign of life"), "{ended:?}");
    drop(observed);
    let ended = ask();
    assert!(ended.code == Some(1) && ended.err.contains("--target"), "{ended:?}");
}

#[test]
fn a_service_manager_that_does_not_listen_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a free path");
    // Nobody takes what is sent: the socket is full.
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.set_nonblocking(true).expect("our socket");
    while sender.send_to(b"x", &path).is_ok() {}
    let mut command = corering(&["--port", "0", "--workers", "1"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut serving = Serving::start(&mut command).expect("it starts");
    serving.process.terminate();
    assert_eq!(serving.process.wait().code(), Some(0));
    drop(socket);
}

#[test]
fn systemd_accepts_the_unit_and_rates_it_ok() {
    let unit = std::fs::read_to_string(UNIT).expect("it is there");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("corering.service");
    // The checker wants the binary to be where the unit says.
    let unit = unit.replace("/usr/local/bin/corering", env!("CARGO_BIN_EXE_corering"));
    std::fs::write(&path, unit).expect("our file");
    let mut verify = Command::new("systemd-analyze");
    if installed::run(verify.args(["verify", "--man=no"]).arg(&path)).is_none() {
        return;
    }
    let mut security = Command::new("systemd-analyze");
    let rated = installed::run(security.args(["security", "--offline=true", "--no-pager"]).arg(&path)).expect("it is");
    let overall = rated.lines().last().unwrap_or_default();
    assert!(overall.contains("OK") || overall.contains("SAFE"), "{overall}");
}
