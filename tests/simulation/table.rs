//! Requests whose replies are the same whatever happens on the way: with any number of workers, however they arrive.

use corering::command::Front;

/// A request that any server answers, and its reply.
pub(crate) const PROBE: &str = "EXISTS nothing";
pub(crate) const PROBED: &[u8] = b":0\r\n";

/// One request or pipeline, and what has to be there before it.
pub(crate) struct Row {
    pub(crate) front: Front,
    /// RESP.
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

/// What differs from run to run: the client's id in a reply to HELLO; times, versions, tokens; and whether a client of
/// HTTP was told to go on, which depends on how its request arrives.
const DIFFERENT: &[(&[u8], u8)] = &[
    (b"$2\r\nid\r\n:", b'\r'),
    (b"\r\nDate: ", b'\r'),
    (b"\r\nETag: ", b'\r'),
    (b"\r\nAge: ", b'\r'),
    (b"\r\nCorering-Lease: token=", b'\r'),
    (b"HTTP/1.1 100 Continue\r\n", b'H'),
];

/// A reply without what differs from run to run.
pub(crate) fn comparable(reply: &[u8]) -> Vec<u8> {
    let mut rest = reply;
    let mut kept = Vec::new();
    // A mark begins with one of these.
    while let Some(at) = memchr::memchr3(b'$', b'\r', b'H', rest) {
        let (before, marked) = rest.split_at(at);
        kept.extend_from_slice(before);
        rest = marked;
        match DIFFERENT.iter().find(|(mark, _)| rest.starts_with(mark)) {
            Some((mark, end)) => {
                let len = memchr::memchr(*end, &rest[mark.len()..]);
                rest = &rest[len.map_or(rest.len(), |len| mark.len() + len)..];
            }
            None => {
                kept.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    kept.extend_from_slice(rest);
    kept
}

/// Small requests: each is worth being cut at every byte.
pub(crate) fn small() -> Vec<Row> {
    let row = |front: Front, setup: &str, request: Vec<u8>| Row { front, setup: encode(setup), request };
    let commands = COMMANDS.iter().map(|(setup, request)| row(Front::Resp, setup, encode(request)));
    let raw = RAW.iter().map(|(setup, request)| row(Front::Resp, setup, request.to_vec()));
    let memcache = MEMCACHE.iter().map(|(setup, request)| row(Front::Memcache, setup, lines(request)));
    let http = HTTP.iter().map(|(setup, request)| row(Front::Http, setup, http(request)));
    commands.chain(raw).chain(memcache).chain(http).collect()
}

/// Text with line ends for `|`.
fn lines(text: &str) -> Vec<u8> {
    text.replace('|', "\r\n").into_bytes()
}

/// The same with ` H` at the end of a request line for a version and a host, and ` L` for the length of the body that
/// ends at `^`; `'` is a quotation mark.
fn http(text: &str) -> Vec<u8> {
    let mut text = text.replace(" H|", " HTTP/1.1|Host: h|").replace('\'', "\"");
    while let Some(end) = text.find('^') {
        let at = text[..end].rfind(" L|").expect("a body has its length");
        let head = text[at..].find("||").expect("a head has its end") + at + 2;
        let len = end - head;
        text = format!(
            "{} HTTP/1.1|Host: h|Content-Length: {len}|{}{}",
            &text[..at],
            &text[at + 3..end],
            &text[end + 1..]
        );
    }
    lines(&text)
}

/// Values larger than a receive buffer, and than a connection holds.
pub(crate) fn big() -> Vec<Row> {
    let value = |len: usize| (0..len).map(|index| (index * 7 + index / 256) as u8).collect::<Vec<u8>>();
    let resp = |len| {
        let mut request = Vec::new();
        array(&mut request, [b"SET".as_slice(), b"big", &value(len)].into_iter());
        request.extend(encode("STRLEN big; GET big; APPEND big x; GETRANGE big -5 -1; MGET big none big; DEL big"));
        Row { front: Front::Resp, setup: Vec::new(), request }
    };
    let around = |front, before: String, value: Vec<u8>, after: &str| {
        let request = [before.into_bytes(), value, lines(after)].concat();
        Row { front, setup: Vec::new(), request }
    };
    let memcache = |len| {
        let after = "|mg big s v|append big 0 0 1|x|get big none big|delete big|";
        around(Front::Memcache, format!("set big 0 0 {len}\r\n"), value(len), after)
    };
    let put = "PUT /v1/keys/big HTTP/1.1\r\nHost: h\r\n";
    const GET: &str = "GET /v1/keys/big HTTP/1.1|Host: h||";
    let counted = |len| {
        around(Front::Http, format!("{put}Expect: 100-continue\r\nContent-Length: {len}\r\n\r\n"), value(len), GET)
    };
    let chunked = |len| {
        let before = format!("{put}Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n");
        around(Front::Http, before, value(len), &format!("|1;a|x|0||{GET}"))
    };
    let lens = [3000, 5000, 17_000, 100_000];
    let others = [5000, 100_000];
    let rows = lens.map(resp).into_iter().chain(others.map(memcache)).chain(others.map(counted));
    rows.chain(others.map(chunked)).collect()
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

const MEMCACHE: &[(&str, &str)] = &[
    ("SET k v", "get k none k|mg k v f t s k|gat 100 k|touch k 100|touch none 1|delete k|delete k|"),
    (
        "",
        "set a 5 0 3|abc|add a 0 0 1|x|append a 0 0 2|de|prepend a 0 0 1 noreply|_|\
            get a|replace b 0 0 1|x|cas a 0 0 1 1|x|",
    ),
    ("", "ms b 3 F7|xyz|mg b s v f O123 k|ms b 1 ME|q|ms b 2 MA q|qq|mg b v|md b q|mg b v|mg b v q|mn|"),
    ("SET n 10", "incr n 5|decr n 20|incr none 1|ma n N0 J7 t v|ma m N0 J7 v|ma m D3 v q|decr n x|"),
    ("", "mg k v N30|mg k v N30|ms k 2 T60|hi|mg k v t|md k I|mg k v|mg k v|"),
    ("", "ms YQ== 1 b k|x|mg YQ== b k v|get a|mg !! b|me a b c|"),
    ("", "set a 0 0 3|abcxxset a 0 0 1 noreply|xyzms a 1 !|xyzget a|"),
    ("", "nonsense|get|set a|set a x 0 1|set a 0 0 -1|ms|mg|  |version|verbosity 1|flush_all|get a|quit|get a|"),
    ("MSET a 1 b 2 c 3 d 4", "get d c b a|flush_all noreply|gets a b c d|"),
];

const HTTP: &[(&str, &str)] = &[
    (
        "SET k v",
        "GET /v1/keys/k H||HEAD /v1/keys/k H||GET /v1/keys/none H||GET /v1/keys/k HTTP/1.0|Connection: keep-alive||",
    ),
    (
        "",
        "PUT /v1/keys/a%20b L|Content-Type: text/plain||hello^GET /v1/keys/a%20b H||\
            PUT /v1/keys/a%20b L||^GET /v1/keys/a%20b H||",
    ),
    ("", "PUT /v1/keys/c H|Transfer-Encoding: chunked||3|abc|2;x=y|de|0|T: x||GET /v1/keys/c H||"),
    ("", "PUT /v1/keys/e L|Expect: 100-continue||hello^GET /v1/keys/e H||DELETE /v1/keys/e H||DELETE /v1/keys/e H||"),
    (
        "SET k v",
        "PUT /v1/keys/k?nx L||w^PUT /v1/keys/n?nx L||x^\
            PUT /v1/keys/k?xx L||y^PUT /v1/keys/k L|If-Match: '1'||z^GET /v1/keys/k H|If-None-Match: *||",
    ),
    (
        "SET n 5",
        "POST /v1/keys/n/incr?by=3 H||POST /v1/keys/n/incr H||POST /v1/keys/n/incr?by=x H||GET /v1/keys/n/ttl H||",
    ),
    (
        "MSET a 1 b 2 c 3",
        "POST /v1/mget L||{'keys':['c','none','a','b']}^\
            POST /v1/mset L||{'items':[{'key':'a','value':7},{'key':'d','value':'x'}]}^POST /v1/mget L||{^",
    ),
    (
        "SET a 1",
        "POST /v1/commands L||[['incr','a'],['get','b'],['mget','a','b','c'],\
            ['nope'],['del','a','b'],['get','a']]^GET /v1/keys/a H||",
    ),
    (
        "SET a 1",
        "POST /v1/commands L|Accept: application/x-ndjson||[['incr','a'],['auth'],\
            ['rename','a','b']]^GET /v1/keys/b H||",
    ),
    (
        "",
        "GET /v1/keys/l H|Corering-Lease: take||GET /v1/keys/l H|Corering-Lease: take||\
            PUT /v1/keys/l L|Corering-Lease: 1||x^",
    ),
    (
        "SET k v",
        "OPTIONS * H||OPTIONS /v1/keys/k H||BREW /v1/keys/k H||GET /nowhere H||GET /v1/keys/k H|Origin: http://other||",
    ),
    ("SET k v", "GET /v1/keys/k H|Connection: close||GET /v1/keys/k H||"),
    ("SET k v", "GET /v1/keys/k H||GET /v1/keys/k H|Host: i||GET /v1/keys/k H||"),
    ("SET k v", "PUT /v1/keys/k H|Content-Length: 1|Transfer-Encoding: chunked||0||GET /v1/keys/k H||"),
    ("", "PUT /v1/keys/k H|Transfer-Encoding: chunked||x|GET /v1/keys/k H||"),
];
