//! memcached's protocol through real sockets, with one worker and with several: what its specification says, what
//! memcached itself answers, and what its clients make of it.

#[path = "../fuzz/decode.rs"]
mod decode;
#[path = "../clients/installed.rs"]
mod installed;
#[path = "../fronts/server.rs"]
mod server;

mod clients;
mod differential;
mod limits;
mod replies;
mod split;
