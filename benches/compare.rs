//! How does Corering stand beside other servers, and beside the least that a server can do?
//!
//! `cargo bench --bench compare -- [--rows C32,P16,memory] [--rounds N] [--window-ms MS] [--peer NAME=COMMAND] [--json
//! FILE]`
//!
//! Servers: Corering with one worker; once more without spinning where it has little to do (a worker that spins buys
//! latency with an otherwise idle CPU, which counts here); its echo floor (the same ring with a fixed reply, no parse,
//! no look-up); two workers, by the port that serves every key (half of the requests hop) and by each worker's own
//! (none does); and redis-server, valkey-server and memcached where they are installed. Over HTTP (the row H64):
//! Corering, nginx with files of the same size, and webdis in front of a redis-server, of which both count. Further
//! ones by `--peer`, with `{port}` in the command, `NAME:memcache=COMMAND` for one that speaks memcached's protocol,
//! `NAME:cluster=COMMAND` for a cluster. All are up at once, on CPU 0, each with one thread; the load comes from CPU 1,
//! spins, and checks every reply. The method is that of `side/rounds.rs`: figures move with the host, ratios of CPU
//! time, throughput and the median hardly do. A difference below 8 % is not resolved. Where the table says `~` the run
//! does not resolve the ratio, and gives none: mostly those of p99 and p99.9 on a shared host. Up to three times as
//! many rounds are made as are to count.
//!
//! Three rows run only when `--rows` names them: OLhalf (half of what redis-server can do; shorter windows suit it),
//! P16-10M (some gigabytes) and B1M (longer windows).
//! Memory is what is resident beyond an empty server: with a million items, less their keys and values, and with 10,000
//! idle connections, each of which has asked once.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use corering::load::cpu::resident_bytes;
use corering::load::plan::{Operation, Protocol, Rate};
use corering::load::sizes::Sizes;
use corering::load::{Plan, measure, report};
use serde::Serialize;
use tempfile::TempDir;

#[path = "side/distance.rs"]
mod distance;
#[path = "side/echo.rs"]
mod echo;
#[path = "side/rounds.rs"]
mod rounds;
#[path = "side/server.rs"]
mod server;
#[path = "side/spread.rs"]
mod spread;

use rounds::{Entrant, FIGURES, Figure, Method, Rounds, SERVER_CPU, WORKLOADS, Workload};
use server::{Peer, Running};

/// Name, program, protocol, and its command: one thread, everything in memory, room for many clients.
const KNOWN: [(&str, &str, Protocol, &str); 3] = [
    ("redis", "redis-server", Protocol::Resp2, "--port {port} --save '' --appendonly no --maxclients 20000"),
    ("valkey", "valkey-server", Protocol::Resp2, "--port {port} --save '' --appendonly no --maxclients 20000"),
    ("memcached", "memcached", Protocol::Memcache, "-l 127.0.0.1 -p {port} -t 1 -c 20000 -m 4096 -u root"),
];

/// One process that does the work, as people set it up for files that do not change.
const NGINX: &str = "d={folder}/{port}; mkdir -p $d; cat >$d/conf <<'END'
daemon off; user root; worker_processes 1; error_log /dev/null; pid pid;
events { worker_connections 20000; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  open_file_cache max=20000; open_file_cache_valid 600s;
  server { listen 127.0.0.1:{port}; root files; location / { dav_methods PUT; create_full_put_path on; } }
}
END
exec nginx -p $d -c conf";

/// A gateway over HTTP, and the server behind it.
const WEBDIS: &str = r#"d={folder}/{port}; mkdir -p $d; behind=$(({port} + 1)); cat >$d/conf <<END
{ "redis_host": "127.0.0.1", "redis_port": $behind, "http_host": "127.0.0.1", "http_port": {port}, "threads": 1,
  "pool_size": 1, "daemonize": false, "websockets": false, "verbosity": 0, "logfile": "/dev/null" }
END
redis-server --port $behind --save '' --appendonly no & exec webdis $d/conf"#;

/// Workloads that leave a server idle for much of the time.
const HAS_ROOM: [&str; 3] = ["1conn", "OL20", "OLhalf"];

/// Workloads that take gigabytes or say less than they take time.
const ON_REQUEST: [&str; 3] = ["OLhalf", "P16-10M", "B1M"];

/// Workloads that show what a second worker costs.
const SHOWS_HOPS: [&str; 2] = ["C32", "P16"];

const ITEMS: u64 = 1_000_000;
const KEY_BYTES: usize = 16;

/// Rows about memory: name, bytes of a value, whether items expire.
const ITEM_ROWS: [(&str, u32, bool); 3] = [("32 B", 32, false), ("32 B + TTL", 32, true), ("200 B", 200, false)];

const IDLE_CONNECTIONS: usize = 10_000;

struct Options {
    method: Method,
    workloads: Vec<Workload>,
    has_memory: bool,
    entrants: Vec<Entrant>,
    json: Option<PathBuf>,
    /// For servers that want files.
    folder: TempDir,
}

fn main() {
    echo::serve_if_asked();
    let options = Options::read(std::env::args().skip(1)).map_err(|what| (what, 2));
    if let Err((what, code)) = options.and_then(|options| compare(&options).map_err(|what| (what, 1))) {
        eprintln!("compare: {what}");
        std::process::exit(code);
    }
}

fn usual() -> impl Iterator<Item = Workload> {
    WORKLOADS.into_iter().filter(|workload| !ON_REQUEST.contains(&workload.name))
}

fn compare(options: &Options) -> Result<(), String> {
    corering::listen::raise_descriptor_limit(IDLE_CONNECTIONS as u32);
    let (workloads, entrants) = (&options.workloads[..], &options.entrants[..]);
    let mut document = Document::new();
    if !workloads.is_empty() {
        let rounds = rounds::rotate(options.method, workloads, entrants)?;
        println!("{}", rounds::table(&rounds, workloads, entrants));
        println!("{}", summary(&rounds, workloads, entrants));
        document.basis = rounds.basis();
        document.cache_line_trips = rounds.trips.clone();
        document.add(&rounds, workloads, entrants);
    }
    if options.has_memory {
        // Who takes part in everything.
        let entrants = entrants
            .iter()
            .filter(|entrant| entrant.protocol != Protocol::Http && usual().all(|workload| (entrant.suits)(&workload)));
        document.memory = entrants.map(Memory::measure).collect::<Result<_, _>>()?;
        println!("{}", memory_table(&document.memory));
    }
    println!("{}, {}, windows of {:?}", document.host, document.date, options.method.window);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&document).expect("plain values");
        std::fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Server CPU per request in Markdown.
fn summary(rounds: &Rounds, workloads: &[Workload], entrants: &[Entrant]) -> String {
    let heads: String = workloads.iter().map(|workload| format!(" {} |", workload.name)).collect();
    let mut text = format!("| server CPU per request, µs |{heads}\n|---|{}\n", "--:|".repeat(workloads.len()));
    for (number, entrant) in entrants.iter().enumerate() {
        text += &format!("| {} |", entrant.peer.name);
        for row in 0..workloads.len() {
            text += &match rounds.figure(row, number, 0) {
                Some(Figure { value, .. }) if rounds.first(row) == Some(number) => format!(" {:.2} |", value.median),
                Some(Figure { value, is_resolved: false, .. }) => format!(" {:.2} (~) |", value.median),
                Some(Figure { value, ratio, .. }) => format!(" {:.2} ({:.2}) |", value.median, ratio.median),
                None => " – |".to_owned(),
            };
        }
        text.push('\n');
    }
    text
}

fn memory_table(memory: &[Memory]) -> String {
    let heads: String = ITEM_ROWS.iter().map(|(name, ..)| format!(" {name} |")).collect();
    let mut text = format!("| bytes per item beyond key and value |{heads} idle connection |\n|---|--:|--:|--:|--:|\n");
    for Memory { server, item_bytes, idle_connection_bytes } in memory {
        let cells: String = item_bytes.iter().map(|bytes| format!(" {bytes:.0} |")).collect();
        text += &format!("| {server} |{cells} {idle_connection_bytes:.0} |\n");
    }
    text
}

/// What a server holds.
#[derive(Debug, Serialize)]
struct Memory {
    server: String,
    /// For each of [`ITEM_ROWS`], resident bytes beyond key and value.
    item_bytes: Vec<f64>,
    idle_connection_bytes: f64,
}

impl Memory {
    fn measure(entrant: &Entrant) -> Result<Self, String> {
        let item_bytes = ITEM_ROWS.iter().map(|(_, value_bytes, expires)| item_bytes(entrant, *value_bytes, *expires));
        Ok(Self {
            server: entrant.peer.name.clone(),
            item_bytes: item_bytes.collect::<Result<_, _>>()?,
            idle_connection_bytes: idle_connection_bytes(&entrant.peer)?,
        })
    }
}

fn resident(server: &Running) -> Result<f64, String> {
    let bytes = resident_bytes(server.pid()).ok_or("a server has ended")?;
    Ok(bytes as f64)
}

fn item_bytes(entrant: &Entrant, value_bytes: u32, expires: bool) -> Result<f64, String> {
    let server = entrant.peer.start(SERVER_CPU)?;
    let empty = resident(&server)?;
    let plan = Plan {
        protocol: entrant.protocol,
        keys: ITEMS,
        key_bytes: KEY_BYTES,
        value_sizes: Sizes::Fixed(value_bytes),
        ttl: Duration::from_secs(3600),
        // A mix of nothing else decides how the keys are written first.
        mix: vec![(if expires { Operation::SetExpiring } else { Operation::Set }, 1)],
        rate: Rate::Max,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(50),
        ..Plan::default()
    };
    measure(&plan, &server.target(), None, |_| ()).map_err(|error| format!("{}: {error}", entrant.peer.name))?;
    let own = KEY_BYTES as f64 + f64::from(value_bytes);
    Ok((resident(&server)? - empty) / ITEMS as f64 - own)
}

fn idle_connection_bytes(peer: &Peer) -> Result<f64, String> {
    let server = peer.start(SERVER_CPU)?;
    let empty = resident(&server)?;
    let connect = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // RESP (inline) and memcached's protocol both know this line, and answer with one.
        stream.write_all(b"get key\r\n")?;
        let mut reply = [0; 64];
        let len = stream.read(&mut reply)?;
        if reply[..len].ends_with(b"\r\n") { Ok(stream) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    };
    let failed = |error| format!("{}: a connection of {IDLE_CONNECTIONS} failed: {error}; see `ulimit -n`", peer.name);
    let connections: Vec<TcpStream> =
        (0..IDLE_CONNECTIONS).map(|_| connect()).collect::<Result<_, _>>().map_err(failed)?;
    Ok((resident(&server)? - empty) / connections.len() as f64)
}

/// A file that can be written: to find that out at the end would lose what was measured.
fn writable(path: PathBuf) -> Result<PathBuf, String> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    opened.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// Everything, for programs.
#[derive(Serialize)]
struct Document {
    host: String,
    date: String,
    basis: String,
    cache_line_trips: Vec<rounds::Trip>,
    rows: Vec<DocumentRow>,
    memory: Vec<Memory>,
}

#[derive(Serialize)]
struct DocumentRow {
    workload: &'static str,
    server: String,
    figure: &'static str,
    #[serde(flatten)]
    found: Figure,
}

impl Document {
    fn new() -> Self {
        Self {
            host: report::host(),
            date: report::date(),
            basis: String::new(),
            cache_line_trips: Vec::new(),
            rows: Vec::new(),
            memory: Vec::new(),
        }
    }

    fn add(&mut self, rounds: &Rounds, workloads: &[Workload], entrants: &[Entrant]) {
        for (row, workload) in workloads.iter().enumerate() {
            for (number, entrant) in entrants.iter().enumerate() {
                for (index, figure) in FIGURES.into_iter().enumerate() {
                    let Some(found) = rounds.figure(row, number, index) else { continue };
                    self.rows.push(DocumentRow {
                        workload: workload.name,
                        server: entrant.peer.name.clone(),
                        figure,
                        found,
                    });
                }
            }
        }
    }
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let corering = format!("'{}' --port {{port}} --workers 1 --maxclients 20000", env!("CARGO_BIN_EXE_corering"));
        let asleep = format!("{corering} --spin 0");
        let two = corering.replace("--workers 1", "--workers 2");
        let cores = two.replace("--port", "--cluster-mode cores --port 0 --core-port-base");
        let mut options = Self {
            method: Method { rounds: 44, window: Duration::from_millis(100) },
            workloads: usual().collect(),
            has_memory: true,
            entrants: vec![
                Entrant::new(Peer::new("corering", &corering), Protocol::Resp2),
                Entrant {
                    suits: |workload| HAS_ROOM.contains(&workload.name),
                    ..Entrant::new(Peer::new("with --spin 0", asleep), Protocol::Resp2)
                },
                echo::entrant("echo floor", "ring"),
                Entrant {
                    suits: |workload| SHOWS_HOPS.contains(&workload.name),
                    ..Entrant::new(Peer::new("two, hopping", two), Protocol::Resp2)
                },
                Entrant {
                    suits: |workload| SHOWS_HOPS.contains(&workload.name),
                    is_cluster: true,
                    ..Entrant::new(Peer::new("two, by core", cores), Protocol::Resp2)
                },
            ],
            json: None,
            folder: tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?,
        };
        options.add_other_fronts();
        for (name, program, protocol, arguments) in KNOWN {
            if is_installed(program) {
                let peer = Peer::new(name, format!("{program} {arguments}"));
                // An item of memcached's is smaller than 1 MiB.
                let suits: fn(&Workload) -> bool = match protocol {
                    Protocol::Memcache => |workload| workload.name != "B1M",
                    _ => |_| true,
                };
                options.entrants.push(Entrant { suits, ..Entrant::new(peer, protocol) });
            }
        }
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                // Given by `cargo bench`.
                "--bench" => {}
                "--rounds" => options.method.rounds = number(&value()?, 3..=1000)?,
                "--window-ms" => options.method.window = Duration::from_millis(number(&value()?, 50..=10_000)?),
                "--json" => options.json = Some(writable(value()?.into())?),
                "--rows" => options.choose(&value()?)?,
                "--peer" => options.entrants.push(entrant(&value()?)?),
                _ => return Err(format!("{word:?} is no option; the head of benches/compare.rs lists them")),
            }
        }
        options.workloads.iter().try_for_each(|workload| workload.yardstick(&options.entrants).map(drop))?;
        Ok(options)
    }

    /// Corering's other protocols, and who else speaks HTTP.
    fn add_other_fronts(&mut self) {
        let corering = format!("'{}' --port 0 --workers 1 --maxclients 20000", env!("CARGO_BIN_EXE_corering"));
        self.entrants.push(Entrant {
            suits: |workload| SHOWS_HOPS.contains(&workload.name),
            ..Entrant::new(
                Peer::new("by memcached's", format!("{corering} --memcache-port {{port}}")),
                Protocol::Memcache,
            )
        });
        let http = Peer::new("corering, HTTP", format!("{corering} --http-port {{port}}"));
        self.entrants.push(Entrant::new(http, Protocol::Http));
        let folder = self.folder.path().display().to_string();
        let script =
            |name, text: &str| Entrant::new(Peer::script(name, text.replace("{folder}", &folder)), Protocol::Http);
        if is_installed("nginx") {
            self.entrants.push(script("nginx", NGINX));
        }
        if is_installed("webdis") && is_installed("redis-server") {
            let webdis = script("webdis and redis", WEBDIS);
            self.entrants.push(Entrant { http_path: ("/GET/", ".txt"), is_gateway: true, ..webdis });
        }
    }

    fn choose(&mut self, names: &str) -> Result<(), String> {
        self.workloads.clear();
        self.has_memory = false;
        for name in names.split(',') {
            match WORKLOADS.iter().find(|workload| workload.name == name) {
                Some(workload) => self.workloads.push(*workload),
                None if name == "memory" => self.has_memory = true,
                None => {
                    let known = WORKLOADS.map(|workload| workload.name).join(", ");
                    return Err(format!("--rows: {name:?} is no row; there are {known}, memory"));
                }
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, String> {
    let found = text.parse().ok().filter(|number| range.contains(number));
    found.ok_or_else(|| format!("{text:?} is no number from {} to {}", range.start(), range.end()))
}

fn entrant(text: &str) -> Result<Entrant, String> {
    let (name, command) = text.split_once('=').ok_or_else(|| format!("--peer: {text:?} has no NAME="))?;
    if !command.contains("{port}") {
        return Err(format!("--peer: {command:?} has no {{port}}, where the server shall listen"));
    }
    match name.split_once(':') {
        None => Ok(Entrant::new(Peer::new(name, command), Protocol::Resp2)),
        Some((name, "cluster")) => {
            Ok(Entrant { is_cluster: true, ..Entrant::new(Peer::new(name, command), Protocol::Resp2) })
        }
        Some((name, "memcache")) => Ok(Entrant::new(Peer::new(name, command), Protocol::Memcache)),
        Some((_, protocol)) => {
            Err(format!("--peer: {protocol:?} is no protocol; write memcache, cluster, or nothing for RESP"))
        }
    }
}

/// Whether a program is in the PATH.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
