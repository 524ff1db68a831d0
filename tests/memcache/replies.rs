//! Every command and every flag: what is asked, and what the specification says that the answer is.

use crate::server::{Client, Fronts};

/// Runs rows on one connection, with one worker and with three. `|` is a line end; `$n` in an answer stands for a
/// version and in a later request for that version.
fn assert_rows(rows: &[(&str, &str)]) {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.memcache();
        let mut versions = Versions::default();
        for (request, expected) in rows {
            let heard = client.words(&versions.fill(request));
            versions.assert_matches(&heard, expected, request);
        }
        fronts.server.stop();
    }
}

/// Versions that were heard, by the number that the rows give them.
#[derive(Default)]
struct Versions(Vec<Option<String>>);

impl Versions {
    fn fill(&self, request: &str) -> String {
        let mut filled = request.to_owned();
        for (number, version) in self.0.iter().enumerate() {
            if let Some(version) = version {
                filled = filled.replace(&format!("${number}"), version);
            }
        }
        filled
    }

    fn assert_matches(&mut self, heard: &str, expected: &str, request: &str) {
        let (mut heard_words, mut expected_words) = (words(heard), words(expected));
        assert_eq!(heard_words.len(), expected_words.len(), "{request}: {heard}, not {expected}");
        for (heard_word, expected_word) in heard_words.iter_mut().zip(&mut expected_words) {
            let Some((before, number)) = expected_word.split_once('$') else { continue };
            let number: usize = number.parse().expect("the row says a number");
            let version = heard_word.strip_prefix(before).unwrap_or_else(|| panic!("{request}: {heard}"));
            assert!(version.parse::<u64>().is_ok_and(|version| version > 0), "{request}: {heard}");
            self.0.resize(self.0.len().max(number + 1), None);
            match &self.0[number] {
                Some(known) => assert_eq!(known, version, "{request}: {heard}"),
                None => self.0[number] = Some(version.to_owned()),
            }
            *heard_word = "";
            *expected_word = "";
        }
        assert_eq!(heard_words, expected_words, "{request}: {heard}, not {expected}");
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split([' ', '|']).collect()
}

#[test]
fn classic_commands() {
    assert_rows(&[
        ("get a", "END"),
        ("set a 5 0 3|one", "STORED"),
        ("get a", "VALUE a 5 3|one|END"),
        ("set b 0 0 0|", "STORED"),
        ("set c 4294967295 0 4 noreply|c|d", ""),
        ("get a missing b c", "VALUE a 5 3|one|VALUE b 0 0||VALUE c 4294967295 4|c|d|END"),
        ("add a 0 0 1|x", "NOT_STORED"),
        ("add d 0 0 1|x", "STORED"),
        ("replace e 0 0 1|x", "NOT_STORED"),
        ("replace d 7 0 2|yy", "STORED"),
        ("append d 9 0 1|z", "STORED"),
        ("prepend d 9 0 2|ab", "STORED"),
        ("get d", "VALUE d 7 5|abyyz|END"),
        ("append e 0 0 1|x", "NOT_STORED"),
        ("prepend e 0 0 1|x", "NOT_STORED"),
        ("delete d", "DELETED"),
        ("delete d", "NOT_FOUND"),
        ("delete a 0", "DELETED"),
        ("delete b noreply", ""),
        ("delete c 1", "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"),
        ("get a b", "END"),
        ("touch c 100", "TOUCHED"),
        ("touch a 100", "NOT_FOUND"),
        ("touch c 100 noreply", ""),
        ("touch c x", "CLIENT_ERROR invalid exptime argument"),
        ("mg c t", "HD t100"),
        ("gat 200 c a", "VALUE c 4294967295 4|c|d|END"),
        ("mg c t", "HD t200"),
        ("gat x c", "CLIENT_ERROR invalid exptime argument"),
        ("verbosity 1", "OK"),
        ("verbosity 1 noreply", ""),
        ("version", "VERSION 1.6.18"),
        ("nonsense", "ERROR"),
        ("GET a", "ERROR"),
        ("get", "ERROR"),
        ("", "ERROR"),
        ("set a 0 0", "ERROR"),
        ("set a 0 0 1 noreply more", "ERROR"),
        ("set a x 0 1", "CLIENT_ERROR bad command line format"),
        ("set a 0 0 -1", "CLIENT_ERROR bad command line format"),
        ("set a 0 0 1|xyz", "CLIENT_ERROR bad data chunk|ERROR"),
        ("set a\tb 0 0 1", "CLIENT_ERROR bad command line format"),
        ("shutdown", "ERROR: shutdown not enabled"),
        ("flush_all", "OK"),
        ("get c", "END"),
    ]);
}

#[test]
fn versions_tell_whether_an_item_has_changed() {
    assert_rows(&[
        ("cas a 0 0 1 1|x", "NOT_FOUND"),
        ("set a 3 0 1|1", "STORED"),
        ("gets a", "VALUE a 3 1 $0|1|END"),
        ("gets a", "VALUE a 3 1 $0|1|END"),
        ("cas a 4 0 1 $0|2", "STORED"),
        ("cas a 4 0 1 $0|3", "EXISTS"),
        ("cas a 4 0 1 $0 noreply|3", ""),
        ("gets a", "VALUE a 4 1 $1|2|END"),
        ("set a 4 0 1|2", "STORED"),
        ("cas a 4 0 1 $1|3", "EXISTS"),
        ("gats 100 a", "VALUE a 4 1 $2|2|END"),
        ("touch a 50", "TOUCHED"),
        ("gets a", "VALUE a 4 1 $2|2|END"),
        ("append a 0 0 1|x", "STORED"),
        ("cas a 4 0 1 $2|3", "EXISTS"),
        ("delete a", "DELETED"),
        ("set a 4 0 1|2", "STORED"),
        ("cas a 4 0 1 $2|3", "EXISTS"),
        ("set n 0 0 1|1", "STORED"),
        ("gets n", "VALUE n 0 1 $3|1|END"),
        ("incr n 1", "2"),
        ("cas n 0 0 1 $3|9", "EXISTS"),
        ("cas n 0 0 1 x", "CLIENT_ERROR bad command line format"),
        ("cas n 0 0 1", "ERROR"),
    ]);
}

#[test]
fn numbers_wrap_upwards_and_end_at_0_downwards() {
    assert_rows(&[
        ("incr n 1", "NOT_FOUND"),
        ("set n 6 0 2|10", "STORED"),
        ("incr n 5", "15"),
        ("decr n 6", "9"),
        ("get n", "VALUE n 6 2|9 |END"),
        ("decr n 100", "0"),
        ("incr n 100 noreply", ""),
        ("get n", "VALUE n 6 3|100|END"),
        ("incr n 18446744073709551615", "99"),
        ("set n 0 0 20|18446744073709551615", "STORED"),
        ("incr n 3", "2"),
        ("incr n 18446744073709551616", "CLIENT_ERROR invalid numeric delta argument"),
        ("incr n -1", "CLIENT_ERROR invalid numeric delta argument"),
        ("incr n +1", "3"),
        ("incr n +", "CLIENT_ERROR invalid numeric delta argument"),
        ("set s 0 0 1|x", "STORED"),
        ("incr s 1", "CLIENT_ERROR cannot increment or decrement non-numeric value"),
        ("set s 0 0 21|100000000000000000000", "STORED"),
        ("decr s 1", "CLIENT_ERROR cannot increment or decrement non-numeric value"),
        ("incr n", "ERROR"),
    ]);
}

#[test]
fn times_are_relative_up_to_30_days_and_absolute_above() {
    assert_rows(&[
        ("set a 0 -1 1|x", "STORED"),
        ("get a", "END"),
        ("set a 0 2592000 1|x", "STORED"),
        ("mg a t", "HD t2592000"),
        ("set a 0 2592001 1|x", "STORED"),
        ("get a", "END"),
        ("set a 0 0 1|x", "STORED"),
        ("mg a t", "HD t-1"),
        ("touch a -1", "TOUCHED"),
        ("get a", "END"),
        ("set a 0 4294967295 1|x", "STORED"),
        ("touch a 4102444800", "TOUCHED"),
        ("get a", "VALUE a 0 1|x|END"),
        ("touch a 4294967296", "CLIENT_ERROR invalid exptime argument"),
        ("gat -1 a", "VALUE a 0 1|x|END"),
        ("get a", "END"),
        ("set a 0 100 1|x", "STORED"),
        ("append a 0 0 1|y", "STORED"),
        ("mg a t v", "VA 2 t100|xy"),
        ("gat 0 a", "VALUE a 0 2|xy|END"),
        ("mg a t", "HD t-1"),
    ]);
}

#[test]
fn meta_get_returns_what_its_flags_ask_for() {
    assert_rows(&[
        ("mg a", "EN"),
        ("mg a v", "EN"),
        ("mg a v q", ""),
        ("mg a k O77", "EN ka O77"),
        ("ms a 5 F3 T100|value", "HD"),
        ("mg a", "HD"),
        ("mg a v", "VA 5|value"),
        ("mg a s v t f k Oxy", "VA 5 s5 t100 f3 ka Oxy|value"),
        ("mg a f t s", "HD f3 t100 s5"),
        ("mg a c", "HD c$0"),
        ("mg a v q c", "VA 5 c$0|value"),
        ("ms h 1|x", "HD"),
        ("mg h h l u", "HD h0 l0"),
        ("mg h h", "HD h0"),
        ("mg h h", "HD h1"),
        ("ms h 1|x", "HD"),
        ("mg h h u", "HD h0"),
        ("mg a T200 t", "HD t200"),
        ("mg a t T300", "HD t200"),
        ("mg a t", "HD t300"),
        ("mg a P1 Lpath v", "VA 5|value"),
        ("ms b 1 F7|x", "HD"),
        ("mg b c", "HD c$1"),
        ("mg b T-1 v f s c", "VA 1 f7 s1 c$1|x"),
        ("mg b v", "EN"),
        ("mg a Tx O12345678901234567890123456789012", "CLIENT_ERROR bad token in command line format"),
        ("ms Zm9v 3 b|bin", "HD"),
        ("mg Zm9v b k v", "VA 3 kZm9v b|bin"),
        ("get foo", "VALUE foo 0 3|bin|END"),
        ("mg Zm9 b", "CLIENT_ERROR error decoding key"),
        ("mg a v v", "CLIENT_ERROR duplicate flag"),
        ("mg a !", "CLIENT_ERROR invalid flag"),
        ("mg a Tx", "CLIENT_ERROR bad token in command line format"),
        ("mg a O12345678901234567890123456789012", "CLIENT_ERROR opaque token too long"),
        ("mg a b c f h k l q s t u v I O P L N1 R1 F1 C1", "CLIENT_ERROR options flags are too long"),
        ("mg", "ERROR"),
    ]);
}

#[test]
fn keys_are_spelt_as_they_were_stored() {
    assert_rows(&[
        ("ms Zm9v 1 b k|1", "HD kZm9v b"),
        ("mg foo k v", "VA 1 kZm9v b|1"),
        ("mg Zm9v b k O1", "HD kZm9v b O1"),
        ("md foo k C1", "EX kfoo"),
        ("touch foo 100", "TOUCHED"),
        ("mg foo k", "HD kZm9v b"),
        ("ma foo k", "HD kfoo"),
        ("mg foo k", "HD kZm9v b"),
        ("ma Zm9v b k D9", "HD kZm9v b"),
        ("mg Zm9v b k", "HD kfoo"),
        ("ms Zm9v 1 b MS|x", "HD"),
        ("append foo 0 0 1|y", "STORED"),
        ("mg Zm9v b k", "HD kfoo"),
        // Bits that stand for nothing.
        ("ms Zh== 1 b k|x", "HD kZg== b"),
        ("mg Zi== b k", "HD kZg== b"),
        ("mg Zg== b k", "HD kZg== b"),
        ("mg aw== b k q", ""),
        ("mg a3== b k", "EN kaw== b"),
        ("mg aw== b k N0", "HD kk W"),
        ("set f 0 0 1|x", "STORED"),
        ("mg Zg== b k", "HD kf"),
        // It would end the line.
        ("mg DQo= b k N0", "HD kDQo= b W"),
    ]);
}

#[test]
fn meta_set_in_every_mode() {
    assert_rows(&[
        ("ms a 1|x", "HD"),
        ("ms a 1 k O1 b|x", "CLIENT_ERROR error decoding key"),
        ("ms a 1 c k Oq|1", "HD c$0 ka Oq"),
        ("ms a 1 q|2", ""),
        ("ms a 2 MS F9 T50 s|ab", "HD s2"),
        ("ms a 1 ME|x", "NS"),
        ("ms b 1 ME|x", "HD"),
        ("ms b 1 ME q|x", "NS"),
        ("ms c 1 MR|x", "NS"),
        ("ms b 1 MR|y", "HD"),
        ("ms b 1 MA|z", "HD"),
        ("ms b 1 MP|w", "HD"),
        ("ms c 1 MA|z", "NS"),
        ("ms c 1 MP|z", "NS"),
        ("mg b v", "VA 3|wyz"),
        ("mg a v f t", "VA 2 f9 t50|ab"),
        ("mg a c", "HD c$1"),
        ("ms a 1 C$0|x", "EX"),
        ("ms a 1 C$1 c|x", "HD c$2"),
        ("ms a 1 C$1 MA|x", "EX"),
        ("ms a 1 C$2 MA|y", "HD"),
        ("ms c 1 C1|x", "NF"),
        ("ms c 1 C1 MR|x", "NF"),
        ("ms a 1 MZ|x", "CLIENT_ERROR invalid mode for ms M token"),
        ("ms a 1 MEE|x", "CLIENT_ERROR incorrect length for M token"),
        ("ms d 1 T-1 c|x", "HD c$3"),
        ("mg d v", "EN"),
        ("ms a 1 I C0|x", "EX"),
        ("ms a 1 E77|e", "HD"),
        ("mg a v c", "VA 1 c77|e"),
        ("ms a 1 C77 E78|f", "HD"),
        ("mg a v c", "VA 1 c78|f"),
        ("ms a", "CLIENT_ERROR bad command line format"),
        ("ms a x", "CLIENT_ERROR bad command line format"),
        ("ms a 1 Fx|x", "CLIENT_ERROR bad command line format"),
        ("ms a 3|abcd", "CLIENT_ERROR bad data chunk|ERROR"),
        ("ms", "ERROR"),
    ]);
}

#[test]
fn meta_delete_and_invalidate() {
    assert_rows(&[
        ("md a", "NF"),
        ("md a q", "NF"),
        ("md a k O1", "NF ka O1"),
        ("ms a 1|x", "HD"),
        ("mg a c", "HD c$0"),
        ("md a C1", "EX"),
        ("md a C$0 k", "HD ka"),
        ("mg a", "EN"),
        ("ms a 1|x", "HD"),
        ("md a q", ""),
        ("mg a", "EN"),
        ("ms a 1 T100|x", "HD"),
        ("mg a c", "HD c$1"),
        ("md a I T30", "HD"),
        ("mg a v t c", "VA 1 t30 c$2 X W|x"),
        ("mg a v", "VA 1 Z X|x"),
        ("mg a v", "VA 1 Z X|x"),
        ("ms a 1 C$1|n", "EX"),
        ("ms a 1 I C$1 T90|n", "HD"),
        ("mg a v t", "VA 1 t30 Z X|n"),
        ("ms a 1|f", "HD"),
        ("mg a v t", "VA 1 t-1|f"),
        ("ms a 3 F5 T60|old", "HD"),
        ("md a x", "HD"),
        ("mg a v f t", "VA 0 f0 t60|"),
        ("md Zm9v b k", "NF kZm9v b"),
        ("md a !", "CLIENT_ERROR invalid or duplicate flag"),
    ]);
}

#[test]
fn one_client_wins_the_recache() {
    assert_rows(&[
        ("mg a N30 v t", "VA 0 t30 W|"),
        ("mg a N30 v t", "VA 0 t30 Z|"),
        ("mg a v", "VA 0 Z|"),
        ("get a", "VALUE a 0 0||END"),
        ("add a 0 0 1|x", "NOT_STORED"),
        ("mg a c", "HD c$0 Z"),
        ("ms a 1 C$0 T100|v", "HD"),
        ("mg a N30 v", "VA 1|v"),
        ("mg a R30 v", "VA 1|v"),
        ("mg a R200 v", "VA 1 W|v"),
        ("mg a R200 v", "VA 1 Z|v"),
        ("mg a v", "VA 1 Z|v"),
        ("ms a 1 T100|w", "HD"),
        ("mg a R200 T500 v t", "VA 1 t500 W|w"),
        ("ms a 1|w", "HD"),
        ("mg a R200 v", "VA 1|w"),
    ]);
}

#[test]
fn meta_arithmetic() {
    assert_rows(&[
        ("ma n", "NF"),
        ("set p 0 0 20|18446744073709551615", "STORED"),
        ("incr p 1", "0"),
        ("append p 0 0 50|wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", "STORED"),
        ("incr p 7", "7"),
        ("mg p s", "HD s70"),
        ("ma n q", "NF"),
        ("ma n k O1", "NF kn O1"),
        ("ma n N60 J13 v t", "VA 2 t60|13"),
        ("ma n N60 J13 v t", "VA 2 t60|14"),
        ("ma n D6 v", "VA 2|20"),
        ("ma n MD v", "VA 2|19"),
        ("ma n M- D9 v", "VA 2|10"),
        ("ma n M+ v", "VA 2|11"),
        ("ma n MI D1 v", "VA 2|12"),
        ("ma n MD D100 v", "VA 1|0"),
        ("ma n q", ""),
        ("ma n T90 t", "HD t90"),
        ("ma n c", "HD c$0"),
        ("ma n C$0 c v", "VA 1 c$1|4"),
        ("ma n C$0", "EX"),
        ("ma n k Oo", "HD kn Oo"),
        ("ma n E99 c", "HD c99"),
        ("ma n MX", "CLIENT_ERROR invalid mode for ma M token"),
        ("ma n Dx", "CLIENT_ERROR invalid or duplicate flag"),
        ("ms s 1|x", "HD"),
        ("ma s", "CLIENT_ERROR cannot increment or decrement non-numeric value"),
        ("ma bg== b v k", "VA 1 kbg== b|7"),
    ]);
}

#[test]
fn meta_debug_tells_what_is_known() {
    let fronts = Fronts::with_workers(2);
    let mut client = fronts.memcache();
    assert_eq!(client.words("me a"), "EN");
    assert_eq!(client.words("set a 0 100 1|x"), "STORED");
    let heard = client.words("me a");
    for part in ["ME a ", "exp=-100 ", "la=0 ", "cas=", "fetch=no ", "cls=1 ", "size="] {
        assert!(heard.contains(part), "{heard}");
    }
    assert!(client.words("me YQ== b").starts_with("ME a exp="));
    assert_eq!(client.words("ms YQ== 1 b|x"), "HD");
    assert!(client.words("me a").starts_with("ME YQ== exp="));
    assert_eq!(client.words("get a"), "VALUE a 0 1|x|END");
    assert!(client.words("me a").contains(" fetch=yes "));
    assert_eq!(client.words("me"), "CLIENT_ERROR bad command line format");
    fronts.server.stop();
}

#[test]
fn statistics_in_their_groups() {
    let fronts = Fronts::with_workers(2);
    let mut client = fronts.memcache();
    client.words("set a 0 0 1|x");
    client.words("get a b c");
    let figure = |client: &mut Client, group: &str, name: &str| {
        let heard = client.words(&format!("stats{group}"));
        assert!(heard.ends_with("|END"), "{heard}");
        let line = heard.split('|').find_map(|line| line.strip_prefix(&format!("STAT {name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name} in {heard}"))
    };
    assert_eq!(figure(&mut client, "", "version"), "1.6.18");
    assert_eq!(figure(&mut client, "", "threads"), "2");
    assert_eq!(figure(&mut client, "", "curr_items"), "1");
    assert_eq!(figure(&mut client, "", "get_hits"), "1");
    assert_eq!(figure(&mut client, "", "get_misses"), "2");
    assert_eq!(figure(&mut client, "", "cmd_set"), "1");
    assert_eq!(figure(&mut client, " settings", "tcpport"), fronts.memcache_port.to_string());
    assert_eq!(figure(&mut client, " items", "items:1:number"), "1");
    assert_eq!(figure(&mut client, " slabs", "1:used_chunks"), "1");
    assert!(client.words("stats conns").contains(":addr tcp:127.0.0.1:"));
    assert_eq!(client.words("stats reset"), "RESET");
    assert_eq!(figure(&mut client, "", "cmd_set"), "0");
    assert_eq!(client.words("stats nonsense"), "ERROR");
    fronts.server.stop();
}

#[test]
fn one_keyspace_with_resp() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let (mut memcache, mut resp) = (fronts.memcache(), fronts.resp());
        for key in 0..20 {
            assert_eq!(memcache.words(&format!("set m{key} 7 100 2|m{}", key % 10)), "STORED");
            assert_eq!(resp.resp(&format!("GET m{key}"), 2), format!("$2|m{}", key % 10));
            assert_eq!(resp.resp(&format!("SET r{key} r{key} EX 50"), 1), "+OK");
            let len = format!("r{key}").len();
            assert_eq!(memcache.words(&format!("mg r{key} v t")), format!("VA {len} t50|r{key}"));
        }
        let version = memcache.words("gets m1");
        let version = version.split([' ', '|']).nth(4).unwrap().to_owned();
        assert_eq!(resp.resp("SET m1 m1", 1), "+OK");
        assert_eq!(memcache.words(&format!("cas m1 0 0 1 {version}|x")), "EXISTS");
        assert_eq!(memcache.words("get m1"), "VALUE m1 0 2|m1|END");
        // Without a value it is missing to RESP.
        assert_eq!(memcache.words("mg stub N100 v"), "VA 0 W|");
        assert_eq!(resp.resp("GET stub", 1), "$-1");
        assert_eq!(resp.resp("EXISTS stub", 1), ":0");
        assert_eq!(resp.resp("TTL stub", 1), ":-2");
        assert_eq!(resp.resp("SET stub new NX", 1), "+OK");
        assert_eq!(memcache.words("mg stub v t"), "VA 3 t-1|new");
        fronts.server.stop();
    }
}

#[test]
fn everything_is_deleted_after_a_delay() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.memcache();
        for key in 0..10 {
            client.words(&format!("set k{key} 0 0 1|x"));
        }
        assert_eq!(client.words("flush_all 1"), "OK");
        assert_eq!(client.words("mg k0 v"), "VA 1|x");
        std::thread::sleep(std::time::Duration::from_millis(1200));
        assert_eq!(client.words("get k0 k1 k2 k3 k4 k5 k6 k7 k8 k9"), "END");
        assert_eq!(client.words("set k0 0 0 1|x"), "STORED");
        assert_eq!(client.words("flush_all 0 noreply"), "");
        assert_eq!(client.words("get k0"), "END");
        assert_eq!(client.words("flush_all x"), "CLIENT_ERROR invalid exptime argument");
        fronts.server.stop();
    }
}

#[test]
fn a_password_is_asked_for_before_anything_else() {
    let settings = corering::config::Settings { requirepass: "secret".to_owned(), workers: 2, ..Default::default() };
    let fronts = Fronts::start(&settings);
    let mut client = fronts.memcache();
    let mut hear = |request: &str| {
        client.say(request.replace('|', "\r\n").as_bytes());
        String::from_utf8(client.hear_until(b"\r\n")).unwrap().trim_end().to_owned()
    };
    assert_eq!(hear("get a|"), "CLIENT_ERROR unauthenticated");
    assert_eq!(hear("mn|"), "CLIENT_ERROR unauthenticated");
    assert_eq!(hear("ms a 1|x|"), "CLIENT_ERROR unauthenticated");
    assert_eq!(hear("set a 0 0 5000|"), "CLIENT_ERROR unauthenticated");
    assert_eq!(
        hear(&format!("{}|set a 0 0 6|noword|", "x".repeat(5000))),
        "CLIENT_ERROR bad authentication token format"
    );
    assert_eq!(hear("set a 0 0 13|default wrong|"), "CLIENT_ERROR authentication failure");
    assert_eq!(hear("set a 0 0 14|default secret|"), "STORED");
    assert_eq!(hear("get a|"), "END");
    fronts.server.stop();
}
