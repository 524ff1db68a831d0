//! Corering: a cache server for Linux. *One core, one shard, one ring.*

pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod instance;
pub mod listen;
pub mod load;
pub mod mailbox;
pub mod observe;
pub mod protocol;
pub mod ring;
pub mod server;
pub mod shard;
pub mod topology;
pub mod worker;

pub use server::Server;
