//! THE command table: one row per command, which routing, arity checks, `COMMAND`, its docs and statistics all read.
//!
//! In: the families' rows. Out: the row of a name, looked up without allocation. What must stay true: names are unique;
//! a row says everything about its command, so that no other place lists commands.

use std::sync::LazyLock;

use super::Run;
use super::arguments::repeating;
use crate::observe::COMMANDS_MAX;
use crate::protocol::Args;

/// The families whose rows make the table.
static FAMILIES: &[&[Spec]] = &[
    super::acl::COMMANDS,
    super::connection::COMMANDS,
    super::client::COMMANDS,
    super::cluster::COMMANDS,
    super::introspect::COMMANDS,
    super::hot::COMMANDS,
    super::latency::COMMANDS,
    super::server::COMMANDS,
    super::keyspace::COMMANDS,
    super::memory::COMMANDS,
    super::string::COMMANDS,
    super::lease::COMMANDS,
    super::memcache::COMMANDS,
    super::http::COMMANDS,
];

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
    /// Served while a data set is being loaded.
    pub const LOADING: Flags = Flags(1 << 6);
    /// Served whatever the state of replication.
    pub const STALE: Flags = Flags(1 << 7);
    /// Not for scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 8);
    /// Slow, or telling of others: what an access rule may want to forbid.
    pub const DANGEROUS: Flags = Flags(1 << 9);
    /// Only where clients are told that this is a cluster.
    pub const CLUSTER: Flags = Flags(1 << 10);

    /// The names that `COMMAND` reports, in its order.
    pub const NAMES: &[(Flags, &str)] = &[
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
    ];

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

impl Spec {
    /// A command without keys: most of those that concern the client or the server.
    pub const fn keyless(
        group: &'static str,
        (name, arity, flags): (&'static str, i32, Flags),
        since: &'static str,
        summary: &'static str,
        run: Run,
    ) -> Spec {
        let keys = Keys { first: 0, last: 0, step: 0 };
        Spec { name, arity, flags, keys, group, since, complexity: "O(1)", summary, run, subcommands: &[] }
    }

    /// The same with another complexity than O(1).
    pub const fn costs(mut self, complexity: &'static str) -> Spec {
        self.complexity = complexity;
        self
    }

    /// The same with subcommands.
    pub const fn with(mut self, subcommands: &'static [Spec]) -> Spec {
        self.subcommands = subcommands;
        self
    }
}

/// A row of the table (subcommands have rows of their own). Small enough to travel between workers and to index
/// statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandId(pub u16);

impl CommandId {
    /// The row.
    #[inline]
    pub fn spec(self) -> &'static Spec {
        table().rows[self.0 as usize].spec
    }

    /// The name with its container's: `get`, `client|list`.
    pub fn full_name(self) -> &'static str {
        &table().rows[self.0 as usize].full_name
    }
}

/// Longest command or subcommand name; a longer word is unknown without a look.
const NAME_BYTES_MAX: usize = 24;

/// Places of the hash table; a power of two, at most a quarter full.
const PLACES: usize = 2048;

/// Marks an empty place.
const EMPTY: u16 = u16::MAX;

/// Bit 5 is what upper and lower case of a letter differ in.
const CASE: u64 = 0x2020_2020_2020_2020;

/// Longest name that is one word.
const SHORT_BYTES_MAX: usize = 8;

/// A name of two to eight bytes as a word, by reads that may overlap; together with the length it tells the name.
#[inline]
fn short_name(bytes: &[u8]) -> Option<u64> {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(first), Some(last), _) if bytes.len() <= SHORT_BYTES_MAX => {
            Some(u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32)
        }
        (None, _, &[first, .., last]) => Some(u64::from_le_bytes([first, bytes[bytes.len() / 2], last, 0, 0, 0, 0, 0])),
        _ => None,
    }
}

/// Where the search for a mix of a name's words begins; the same for upper and lower case.
#[inline]
fn name_place(mixed: u64) -> usize {
    ((mixed | CASE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.trailing_zeros())) as usize
}

/// A name in three words, to be compared and hashed eight bytes at a time. Together with the length they tell the name.
#[derive(Clone, Copy)]
struct Name([u64; NAME_BYTES_MAX / 8]);

impl Name {
    /// `None` when it is longer than any name.
    #[inline]
    fn new(bytes: &[u8]) -> Option<Self> {
        if let Some(word) = short_name(bytes) {
            return Some(Name([word, 0, 0]));
        }
        let mut padded = [0; NAME_BYTES_MAX];
        padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let (words, _) = padded.as_chunks::<8>();
        Some(Name(std::array::from_fn(|index| u64::from_le_bytes(words[index]))))
    }

    /// Where its search begins; the same for upper and lower case.
    #[inline]
    fn place(self, parent: Option<u16>) -> usize {
        let [first, second, third] = self.0.map(|word| word | CASE);
        let mixed = first ^ second.rotate_left(21) ^ third.rotate_left(42) ^ parent.map_or(0, |row| u64::from(row) + 1);
        name_place(mixed)
    }
}

/// A row with what is derived from it.
struct Row {
    spec: &'static Spec,
    name: Name,
    /// For each byte of the name, bit 5 if it is a letter: the two cases are the same.
    case: Name,
    full_name: String,
    /// The container's row; its own for commands.
    parent: u16,
}

/// A command with a short name and no subcommands, and the numbers of arguments that it takes.
#[derive(Clone, Copy, Default)]
struct Short {
    name: u64,
    case: u64,
    /// 0: nobody has this place.
    name_len: u8,
    row: u16,
    args_min: u32,
    args_max: u32,
}

/// All rows, and an open-addressing hash table from name to row.
struct Table {
    rows: Vec<Row>,
    places: Box<[u16; PLACES]>,
    /// What [`places`](Self::places) and the rows say of most commands, in one look.
    shorts: Box<[Short; PLACES]>,
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::build);
    &TABLE
}

impl Table {
    fn build() -> Self {
        let mut table =
            Table { rows: Vec::new(), places: Box::new([EMPTY; PLACES]), shorts: Box::new([Short::default(); PLACES]) };
        for spec in FAMILIES.iter().copied().flatten() {
            let parent = table.add(spec, spec.name.to_owned(), None);
            for subcommand in spec.subcommands {
                table.add(
                    subcommand,
                    format!("{}|{}", spec.name.trim_start(), subcommand.name.trim_start()),
                    Some(parent),
                );
            }
        }
        assert!(table.rows.len() * 4 <= PLACES, "{} commands in {PLACES} places", table.rows.len());
        assert!(table.rows.len() <= COMMANDS_MAX, "statistics have {COMMANDS_MAX} rows");
        table
    }

    fn add(&mut self, spec: &'static Spec, full_name: String, parent: Option<u16>) -> u16 {
        let Some(name) = Name::new(spec.name.as_bytes()) else { panic!("{full_name} is too long a name") };
        let letters: Vec<u8> = spec.name.bytes().map(|byte| u8::from(byte.is_ascii_alphabetic()) << 5).collect();
        let case = Name::new(&letters).expect("as long as the name");
        let row = self.rows.len() as u16;
        let parent_or_self = parent.unwrap_or(row);
        let mut place = name.place(parent);
        while self.places[place] != EMPTY {
            place = (place + 1) % PLACES;
        }
        self.places[place] = row;
        let is_short = spec.name.len() <= SHORT_BYTES_MAX && parent.is_none() && spec.subcommands.is_empty();
        if is_short && !spec.name.starts_with(' ') && !matches!(spec.run, Run::Container) {
            let args_min = spec.arity.unsigned_abs();
            let args_max = if spec.arity < 0 { u32::MAX } else { args_min };
            let (name_len, [name, ..], [case, ..]) = (spec.name.len() as u8, name.0, case.0);
            let short = &mut self.shorts[name_place(name)];
            if short.name_len == 0 {
                *short = Short { name, case, name_len, row, args_min, args_max };
            }
        }
        self.rows.push(Row { spec, name, case, full_name, parent: parent_or_self });
        row
    }

    /// Finds a command that most requests name, when it takes so many arguments; `None` says nothing.
    #[inline]
    fn find_short(&self, bytes: &[u8], args: usize) -> Option<CommandId> {
        let name = short_name(bytes)?;
        let short = &self.shorts[name_place(name)];
        let is_it = (name ^ short.name) & !short.case == 0 && usize::from(short.name_len) == bytes.len();
        let is_right = (short.args_min as usize..=short.args_max as usize).contains(&args);
        (is_it && is_right).then_some(CommandId(short.row))
    }

    /// Finds a name; `parent` is the container of a subcommand.
    #[inline]
    fn find(&self, name: &[u8], parent: Option<u16>) -> Option<u16> {
        let words = Name::new(name)?;
        let mut place = words.place(parent);
        loop {
            let row = self.places[place];
            let candidate = self.rows.get(row as usize)?;
            if candidate.parent == parent.unwrap_or(row) && candidate.is_called(name.len(), words) {
                return Some(row);
            }
            place = (place + 1) % PLACES;
        }
    }
}

impl Row {
    #[inline]
    fn is_called(&self, len: usize, words: Name) -> bool {
        let differs = |index: usize| (words.0[index] ^ self.name.0[index]) & !self.case.0[index];
        len == self.spec.name.len() && differs(0) | differs(1) | differs(2) == 0
    }
}

/// A request that fits no row.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The command, when it is only the arguments that are wrong.
    pub command: Option<CommandId>,
    /// The text of the error reply.
    pub text: Vec<u8>,
}

/// Finds the row for a request (resolving a subcommand) and checks the number of arguments.
///
/// # Errors
/// As Redis spells them: unknown command, unknown subcommand, wrong number of arguments.
#[inline]
pub fn find(args: Args<'_>) -> Result<CommandId, Unfit> {
    table().find_short(args.get(0), args.len()).map_or_else(|| find_any(args), Ok)
}

fn find_any(args: Args<'_>) -> Result<CommandId, Unfit> {
    let table = table();
    let name = args.get(0);
    let is_hidden = name.first() == Some(&b' ');
    let Some(command) = table.find(name, None).filter(|_| !is_hidden) else {
        return Err(Unfit { command: None, text: unknown_command(args) });
    };
    let mut id = CommandId(command);
    let mut spec = table.rows[command as usize].spec;
    if !spec.subcommands.is_empty() && args.len() > 1 {
        id = match table.find(args.get(1), Some(command)) {
            Some(subcommand) => CommandId(subcommand),
            None => return Err(Unfit { command: None, text: unknown_subcommand(id, args.get(1)) }),
        };
        spec = id.spec();
    }
    let (count, arity) = (args.len() as i32, spec.arity);
    let is_right = if arity < 0 { count >= -arity } else { count == arity };
    if is_right && !matches!(spec.run, Run::Container) {
        return Ok(id);
    }
    let text = format!("ERR wrong number of arguments for '{}' command", id.full_name());
    Err(Unfit { command: Some(id), text: text.into_bytes() })
}

/// The row of a command by its exact name; also finds the hidden rows, which clients cannot name.
///
/// # Panics
/// When there is no such row: a bug in the caller, who names it in the source.
pub fn hidden(name: &str) -> CommandId {
    CommandId(table().find(name.as_bytes(), None).expect("the name stands in the source"))
}

/// The row of a subcommand.
pub fn subcommand(of: CommandId, name: &[u8]) -> Option<CommandId> {
    table().find(name, Some(of.0)).map(CommandId)
}

/// The row of a command by what a client calls it, if it is one that clients may name.
pub fn lookup(name: &[u8]) -> Option<CommandId> {
    let (command, subcommand) = match memchr::memchr(b'|', name) {
        Some(bar) => (&name[..bar], Some(&name[bar + 1..])),
        None => (name, None),
    };
    let command = table().find(command, None).filter(|_| name.first() != Some(&b' '))?;
    match subcommand {
        Some(subcommand) => table().find(subcommand, Some(command)).map(CommandId),
        None => Some(CommandId(command)),
    }
}

/// All commands that clients may name, without their subcommands.
pub fn commands() -> impl Iterator<Item = CommandId> {
    let rows = table().rows.iter().enumerate();
    rows.filter(|(row, entry)| entry.parent as usize == *row && !entry.spec.name.starts_with(' '))
        .map(|(row, _)| CommandId(row as u16))
}

/// The subcommands of a command.
pub fn subcommands(of: CommandId) -> impl Iterator<Item = CommandId> {
    let rows = table().rows.iter().enumerate();
    rows.filter(move |(row, entry)| entry.parent == of.0 && *row != of.0 as usize).map(|(row, _)| CommandId(row as u16))
}

/// Every row, subcommands and the steps that only workers send each other included.
pub fn rows() -> impl Iterator<Item = CommandId> {
    (0..table().rows.len()).map(|row| CommandId(row as u16))
}

/// Most bytes of a name, and of all arguments together, that an error repeats.
const REPEATED_BYTES_MAX: usize = 128;

fn unknown_command(args: Args<'_>) -> Vec<u8> {
    let cut = |bytes: &[u8], room: usize| bytes[..bytes.len().min(room)].to_vec();
    let name = cut(args.get(0), REPEATED_BYTES_MAX);
    let mut begins = Vec::new();
    for arg in args.iter().skip(1) {
        if begins.len() >= REPEATED_BYTES_MAX {
            break;
        }
        begins.extend(repeating("'", &cut(arg, REPEATED_BYTES_MAX - begins.len()), "' "));
    }
    let mut text = repeating("ERR unknown command '", &name, "', with args beginning with: ");
    text.append(&mut begins);
    text
}

fn unknown_subcommand(container: CommandId, subcommand: &[u8]) -> Vec<u8> {
    let container = container.spec().name.to_ascii_uppercase();
    let subcommand = &subcommand[..subcommand.len().min(REPEATED_BYTES_MAX)];
    repeating("ERR unknown subcommand '", subcommand, &format!("'. Try {container} HELP."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Requests;

    fn found(name: &[u8], args: usize) -> (Option<CommandId>, Result<CommandId, Unfit>) {
        let mut request = Requests::default();
        request.push_copy(name);
        (1..args).for_each(|_| request.push_copy(b"x"));
        request.finish();
        let args = request.get(0, &[]);
        (table().find_short(name, args.len()), find_any(args))
    }

    #[test]
    fn names_that_people_see_have_no_blank_that_keeps_clients_from_them() {
        let subcommands = rows().map(CommandId::full_name).filter(|name| name.contains('|'));
        let blank = subcommands.filter(|name| name.starts_with(' ') || name.contains("| ")).collect::<Vec<_>>();
        assert_eq!(blank, Vec::<&str>::new());
    }

    #[test]
    fn what_only_a_cluster_has_is_not_for_one_key() {
        let keyed = rows().map(CommandId::spec).filter(|spec| matches!(spec.run, Run::Keyed(_)));
        assert!(keyed.fold(0, |count, spec| count + u32::from(!spec.flags.has(Flags::CLUSTER))) > 20);
        assert!(rows().all(|row| !matches!(row.spec().run, Run::Keyed(_)) || !row.spec().flags.has(Flags::CLUSTER)));
    }

    #[test]
    fn one_look_finds_nothing_else_than_the_search() {
        let mut shorts = 0;
        for spec in FAMILIES.iter().copied().flatten() {
            let lower = spec.name.as_bytes();
            let upper = lower.to_ascii_uppercase();
            for args in 1..6 {
                for name in [lower, &upper, &lower[1..], &[lower, b"x"].concat(), &[b"g", lower].concat()] {
                    let (short, any) = found(name, args);
                    assert!(short.is_none() || short == any.ok(), "{} {args}", name.escape_ascii());
                    shorts += usize::from(short.is_some());
                }
            }
        }
        assert!(shorts > 200, "{shorts}");
        for (name, args) in [("get", 2), ("SET", 3), ("Set", 5), ("del", 2), ("MGET", 9), ("incr", 2), ("expire", 3)] {
            assert!(found(name.as_bytes(), args).0.is_some(), "{name} is not found in one look");
        }
    }
}
