//! memcached's protocol through real sockets, with one worker and with several: what its specification says, what
//! memcached itself answers, and what its clients make of it.

#[path = "../fuzz/decode.rs"]
mod decode;

mod clients;
mod differential;
mod leases;
mod limits;
mod replies;
mod server;
mod split;
