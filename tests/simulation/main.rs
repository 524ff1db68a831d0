//! Whole workers on simulated rings: one thread, one seed, every fault that the kernel and the network may produce.
//!
//! A failure prints its seed; the same seed fails again in the same place.

mod cluster;
mod endings;
mod http;
mod limits;
mod memcache;
mod model;
mod nodes;
mod pipelines;
mod replay;
mod requests;
mod table;
mod waiting;
