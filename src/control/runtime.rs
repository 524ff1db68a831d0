//! What the control thread runs on: `tokio-uring`, or tokio's own loop where io_uring is forbidden.
//!
//! In: sockets of the standard library. Out: the same, to be awaited. What must stay true: a read or write that was
//! given up takes nothing with it that a later one needs.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;

use socket2::SockRef;
pub(super) use tokio::task::spawn_local as spawn;

use crate::config::Io;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 2048;

/// Runs to the end of `future` on this thread.
pub(super) fn run<F: Future>(io: Io, future: F) -> io::Result<F::Output> {
    match io {
        Io::Uring => Ok(tokio_uring::start(future)),
        Io::Epoll => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
        }
    }
}

/// A listening socket.
pub(super) enum Listener {
    Uring(tokio_uring::net::TcpListener),
    Epoll(tokio::net::TcpListener),
}

impl Listener {
    pub(super) fn new(io: Io, listener: std::net::TcpListener) -> io::Result<Self> {
        match io {
            Io::Uring => Ok(Self::Uring(tokio_uring::net::TcpListener::from_std(listener))),
            Io::Epoll => {
                listener.set_nonblocking(true)?;
                Ok(Self::Epoll(tokio::net::TcpListener::from_std(listener)?))
            }
        }
    }

    /// The next connection, and who is at its other end.
    pub(super) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Uring(listener) => listener.accept().await.map(|(stream, peer)| (Stream::Uring(stream), peer)),
            Self::Epoll(listener) => listener.accept().await.map(|(stream, peer)| (Stream::Epoll(stream), peer)),
        }
    }
}

/// A connection.
pub(super) enum Stream {
    Uring(tokio_uring::net::TcpStream),
    Epoll(tokio::net::TcpStream),
}

impl Stream {
    /// Appends what has come; `None` at the end of the connection.
    pub(super) async fn receive(&self, received: &mut Vec<u8>) -> Option<()> {
        let before = received.len();
        match self {
            Self::Uring(stream) => {
                let (result, buffer) = stream.read(Vec::with_capacity(PIECE_BYTES)).await;
                received.extend_from_slice(&buffer[..result.ok()?]);
            }
            Self::Epoll(stream) => {
                let mut buffer = [0; PIECE_BYTES];
                let count = retry(|| stream.readable(), || stream.try_read(&mut buffer)).await.ok()?;
                received.extend_from_slice(&buffer[..count]);
            }
        }
        (received.len() > before).then_some(())
    }

    /// Sends all of it.
    pub(super) async fn send(&self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Uring(stream) => stream.write_all(bytes).await.0,
            Self::Epoll(stream) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let count = retry(|| stream.writable(), || stream.try_write(rest)).await?;
                    rest = &rest[count..];
                }
                Ok(())
            }
        }
    }

    /// Ends both directions.
    pub(super) fn shutdown(&self) {
        // The client may have gone.
        let _ = match self {
            Self::Uring(stream) => stream.shutdown(Shutdown::Both),
            Self::Epoll(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
        };
    }
}

/// A socket that gets a byte for each signal.
pub(super) enum Signals {
    Uring(tokio_uring::net::UnixStream),
    Epoll(tokio::net::UnixStream),
}

impl Signals {
    pub(super) fn new(io: Io, socket: UnixStream) -> io::Result<Self> {
        match io {
            Io::Uring => Ok(Self::Uring(tokio_uring::net::UnixStream::from_std(socket))),
            Io::Epoll => {
                socket.set_nonblocking(true)?;
                Ok(Self::Epoll(tokio::net::UnixStream::from_std(socket)?))
            }
        }
    }

    /// Waits until some have come; several that come at once count as one. `None` when no more will.
    pub(super) async fn next(&self) -> Option<()> {
        let count = match self {
            Self::Uring(socket) => socket.read(vec![0; 16]).await.0.ok()?,
            Self::Epoll(socket) => retry(|| socket.readable(), || socket.try_read(&mut [0; 16])).await.ok()?,
        };
        (count > 0).then_some(())
    }
}

/// Tries, as often as the socket is ready, until it does not have to wait.
async fn retry<T, F: Future<Output = io::Result<()>>>(
    ready: impl Fn() -> F,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        ready().await?;
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
