//! Every core a node: what cluster clients are told, that they find every key without a message between cores, and
//! that they find their way after a restart.
//!
//! Servers are processes of their own: one with two cores, or three that share a fixed map.

mod clients;
#[path = "../clients/installed.rs"]
mod installed;
mod nodes;
#[path = "../start/process.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod process;
mod replies;
mod restart;
mod settings;
