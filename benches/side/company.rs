//! Whoever shares a server with small requests: readers of large values, writers of many small ones, or nobody.
//!
//! In: a server that speaks RESP, and a flag that says when to stop. Out: what was done. Plain blocking sockets, on the
//! CPU of whoever starts them. What must stay true: the calling CPU is never asleep while somebody is there or nobody
//! is, so that the small requests' generator is woken at the same cost beside all of them; every reply is checked.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corering::load::items::mix;
use rustix::net::{RecvFlags, recv};

/// A large value's length: ten megabytes.
pub(crate) const LARGE_BYTES: usize = 10_000_000;

/// Connections that fetch large values, each one of its own.
const READERS: usize = 4;

/// Taken by one call; the kernel lets nobody else run during it where it was built without preemption.
const TAKEN_BYTES: usize = 64 << 10;

/// Connections that write, and the requests that each has in flight.
const WRITERS: usize = 2;
const PIPELINE: u64 = 16;

/// Small items come in bursts of so many, half of which expire together with those of another burst.
const BURST_ITEMS: u64 = 125_000;

/// From the begin of a burst to that of the next, unless it takes longer.
const BURST_INTERVAL: Duration = Duration::from_millis(500);

/// Times to live in turn, seconds; zero is for ever.
const TTLS: [u64; 6] = [0, 1, 0, 2, 0, 3];

/// A server may take so long for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Nobody.
    Nobody,
    /// Readers of large values, which [`store_large`] has written.
    Readers,
    /// Writers of small items, numbered from here on.
    Writers {
        /// No item of this number or a higher one was written before.
        first: u64,
    },
}

impl Company {
    /// Keeps at it until `stop` is set. Returns the bytes of the values that were read, or the items written.
    ///
    /// # Errors
    /// The server gives a wrong reply, or none.
    pub(crate) fn keep(self, port: u16, stop: &AtomicBool) -> Result<u64, String> {
        let is_over = || stop.load(Ordering::Relaxed);
        match self {
            Company::Nobody => {
                while !is_over() {
                    std::hint::spin_loop();
                }
                Ok(0)
            }
            Company::Readers => thread::scope(|scope| {
                let readers: Vec<_> = (0..READERS).map(|number| scope.spawn(move || read(port, number, stop))).collect();
                readers.into_iter().map(|reader| reader.join().expect("readers do not panic")).sum()
            }),
            Company::Writers { first } => write(port, first, is_over),
        }
    }
}

/// Writes the large values and reads each back whole.
///
/// # Errors
/// The server does not keep them.
pub(crate) fn store_large(port: u16) -> Result<(), String> {
    let mut stream = connect(port)?;
    for number in 0..READERS {
        let value: Vec<u8> = (0..LARGE_BYTES).map(|at| mix((at + number) as u64) as u8).collect();
        let mut request = format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${LARGE_BYTES}\r\n")
            .replace("large", &large_key(number))
            .into_bytes();
        request.extend_from_slice(&value);
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).map_err(lost)?;
        expect(&mut stream, b"+OK\r\n")?;
        stream.write_all(&get_large(number)).map_err(lost)?;
        expect(&mut stream, large_head().as_bytes())?;
        expect(&mut stream, &value)?;
        expect(&mut stream, b"\r\n")?;
    }
    Ok(())
}

fn large_key(number: usize) -> String {
    format!("lrg{number:02}")
}

fn get_large(number: usize) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n$5\r\n{}\r\n", large_key(number)).into_bytes()
}

fn large_head() -> String {
    format!("${LARGE_BYTES}\r\n")
}

/// Fetches one large value back to back. The kernel drops its bytes: copying them would take the generator's CPU.
fn read(port: u16, number: usize, stop: &AtomicBool) -> Result<u64, String> {
    let (mut stream, request, head) = (connect(port)?, get_large(number), large_head());
    let mut dropped = vec![0; TAKEN_BYTES];
    let mut bytes = 0;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&request).map_err(lost)?;
        expect(&mut stream, head.as_bytes())?;
        let mut left = LARGE_BYTES;
        while left > 0 {
            let most = left.min(TAKEN_BYTES);
            let (_, taken) = recv(&stream, &mut dropped[..most], RecvFlags::TRUNC).map_err(|errno| lost(errno.into()))?;
            if taken == 0 {
                return Err("it closed a connection in the middle of a value".to_owned());
            }
            left -= taken;
            bytes += taken as u64;
        }
        expect(&mut stream, b"\r\n")?;
    }
    Ok(bytes)
}

/// Writes new items in bursts, as fast as the server takes them with [`WRITERS`] × [`PIPELINE`] requests in flight.
fn write(port: u16, first: u64, is_over: impl Fn() -> bool) -> Result<u64, String> {
    let mut streams: Vec<TcpStream> = (0..WRITERS).map(|_| connect(port)).collect::<Result<_, _>>()?;
    let replies = b"+OK\r\n".repeat(PIPELINE as usize);
    let value = "v".repeat(64);
    let (mut next, mut text) = (first, String::new());
    while !is_over() {
        let (begin, last) = (Instant::now(), next + BURST_ITEMS);
        while next < last && !is_over() {
            for stream in &mut streams {
                text.clear();
                for number in next..next + PIPELINE {
                    append_write(number, &value, &mut text);
                }
                next += PIPELINE;
                stream.write_all(text.as_bytes()).map_err(lost)?;
            }
            streams.iter_mut().try_for_each(|stream| expect(stream, &replies))?;
        }
        while begin.elapsed() < BURST_INTERVAL && !is_over() {
            std::hint::spin_loop();
        }
    }
    Ok(next - first)
}

fn append_write(number: u64, value: &str, text: &mut String) {
    let len = value.len();
    let written = match TTLS[number as usize % TTLS.len()] {
        0 => write!(text, "*3\r\n$3\r\nSET\r\n$16\r\nw{number:015}\r\n${len}\r\n{value}\r\n"),
        ttl => write!(text, "*4\r\n$5\r\nSETEX\r\n$16\r\nw{number:015}\r\n$1\r\n{ttl}\r\n${len}\r\n{value}\r\n"),
    };
    written.expect("a string takes everything");
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(lost)?;
    stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE))).map_err(lost)?;
    Ok(stream)
}

fn lost(error: std::io::Error) -> String {
    format!("a connection failed: {error}")
}

/// Reads what must come next.
fn expect(stream: &mut TcpStream, wanted: &[u8]) -> Result<(), String> {
    let mut found = vec![0; wanted.len()];
    stream.read_exact(&mut found).map_err(lost)?;
    let is_right = found == wanted;
    is_right.then_some(()).ok_or_else(|| {
        let begin = |bytes: &[u8]| bytes[..bytes.len().min(40)].escape_ascii().to_string();
        format!("\"{}\" was expected, it answers \"{}\"", begin(wanted), begin(&found))
    })
}
