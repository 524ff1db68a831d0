//! The process, from its arguments to its exit code: what it prints, what it refuses and why, how it ends.

mod confined;
mod effects;
mod help;
#[path = "../clients/installed.rs"]
mod installed;
mod listening;
mod process;
mod seccomp;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use process::{Ended, Serving, corering, corering_at, run};

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

/// Nobody, on every Linux.
const OTHER_USER: u32 = 65534;

/// The process refused: with this code, one line, and each of `words` in it.
fn assert_refusal(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "one line: {ended:?}");
    assert_eq!(ended.out, "");
    for word in words {
        assert!(ended.err.contains(word), "{word:?} is missing: {ended:?}");
    }
}

/// The binary for a user who has no privileges.
fn unprivileged(folder: &tempfile::TempDir, arguments: &[&str]) -> std::process::Command {
    // The binary may lie where another user may not look.
    let everyone = || std::fs::Permissions::from_mode(0o755);
    let binary = folder.path().join("corering");
    if !binary.exists() {
        std::fs::set_permissions(folder.path(), everyone()).expect("our folder");
        std::fs::copy(env!("CARGO_BIN_EXE_corering"), &binary).expect("room for a copy");
        std::fs::set_permissions(&binary, everyone()).expect("our file");
    }
    let mut command = corering_at(&binary, arguments);
    if rustix::process::geteuid().is_root() {
        command.uid(OTHER_USER).gid(OTHER_USER);
    }
    command
}

fn ask(stream: &mut TcpStream, request: &[u8], reply: &[u8]) {
    stream.write_all(request).expect("it reads");
    let mut read = vec![0; reply.len()];
    stream.read_exact(&mut read).expect("it answers");
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(reply));
}

#[test]
fn a_server_serves_and_says_so() {
    let mut serving = Serving::start(&mut corering(&["--port", "0", "--workers", "2"])).expect("it starts");
    assert!(serving.ready_line.contains(", io_uring (") || serving.ready_line.contains(", epoll ("));
    ask(&mut serving.connect(), PING, PONG);
    serving.process.terminate();
    assert_eq!(serving.process.wait().code(), Some(0));
}

#[test]
fn a_host_without_io_uring_is_named_with_its_remedies() {
    let mut command = corering(&["--port", "0", "--io", "uring"]);
    confined::deny_io_uring(&mut command);
    let words = ["io_uring_setup: ", "not permitted", "seccomp", "allow io_uring_setup", "--io epoll"];
    assert_refusal(&run(&mut command), 78, &words);
}

/// The remedy works, and what was chosen shows. The control thread does without io_uring as well.
#[test]
fn a_host_without_io_uring_serves_with_epoll() {
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let admin_port = free.expect("a free port").port().to_string();
    let mut command = corering(&["--port", "0", "--workers", "2", "--io", "epoll", "--admin-port", &admin_port]);
    confined::deny_io_uring(&mut command);
    let mut serving = Serving::start(&mut command).expect("it starts");
    assert!(serving.ready_line.contains(", epoll (edge_triggered), "), "{}", serving.ready_line);
    let mut client = serving.connect();
    ask(&mut client, PING, PONG);
    let told = |request: &[u8], address: &str| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(request).expect("it reads");
        let mut told = String::new();
        stream.read_to_string(&mut told).expect("text, to the end");
        told
    };
    let info = told(b"INFO server\r\nQUIT\r\n", &format!("127.0.0.1:{}", serving.port()));
    assert!(info.contains("multiplexing_api:epoll\r\nio_mode:epoll (edge_triggered)\r\n"), "{info}");
    let status = told(b"GET /status.json HTTP/1.0\r\n\r\n", &format!("127.0.0.1:{admin_port}"));
    assert!(status.contains(r#""io_mode":"epoll (edge_triggered)""#), "{status}");
    assert!(status.contains(r#""io":"epoll""#), "{status}");
    serving.process.terminate();
    assert_eq!(serving.process.wait().code(), Some(0));
}

/// So is the load generator.
#[test]
fn a_host_without_io_uring_is_measured_with_epoll() {
    let serving = Serving::start(&mut corering(&["--port", "0", "--workers", "1"])).expect("it starts");
    let target = format!("127.0.0.1:{}", serving.port());
    let short = ["--rate", "2000", "--duration", "200ms", "--warmup", "50ms", "--keys", "100", "--io"];
    for more in [&[][..], &["--target", &target]] {
        let measure = |io| {
            let mut command = corering(&[&["bench"], &short[..], &[io], more].concat());
            confined::deny_io_uring(&mut command);
            run(&mut command)
        };
        assert_refusal(&measure("uring"), 78, &["io_uring_setup: ", "seccomp", "allow io_uring_setup", "--io epoll"]);
        let ended = measure("epoll");
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.out.contains(", epoll\n") && !ended.out.contains("io_uring"), "{ended:?}");
    }
}

/// Redis ignores it as well: the cache outlives the terminal that it was started from.
#[test]
fn a_hang_up_ends_nothing() {
    let serving = Serving::start(&mut corering(&["--port", "0", "--workers", "1"])).expect("it starts");
    ask(&mut serving.connect(), b"SET key kept\r\n", b"+OK\r\n");
    serving.process.signal(rustix::process::Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(100));
    ask(&mut serving.connect(), b"GET key\r\n", b"$4\r\nkept\r\n");
}

/// Some kernels charge rings to the control group, others to this limit: the server starts, or it names the limit.
#[test]
fn without_locked_memory_it_starts_or_names_the_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = unprivileged(&folder, &["--port", "0", "--workers", "1", "--maxclients", "10", "--io", "uring"]);
    confined::limit(&mut command, libc::RLIMIT_MEMLOCK, 0);
    match Serving::start(&mut command) {
        Ok(serving) => ask(&mut serving.connect(), PING, PONG),
        Err(ended) => assert_refusal(&ended, 78, &["RLIMIT_MEMLOCK (0 KiB)", "LimitMEMLOCK", "ulimit -l"]),
    }
}

#[test]
fn an_address_that_cannot_be_had_is_named_with_its_remedy() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("taken.sock");
    let _taken = std::os::unix::net::UnixListener::bind(&socket).expect("a free path");
    let socket = socket.to_str().expect("text");
    let rows: &[(&[&str], &[&str])] = &[
        (&["--port", &port], &[&port, "another process", "--port"]),
        (&["--port", "0", "--admin-port", &port], &[&port, "another process", "--admin-port"]),
        (&["--port", "0", "--bind", "192.0.2.1"], &["192.0.2.1", "no such address", "--bind"]),
        (&["--port", "0", "--unixsocket", socket], &[socket, "another process", "--unixsocket"]),
        (&["--port", "0", "--unixsocket", "/nowhere/at/all"], &["/nowhere/at/all", "--unixsocket"]),
    ];
    for (arguments, words) in rows {
        assert_refusal(&run(&mut corering(arguments)), 1, words);
    }
}

#[test]
fn a_bad_setting_is_named_with_what_is_accepted() {
    // The key, the value, and what the line says is accepted.
    let rows: &[(&str, &str, &str)] = &[
        ("port", "70000", "0 to 65535"),
        ("port", "http", "0 to 65535"),
        ("bind", "localhost:6379", "IP address"),
        ("unixsocketperm", "999", "octal"),
        ("tcp-keepalive", "soon", "10s"),
        ("maxclients", "0", "1 to 1000000"),
        ("workers", "-1", "0 to 1024"),
        ("cpus", "a-b", "0,2-5"),
        ("cpus", "numa:x", "numa:0"),
        ("cpus", "one-per-thread", "one-per-core"),
        ("scheduler", "fifo:0", "fifo:10"),
        ("scheduler", "idle", "batch"),
        ("busy-poll", "-1", "0 to 1000000"),
        ("napi-busy-poll", "1s", "0 to 1000000"),
        ("napi-prefer-busy-poll", "2", "yes"),
        ("ring-submissions", "4", "8 to 32768"),
        ("ring-completions", "100000", "16 to 65536"),
        ("ring-buffers", "65536", "8 to 32768"),
        ("ring-buffer-bytes", "100", "512 to 1MiB"),
        ("tcp-backlog", "0", "1 to 65535"),
        ("tick-hop-requests", "0", "1 to 1000000"),
        ("hop-replies", "1", "32 to 65536"),
        ("large-value-bytes", "1mb", "1KiB to 16KiB"),
        ("lock-memory", "some", "yes"),
        ("pin", "perhaps", "yes"),
        ("maxmemory", "12parsecs", "512mb"),
        ("maxmemory", "120%", "100%"),
        ("maxmemory-policy", "lru", "allkeys-lru"),
        ("proto-max-bulk-len", "1kb", "1MiB"),
        ("loglevel", "loud", "notice"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("corering.toml");
    let path = file.to_str().expect("text");
    for (key, value, accepted) in rows {
        let flag = format!("--{key}");
        assert_refusal(&run(&mut corering(&[&flag, value])), 2, &[&flag, value, accepted]);

        let variable = format!("CORERING_{}", key.to_uppercase().replace('-', "_"));
        let mut command = corering(&[]);
        assert_refusal(&run(command.env(&variable, value)), 2, &[&variable, value, accepted]);

        std::fs::write(&file, format!("{key} = \"{value}\"\n")).expect("our file");
        assert_refusal(&run(&mut corering(&["--config", path])), 2, &[path, key, value, accepted]);
    }
    let contradiction = run(&mut corering(&["--output-soft-limit", "2gb", "--output-hard-limit", "1gb"]));
    assert_refusal(&contradiction, 2, &["output-hard-limit", "output-soft-limit", "raise"]);
    let ended = run(&mut corering(&["--cluster-process", "a"]));
    assert_refusal(&ended, 2, &["cluster-process", "set cluster-map"]);
    let ended = run(&mut corering(&["--admin-port", "9180", "--admin-bind", ""]));
    assert_refusal(&ended, 2, &["admin-bind", "admin-port"]);
}

#[test]
fn a_settings_file_that_cannot_be_taken_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("corering.toml");
    let path = file.to_str().expect("text");
    let absent = folder.path().join("absent.toml");
    assert_refusal(&run(corering(&[]).env("CORERING_CONFIG", &absent)), 2, &["absent.toml", "cannot be read"]);
    let rows: &[(&[u8], &[&str])] = &[
        (b"portt = 1\n", &["portt", "no setting", "did you mean port?"]),
        (b"colour = 1\n", &["colour", "no setting", "corering config"]),
        (b"port = 7000\n[server\nworkers = 1\n", &["line 2"]),
        (b"port = \n", &["line 1"]),
        (b"port = 1\nport = 2\n", &["line 2", "duplicate"]),
        (b"[port]\nnumber = 1\n", &["port", "table"]),
        (b"port = 1.5\n", &["port"]),
        (b"\xff\xfe", &["cannot be read"]),
    ];
    for (text, words) in rows {
        std::fs::write(&file, text).expect("our file");
        let ended = run(&mut corering(&["--config", path]));
        assert_refusal(&ended, 2, &[&[path], *words].concat());
    }
}

#[test]
fn cpus_that_the_process_may_not_use_are_refused() {
    let ended = run(&mut corering(&["--port", "0", "--cpus", "4000"]));
    assert_refusal(&ended, 2, &["cpus", "[4000]", "may use"]);
}

/// A field of a thread's status.
fn status(path: &str, field: &str) -> String {
    let text = std::fs::read_to_string(path).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("{field}: {text}"));
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn the_control_thread_has_its_cpu() {
    let cpu = corering::topology::usable_cpus()[0].to_string();
    let serving = Serving::start(&mut corering(&["--port", "0", "--workers", "1", "--control-cpu", &cpu]));
    let serving = serving.expect("it starts");
    let tasks = format!("/proc/{}/task", serving.process.id());
    let is_it = |task: std::fs::DirEntry| {
        let path = task.path().join("status").display().to_string();
        status(&path, "Name") == "control" && status(&path, "Cpus_allowed_list") == cpu
    };
    // A thread gives itself its name, perhaps a moment after the server is ready.
    let start = std::time::Instant::now();
    while !std::fs::read_dir(&tasks).expect("it runs").flatten().any(is_it) {
        assert!(start.elapsed() < process::PATIENCE, "no control thread on CPU {cpu}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_refusal(&run(&mut corering(&["--port", "0", "--control-cpu", "4000"])), 2, &["[4000]", "may use"]);
}

#[test]
fn the_settings_are_printed_as_a_file_that_reads_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("corering.toml");
    let path = file.to_str().expect("text");
    let printed = run(corering(&["config", "--port", "7001"]).env("CORERING_MAXMEMORY", "64mb"));
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    assert!(printed.out.contains("\nport = 7001\n") && printed.out.contains("\nmaxmemory = 67108864\n"));
    std::fs::write(&file, &printed.out).expect("our file");
    assert_eq!(run(&mut corering(&["config", "--config", path])).out, printed.out);
    // A flag is above the environment, which is above the file.
    let layered = run(corering(&["config", "--config", path, "--port", "7003"]).env("CORERING_PORT", "7002"));
    assert!(layered.out.contains("\nport = 7003\n"), "{}", layered.out);
}

/// Stores a large value and asks for it many times over, so that replies are under way for as long as nobody reads.
fn ask_for_much(serving: &Serving) -> (TcpStream, usize) {
    const VALUE_BYTES: usize = 4 << 20;
    const TIMES: usize = 8;
    let mut stream = serving.connect();
    let header = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${VALUE_BYTES}\r\n");
    let set = [header.as_bytes(), &vec![b'v'; VALUE_BYTES], b"\r\n"].concat();
    ask(&mut stream, &set, b"+OK\r\n");
    stream.write_all(&b"GET big\r\n".repeat(TIMES)).expect("it reads");
    // The first bytes of the first reply: everything before has been received.
    stream.peek(&mut [0]).expect("it answers");
    let reply_bytes = format!("${VALUE_BYTES}\r\n").len() + VALUE_BYTES + 2;
    (stream, TIMES * reply_bytes)
}

#[test]
fn asked_to_end_it_answers_what_it_has_received() {
    let mut serving = Serving::start(&mut corering(&["--port", "0", "--workers", "2"])).expect("it starts");
    let (mut busy, expected) = ask_for_much(&serving);
    let mut idle = serving.connect();
    ask(&mut idle, PING, PONG);
    let mut halfway = serving.connect();
    halfway.write_all(b"*2\r\n$3\r\nGET\r\n").expect("it reads");
    serving.process.terminate();
    // Clients that wait for nothing are closed; the busy one gets all of its replies first.
    for stream in [&mut idle, &mut halfway] {
        assert_eq!(stream.read(&mut [0]).expect("closed in order"), 0);
    }
    assert!(!serving.process.has_ended());
    let mut all = Vec::new();
    busy.read_to_end(&mut all).expect("answered and closed in order");
    assert_eq!(all.len(), expected);
    assert_eq!(serving.process.wait().code(), Some(0));
}

#[test]
fn it_ends_when_asked_to_though_nobody_reads_its_log() {
    let mut serving = Serving::start(&mut corering(&["--port", "0", "--workers", "1"])).expect("it serves");
    serving.close_log();
    ask(&mut serving.connect(), b"PING\r\n", b"+PONG\r\n");
    serving.process.terminate();
    assert_eq!(serving.process.wait().code(), Some(0));
}

#[test]
fn asked_twice_it_ends_at_once() {
    let mut serving = Serving::start(&mut corering(&["--port", "0", "--workers", "1"])).expect("it starts");
    let (_busy, _) = ask_for_much(&serving);
    serving.process.terminate();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!serving.process.has_ended(), "it drops a client that was not done");
    serving.process.terminate();
    assert_eq!(serving.process.wait().code(), Some(0));
}
