//! Whoever shares a server with small requests: readers of large values, or writers of many small ones.
//!
//! In: a server that speaks RESP. Out: how much was read or written, in how much time. It goes on in short steps, taken
//! by the thread that also asks for the small values: two threads would wait for each other on their CPU, and that
//! would look like the server. What must stay true: a step takes some microseconds; every reply is checked.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corering::load::items::mix;
use rustix::net::{RecvFlags, recv};

/// A large value's length: ten megabytes.
const LARGE_BYTES: usize = 10_000_000;

/// Connections that fetch large values, each one of its own.
const READERS: usize = 4;

/// What a step of a reader takes: about 5 µs, and no CPU's time for copies, since the kernel drops the bytes.
const STEP_BYTES: usize = 64 << 10;

/// Connections that write, and the requests that each has in flight.
const WRITERS: usize = 2;
const PIPELINE: u64 = 16;

/// New items come in bursts of so many, and then none for so long.
const BURST_ITEMS: u64 = 50_000;
const BURST_PAUSE: Duration = Duration::from_millis(10);

/// Times to live of items in turn, seconds; zero is for ever.
const TTLS: [u64; 4] = [0, 1, 0, 2];

/// The reply to a write, and the replies to all that a writer has in flight.
const OK: &[u8; 5] = b"+OK\r\n";
const REPLIES_BYTES: usize = OK.len() * PIPELINE as usize;

/// A server may take so long for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// A longer time between two steps is none of theirs: nobody was there to take them.
const STEP_MAX: Duration = Duration::from_millis(2);

/// Connections that have something to do in turn.
#[derive(Debug)]
pub(crate) struct Company {
    members: Members,
    turn: usize,
    stepped: Instant,
    /// Bytes of large values that were read, or items that were written.
    pub(crate) done: u64,
    /// In so much time.
    pub(crate) time: Duration,
    /// What a server did wrong; nothing more is asked of it.
    pub(crate) failure: Option<String>,
}

#[derive(Debug)]
enum Members {
    Readers(Vec<Reader>),
    Writers(Vec<Writer>, Bursts),
}

impl Company {
    fn new(members: Members) -> Self {
        Self { members, turn: 0, stepped: Instant::now(), done: 0, time: Duration::ZERO, failure: None }
    }

    /// Readers of the values that [`store_large`] has written.
    ///
    /// # Errors
    /// The server takes no connections.
    pub(crate) fn readers(port: u16) -> Result<Self, String> {
        (0..READERS)
            .map(|number| Reader::new(port, number))
            .collect::<Result<_, _>>()
            .map(Members::Readers)
            .map(Self::new)
    }

    /// Writers of new items.
    ///
    /// # Errors
    /// The server takes no connections.
    pub(crate) fn writers(port: u16) -> Result<Self, String> {
        let writers = (0..WRITERS).map(|_| Ok(Writer { stream: connect(port)?, awaited: 0 }));
        let bursts = Bursts { next: 0, ends: BURST_ITEMS, resumes: Instant::now(), text: String::new() };
        Ok(Self::new(Members::Writers(writers.collect::<Result<_, String>>()?, bursts)))
    }

    /// One of them goes on as far as it can without waiting.
    pub(crate) fn step(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let now = Instant::now();
        let since = now - self.stepped;
        self.time += if since < STEP_MAX { since } else { Duration::ZERO };
        self.stepped = now;
        self.turn += 1;
        let done = match &mut self.members {
            Members::Readers(readers) => {
                let turn = self.turn % readers.len();
                readers[turn].step()
            }
            Members::Writers(writers, bursts) => {
                let turn = self.turn % writers.len();
                writers[turn].step(bursts, now)
            }
        };
        match done {
            Ok(done) => self.done += done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.failure = Some(error.to_string()),
        }
    }
}

/// Fetches one large value back to back.
#[derive(Debug)]
struct Reader {
    stream: TcpStream,
    request: Vec<u8>,
    head: Vec<u8>,
    /// Bytes of the reply that have come.
    come: usize,
    /// What the kernel does not fill.
    dropped: Vec<u8>,
}

impl Reader {
    fn new(port: u16, number: usize) -> Result<Self, String> {
        let mut stream = connect(port)?;
        let request = get_large(number);
        stream.write_all(&request).map_err(|error| lost(&error))?;
        Ok(Self { stream, request, head: large_head(), come: 0, dropped: vec![0; STEP_BYTES] })
    }

    /// Bytes of the value that have come.
    fn step(&mut self) -> io::Result<u64> {
        let body = self.head.len()..self.head.len() + LARGE_BYTES;
        if body.contains(&self.come) {
            let most = STEP_BYTES.min(body.end - self.come);
            let (_, len) = recv(&self.stream, &mut self.dropped[..most], RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
            self.come += some(len)?;
            return Ok(len as u64);
        }
        let wanted = if self.come < body.start { &self.head[self.come..] } else { &b"\r\n"[self.come - body.end..] };
        self.come += take(&self.stream, wanted)?;
        if self.come == body.end + 2 {
            self.come = 0;
            // It is short, and nothing else is on its way.
            self.stream.write_all(&self.request)?;
        }
        Ok(0)
    }
}

/// Writes some items, waits for the replies, and writes the next.
#[derive(Debug)]
struct Writer {
    stream: TcpStream,
    /// Bytes of replies.
    awaited: usize,
}

/// What the writers share.
#[derive(Debug)]
struct Bursts {
    /// The next item's number.
    next: u64,
    /// The first of the next burst.
    ends: u64,
    /// No earlier.
    resumes: Instant,
    /// The next commands.
    text: String,
}

impl Writer {
    /// Items that have been written. To take replies, to write the next commands down and to send them are three steps:
    /// each is short, so that small requests are not late for it.
    fn step(&mut self, bursts: &mut Bursts, now: Instant) -> io::Result<u64> {
        if self.awaited > 0 {
            let replies: [u8; REPLIES_BYTES] = std::array::from_fn(|at| OK[at % OK.len()]);
            self.awaited -= take(&self.stream, &replies[REPLIES_BYTES - self.awaited..])?;
            return Ok(if self.awaited == 0 { PIPELINE } else { 0 });
        }
        if !bursts.text.is_empty() {
            self.stream.write_all(bursts.text.as_bytes())?;
            bursts.text.clear();
            self.awaited = REPLIES_BYTES;
            bursts.resumes = now + BURST_PAUSE;
        } else if bursts.next < bursts.ends {
            bursts.write_down();
        } else if now >= bursts.resumes {
            bursts.ends = bursts.next + BURST_ITEMS;
        }
        Ok(0)
    }
}

impl Bursts {
    fn write_down(&mut self) {
        let value = [b'v'; 64];
        let value = std::str::from_utf8(&value).expect("letters");
        for number in self.next..self.next + PIPELINE {
            let ttl = TTLS[number as usize % TTLS.len()];
            let written = match ttl {
                0 => write!(self.text, "*3\r\n$3\r\nSET\r\n$16\r\nw{number:015}\r\n$64\r\n{value}\r\n"),
                _ => {
                    write!(self.text, "*4\r\n$5\r\nSETEX\r\n$16\r\nw{number:015}\r\n$1\r\n{ttl}\r\n$64\r\n{value}\r\n")
                }
            };
            written.expect("a string takes everything");
        }
        self.next += PIPELINE;
    }
}

/// Writes the large values and reads each back whole.
///
/// # Errors
/// The server does not keep them.
pub(crate) fn store_large(port: u16) -> Result<(), String> {
    let mut stream = connect(port)?;
    (0..READERS)
        .try_for_each(|number| {
            let value: Vec<u8> = (0..LARGE_BYTES).map(|at| mix((at + number) as u64) as u8).collect();
            let head = format!("*3\r\n$3\r\nSET\r\n$5\r\n{}\r\n${LARGE_BYTES}\r\n", large_key(number));
            stream.write_all(&[head.as_bytes(), &value, b"\r\n"].concat())?;
            expect(&mut stream, &OK[..])?;
            stream.write_all(&get_large(number))?;
            expect(&mut stream, &[&large_head(), &value[..], b"\r\n"].concat())
        })
        .map_err(|error| lost(&error))
}

fn large_key(number: usize) -> String {
    format!("lrg{number:02}")
}

fn get_large(number: usize) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n$5\r\n{}\r\n", large_key(number)).into_bytes()
}

fn large_head() -> Vec<u8> {
    format!("${LARGE_BYTES}\r\n").into_bytes()
}

/// Whose reads and writes wait; a step's reads do not.
fn connect(port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect(("127.0.0.1", port)).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    connected.map_err(|error| lost(&error))
}

fn lost(error: &io::Error) -> String {
    format!("a connection failed: {error}")
}

/// Takes what has come of the `wanted`, without waiting.
fn take(stream: &TcpStream, wanted: &[u8]) -> io::Result<usize> {
    let mut found = [0; REPLIES_BYTES];
    let most = wanted.len().min(found.len());
    let (_, len) = recv(stream, &mut found[..most], RecvFlags::DONTWAIT)?;
    same(&found[..some(len)?], &wanted[..len])?;
    Ok(len)
}

/// Reads all of the `wanted`.
fn expect(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    let mut found = vec![0; wanted.len()];
    stream.read_exact(&mut found)?;
    same(&found, wanted)
}

fn some(len: usize) -> io::Result<usize> {
    if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(len) }
}

fn same(found: &[u8], wanted: &[u8]) -> io::Result<()> {
    if found == wanted {
        return Ok(());
    }
    let begin = |bytes: &[u8]| bytes[..bytes.len().min(40)].escape_ascii().to_string();
    Err(io::Error::other(format!("\"{}\" was expected, it answers \"{}\"", begin(wanted), begin(found))))
}
