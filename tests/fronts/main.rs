//! One keyspace over three protocols, through real sockets: leases, and what one protocol writes and another reads.

mod leases;
mod server;
