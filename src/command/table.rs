//! THE command table: one row per command, which routing, arity checks, `COMMAND`, its docs and statistics all read.

use super::Run;

/// A property of a command, as `COMMAND` reports it; combined with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// May change the keyspace.
    pub const WRITE: Flags = Flags(1 << 0);
    /// Reads the keyspace.
    pub const READONLY: Flags = Flags(1 << 1);
    /// Refused when out of memory.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// For operators.
    pub const ADMIN: Flags = Flags(1 << 3);
    /// Constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 4);
    /// Allowed before authentication.
    pub const NO_AUTH: Flags = Flags(1 << 5);

    /// Both sets.
    pub const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
    /// Whether all of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a command's keys are among its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Index of the first key; 0 when there is none.
    pub first: i32,
    /// Index of the last key; negative counts from the end.
    pub last: i32,
    /// Distance between keys.
    pub step: i32,
}

impl Keys {
    /// The indices of the keys among `count` arguments.
    pub fn positions(self, count: usize) -> impl Iterator<Item = usize> {
        let last = if self.last < 0 { count as i32 + self.last } else { self.last.min(count as i32 - 1) };
        let (first, last) = if self.first == 0 { (1, 0) } else { (self.first, last) };
        (first..=last).step_by(self.step.max(1) as usize).map(|index| index as usize)
    }
}

/// One command.
pub struct Spec {
    /// Lower case; a subcommand's own name without its container's.
    pub name: &'static str,
    /// Exact number of arguments, the name included; negative: at least that many.
    pub arity: i32,
    /// Properties.
    pub flags: Flags,
    /// Key positions.
    pub keys: Keys,
    /// Redis' group, for `COMMAND DOCS`.
    pub group: &'static str,
    /// The Redis version that introduced it.
    pub since: &'static str,
    /// Time complexity.
    pub complexity: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// How it runs.
    pub run: Run,
    /// Its subcommands, when it is a container.
    pub subcommands: &'static [Spec],
}

/// A row of the table (subcommands have rows of their own). Small enough to travel between workers and to index statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandId(pub u16);

impl CommandId {
    /// The row.
    pub fn spec(self) -> &'static Spec {
        unimplemented!()
    }
}

/// Finds the row for a request (resolving a subcommand) and checks the number of arguments.
///
/// # Errors
/// The text of the error reply, as Redis spells it: unknown command, unknown subcommand, wrong number of arguments.
pub fn find(_args: crate::protocol::Args<'_>) -> Result<CommandId, String> {
    unimplemented!()
}

/// The row of a command by its exact name; also finds the hidden rows, which clients cannot name.
pub fn hidden(_name: &str) -> CommandId {
    unimplemented!()
}
