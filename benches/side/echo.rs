//! The least that a server can do: for each request, told by the `*` that begins it, the same reply, without looking at
//! anything else. Three ways of asking the kernel for the same work.
//!
//! In: a way. Out: an entrant of a rotation: this program itself, started once more as a server.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use corering::clock::Clock;
use corering::load::Plan;
use corering::load::items::Items;
use corering::load::plan::Protocol;
use corering::load::sizes::Sizes;
use corering::protocol::Output;
use corering::protocol::resp::{Reply, Version};
use corering::ring::uring::{Options, UringRing};
use corering::ring::{Carried, Errno, Fd, Kind, Op, Ring, Token, Wait};
use corering::worker::spin::Spin;
use rustix::event::epoll;
use slab::Slab;

use crate::rounds::{ECHO_VALUE_BYTES, Entrant, Workload};
use crate::server::Peer;

/// Serves one way.
type Serve = fn(TcpListener, &'static [u8]) -> io::Result<()>;

/// The ways, by name.
const KINDS: [(&str, Serve); 4] = [
    ("ring", |listener, reply| EchoRing::serve(&listener, reply, Duration::from_micros(50))),
    ("ring-asleep", |listener, reply| EchoRing::serve(&listener, reply, Duration::ZERO)),
    ("tokio-uring", serve_tokio_uring),
    ("epoll", |listener, reply| serve_epoll(&listener, reply)),
];

/// Bytes received at once.
const BUFFER_BYTES: usize = 4096;

/// Asks this program to be an echo: kind and port follow.
const ECHO: &str = "--echo";

/// This program as an echo.
pub(crate) fn entrant(name: &str, kind: &str) -> Entrant {
    let program = std::env::current_exe().unwrap_or_default();
    let peer = Peer::new(name, format!("'{}' {ECHO} {kind} {{port}}", program.display()));
    Entrant { is_echo: true, suits: Workload::suits_an_echo, ..Entrant::new(peer, Protocol::Resp2) }
}

/// Serves as an echo, until it is ended, when the command line says so.
pub(crate) fn serve_if_asked() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [flag, kind, port] = &words[..] else { return };
    let serve = KINDS.iter().find(|(name, _)| name == kind).filter(|_| flag == ECHO);
    let (Some((_, serve)), Ok(port)) = (serve, port.parse::<u16>()) else { return };
    // The value that the generator expects under its first key.
    let plan = Plan { value_sizes: Sizes::Fixed(ECHO_VALUE_BYTES), ..Plan::default() };
    let (items, mut reply) = (Items::new(&plan), Output::new());
    Reply { output: &mut reply, version: Version::Resp2 }.bulk(items.value(0));
    let listener = TcpListener::bind(("127.0.0.1", port));
    match listener.and_then(|listener| serve(listener, reply.to_vec().leak())) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("echo: {error}");
            std::process::exit(1)
        }
    }
}

fn requests(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'*', bytes).count()
}

/// The data path's ring as a worker uses it: multishot accept and receive into shared buffers, one send per connection
/// and turn, the adaptive spin before it sleeps.
struct EchoRing {
    ring: UringRing,
    connections: Slab<EchoConnection>,
    /// Connections whose output is to be sent.
    dirty: Vec<u32>,
    reply: &'static [u8],
}

struct EchoConnection {
    fd: Fd,
    output: Output,
    is_sending: bool,
}

impl EchoRing {
    fn serve(listener: &TcpListener, reply: &'static [u8], spin_max: Duration) -> io::Result<()> {
        let options = Options { submissions: 256, completions: 4096, buffers: 256, buffer_bytes: BUFFER_BYTES as u32 };
        let ring = UringRing::new(&options)?;
        let mut echo = Self { ring, connections: Slab::new(), dirty: Vec::new(), reply };
        let listener = Fd(listener.as_raw_fd());
        echo.ring.push(Token::new(Kind::Accept, 0, 0), Op::Accept { listener });
        let (clock, mut spin, mut wait) = (Clock::system(), Spin::new(spin_max), Wait::No);
        loop {
            let before_ns = clock.now().mono_ns;
            echo.ring.enter(wait)?;
            if wait != Wait::No {
                spin.slept(clock.now().mono_ns - before_ns);
            }
            while let Some(completion) = echo.ring.complete() {
                let (token, is_armed) = (completion.token, completion.has_more);
                match (token.kind(), completion.carried) {
                    (Kind::Accept, _) => {
                        completion.result.into_iter().for_each(|fd| echo.accept(Fd(fd as i32)));
                        if !is_armed {
                            echo.ring.push(token, Op::Accept { listener });
                        }
                    }
                    (Kind::Recv, carried) => echo.receive(token, completion.result, is_armed, carried),
                    (Kind::Send, Carried::Output(output)) => echo.sent(token.slot(), output),
                    _ => {}
                }
            }
            echo.flush();
            wait = Wait::No;
            if echo.ring.is_ready() {
                continue;
            }
            echo.ring.enter(Wait::No)?;
            if echo.ring.is_ready() {
                continue;
            }
            if spin.budget_ns() == 0 || !spin.until(&clock, || echo.ring.is_ready()) {
                wait = Wait::Forever;
            }
        }
    }

    fn accept(&mut self, fd: Fd) {
        let slot = self.connections.insert(EchoConnection { fd, output: Output::new(), is_sending: false });
        self.ring.push(Token::new(Kind::Recv, 0, slot as u32), Op::Recv { fd, is_multishot: true });
    }

    fn receive(&mut self, token: Token, result: Result<u32, Errno>, is_armed: bool, carried: Carried) {
        let connection = &mut self.connections[token.slot() as usize];
        let received = match carried {
            Carried::Buffer(buffer) => self.ring.lend(buffer, |bytes| {
                (0..requests(bytes)).for_each(|_| connection.output.extend(self.reply));
                bytes.len()
            }),
            _ => 0,
        };
        if received > 0 && !connection.is_sending {
            self.dirty.push(token.slot());
        }
        if is_armed {
            return;
        }
        if received > 0 || matches!(result, Err(Errno(libc::ENOBUFS | libc::EAGAIN))) {
            return self.ring.push(token, Op::Recv { fd: connection.fd, is_multishot: true });
        }
        // The client is gone, with everything that it had asked for.
        let fd = self.connections.remove(token.slot() as usize).fd;
        self.ring.push(token.with_kind(Kind::Close), Op::Close { fd });
    }

    fn sent(&mut self, slot: u32, mut output: Output) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        output.clear();
        std::mem::swap(&mut connection.output, &mut output);
        connection.is_sending = !output.is_empty();
        if connection.is_sending {
            self.send(slot, output);
        }
    }

    fn flush(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let connection = &mut self.connections[slot as usize];
            if !connection.is_sending && !connection.output.is_empty() {
                connection.is_sending = true;
                let output = std::mem::take(&mut connection.output);
                self.send(slot, output);
            }
        }
    }

    fn send(&mut self, slot: u32, output: Output) {
        let (fd, limit) = (self.connections[slot as usize].fd, output.len());
        self.ring.push(Token::new(Kind::Send, 0, slot), Op::Send { fd, output, from: 0, limit });
    }
}

/// A task per connection that receives, then sends.
fn serve_tokio_uring(listener: TcpListener, reply: &'static [u8]) -> io::Result<()> {
    tokio_uring::start(async move {
        let listener = tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(async move {
                let (mut received, mut output) = (vec![0; BUFFER_BYTES], Vec::new());
                loop {
                    let (len, buffer) = stream.read(received).await;
                    received = buffer;
                    let Ok(len @ 1..) = len else { return };
                    output.clear();
                    (0..requests(&received[..len])).for_each(|_| output.extend_from_slice(reply));
                    let (sent, buffer) = stream.write_all(output).await;
                    output = buffer;
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

/// The loop that most servers have: wait for readable sockets, read each, write each.
fn serve_epoll(listener: &TcpListener, reply: &'static [u8]) -> io::Result<()> {
    const LISTENER: u64 = u64::MAX;
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&ready, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut streams: Slab<TcpStream> = Slab::new();
    let (mut received, mut output) = (vec![0; BUFFER_BYTES], Vec::new());
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let entry = streams.vacant_entry();
                let key = epoll::EventData::new_u64(entry.key() as u64);
                epoll::add(&ready, &stream, key, epoll::EventFlags::IN)?;
                entry.insert(stream);
                continue;
            }
            let stream = &mut streams[key as usize];
            let len = stream.read(&mut received).unwrap_or(0);
            output.clear();
            (0..requests(&received[..len])).for_each(|_| output.extend_from_slice(reply));
            if len == 0 || stream.write_all(&output).is_err() {
                drop(streams.remove(key as usize));
            }
        }
    }
}
