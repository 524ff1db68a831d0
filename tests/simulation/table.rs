//! Requests whose replies are the same whatever happens on the way: with any number of workers, however they arrive.

/// A request that any server answers, and its reply.
pub(crate) const PROBE: &str = "EXISTS nothing";
pub(crate) const PROBED: &[u8] = b":0\r\n";

/// One request or pipeline, and what has to be there before it.
pub(crate) struct Row {
    pub(crate) setup: Vec<u8>,
    pub(crate) request: Vec<u8>,
}

/// Commands as RESP arrays: `;` separates commands, a space words; `%` is an empty word, `~` a line end.
pub(crate) fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in text.split(';').map(str::trim).filter(|command| !command.is_empty()) {
        let words: Vec<String> = command.split(' ').map(|word| word.replace('%', "").replace('~', "\r\n")).collect();
        array(&mut bytes, words.iter().map(String::as_bytes));
    }
    bytes
}

/// Appends a request of these words.
pub(crate) fn array<'a>(bytes: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    bytes.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
}

/// The client's id in a reply to HELLO differs from connection to connection.
pub(crate) fn without_id(reply: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = reply.windows(ID.len()).position(|window| window == ID) else { return reply.to_vec() };
    let (before, rest) = reply.split_at(at + ID.len());
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    [before, &without_id(&rest[digits..])].concat()
}

/// Small requests: each is worth being cut at every byte.
pub(crate) fn small() -> Vec<Row> {
    let encoded = COMMANDS.iter().map(|(setup, request)| (*setup, encode(request)));
    let raw = RAW.iter().map(|(setup, request)| (*setup, request.to_vec()));
    encoded.chain(raw).map(|(setup, request)| Row { setup: encode(setup), request }).collect()
}

/// Values larger than a receive buffer, and than a connection holds.
pub(crate) fn big() -> Vec<Row> {
    let value = |len: usize| (0..len).map(|index| (index * 7 + index / 256) as u8).collect::<Vec<u8>>();
    let row = |len| {
        let mut request = Vec::new();
        array(&mut request, [b"SET".as_slice(), b"big", &value(len)].into_iter());
        request.extend(encode("STRLEN big; GET big; APPEND big x; GETRANGE big -5 -1; MGET big none big; DEL big"));
        Row { setup: Vec::new(), request }
    };
    [3000, 5000, 17_000, 100_000].into_iter().map(row).collect()
}

const COMMANDS: &[(&str, &str)] = &[
    ("SET k v", "GETLEASE k; GETLEASE k WAIT 5; GETLEASE k NONSENSE 1; SETLEASE k 1 w; SETLEASE none 1 w FRESH 5"),
    ("SET k v", "GETVERSION none; SET k w IFEQ v; SET k x IFEQ v; SET k x IFEQ w GET; SET k y IFVERSION 1"),
    ("", "PING; PING hello; ECHO there; ECHO %"),
    ("", "SELECT 0; SELECT 1; SELECT x"),
    ("SET k v", "GET k; GET none; get k; gEt k"),
    ("", "SET k v; GET k; SET k %; GET k"),
    ("SET k v", "SET k w NX; SET n w NX; SET k w XX; SET m w XX; MGET k n m"),
    ("SET k v", "SET k w GET; SET k x KEEPTTL; SET k y EX 100 GET; TTL k; SET k z PX 100000; TTL k"),
    ("", "SET k v EXAT 2100000000; EXPIRETIME k; SET k v PXAT 2100000000123; PEXPIRETIME k"),
    ("", "SET k v EX 0; SET k v EX x; SET k v EX 10 PX 10; SET k v WHAT; SET k"),
    ("", "SETEX k 100 v; TTL k; PSETEX k 100000 w; TTL k; SETEX k 0 v; GET k"),
    ("SET k v", "SETNX k w; SETNX n w; GETSET k x; GETSET m y; GETDEL k; GETDEL k"),
    ("SET k v", "GETEX k; GETEX k EX 100; TTL k; GETEX k PERSIST; TTL k; GETEX none"),
    ("MSET a 1 b 2 c 3 d 4", "MGET a b c d e; MGET a; MGET e f a a"),
    ("", "MSET a 1 b 2 c 3 d 4 e 5 f 6; MGET f e d c b a; MSET a; MSET a 1 b"),
    ("SET {t}a 1", "MSETNX {t}a 2 {t}b 3; MSETNX {t}c 1 {t}d 2; MGET {t}a {t}b {t}c {t}d"),
    ("SET k abc", "APPEND k def; STRLEN k; APPEND n x; STRLEN n; STRLEN none"),
    ("SET k abcdef", "GETRANGE k 1 3; GETRANGE k -3 -1; SUBSTR k 0 0; GETRANGE k 5 1; GETRANGE k x 1"),
    ("SET k abcdef", "SETRANGE k 2 XY; GET k; SETRANGE k 8 Z; GET k; SETRANGE k -1 Z; SETRANGE n 0 %"),
    ("SET n 10", "INCR n; DECR n; INCRBY n 5; DECRBY n 3; INCR m; INCRBY n x; GET n"),
    ("SET n 9223372036854775807; SET s x", "INCR n; INCR s; DECRBY n -9223372036854775808"),
    ("SET f 1.5", "INCRBYFLOAT f 0.25; INCRBYFLOAT f -1e1; INCRBYFLOAT g 3; INCRBYFLOAT f x"),
    ("MSET a 1 b 2 c 3", "DEL a b none; DEL a; UNLINK c; DEL"),
    ("MSET a 1 b 2 c 3", "EXISTS a b c d a; TOUCH a d; EXISTS none; TOUCH none"),
    ("SET k v", "EXPIRE k 100; TTL k; EXPIRE none 100; PERSIST k; TTL k; PERSIST k; TTL none; PTTL none"),
    ("SET k v", "PEXPIRE k 100000; TTL k; EXPIRE k -1; GET k; EXPIRE k x"),
    ("SET k v", "EXPIREAT k 2100000000 NX; EXPIREAT k 2200000000 NX; EXPIREAT k 2200000000 GT; EXPIRETIME k"),
    ("SET k v EXAT 2100000000", "PEXPIREAT k 2050000000000 LT; PEXPIRETIME k; EXPIREAT k 2100000000 XX; EXPIRETIME k"),
    ("SET k v", "TYPE k; TYPE none; EXISTS k; DBSIZE"),
    ("SET a 1", "RENAME a b; GET b; RENAME none x; RENAMENX b c; GET c; EXISTS a b"),
    ("MSET a 1 b 2", "RENAMENX a b; RENAME a b; MGET a b; RENAME b b"),
    ("MSET a 1 b 2", "COPY a c; COPY a b; COPY a b REPLACE; MGET a b c; COPY none x"),
    ("SET only 1", "RANDOMKEY; KEYS *; KEYS x*; DBSIZE"),
    ("MSET a 1 b 2 c 3", "DBSIZE; FLUSHDB; DBSIZE; GET a"),
    ("MSET a 1 b 2 c 3", "FLUSHALL ASYNC; DBSIZE; FLUSHALL SYNC; FLUSHALL WHAT"),
    ("", "NOSUCH a b c; GET; GET a b; EXPIRE k; CLIENT NOSUCH; nosuch"),
    ("", "SET k a~b; GET k; STRLEN k"),
    ("MSET a 1 b 2", "MGET a b none; HELLO 3; MGET a b none; GET none; SET a x GET; HELLO 2; GET none"),
    ("", "HELLO 9; HELLO x; HELLO 3 SETNAME me; GET none; PING"),
    ("", "SET a 1; SET b 2; SET c 3; GET a; GET b; GET c; RENAME a d; GET d; DEL b; MGET a b c d; INCR c; GET c"),
    ("", "SET k v; QUIT; GET k"),
];

const RAW: &[(&str, &[u8])] = &[
    ("SET k v", b"GET k\r\nGET   k  \r\nPING\n\r\n\r\nGET 'k'\r\nSET \"a b\" '\\x41'\r\n"),
    ("", b"SET k \"\\x00\\n\\\"q\\\"\"\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nEXISTS k\r\n"),
    ("", b"*0\r\n*-1\r\nPING\r\n"),
    ("", b"PING\r\n*abc\r\nPING\r\n"),
    ("", b"PING\r\n*1000000000\r\nPING\r\n"),
    ("", b"PING\r\n*1\r\n$-5\r\nPING\r\n"),
    ("", b"PING\r\n*1\r\n$999999999999\r\nPING\r\n"),
    ("", b"*2\r\n$3\r\nGET\r\nxyz\r\n"),
    ("", b"PING\r\nSET \"unbalanced value\r\nPING\r\n"),
    ("", b"\x00\xff garbage \x7f\r\nPING\r\n"),
];
