//! One running server: started, asked for its addresses, stopped.
//!
//! In: [`Settings`]. Out: worker threads that serve, and a handle to them. Start-up asks the host for everything before
//! it answers the first client: the ring, descriptors, addresses, CPUs; what is refused comes back as a [`StartError`]
//! that names cause and remedy. Several servers can run in one process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;
use crate::cluster::{self, Map};
use crate::command::Front;
use crate::config::source::Origin;
use crate::config::{self, Io, Settings};
use crate::instance::{Instance, Phase};
use crate::listen::{self, Bound, Listeners};
use crate::mailbox::{self, Mailboxes};
use crate::ring::epoll::EpollRing;
use crate::ring::probe::{self, EXIT_HOST_REFUSES, Refusal};
use crate::ring::uring::{self, UringRing};
use crate::ring::{Alarm, Fd};
use crate::shard::ShardOptions;
use crate::topology::{self, NotAllowed};
use crate::worker::{self, Crew, MAILBOX_CAPACITY, Message, Worker};

/// How long workers may take to set themselves up.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// Settings contradict each other, or ask for CPUs that the process may not use.
    Settings(String),
    /// The host does not give us the ring that the settings ask for.
    Refused(Refusal),
    /// The host does not give us something else that the settings ask for: one line.
    Host(String),
    /// An address cannot be listened on.
    Listen(listen::ListenError),
    /// A worker could not be set up.
    Worker(u16, io::Error),
}

impl StartError {
    /// The process's exit code: 2 for settings, 78 when the host refuses, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Settings(_) => 2,
            StartError::Refused(_) | StartError::Host(_) => EXIT_HOST_REFUSES,
            StartError::Listen(_) | StartError::Worker(..) => 1,
        }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Settings(what) | StartError::Host(what) => f.write_str(what),
            StartError::Refused(refusal) => refusal.fmt(f),
            StartError::Listen(error) => error.fmt(f),
            StartError::Worker(index, error) => write!(f, "worker {index} cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<NotAllowed> for StartError {
    fn from(error: NotAllowed) -> Self {
        StartError::Settings(error.to_string())
    }
}

/// A running server. Dropping it stops it at once; [`stop`](Self::stop) lets clients finish.
///
/// ```
/// use std::io::{Read, Write};
///
/// let settings = corering::config::Settings { port: 0, workers: 1, ..Default::default() };
/// let server = corering::Server::start(settings)?;
/// let mut client = std::net::TcpStream::connect(("127.0.0.1", server.port()))?;
/// client.write_all(b"PING\r\n")?;
/// let mut reply = [0; 7];
/// client.read_exact(&mut reply)?;
/// assert_eq!(&reply, b"+PONG\r\n");
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    instance: Arc<Instance>,
    addresses: Vec<SocketAddr>,
    bound: Vec<Bound>,
    cpus: Vec<usize>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    waker: Waker,
    /// Ends when the last worker has ended.
    ended: mpsc::Receiver<()>,
    /// Closed when the workers are gone.
    listeners: Option<Listeners>,
}

/// Wakes the workers of a server, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    instance: Arc<Instance>,
    controls: Arc<Mutex<Vec<UnixStream>>>,
}

impl Waker {
    /// Moves the server on to a later phase and lets every worker know.
    pub fn advance(&self, phase: Phase) {
        self.instance.advance(phase);
        self.wake();
    }

    /// How far the server's life has come.
    pub fn phase(&self) -> Phase {
        self.instance.phase()
    }

    /// What the workers share.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Reads the file of the fixed map again. Returns the epoch of the new map, or `None` when nothing has changed.
    ///
    /// # Errors
    /// One sentence with the remedy; the map stays as it was.
    pub fn reload_map(&self) -> Result<Option<u64>, String> {
        let (settings, current) = (self.instance.settings(), self.instance.map());
        let (epoch, nodes) = cluster::nodes(&settings, self.instance.workers)?;
        let next = Map::new(epoch, nodes);
        if next == *current {
            return Ok(None);
        }
        if epoch <= current.epoch {
            return Err(format!("the map has changed and its epoch {epoch} is not above {}; raise it", current.epoch));
        }
        let ports = |map: &Map| -> Vec<u16> {
            map.nodes.iter().filter(|node| node.is_own()).map(|node| node.listen_port).collect()
        };
        if ports(&next) != ports(&current) {
            return Err("this process's nodes have other ports; that needs a restart".to_owned());
        }
        self.instance.replace_map(next);
        self.wake();
        Ok(Some(epoch))
    }

    /// Whether the map comes from a file.
    pub fn has_map_file(&self) -> bool {
        self.instance.settings().cluster_map.is_some()
    }

    /// Lets every worker look at phase, settings and map.
    pub fn wake(&self) {
        for control in self.controls.lock().expect("no panic while held").iter_mut() {
            // A full socket means that the worker has a wake-up waiting already; a closed one, that it has ended.
            let _ = control.write(&[1]);
        }
    }
}

/// Ends the server when it is dropped: a worker that fails or panics takes its keys with it, so the others must not
/// go on as if nothing had happened.
pub(crate) struct EndsServer {
    waker: Option<Waker>,
    phase: Phase,
}

impl EndsServer {
    /// Moves the server on to `phase` when it is dropped.
    pub(crate) fn by(waker: Waker, phase: Phase) -> Self {
        Self { waker: Some(waker), phase }
    }

    /// All went well.
    fn disarm(&mut self) {
        self.waker = None;
    }
}

impl Drop for EndsServer {
    fn drop(&mut self) {
        self.waker.iter().for_each(|waker| waker.advance(self.phase));
    }
}

impl Server {
    /// Starts a server and returns when every worker listens.
    ///
    /// # Errors
    /// What the settings, the host or the addresses do not allow; see [`StartError`].
    pub fn start(settings: Settings) -> Result<Server, StartError> {
        Self::start_from(settings, Origin::default())
    }

    /// [`start`](Self::start), for settings that came from somewhere.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_from(settings: Settings, origin: Origin) -> Result<Server, StartError> {
        settings.check().map_err(StartError::Settings)?;
        let cpus = settings.cpus.place(settings.workers)?;
        if let Ok(cpu) = usize::try_from(settings.control_cpu) {
            topology::place_workers(&[cpu], 1)?;
        }
        let workers = cpus.len() as u16;
        let (epoch, mut nodes) = cluster::nodes(&settings, workers).map_err(StartError::Settings)?;
        listen::raise_descriptor_limit(settings.maxclients);
        probe::check(settings.io, &ring_options(&settings)).map_err(StartError::Refused)?;
        check_host(&settings).map_err(StartError::Host)?;
        let listeners = Listeners::bind(&settings, workers, &mut nodes).map_err(StartError::Listen)?;

        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut instance = Instance::new(settings, workers, run_id(), started.as_millis() as u64);
        instance.io_mode = probe::mode(instance.settings().io).to_owned();
        instance.tcp_port = listeners.addresses.first().map_or(0, SocketAddr::port);
        instance.origin = origin;
        instance.replace_map(Map::new(epoch, nodes));
        let instance = Arc::new(instance);
        let (ended_sender, ended) = mpsc::channel();
        let mut server = Server {
            addresses: listeners.addresses.clone(),
            bound: listeners.bound.clone(),
            cpus,
            threads: Vec::new(),
            waker: Waker { instance: Arc::clone(&instance), controls: Arc::default() },
            ended,
            listeners: Some(listeners),
            instance,
        };
        server.spawn_workers(&ended_sender)?;
        if server.instance.settings().lock_memory {
            lock_memory().map_err(StartError::Host)?;
        }
        Ok(server)
    }

    /// Starts a thread per CPU and waits until all workers listen. On failure the others are stopped by `drop`.
    fn spawn_workers(&mut self, ended: &mpsc::Sender<()>) -> Result<(), StartError> {
        let clock = Clock::system();
        let (ready_sender, ready) = mpsc::channel();
        let mailboxes = mailbox::mesh(self.instance.workers, MAILBOX_CAPACITY);
        let mut threads: BTreeMap<usize, Vec<WorkerStart>> = BTreeMap::new();
        for (index, mailboxes) in mailboxes.into_iter().enumerate() {
            let failed = |error| StartError::Worker(index as u16, error);
            let (near, control) = UnixStream::pair().map_err(failed)?;
            near.set_nonblocking(true).map_err(failed)?;
            self.waker.controls.lock().expect("no panic while held").push(near);
            let cpu = self.cpus[index];
            threads.entry(cpu).or_default().push(WorkerStart {
                index: index as u16,
                has_own_cpu: self.cpus.iter().filter(|other| **other == cpu).count() == 1,
                listeners: self.listeners.as_ref().map(|listeners| listeners.of_worker(index)).unwrap_or_default(),
                control,
                instance: Arc::clone(&self.instance),
                mailboxes,
                clock: clock.clone(),
            });
        }
        let count = threads.len();
        for (cpu, workers) in threads {
            let first = workers[0].index;
            let start = ThreadStart { cpu, workers, ready: ready_sender.clone() };
            let (waker, ended) = (self.waker.clone(), ended.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{first}")).spawn(move || {
                let _ended = ended;
                let mut guard = EndsServer::by(waker, Phase::Stopping);
                start.run()?;
                guard.disarm();
                Ok(())
            });
            self.threads.push(thread.map_err(|error| StartError::Worker(first, error))?);
        }
        drop(ready_sender);
        for _ in 0..count {
            match ready.recv_timeout(START_LIMIT) {
                Ok((_, Ok(()))) => {}
                Ok((index, Err(error))) => return Err(StartError::Worker(index, error)),
                Err(_) => return Err(StartError::Worker(0, io::ErrorKind::TimedOut.into())),
            }
        }
        Ok(())
    }

    /// The addresses that clients can connect to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// These and those of all other protocols.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Whether other hosts may reach it without a password.
    pub fn is_open_to_all(&self) -> bool {
        is_open(&self.addresses, &self.instance.settings().requirepass)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.instance.tcp_port
    }

    /// The CPU of each worker.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// What the workers share: settings, metrics, phase.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// A handle by which other threads wake the workers or end the server.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until the server has ended, because a client or [`Waker::advance`] asked for it.
    ///
    /// # Errors
    /// When a worker failed.
    pub fn wait(mut self) -> io::Result<()> {
        // Every worker's thread holds a sender: this returns when the last one has dropped it.
        let _ = self.ended.recv();
        self.join()
    }

    /// Lets clients take the replies to what they have sent, at most ten seconds, and ends.
    pub fn stop(mut self) {
        self.waker.advance(Phase::Draining);
        // Every worker's thread holds a sender. They close by force what has not ended by then.
        let _ = self.ended.recv();
        self.end();
    }

    fn end(&mut self) {
        self.waker.advance(Phase::Stopping);
        // A worker's failure was logged when it happened.
        let _ = self.join();
    }

    fn join(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked")));
            result = result.and(ended);
        }
        self.listeners = None;
        result
    }
}

/// What a thread begins with.
struct ThreadStart {
    cpu: usize,
    /// Those that it runs.
    workers: Vec<WorkerStart>,
    ready: mpsc::Sender<(u16, io::Result<()>)>,
}

/// What a worker begins with, once it has a ring.
struct WorkerStart {
    index: u16,
    has_own_cpu: bool,
    listeners: Vec<(Fd, Front)>,
    control: UnixStream,
    instance: Arc<Instance>,
    mailboxes: Mailboxes<Message>,
    clock: Clock,
}

impl ThreadStart {
    /// Runs the workers to their end, on the rings that the settings ask for.
    fn run(self) -> io::Result<()> {
        let settings = self.workers[0].instance.settings();
        if settings.pin && !topology::pin(self.cpu) {
            let all: Vec<u16> = self.workers.iter().map(|worker| worker.index).collect();
            tracing::warn!("workers {all:?} could not be pinned to CPU {}", self.cpu);
        }
        let scheduled = topology::schedule(settings.scheduler);
        match settings.io {
            Io::Uring => self.run_on(scheduled, || ring(&settings)),
            Io::Epoll => self.run_on(scheduled, || EpollRing::new(&ring_options(&settings))),
        }
    }

    fn run_on<R: Alarm>(self, scheduled: io::Result<()>, make: impl Fn() -> io::Result<R>) -> io::Result<()> {
        let (first, ready) = (self.workers[0].index, self.ready);
        // Closed after the rings, which receive from them.
        let mut controls = Vec::new();
        let mut set_up = |start: WorkerStart| -> Result<Worker<R>, (u16, io::Error)> {
            let settings = start.instance.settings();
            let ring = make().map_err(|error| (start.index, error))?;
            let control = Fd(start.control.as_raw_fd());
            controls.push(start.control);
            let worker = Worker::new(worker::Options {
                index: start.index,
                ring,
                listeners: start.listeners,
                control: Some(control),
                mailboxes: start.mailboxes,
                clock: start.clock,
                shard: ShardOptions::new(&settings, start.instance.workers, random_seed()),
                instance: start.instance,
                has_own_cpu: start.has_own_cpu,
            });
            worker.map_err(|error| (start.index, error))
        };
        let workers = scheduled.map_err(|error| (first, error));
        let workers = workers.and_then(|()| self.workers.into_iter().map(&mut set_up).collect());
        let crew = workers.and_then(|workers| Crew::new(workers).map_err(|error| (first, error)));
        // The receiver waits for one message of every thread.
        match crew {
            Ok(mut crew) => {
                let _ = ready.send((first, Ok(())));
                crew.run().inspect_err(|error| tracing::error!("a worker of CPU {} has failed: {error}", self.cpu))
            }
            Err((index, error)) => {
                let _ = ready.send((index, Err(io::Error::new(error.kind(), error.to_string()))));
                Err(error)
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A worker's ring, made on its thread.
fn ring(settings: &Settings) -> io::Result<UringRing> {
    let ring = UringRing::new(&ring_options(settings))?;
    if settings.napi_busy_poll > 0 {
        ring.poll_devices(settings.napi_busy_poll, settings.napi_prefer_busy_poll)?;
    }
    Ok(ring)
}

/// Asks the host for what the settings want beside a ring, before anything is bound.
fn check_host(settings: &Settings) -> Result<(), String> {
    listen::check_busy_poll(settings.busy_poll)?;
    if settings.napi_busy_poll > 0 {
        probe::alone(|| ring(settings).map(drop)).map_err(|error| {
            format!(
                "napi-busy-poll {}: {error}; Linux 6.9 or later with CONFIG_NET_RX_BUSY_POLL is needed, and this is \
                 {}; leave it at 0",
                settings.napi_busy_poll,
                topology::kernel()
            )
        })?;
    }
    probe::alone(|| topology::schedule(settings.scheduler)).map_err(|error| {
        let scheduler = config::text(settings, "scheduler");
        format!(
            "scheduler {scheduler}: {error}; give the process CAP_SYS_NICE or a higher RLIMIT_RTPRIO \
             (AmbientCapabilities= or LimitRTPRIO= in systemd, `ulimit -r`), and its control group real-time runtime \
             (cpu.rt_runtime_us) where it has such; or leave it at other"
        )
    })
}

/// Keeps what the process uses, now and later, in memory. Only once the workers have reserved their address space: it
/// counts towards the limit, and would be refused them otherwise.
fn lock_memory() -> Result<(), String> {
    use rustix::mm::{MlockAllFlags, mlockall};
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(|error| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let limit = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
        format!(
            "lock-memory yes: {error}; RLIMIT_MEMLOCK is {limit} and has to be unlimited (ulimit -l, \
             LimitMEMLOCK=infinity in systemd), or give the process CAP_IPC_LOCK; or set lock-memory to no"
        )
    })
}

pub(crate) fn ring_options(settings: &Settings) -> uring::Options {
    uring::Options {
        submissions: settings.ring_submissions,
        completions: settings.ring_completions,
        buffers: settings.ring_buffers,
        buffer_bytes: settings.ring_buffer_bytes,
    }
}

fn is_open(addresses: &[SocketAddr], password: &str) -> bool {
    password.is_empty() && addresses.iter().any(|address| !address.ip().is_loopback())
}

/// Sixty-four bits that differ from call to call and from process to process.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn run_id() -> String {
    format!("{:016x}{:016x}{:08x}", random_seed(), random_seed(), random_seed() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_password_only_this_host_is_safe() {
        let rows = [
            ("127.0.0.1:1 [::1]:1", "", false),
            ("127.0.0.1:1 0.0.0.0:1", "", true),
            ("[::]:1", "", true),
            ("10.0.0.1:1", "", true),
            ("10.0.0.1:1", "secret", false),
            ("", "", false),
        ];
        for (addresses, password, is_open_there) in rows {
            let all: Vec<SocketAddr> = addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
            assert_eq!(is_open(&all, password), is_open_there, "{addresses} {password}");
        }
    }

    #[test]
    fn a_worker_that_panics_ends_the_server() {
        let server = Server::start(Settings { port: 0, workers: 1, ..Settings::default() }).unwrap();
        let guard = EndsServer::by(server.waker(), Phase::Stopping);
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("as a bug would");
        });
        assert!(thread.join().is_err());
        assert_eq!(server.waker().phase(), Phase::Stopping);
        server.wait().unwrap();
    }
}
