//! Settings of cores, rings and sockets, as the kernel sees them once the server runs; or the line that says why not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Serving, corering, run};
use crate::{assert_refusal, confined, installed, status, unprivileged};

/// A server with one worker and these settings, and what the kernel tells of its process.
fn serve(arguments: &[&str]) -> (Serving, PathBuf) {
    let all = [&["--port", "0", "--workers", "1"], arguments].concat();
    let serving = Serving::start(&mut corering(&all)).expect("it starts");
    let process = PathBuf::from(format!("/proc/{}", serving.process.id()));
    (serving, process)
}

/// The folder of the worker's thread.
fn worker(process: &std::path::Path) -> PathBuf {
    let is_worker = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "worker-0\n");
    let mut tasks = fs::read_dir(process.join("task")).expect("it runs").flatten().map(|task| task.path());
    tasks.find(is_worker).expect("a worker")
}

/// Scheduling policy and real-time priority of a thread: proc_pid_stat(5), fields 41 and 40.
fn scheduling(task: &std::path::Path) -> (i32, u32) {
    let text = fs::read_to_string(task.join("stat")).expect("it runs");
    let fields: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    (fields[38].parse().expect("a policy"), fields[37].parse().expect("a priority"))
}

#[test]
fn workers_are_scheduled_as_told() {
    let rows = [("other", libc::SCHED_OTHER, 0), ("batch", libc::SCHED_BATCH, 0)];
    for (name, policy, priority) in rows {
        let (_serving, process) = serve(&["--scheduler", name]);
        assert_eq!(scheduling(&worker(&process)), (policy, priority), "{name}");
    }
    for (name, policy, priority) in [("fifo:3", libc::SCHED_FIFO, 3), ("rr:4", libc::SCHED_RR, 4)] {
        let arguments = ["--port", "0", "--workers", "1", "--scheduler", name];
        match Serving::start(&mut corering(&arguments)) {
            Ok(serving) => {
                let process = PathBuf::from(format!("/proc/{}", serving.process.id()));
                assert_eq!(scheduling(&worker(&process)), (policy, priority), "{name}");
                assert_eq!(scheduling(&process.join("task").join(serving.process.id().to_string())).1, 0);
            }
            Err(ended) => assert_refusal(&ended, 78, &["scheduler", name, "CAP_SYS_NICE"]),
        }
    }
}

#[test]
fn what_needs_a_privilege_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: &[(&[&str], &[&str])] = &[
        (&["--scheduler", "fifo:10"], &["scheduler fifo:10", "CAP_SYS_NICE", "RLIMIT_RTPRIO", "other"]),
        (&["--lock-memory", "yes"], &["lock-memory", "RLIMIT_MEMLOCK", "LimitMEMLOCK=infinity", "CAP_IPC_LOCK"]),
    ];
    for (arguments, words) in rows {
        let all = [&["--port", "0", "--workers", "1", "--maxclients", "10"], *arguments].concat();
        assert_refusal(&run(&mut unprivileged(&folder, &all)), 78, words);
    }
    // A privilege on older kernels only.
    let all = ["--port", "0", "--workers", "1", "--maxclients", "10", "--busy-poll", "50"];
    if let Err(ended) = Serving::start(&mut unprivileged(&folder, &all)) {
        assert_refusal(&ended, 78, &["busy-poll 50", "CAP_NET_ADMIN", "net.core.busy_read"]);
    }
}

#[test]
fn memory_is_locked_as_told() {
    let locked = |process: &std::path::Path| {
        let text = status(process.join("status").to_str().expect("text"), "VmLck");
        text.trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let (_serving, process) = serve(&[]);
    assert!(locked(&process) < 1 << 20, "without it, rings may be locked, and nothing else");
    match Serving::start(&mut corering(&["--port", "0", "--workers", "1", "--lock-memory", "yes"])) {
        Ok(serving) => {
            // What is reserved counts as soon as it is locked, whether or not it is used.
            assert!(locked(&PathBuf::from(format!("/proc/{}", serving.process.id()))) > 1 << 20);
            // Memory comes and goes as before.
            let client = redis::Client::open(("127.0.0.1", serving.port())).expect("an address");
            let mut client = client.get_connection().expect("it listens");
            for _ in 0..3 {
                let fill = redis::cmd("SET").arg("key").arg(vec![7_u8; 4 << 20]).query::<String>(&mut client);
                assert_eq!(fill.as_deref(), Ok("OK"));
                assert_eq!(redis::cmd("DEL").arg("key").query::<u32>(&mut client), Ok(1));
            }
        }
        Err(ended) => assert_refusal(&ended, 78, &["RLIMIT_MEMLOCK"]),
    }
}

#[test]
fn rings_have_the_sizes_that_were_set() {
    let sizes = ["--io", "uring", "--ring-submissions", "64", "--ring-completions", "512"];
    let (_serving, process) = serve(&sizes);
    let links = fs::read_dir(process.join("fd")).expect("it runs").flatten();
    let is_ring =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("io_uring"));
    // The control thread has a ring of its own.
    let masks: Vec<(u32, u32)> = links
        .map(|link| link.path())
        .filter(is_ring)
        .map(|path| {
            let info = process.join("fdinfo").join(path.file_name().expect("a number"));
            let mask = |name: &str| {
                let text = status(info.to_str().expect("text"), name);
                u32::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
            };
            (mask("SqMask"), mask("CqMask"))
        })
        .collect();
    assert!(masks.contains(&(63, 511)), "{masks:?}");
}

#[test]
fn listeners_have_the_backlog_that_was_set() {
    let (serving, _process) = serve(&["--tcp-backlog", "37"]);
    let port = format!(":{}", serving.port());
    let Some(text) = installed::run(Command::new("ss").args(["-Hltn", "sport", "=", &port])) else { return };
    // State, Recv-Q, Send-Q: for a listener, how many wait and how many may.
    let most: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(most, ["37"], "{text}");
}

#[test]
fn more_workers_than_addresses_is_one_line_with_the_remedy() {
    let mut command = corering(&["--port", "0", "--workers", "400", "--maxmemory", "1gb"]);
    confined::limit(&mut command, libc::RLIMIT_AS, 1 << 30);
    assert_refusal(&run(&mut command), 1, &["cannot be set up", "address space", "fewer workers", "ulimit -v"]);
}

/// Each reserves addresses, of which there are 128 TiB for all.
#[test]
fn hundreds_of_workers_share_what_can_be_addressed() {
    let serving = Serving::start(&mut corering(&["--port", "0", "--workers", "400"])).expect("it starts");
    let client = redis::Client::open(("127.0.0.1", serving.port())).expect("an address");
    let mut connection = client.get_connection().expect("it listens");
    let workers: String = redis::cmd("INFO").arg("workers").query(&mut connection).expect("it answers");
    assert_eq!(workers.lines().filter(|line| line.starts_with("worker")).count(), 400, "{workers}");
}

/// What does not fit the address space is evicted like what does not fit the memory, and a client that stores it never
/// ends the server; the line at start says whose limit it is.
#[test]
fn with_a_limit_of_the_address_space_items_are_evicted_within_it() {
    let mut command = corering(&["--port", "0", "--workers", "2", "--maxmemory", "10gb"]);
    confined::limit(&mut command, libc::RLIMIT_AS, 2 << 30);
    let serving = Serving::start(&mut command).expect("it starts");
    for words in ["5116 MiB", "addresses for 240 MiB", "ulimit -v", "LimitAS=", "lower maxmemory"] {
        assert!(serving.warnings.contains(words), "{words}: {}", serving.warnings);
    }
    assert_eq!(serving.warnings.matches("addresses for").count(), 1, "one line: {}", serving.warnings);
    let client = redis::Client::open(("127.0.0.1", serving.port())).expect("an address");
    let mut client = client.get_connection().expect("it listens");
    for (count, bytes) in [(1000, 1_000_000), (80_000, 10_000)] {
        for from in (0..count).step_by(100) {
            let mut batch = redis::pipe();
            (from..from + 100).for_each(|key| _ = batch.set(key, vec![7_u8; bytes]).ignore());
            batch.exec(&mut client).expect("everything is stored");
        }
    }
    let info: String = redis::cmd("INFO").query(&mut client).expect("it answers");
    assert!(!info.contains("evicted_keys:0\r"), "{info}");
}

#[test]
fn cpus_are_chosen_by_rule() {
    let usable = corering::topology::usable_cpus();
    let (serving, _process) = serve(&["--cpus", "one-per-core"]);
    assert!(serving.ready_line.contains(&format!("workers on CPUs [{}]", usable[0])), "{}", serving.ready_line);
    let ended = run(&mut corering(&["--port", "0", "--cpus", "numa:900"]));
    assert_refusal(&ended, 2, &["no NUMA node 900"]);
}

#[test]
fn values_are_large_from_the_size_that_was_set() {
    let (serving, _process) = serve(&[]);
    let client = redis::Client::open(("127.0.0.1", serving.port())).expect("an address");
    let mut client = client.get_connection().expect("it listens");
    let mut memory_of = |size: &str| {
        let mut ask = |words: &[&str]| redis::cmd(words[0]).arg(&words[1..]).exec(&mut client).expect("it answers");
        ask(&["CONFIG", "SET", "large-value-bytes", size]);
        ask(&["DEL", "key"]);
        ask(&["SET", "key", &"x".repeat(4000)]);
        redis::cmd("MEMORY").arg("USAGE").arg("key").query::<u64>(&mut client).expect("it is there")
    };
    let (in_log, own) = (memory_of("16kb"), memory_of("2kb"));
    assert!(in_log < 4100 && own > in_log + 100, "{in_log} {own}");
}
