//! Does this host give us the ring that we need? Asked before anything is bound.
//!
//! In: which ring, and the sizes that the workers will use. Out: the mode and flags, for the start-up line and INFO; or
//! a [`Refusal`] with the likely cause and the remedy: one ring never takes the place of the other by itself. A
//! throw-away ring is set up exactly as the workers' rings are and made to do what they do: a multishot receive from
//! the shared buffers, a send, a cancellation, a wake-up.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::epoll::EpollRing;
use super::uring::{Options, Refused, UringRing};
use super::{Carried, Completion, Fd, Kind, Op, Ring, Token, Wait};
use crate::config::Io;
use crate::protocol::Output;

/// Exit code of a process that the host refuses what it needs (sysexits.h: configuration error).
pub const EXIT_HOST_REFUSES: u8 = 78;

/// The data path's mode, as the start-up line and INFO show it.
pub const fn mode(io: Io) -> &'static str {
    match io {
        Io::Uring => "io_uring (single_issuer defer_taskrun taskrun_flag submit_all clamp)",
        Io::Epoll => "epoll (edge_triggered)",
    }
}

/// How long the functional check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// Why the host does not give us a ring.
#[derive(Debug)]
pub struct Refusal {
    /// Which ring.
    pub io: Io,
    /// The system call that failed.
    pub call: &'static str,
    /// The kernel's answer.
    pub error: io::Error,
    /// Why, as far as it can be told, and what to do.
    pub advice: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not available: {}: {}; {}", self.io.api(), self.call, self.error, self.advice)
    }
}

impl std::error::Error for Refusal {}

/// Sets a ring up as the workers will, and makes it do what they do.
///
/// # Errors
/// What failed, the likely cause and the remedy.
pub fn check(io: Io, options: &Options) -> Result<(), Refusal> {
    let refusal = |call, error| Refusal { io, call, advice: advise(io, &error, &Host::read()), error };
    let check = || match io {
        Io::Uring => {
            let refused = |Refused { call, error }| refusal(call, error);
            let mut ring = UringRing::new(options).map_err(refused)?;
            exercise(&mut ring).map_err(|error| refusal("io_uring_enter", error))
        }
        Io::Epoll => {
            let mut ring = EpollRing::new(options).map_err(|error| refusal("epoll_create1", error))?;
            exercise(&mut ring).map_err(|error| refusal("epoll_pwait", error))
        }
    };
    alone(check)
}

/// Runs something on a thread of its own. A ring's end interrupts a system call of its thread, perhaps later: let that
/// be one that has ended.
pub fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A byte through a socket pair, and a wake-up to itself.
fn exercise(ring: &mut impl Ring) -> io::Result<()> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    let (near_fd, far_fd) = (Fd(near.as_raw_fd()), Fd(far.as_raw_fd()));
    let receive = Token::new(Kind::Recv, 1, 0);
    ring.push(receive, Op::Recv { fd: near_fd, is_multishot: true });
    let mut output = Output::new();
    output.push(b'x');
    ring.push(Token::new(Kind::Send, 1, 0), Op::Send { fd: far_fd, output, from: 0, limit: 1 });
    let peer = ring.wake_address();
    ring.push(Token::new(Kind::Wake, 0, 0), Op::Wake { peer });
    let (mut has_received, mut has_woken) = (false, false);
    until(ring, |ring, completion| {
        match (completion.token.kind(), completion.carried) {
            (Kind::Recv, Carried::Buffer(buffer)) => has_received = ring.lend(buffer, |bytes| bytes == b"x"),
            (Kind::Recv | Kind::Send, _) => {
                completion.result.map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
            }
            (Kind::Wake, _) => has_woken = true,
            _ => {}
        }
        Ok(has_received && has_woken)
    })?;
    ring.push(receive.with_kind(Kind::Cancel), Op::Cancel { target: receive });
    until(ring, |ring, _| Ok(ring.in_flight() == 0))
}

/// Handles completions until `is_done`.
fn until<R: Ring>(ring: &mut R, mut is_done: impl FnMut(&mut R, Completion) -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < CHECK_LIMIT {
        ring.enter(Wait::For(Duration::from_millis(100)))?;
        while let Some(completion) = ring.complete() {
            if is_done(ring, completion)? {
                return Ok(());
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no completion arrived"))
}

/// What the advice depends on.
#[derive(Debug, Default)]
struct Host {
    /// `kernel.io_uring_disabled`: 0 allowed, 1 for a group only, 2 for nobody.
    io_uring_disabled: Option<u8>,
    /// Major and minor version.
    kernel: Option<(u32, u32)>,
    /// A seccomp filter is active on this process.
    has_seccomp: bool,
    /// Soft limit of locked memory, bytes; `None` for unlimited or unknown.
    memlock_bytes: Option<u64>,
}

impl Host {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        let mut numbers = release.split(['.', '-']).map(str::parse);
        let status = read("/proc/self/status");
        let limits = read("/proc/self/limits");
        let memlock = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        Self {
            io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            kernel: numbers.next().and_then(Result::ok).zip(numbers.next().and_then(Result::ok)),
            has_seccomp: status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')),
            memlock_bytes: memlock.and_then(|line| line.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// What helps wherever io_uring is not to be had.
const OR_EPOLL: &str = "or run with --io epoll, which takes more CPU time";

/// The likely cause and its remedy.
fn advise(io: Io, error: &io::Error, host: &Host) -> String {
    match (io, error.raw_os_error()) {
        (_, Some(libc::EMFILE | libc::ENFILE)) => {
            "no descriptor is free; raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= in systemd)".to_owned()
        }
        (Io::Epoll, _) if host.has_seccomp => {
            "a seccomp filter forbids it; allow epoll_create1, epoll_ctl, epoll_pwait and eventfd2".to_owned()
        }
        (Io::Epoll, _) => "a sandbox forbids it".to_owned(),
        (Io::Uring, errno) => format!("{}; {OR_EPOLL}", advise_uring(errno, host)),
    }
}

fn advise_uring(errno: Option<i32>, host: &Host) -> String {
    let kernel = host.kernel.map_or_else(|| "unknown".to_owned(), |(major, minor)| format!("{major}.{minor}"));
    if host.kernel.is_some_and(|version| version < (6, 1)) {
        return format!("kernel {kernel} is too old; Linux 6.1 or later is needed");
    }
    match errno {
        Some(libc::EPERM | libc::EACCES) if host.io_uring_disabled.is_some_and(|disabled| disabled > 0) => {
            "the sysctl kernel.io_uring_disabled forbids it; set it to 0, or to 1 with this process in \
             kernel.io_uring_group"
                .to_owned()
        }
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if host.has_seccomp => {
            "a seccomp filter forbids it (container runtimes do so by default); allow io_uring_setup, io_uring_enter \
             and io_uring_register in the container's seccomp profile, as tuning/service/seccomp.json does"
                .to_owned()
        }
        Some(libc::ENOSYS) => {
            "the kernel was built without io_uring (CONFIG_IO_URING), or a sandbox hides it".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => {
            "a security policy forbids it; check seccomp, SELinux and AppArmor".to_owned()
        }
        Some(libc::ENOMEM) => {
            let limit = host.memlock_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
            format!(
                "RLIMIT_MEMLOCK ({limit}) is too low; raise it (ulimit -l, LimitMEMLOCK= in systemd), or use smaller \
                 rings"
            )
        }
        Some(libc::EINVAL) => format!("the kernel ({kernel}) does not know the flags of {}", mode(Io::Uring)),
        _ => format!("kernel {kernel}; Linux 6.1 or later with io_uring allowed is needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { submissions: 64, completions: 256, buffers: 16, buffer_bytes: 4096 };

    #[test]
    fn this_host_gives_us_both_rings() {
        Io::NAMES.iter().for_each(|(_, io)| check(*io, &OPTIONS).unwrap());
    }

    #[test]
    fn advice_names_the_cause() {
        let host = || Host { kernel: Some((6, 8)), io_uring_disabled: Some(0), ..Host::default() };
        let rows: &[(i32, Host, &str)] = &[
            (libc::EINVAL, Host { kernel: Some((5, 15)), ..host() }, "5.15 is too old"),
            (libc::EPERM, Host { io_uring_disabled: Some(2), ..host() }, "kernel.io_uring_disabled"),
            (libc::EPERM, Host { has_seccomp: true, ..host() }, "seccomp profile"),
            (libc::ENOSYS, Host { has_seccomp: true, ..host() }, "seccomp profile"),
            (libc::ENOSYS, host(), "CONFIG_IO_URING"),
            (libc::EPERM, host(), "security policy"),
            (libc::ENOMEM, Host { memlock_bytes: Some(8192), ..host() }, "RLIMIT_MEMLOCK (8 KiB)"),
            (libc::EMFILE, host(), "RLIMIT_NOFILE"),
        ];
        for (errno, host, expected) in rows {
            let advice = advise(Io::Uring, &io::Error::from_raw_os_error(*errno), host);
            assert!(advice.contains(expected), "{errno}: {advice}");
            assert_eq!(advice.contains("--io epoll"), *errno != libc::EMFILE, "{advice}");
        }
    }
}
