//! Where the server listens, as its line at start says it, and ports that cannot be had.

use super::process::free_port;
use super::*;

#[test]
fn the_line_at_start_names_every_port_and_the_profile() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket").display().to_string();
    let start = || {
        let ports: [String; 3] = std::array::from_fn(|_| free_port().to_string());
        let [memcache, http, admin] = &ports;
        let arguments = [
            ["--port", "0", "--workers", "2", "--profile", "latency", "--unixsocket", &socket],
            ["--memcache-port", memcache, "--http-port", http, "--cluster-mode", "cores", "--core-port-base", "0"],
        ]
        .concat();
        let serving = Serving::start(&mut corering(&[&arguments[..], &["--admin-port", admin]].concat()));
        serving.map(|serving| (serving, ports))
    };
    // A port that was free may be taken by then.
    let (serving, [memcache, http, admin]) =
        (1..10).find_map(|_| start().ok()).unwrap_or_else(|| start().expect("it starts"));
    let line = &serving.ready_line;
    let expected = format!("127.0.0.1:{}, memcache port {memcache}, HTTP port {http}, core ports ", serving.port());
    assert!(line.contains(&expected), "{expected}: {line}");
    let expected = format!(", admin port 127.0.0.1:{admin}, unix socket {socket}: profile latency, workers on CPUs ");
    assert!(line.contains(&expected), "{expected}: {line}");
    let told = |port: &str, request: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut told = String::new();
        stream.read_to_string(&mut told).expect("text, to the end");
        told
    };
    assert!(told(&serving.port().to_string(), "INFO server\r\nQUIT\r\n").contains("\r\nprofile:latency\r\n"));
    assert!(told(&admin, "GET /status.json HTTP/1.0\r\n\r\n").contains(r#""profile":"latency""#));
}

#[test]
fn two_settings_with_one_port_are_named() {
    let ports: [String; 2] = std::array::from_fn(|_| free_port().to_string());
    let [one, other] = &ports;
    let cores = [
        "--port",
        one,
        "--core-port-base",
        other,
        "--workers",
        "1",
        "--cluster-mode",
        "cores",
        "--memcache-port",
        other,
    ];
    let rows: &[(&[&str], &str, &str)] = &[
        (&["--port", one, "--memcache-port", one], "--port has", "--memcache-port"),
        (&["--port", "0", "--memcache-port", one, "--http-port", one], "--memcache-port has", "--http-port"),
        (&["--port", other, "--http-port", one, "--admin-port", one], "--http-port has", "--admin-port"),
        (&["--port", one, "--bind", "0.0.0.0", "--admin-port", one], "--port has", "--admin-port"),
        (&cores, "--core-port-base has", "--memcache-port"),
    ];
    for (arguments, has, change) in rows {
        let ended = run(&mut corering(arguments));
        assert_refusal(&ended, 1, &[" twice: ", has, change]);
        assert!(!ended.err.contains("another process"), "{ended:?}");
    }
}
