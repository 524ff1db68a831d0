//! The seccomp profile for containers: the real server behind it does everything that it can do, and says what is
//! missing when something is.
//!
//! A container runtime would compile the profile with libseccomp; here another compiler does. Most calls are tried with
//! a default that kills the process, so that none which is missing goes unnoticed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use seccompiler::{BpfProgram, compile_from_json};
use serde_json::{Value, json};

use super::process::free_port;
use super::*;

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/service/seccomp.json");

fn profile() -> Value {
    serde_json::from_str(&std::fs::read_to_string(PROFILE).expect("it is there")).expect("JSON")
}

/// The filters that the profile stands for: what is allowed, and what fails in a way of its own.
fn compile(profile: &Value, default: &Value) -> Vec<BpfProgram> {
    let (mut allowed, mut failing) = (Vec::new(), HashMap::new());
    for group in profile["syscalls"].as_array().expect("groups") {
        let args: Vec<Value> = group["args"].as_array().into_iter().flatten().map(condition).collect();
        for name in group["names"].as_array().expect("names") {
            let rule = if args.is_empty() { json!({"syscall": name}) } else { json!({"syscall": name, "args": args}) };
            match group["action"].as_str() {
                Some("SCMP_ACT_ALLOW") => allowed.push(rule),
                Some("SCMP_ACT_ERRNO") => {
                    // The other filter decides.
                    allowed.push(rule.clone());
                    failing.entry(group["errnoRet"].as_u64().expect("an errno")).or_insert_with(Vec::new).push(rule);
                }
                other => panic!("{other:?} is not known here"),
            }
        }
    }
    let failing = failing.iter().map(|(errno, rules)| filter(&json!("allow"), &json!({"errno": errno}), rules));
    // The last one to be installed: it forbids to install more.
    failing.chain([filter(default, &json!("allow"), &allowed)]).collect()
}

fn condition(arg: &Value) -> Value {
    assert_eq!((&arg["op"], &arg["valueTwo"]), (&"SCMP_CMP_MASKED_EQ".into(), &0.into()));
    json!({"index": arg["index"], "type": "qword", "op": {"masked_eq": arg["value"]}, "val": 0})
}

fn filter(otherwise: &Value, then: &Value, rules: &[Value]) -> BpfProgram {
    let text = json!({"it": {"mismatch_action": otherwise, "match_action": then, "filter": rules}}).to_string();
    let compiled = compile_from_json(text.as_bytes(), confined::TARGET);
    compiled.unwrap_or_else(|error| panic!("{error:?}: {text}")).remove("it").expect("the one filter")
}

/// The profile without some of its calls.
fn without(calls: &[&str]) -> Value {
    let mut profile = profile();
    for group in profile["syscalls"].as_array_mut().expect("groups") {
        let names = group["names"].as_array_mut().expect("names");
        names.retain(|name| !calls.contains(&name.as_str().expect("text")));
    }
    profile
}

fn refused() -> Value {
    json!({"errno": libc::EPERM})
}

/// What the profile does to a process that makes another call, where that shall be noticed.
fn killed() -> Value {
    json!("kill_process")
}

/// Writes a request and reads until the server closes.
fn told(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(process::PATIENCE)).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("text");
    told
}

/// The flags of a server with everything on, and the files they name.
fn everything(folder: &Path, io: &str, ports: &[u16; 5]) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    std::fs::write(file("corering.toml"), "maxclients = 100\n").expect("our folder");
    let map = format!(
        "epoch = 1\n[[process]]\nname = \"a\"\nhost = \"127.0.0.1\"\nnodes = [{{ port = {}, slots = \"0-8191\" }}, \
         {{ port = {}, slots = \"8192-16383\" }}]\n",
        ports[3], ports[4]
    );
    std::fs::write(file("map.toml"), map).expect("our folder");
    let cpu = corering::topology::usable_cpus()[0].to_string();
    // Only the privileged may lock as much.
    let locks = if rustix::process::geteuid().is_root() { "yes" } else { "no" };
    let rows: &[(&str, &str)] = &[
        ("config", &file("corering.toml")),
        ("io", io),
        ("port", "0"),
        ("memcache-port", &ports[0].to_string()),
        ("http-port", &ports[1].to_string()),
        ("admin-port", &ports[2].to_string()),
        ("unixsocket", &file("unix")),
        ("workers", "2"),
        ("control-cpu", &cpu),
        ("cluster-mode", "cores"),
        ("cluster-map", &file("map.toml")),
        ("cluster-process", "a"),
        ("maxmemory", "400mb"),
        ("lock-memory", locks),
        ("scheduler", "batch"),
        ("stage-sampling", "1"),
        ("hotkeys-sampling", "1"),
    ];
    rows.iter().flat_map(|(key, value)| [format!("--{key}"), (*value).to_owned()]).collect()
}

/// Has a server with everything on do everything, behind the profile, to its end.
fn assert_does_everything(io: &str, filters: Vec<BpfProgram>) {
    let folder = tempfile::tempdir().expect("a folder");
    let notified = UnixDatagram::bind(folder.path().join("notify")).expect("a free path");
    let ports: [u16; 5] = std::array::from_fn(|_| free_port());
    let arguments = everything(folder.path(), io, &ports);
    let mut command = corering(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "200000");
    confined::confine(&mut command, filters);
    let mut serving = Serving::start(&mut command).expect("it starts");

    let commands = "SET a 1 EX 100|GET a|INFO everything|CONFIG SET maxmemory 300mb|CONFIG SET maxclients 90|CONFIG \
                    REWRITE|MEMORY DOCTOR|DEBUG SLEEP 0.01|SLOWLOG GET|LATENCY DOCTOR|HOTKEYS|MGET a b c d e|QUIT|";
    let told_by_resp = told(serving.port(), &commands.replace('|', "\r\n"));
    assert!(told_by_resp.ends_with("+OK\r\n") && !told_by_resp.contains("\n-"), "{told_by_resp}");
    assert!(told(ports[0], "set m 0 0 1\r\nx\r\nget m\r\nstats\r\nquit\r\n").contains("VALUE m 0 1"));
    let http = "GET /v1/keys/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert!(told(ports[1], http).starts_with("HTTP/1.1 200"));
    for path in ["health", "ready", "metrics", "status.json"] {
        assert!(told(ports[2], &format!("GET /{path} HTTP/1.0\r\n\r\n")).starts_with("HTTP/1.1 200"), "{path}");
    }
    for port in &ports[3..] {
        assert!(told(*port, "CLUSTER INFO\r\nQUIT\r\n").contains("cluster_state:ok"));
    }
    let mut stream = UnixStream::connect(folder.path().join("unix")).expect("it listens");
    stream.write_all(b"PING\r\nQUIT\r\n").expect("it reads");
    stream.read_to_string(&mut String::new()).expect("text");
    fill(&serving);
    std::fs::read(folder.path().join("map.toml"))
        .and_then(|map| {
            let next = String::from_utf8_lossy(&map).replace("epoch = 1", "epoch = 2");
            std::fs::write(folder.path().join("map.toml"), next)
        })
        .expect("our file");
    serving.process.signal(rustix::process::Signal::HUP);
    let mut heard = [0; 100];
    for _ in 0..3 {
        notified.recv(&mut heard).expect("a sign of life");
    }
    std::thread::spawn(move || while notified.recv(&mut heard).is_ok() {});
    serving.process.terminate();
    assert_eq!(serving.process.wait().code(), Some(0), "a call was missing");
}

/// Items enough for pages ahead of need, and a value that is sent in parts.
fn fill(serving: &Serving) {
    let value = "v".repeat(4 << 20);
    let mut stream = serving.connect();
    for key in 0..50 {
        let mut request = String::new();
        write!(request, "*3\r\n$3\r\nSET\r\n$3\r\n{key:03}\r\n${}\r\n{value}\r\n", value.len()).expect("memory");
        ask(&mut stream, request.as_bytes(), b"+OK\r\n");
    }
    stream.write_all(&b"GET 049\r\n".repeat(8)).expect("it reads");
    std::thread::sleep(Duration::from_millis(200));
    let mut replies = vec![0; 8 * (format!("${}\r\n", value.len()).len() + value.len() + 2)];
    stream.read_exact(&mut replies).expect("eight values");
    let item = "v".repeat(1000);
    for batch in 0..100 {
        let mut requests = String::new();
        for key in 0..1000 {
            let key = format!("{:06}", batch * 1000 + key);
            write!(requests, "*3\r\n$3\r\nSET\r\n$6\r\n{key}\r\n$1000\r\n{item}\r\n").expect("memory");
        }
        stream.write_all(requests.as_bytes()).expect("it reads");
        stream.read_exact(&mut [0; 5 * 1000]).expect("a reply each");
    }
}

#[test]
fn behind_the_profile_the_server_does_everything() {
    for io in ["uring", "epoll"] {
        assert_does_everything(io, compile(&profile(), &killed()));
    }
}

#[test]
fn behind_the_profile_the_tools_work() {
    let rows: &[(&[&str], &[i32])] = &[
        (&["config"], &[0]),
        (&["doctor", "--workers", "1"], &[0, 1]),
        (&["bench", "--rate", "2000", "--duration", "200ms", "--warmup", "50ms", "--keys", "100"], &[0]),
    ];
    for (arguments, codes) in rows {
        let mut command = corering(arguments);
        confined::confine(&mut command, compile(&profile(), &killed()));
        let ended = run(&mut command);
        assert!(ended.code.is_some_and(|code| codes.contains(&code)), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn what_the_profile_lacks_is_named_with_its_remedies() {
    for call in ["io_uring_setup", "io_uring_register", "io_uring_enter"] {
        let mut command = corering(&["--port", "0", "--workers", "1", "--io", "uring"]);
        confined::confine(&mut command, compile(&without(&[call]), &refused()));
        let named = format!("not available: {call}: ");
        let words = [&named, "not permitted", "seccomp filter", "tuning/service/seccomp.json", "--io epoll"];
        assert_refusal(&run(&mut command), 78, &words);
    }
}

#[test]
fn without_the_calls_of_io_uring_epoll_does_everything() {
    let calls = ["io_uring_setup", "io_uring_register", "io_uring_enter"];
    assert_does_everything("epoll", compile(&without(&calls), &killed()));
}
