//! A stall made on purpose in each stage of a request, and the stage that is blamed for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::observed::{Client, Observed};

const OPTIONS: &[&str] =
    &["--stage-sampling", "1", "--slowlog-log-slower-than", "50000", "--latency-monitor-threshold", "50"];

/// An entry of the slow log: stage, milliseconds, arguments.
type Entry = (String, u64, Vec<String>);

fn text(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Int(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn slow_log(client: &mut Client) -> Vec<Entry> {
    let reply = redis::cmd("SLOWLOG").arg("GET").arg(-1).arg("STAGES").query(&mut client.0).expect("an array");
    let redis::Value::Array(entries) = reply else { panic!("{reply:?}") };
    let entry = |entry: &redis::Value| {
        let redis::Value::Array(fields) = entry else { panic!("{entry:?}") };
        let redis::Value::Array(arguments) = &fields[3] else { panic!("{entry:?}") };
        let us: u64 = text(&fields[2]).parse().expect("a number");
        (text(&fields[6]), us / 1000, arguments.iter().map(text).collect())
    };
    entries.iter().map(entry).collect()
}

/// The slow log has a request that was slow in this stage for at least so long; and so does the histogram, unless this
/// stage's event is not timed there; and so does `LATENCY`.
#[track_caller]
fn assert_blamed(client: &mut Client, stage: &str, event: &str, ms: u64, argument: &str) {
    let entries = slow_log(client);
    let is_it = |(found, took, arguments): &Entry| {
        found == stage && *took >= ms && arguments.iter().any(|given| given == argument)
    };
    assert!(entries.iter().any(is_it), "{stage} {ms} ms: {entries:?}");
    let times = client.info(&format!("stage_{stage}"));
    let slowest = times.rsplit_once("p99.9=").and_then(|(_, us)| us.parse::<f64>().ok()).unwrap_or_default();
    assert!(slowest >= ms as f64 * 1000.0, "{stage} {ms} ms: {times}");
    let latest = client.ask("LATENCY LATEST");
    assert!(latest.contains(&format!("bulk-string('\"{event}\"')")), "{event}: {latest}");
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn write(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).expect("it reads");
}

fn read_line(stream: &mut TcpStream) {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a reply");
        line.push(byte[0]);
    }
}

#[test]
fn a_slow_command_is_blamed_on_its_execution() {
    let observed = Observed::start(&[OPTIONS, &["--workers", "1"]].concat());
    let mut client = observed.client();
    client.ask("DEBUG SLEEP 0.2");
    assert_blamed(&mut client, "execute", "command", 200, "0.2");
    let plain = client.ask("SLOWLOG GET");
    assert!(plain.contains("DEBUG") && !plain.contains("stage"), "as from Redis: {plain}");
    assert!(observed.metrics()["corering_stage_seconds_count{stage=\"execute\"}"] >= 1.0);
}

#[test]
fn a_request_in_pieces_is_counted_once() {
    const PIECES: usize = 20;
    for sampling in [1, 4] {
        let observed = Observed::start(&[OPTIONS, &["--workers", "1"]].concat());
        observed.client().ask(&format!("CONFIG SET stage-sampling {sampling}"));
        pieces_are_counted_once(&observed, PIECES, sampling);
    }
}

/// Requests in pieces count as many times as one in so many stands for.
#[track_caller]
fn pieces_are_counted_once(observed: &Observed, pieces: usize, sampling: usize) {
    const REQUESTS: usize = 4;
    let queued = || observed.metrics().get("corering_stage_seconds_count{stage=\"queue\"}").copied().unwrap_or(0.0);
    let before = queued();
    let mut client = observed.serving.connect();
    for _ in 0..REQUESTS {
        write(&mut client, &format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${}\r\n", pieces * 100));
        for _ in 0..pieces {
            pause(5);
            write(&mut client, &"x".repeat(100));
        }
        write(&mut client, "\r\n");
        read_line(&mut client);
    }
    let counted = queued() - before;
    let most = (REQUESTS + sampling) as f64;
    assert!((1.0..=most).contains(&counted), "{counted} of {REQUESTS} in {pieces} pieces, one in {sampling}");
}

#[test]
fn a_request_of_very_many_arguments_is_blamed_on_its_parsing() {
    const ARGUMENTS: usize = 1_000_000;
    let options = ["--stage-sampling", "1", "--slowlog-log-slower-than", "1000", "--latency-monitor-threshold", "1"];
    let observed = Observed::start(&[&options[..], &["--workers", "1"]].concat());
    let mut client = observed.serving.connect();
    // A request that arrives in many pieces is timed from its beginning to its end.
    let request = format!("*{ARGUMENTS}\r\n$6\r\nEXISTS\r\n{}", "$1\r\nx\r\n".repeat(ARGUMENTS - 1));
    write(&mut client, &request);
    read_line(&mut client);
    pause(50);
    assert_blamed(&mut observed.client(), "parse", "stage-parse", 2, "exists");
}

#[test]
fn a_blocked_core_is_blamed_on_the_socket_of_its_clients() {
    let observed = Observed::start(&[OPTIONS, &["--workers", "1"]].concat());
    let (mut blocker, mut waiting) = (observed.serving.connect(), observed.client());
    waiting.ask("PING");
    write(&mut blocker, "DEBUG SLEEP 0.4\r\n");
    pause(100);
    waiting.ask("GET waiting");
    assert_blamed(&mut waiting, "socket", "stage-socket", 200, "waiting");
    let plain = waiting.ask("SLOWLOG GET");
    assert!(plain.contains("(stage: socket)"), "{plain}");
}

#[test]
fn arrivals_are_stamped_on_one_connection_in_so_many() {
    const REQUESTS: usize = 5;
    for (sampling, stamped) in [(4, 2), (100, 0)] {
        let observed = Observed::start(&["--workers", "1", "--stage-sampling", &sampling.to_string()]);
        let mut clients: Vec<TcpStream> = (0..8).map(|_| observed.serving.connect()).collect();
        let mut ask = |what: &str| {
            for client in &mut clients {
                write(client, what);
                read_line(client);
            }
        };
        ask("PING\r\n");
        // The kernel begins to stamp a moment after it was asked to.
        pause(200);
        observed.client().ask("CONFIG RESETSTAT");
        (0..REQUESTS).for_each(|_| ask("GET key\r\n"));
        let count = observed.metrics().get("corering_stage_seconds_count{stage=\"socket\"}").copied().unwrap_or(0.0);
        // Each stands for as many as there are connections to a stamped one.
        assert_eq!(count, (stamped * REQUESTS * sampling) as f64, "one connection in {sampling}");
    }
}

/// Stops the server; all of its threads have stopped when this returns.
fn stop(observed: &Observed) {
    let process = &observed.serving.process;
    process.signal(Signal::STOP);
    let pid = Pid::from_raw(process.id() as i32);
    let stopped = waitpid(pid, WaitOptions::UNTRACED).expect("our child");
    assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it ended instead");
}

#[test]
fn a_cpu_taken_away_is_blamed_on_the_socket() {
    let observed = Observed::start(&[OPTIONS, &["--workers", "1"]].concat());
    let mut client = observed.serving.connect();
    write(&mut client, "PING\r\n");
    read_line(&mut client);
    // The kernel begins to stamp a moment after it was asked to.
    pause(200);
    stop(&observed);
    write(&mut client, "GET waiting\r\n");
    pause(300);
    observed.serving.process.signal(Signal::CONT);
    read_line(&mut client);
    assert_blamed(&mut observed.client(), "socket", "stage-socket", 250, "waiting");
}

#[test]
fn a_blocked_core_is_blamed_on_the_hop_by_clients_of_others() {
    let observed = Observed::start(&[OPTIONS, &["--workers", "2"]].concat());
    let mut blocker = observed.serving.connect();
    let mut others: Vec<TcpStream> = (0..16).map(|_| observed.serving.connect()).collect();
    write(&mut blocker, "DEBUG SLEEP 0.4\r\n");
    pause(100);
    // Keys of either worker, asked for by clients of either worker.
    for stream in &mut others {
        (0..8).for_each(|key| write(stream, &format!("GET {key}\r\n")));
    }
    others.iter_mut().for_each(|stream| (0..8).for_each(|_| read_line(stream)));
    let mut client = observed.client();
    assert_blamed(&mut client, "hop", "stage-hop", 200, "GET");
    let hops = slow_log(&mut client).into_iter().filter(|(stage, ..)| stage == "hop");
    assert!(hops.into_iter().all(|(_, ms, _)| ms < 5000));
}

#[test]
fn a_slow_reader_is_blamed_on_the_send() {
    const VALUE_BYTES: usize = 32 << 20;
    let observed = Observed::start(&[OPTIONS, &["--workers", "1", "--output-hard-limit", "1gb"]].concat());
    observed.client().ask(&format!("SET big {}", "x".repeat(VALUE_BYTES)));
    let mut reader = observed.serving.connect();
    write(&mut reader, "GET big\r\n");
    pause(300);
    reader.read_exact(&mut vec![0; VALUE_BYTES]).expect("the value");
    read_line(&mut reader);
    pause(50);
    assert_blamed(&mut observed.client(), "send", "stage-send", 250, "get");
}

/// A server whose worker has taken up three requests in one turn, the second of which took 900 ms.
fn held_up(sampling: u32) -> Observed {
    let observed = Observed::start(&[OPTIONS, &["--workers", "1"]].concat());
    observed.client().ask(&format!("CONFIG SET stage-sampling {sampling}"));
    let [mut blocker, mut first, mut slow, mut last] = [(); 4].map(|()| observed.serving.connect());
    for stream in [&mut blocker, &mut first, &mut slow, &mut last] {
        write(stream, "PING\r\n");
        read_line(stream);
    }
    // What arrives while the worker is stopped is taken up together, in the order of arrival.
    write(&mut blocker, "DEBUG SLEEP 0.5\r\n");
    pause(60);
    write(&mut first, "GET first\r\n");
    pause(20);
    write(&mut slow, "DEBUG SLEEP 0.9\r\n");
    pause(20);
    write(&mut last, "GET last\r\n");
    [&mut first, &mut slow, &mut last].into_iter().for_each(read_line);
    observed
}

#[test]
fn others_in_the_same_turn_are_blamed_on_queue_and_output() {
    let observed = held_up(1);
    let mut client = observed.client();
    assert_blamed(&mut client, "output", "stage-output", 890, "get");
    assert_blamed(&mut client, "queue", "stage-queue", 890, "last");
}

#[test]
fn a_request_that_no_sample_has_met_is_blamed_on_the_queue() {
    let observed = held_up(100_000);
    let queued: Vec<Entry> =
        slow_log(&mut observed.client()).into_iter().filter(|(stage, ..)| stage == "queue").collect();
    assert!(queued.iter().any(|(_, ms, arguments)| *ms >= 890 && arguments[1] == "last"), "{queued:?}");
    let all = slow_log(&mut observed.client());
    assert!(all.iter().all(|(stage, ..)| stage != "send"), "every client reads: {all:?}");
}

#[test]
fn replies_behind_a_send_that_is_not_timed_are_blamed_on_output_and_send() {
    const VALUE_BYTES: usize = 32 << 20;
    let limits = ["--output-hard-limit", "1gb", "--output-soft-limit", "512mb"];
    let observed = Observed::start(&[OPTIONS, &["--workers", "1"], &limits].concat());
    observed.client().ask(&format!("SET big {}", "x".repeat(VALUE_BYTES)));
    let mut reader = observed.serving.connect();
    // One batch in two is timed: this one, not the next, and again the one after that.
    observed.client().ask("CONFIG SET stage-sampling 2");
    write(&mut reader, "PING\r\n");
    read_line(&mut reader);
    write(&mut reader, "GET big\r\n");
    pause(100);
    write(&mut reader, "STRLEN waiting\r\n");
    pause(300);
    reader.read_exact(&mut vec![0; VALUE_BYTES]).expect("the value");
    (0..2).for_each(|_| read_line(&mut reader));
    pause(50);
    let mut client = observed.client();
    assert_blamed(&mut client, "output", "stage-output", 250, "strlen");
    let sent = slow_log(&mut client).into_iter().any(|(stage, ms, _)| stage == "send" && ms >= 350);
    assert!(sent, "{:?}", slow_log(&mut client));
}

#[test]
fn nothing_is_measured_while_it_is_off() {
    let observed = Observed::start(&["--workers", "1", "--slowlog-log-slower-than", "50000"]);
    let (mut blocker, mut waiting) = (observed.serving.connect(), observed.client());
    write(&mut blocker, "DEBUG SLEEP 0.2\r\n");
    pause(50);
    waiting.ask("GET waiting");
    let stages: Vec<String> = slow_log(&mut waiting).into_iter().map(|(stage, ..)| stage).collect();
    assert_eq!(stages, ["execute"]);
    let info = waiting.ask("INFO stages");
    assert_eq!(info.trim(), "# Stages\r\nstage_sampling:0");
    // Switched on while it runs: from then on.
    waiting.ask("CONFIG SET stage-sampling 1");
    waiting.ask("GET waiting");
    assert!(waiting.info("stage_execute").starts_with("count="), "{}", waiting.ask("INFO stages"));
    waiting.ask("CONFIG SET stage-sampling 0");
    waiting.ask("CONFIG RESETSTAT");
    waiting.ask("GET waiting");
    assert_eq!(waiting.ask("INFO stages").trim(), "# Stages\r\nstage_sampling:0");
}

#[test]
fn each_slow_request_of_a_pipeline_is_in_the_slow_log() {
    let observed = Observed::start(&["--workers", "1", "--slowlog-log-slower-than", "0"]);
    let mut client = observed.client();
    let mut stream = observed.serving.connect();
    write(&mut stream, "GET first\r\nGET second\r\nMGET third fourth\r\n");
    (0..5).for_each(|_| read_line(&mut stream));
    let log: Vec<Vec<String>> = slow_log(&mut client).into_iter().map(|(_, _, arguments)| arguments).collect();
    let gets: Vec<_> = log.iter().filter(|arguments| arguments[0].ends_with("GET")).collect();
    assert_eq!(gets, [&vec!["MGET", "third", "fourth"], &vec!["GET", "second"], &vec!["GET", "first"]]);
}

#[test]
fn slowlog_and_latency_answer_as_in_redis() {
    let observed = Observed::start(&["--workers", "1"]);
    let mut client = observed.client();
    for (command, reply) in [
        ("SLOWLOG LEN", "0"),
        ("CONFIG SET slowlog-log-slower-than 0", "OK"),
        ("SET a 1", "OK"),
        ("CONFIG SET requirepass secret slowlog-max-len 3", "OK"),
        ("AUTH secret", "OK"),
        ("CONFIG SET slowlog-log-slower-than -1 requirepass ", "OK"),
        ("SLOWLOG LEN", "3"),
    ] {
        assert_eq!(client.ask(command), reply, "{command}");
    }
    let log: Vec<Vec<String>> = slow_log(&mut client).into_iter().map(|(_, _, arguments)| arguments).collect();
    // The last change counts from the next request on.
    assert_eq!(
        log,
        [vec!["CONFIG", "SET", "(redacted)"], vec!["AUTH", "(redacted)"], vec!["CONFIG", "SET", "(redacted)"]]
    );
    assert_eq!(client.ask("SLOWLOG GET 0"), "array([])");
    for (command, error) in [
        ("SLOWLOG GET -2", "count should be greater than or equal to -1"),
        ("SLOWLOG GET x", "value is not an integer"),
        ("SLOWLOG GET 1 2", "syntax error"),
        ("SLOWLOG NONSENSE", "unknown subcommand"),
    ] {
        let reply = client.ask(command);
        assert!(reply.contains(error), "{command}: {reply}");
    }
    assert_eq!((client.ask("SLOWLOG RESET"), client.ask("SLOWLOG LEN")), ("OK".to_owned(), "0".to_owned()));

    assert!(client.ask("LATENCY DOCTOR").contains("monitoring is off"));
    client.ask("CONFIG SET latency-monitor-threshold 50");
    client.ask("DEBUG SLEEP 0.1");
    let doctor = client.ask("LATENCY DOCTOR");
    assert!(doctor.contains("command: 1 seconds") && doctor.contains("SLOWLOG GET"), "{doctor}");
    assert!(
        client.ask("LATENCY HISTORY command").starts_with("array([array([int(17"),
        "{}",
        client.ask("LATENCY HISTORY command")
    );
    assert_eq!(client.ask("LATENCY HISTORY nothing"), "array([])");
    assert_eq!(
        (client.ask("LATENCY RESET nothing"), client.ask("LATENCY RESET command")),
        ("0".to_owned(), "1".to_owned())
    );
    client.ask("GET a");
    let histogram = client.ask("LATENCY HISTOGRAM get nonsense");
    assert!(
        histogram.contains("calls") && histogram.contains("histogram_usec") && !histogram.contains("config"),
        "{histogram}"
    );
    assert!(client.info("latency_percentiles_usec_get").starts_with("p50="));
    assert_eq!(client.ask("LATENCY HISTOGRAM nonsense"), "array([])");
}
