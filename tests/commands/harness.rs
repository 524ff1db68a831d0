//! A server's meaning without its sockets: requests run against shards in this thread, at a time that only the test
//! moves.

use std::sync::Arc;

use corering::clock::Now;
use corering::cluster::Map;
use corering::command::fanout::Fanout;
use corering::command::table::{self, CommandId};
use corering::command::{Call, ClientView, Clients, Entrance, Front, Route, Run, Session, route};
use corering::config::Settings;
use corering::instance::Instance;
use corering::protocol::resp::{Reply, Version};
use corering::protocol::{Args, Output, Requests};
use corering::shard::{LARGE_VALUE_BYTES, Shard, ShardOptions};

/// When the test begins: 2033.
const START_MS: u64 = 2_000_000_000_000;

/// Shards, one client, and the time.
pub(crate) struct Harness {
    shards: Vec<Shard>,
    instance: Instance,
    map: Arc<Map>,
    session: Session,
    now: Now,
}

impl Harness {
    /// An empty server with ordinary settings.
    pub(crate) fn new(workers: u16) -> Self {
        Self::with(workers, Settings::default())
    }

    /// An empty server.
    pub(crate) fn with(workers: u16, settings: Settings) -> Self {
        let options = |worker| ShardOptions::new(&settings, workers, u64::from(worker) + 1);
        let mut shards: Vec<Shard> = (0..workers).map(|worker| Shard::new(options(worker))).collect();
        shards.iter_mut().for_each(|shard| shard.set_large_value_bytes(settings.large_value_bytes as usize));
        let mut harness = Self {
            shards,
            map: Arc::new(Map::alone(workers)),
            instance: Instance::new(settings, workers, "0".repeat(40), START_MS),
            session: Session { id: 1, is_authenticated: true, ..Session::default() },
            now: Now::default(),
        };
        harness.advance_ms(START_MS);
        harness
    }

    /// Moves the time on.
    pub(crate) fn advance_ms(&mut self, by_ms: u64) {
        self.now.unix_ms += by_ms;
        self.now.unix_us += by_ms * 1000;
        self.now.mono_ns += by_ms * 1_000_000;
    }

    /// Runs a request given as words; the reply with `\r\n` and other bytes escaped.
    pub(crate) fn words(&mut self, request: &str) -> String {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        self.run(&args).escape_ascii().to_string()
    }

    /// Runs a request; the reply's bytes.
    pub(crate) fn run(&mut self, args: &[&[u8]]) -> Vec<u8> {
        self.reply(args).to_vec()
    }

    /// Runs a request; the reply as it would be sent.
    pub(crate) fn reply(&mut self, args: &[&[u8]]) -> Output {
        let mut requests = Requests::default();
        for arg in args {
            if arg.len() >= LARGE_VALUE_BYTES {
                requests.push_body(bytes::Bytes::copy_from_slice(arg));
            } else {
                requests.push_copy(arg);
            }
        }
        requests.finish();
        let args = requests.get(0, &[]);
        let mut output = Output::new();
        let version = self.session.version;
        match table::find(args) {
            Err(error) => Reply { output: &mut output, version }.error_bytes(&error.text),
            Ok(command) => {
                match route(
                    command,
                    command.spec(),
                    args,
                    None,
                    Entrance { map: &self.map, front: Front::Resp, here: 0, unix_ms: 0 },
                ) {
                    Route::Here => self.execute(0, command, args, version, &mut output),
                    Route::Worker(worker) => self.execute(worker, command, args, version, &mut output),
                    Route::Fanout(fanout, round) => self.fan_out(*fanout, round, &mut output),
                    Route::Moved(_) | Route::CrossSlot => unreachable!("every slot is served"),
                }
            }
        }
        output
    }

    fn fan_out(&mut self, mut fanout: Fanout, mut round: corering::command::fanout::Round, output: &mut Output) {
        let version = self.session.version;
        loop {
            let mut replies = Vec::new();
            for (index, (worker, command)) in round.parts.iter().enumerate() {
                let mut part = Output::new();
                let args = round.requests.get(index, &[]);
                self.execute(*worker, *command, args, fanout.reply_version(version), &mut part);
                replies.push(part);
            }
            match fanout.advance(&replies, self.now.mono_ns / 1_000_000, &mut Reply { output, version }) {
                Some(next) => round = next,
                None => return,
            }
        }
    }

    fn execute(&mut self, worker: u16, command: CommandId, args: Args<'_>, version: Version, output: &mut Output) {
        let settings = self.instance.settings();
        let mut call = Call {
            shard: &mut self.shards[worker as usize],
            clients: &mut Nobody,
            instance: &self.instance,
            settings: &settings,
            map: &self.map,
            front: Front::Resp,
            worker,
            caller: self.session.id,
            now: self.now,
        };
        let reply = &mut Reply { output, version };
        match command.spec().run {
            Run::Session(converse) => converse(&mut call, &mut self.session, args, reply),
            Run::Keyed(execute) | Run::Spread(execute, _) | Run::Everywhere(execute, _) => {
                execute(&mut call, args, reply);
            }
            Run::Container => reply.error("ERR a container runs through its subcommands"),
        }
    }
}

/// A worker without connections.
struct Nobody;

impl Clients for Nobody {
    fn view<'a>(&mut self, _session: &'a Session) -> Option<ClientView<'a>> {
        None
    }
    fn for_each(&mut self, _show: &mut dyn FnMut(&ClientView<'_>)) {}

    fn stall(&mut self, _duration: std::time::Duration) {}
    fn kill(&mut self, _id: u64) -> bool {
        false
    }
}
