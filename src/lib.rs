//! Corering: a cache server for Linux. *One core, one shard, one ring.*

pub mod clock;
pub mod command;
pub mod config;
pub mod instance;
pub mod mailbox;
pub mod observe;
pub mod protocol;
pub mod ring;
pub mod shard;
pub mod topology;
pub mod worker;
