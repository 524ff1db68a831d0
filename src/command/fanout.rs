//! Commands over several workers: what is sent where, and how the replies become one.
//!
//! A [`Fanout`] is a small plan in rounds. Each round is a list of [`Part`]s, requests for single workers; when the
//! replies of a round have all arrived, [`Fanout::advance`] either asks for another round or writes the client's reply.

/// How a command with several keys is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Keys grouped by worker; integer replies are added (`DEL EXISTS TOUCH UNLINK`).
    Sum,
    /// Key-value pairs grouped by worker; `+OK` when all say so (`MSET`).
    Pairs,
    /// Every key on its own; array elements in key order (`MGET`).
    Each,
    /// Set all or none (`MSETNX`).
    AllOrNone,
    /// Moves or copies one key's item to another key (`RENAME RENAMENX COPY`).
    Transfer,
    /// The first key's worker... the cursor's worker (`SCAN`).
    Cursor,
}

/// How the replies of all workers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Integers are added (`DBSIZE`).
    Sum,
    /// `+OK` when all say so (`FLUSHALL`).
    AllOk,
    /// Arrays are joined (`KEYS`).
    Concat,
    /// Texts are joined (`CLIENT LIST`).
    Text,
    /// Any reply that is not null (`RANDOMKEY`).
    AnyPresent,
    /// `+OK` when any says so, else the first error (`CLIENT KILL address`).
    AnyOk,
}
