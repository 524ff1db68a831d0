//! The JSON API: its decoder cut at every byte, its replies, its limits, and what curl sees.

mod decoder;
mod limits;
mod replies;
mod server;
