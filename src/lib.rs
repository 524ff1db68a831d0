//! Corering: a cache server for Linux. *One core, one shard, one ring.*
//!
//! Every worker is a thread pinned to a CPU. It owns a slice of the keyspace and an io_uring ring, and shares nothing
//! on the request path with the others, so that latency stays in microseconds up to the far percentiles. A client
//! speaks RESP2, RESP3, memcached's text protocol or HTTP/1.1, over one keyspace, and may connect to any worker; a
//! request for another worker's key goes there and back by mailbox.
//!
//! # The flow
//!
//! ```text
//! socket → ring completion → protocol parse → command → shard → reply → ring submission → socket
//!                                               │ another core's key
//!                                               └→ mailbox → that core's worker → mailbox ┘
//! ```
//!
//! # The layers
//!
//! Imports only go down; a test holds the table to it. Two sentences to remember: only [`command`] gives what
//! [`protocol`] parses a meaning in the [`shard`]; only [`worker`] joins [`command`] to a [`ring`].
//!
//! | layer    | modules                                                                            | may import   |
//! |----------|------------------------------------------------------------------------------------|--------------|
//! | process  | `main`, [`cli`]                                                                    | all          |
//! | assembly | [`server`], [`control`], [`listen`], [`load`], [`doctor`], [`health`], [`hotkeys`] | all below    |
//! | loop     | [`worker`]                                                                         | all below    |
//! | edge     | [`ring`], [`mailbox`]                                                              | pure, ground |
//! | meaning  | [`command`]                                                                        | pure, ground |
//! | pure     | [`protocol`], [`shard`]                                                            | ground       |
//! | ground   | [`config`], [`instance`], [`cluster`], [`observe`], [`clock`], [`topology`]        | each other   |
//!
//! # The words
//!
//! | word                          | meaning                                                                       |
//! |-------------------------------|-------------------------------------------------------------------------------|
//! | worker                        | one core's pinned thread                                                      |
//! | ring, submission, completion  | io_uring's own words; a token names an operation in flight                    |
//! | connection                    | one client's socket and state                                                 |
//! | request, command, reply       | bytes in, what they ask for, bytes out                                        |
//! | shard                         | one worker's slice of the keyspace                                            |
//! | slot                          | one of 16,384 hash slots; each worker owns a contiguous range                 |
//! | node, map                     | cores with a port of their own, as cluster clients see them; who has which slot |
//! | expire, evict, delete         | by time, by pressure, by a client                                             |
//! | mailbox, message              | core to core                                                                  |
//! | tick                          | one turn of a worker's loop                                                   |
//! | version                       | names one state of a key: memcached's CAS                                     |
//! | lease                         | one client's right, for a time, to compute a missing or stale value           |
//! | drain                         | answer what was received, take nothing new, then close                        |
//! | data plane, control plane     | what serves requests; what starts, watches and ends it                        |
//!
//! # Using it as a library
//!
//! [`Server::start`] gives a running server with its addresses; several run in one process.

// From the process down to the ground, as in the table.
pub mod cli;

pub mod control;
pub mod doctor;
pub mod health;
pub mod hotkeys;
pub mod listen;
pub mod load;
pub mod server;

pub mod worker;

pub mod mailbox;
pub mod ring;

pub mod command;

pub mod protocol;
pub mod shard;

pub mod clock;
pub mod cluster;
pub mod config;
pub mod instance;
pub mod observe;
pub mod topology;

pub use server::Server;
