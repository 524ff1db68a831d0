//! What each route answers, with one worker and with several.

use std::process::Command;

use corering::config::Settings;

use crate::server::{Answer, Client, Fronts};

fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn values_are_stored_with_type_version_and_time() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.http();
        for key in ["a", "b", "c", "d%2Fe%20f"] {
            let path = format!("/v1/keys/{key}");
            let missing = client.http(&format!("GET {path}"), "", "");
            assert_eq!((missing.status, missing.field("content-type")), (404, "application/problem+json"));
            assert_eq!(json(&missing)["status"], 404);
            let put = client.http(&format!("PUT {path}?ttl=100"), "Content-Type: application/json\r\n", "{}");
            assert_eq!(put.status, 201);
            let tag = put.field("etag").to_owned();
            let got = client.http(&format!("GET {path}"), "", "");
            assert_eq!((got.status, got.text(), got.field("etag")), (200, "{}".to_owned(), &tag[..]));
            assert_eq!((got.field("content-type"), got.field("cache-control")), ("application/json", "max-age=100"));
            let head = client.http(&format!("HEAD {path}"), "", "");
            assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, "2", 0));
            // Conditions.
            let held = client.http(&format!("GET {path}"), &format!("If-None-Match: \"1\", W/{tag}\r\n"), "");
            assert_eq!((held.status, held.body.len()), (304, 0));
            assert_eq!(client.http(&format!("GET {path}"), "If-Match: \"1\"\r\n", "").status, 412);
            assert_eq!(client.http(&format!("PUT {path}"), "If-Match: \"1\"\r\n", "no").status, 412);
            assert_eq!(client.http(&format!("PUT {path}"), "If-None-Match: *\r\n", "no").status, 412);
            assert_eq!(client.http(&format!("PUT {path}?nx"), "", "no").status, 412);
            assert_eq!(client.http(&format!("DELETE {path}"), "If-Match: \"1\"\r\n", "").status, 412);
            let changed = client.http(&format!("PUT {path}"), &format!("If-Match: {tag}\r\n"), "new");
            assert_eq!(changed.status, 204);
            assert_ne!(changed.field("etag"), tag);
            assert_eq!(json(&client.http(&format!("GET {path}/ttl"), "", ""))["ttl"], serde_json::Value::Null);
            assert_eq!(client.http(&format!("DELETE {path}"), "", "").status, 204);
            assert_eq!(client.http(&format!("DELETE {path}"), "", "").status, 404);
            assert_eq!(client.http(&format!("PUT {path}?xx"), "", "no").status, 412);
        }
        for (query, status) in
            [("ttl=0", 400), ("ttl=x", 400), ("ttl=-1", 400), ("nx=maybe", 400), ("nx&xx", 412), ("ttl=%z", 400)]
        {
            assert_eq!(client.http(&format!("PUT /v1/keys/k?{query}"), "", "v").status, status, "{query}");
        }
        let stale = client.http("PUT /v1/keys/s", "Cache-Control: max-age=60, stale-while-revalidate=30\r\n", "v");
        assert_eq!(stale.status, 201);
        let got = client.http("GET /v1/keys/s", "", "");
        assert_eq!((got.field("cache-control"), got.field("age")), ("max-age=60, stale-while-revalidate=30", "0"));
        assert_eq!(json(&client.http("GET /v1/keys/s/ttl", "", ""))["ttl"], 90);
        assert_eq!(json(&client.http("POST /v1/keys/n/incr?by=-5", "", ""))["value"], -5);
        assert_eq!(client.http("POST /v1/keys/s/incr", "", "").status, 409);
        // Large values are in allocations of their own.
        let large = "x".repeat(300_000);
        assert_eq!(client.http("PUT /v1/keys/large", "", &large).status, 201);
        assert_eq!(client.http("GET /v1/keys/large", "", "").text(), large);
    }
}

/// `SCAN` finds the keys that are left.
fn walk(client: &mut Client) {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    for _ in 0..1000 {
        let page = json(&client.http(&format!("GET /v1/scan?cursor={cursor}&match=k*&count=10"), "", ""));
        found.extend(page["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
        cursor = page["cursor"].as_str().unwrap().to_owned();
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 46);
    assert!(json(&client.http("GET /v1/stats", "", ""))["server"]["redis_version"].is_string());
}

#[test]
fn parameters_that_a_route_does_not_have_are_refused() {
    let fronts = Fronts::with_workers(1);
    let mut client = fronts.http();
    for (request, known) in [
        ("PUT /v1/keys/k?tll=9", "ttl, nx, xx"),
        ("DELETE /v1/keys/s?ttl=9&if=x", "ttl, nx, xx"),
        ("POST /v1/keys/n/incr?bye=2", "by"),
        ("GET /v1/scan?cursor=0&pattern=a", "cursor, match, count"),
        ("POST /v1/mset?ttl=60", "none at all"),
        ("POST /v1/commands?x", "none at all"),
    ] {
        let refused = client.http(request, "", "v");
        assert_eq!(refused.status, 400, "{request}");
        assert!(json(&refused)["detail"].as_str().unwrap().ends_with(&format!("here, but {known}")), "{request}");
    }
}

#[test]
fn commands_run_in_their_order_over_all_workers() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.http();
        let items: Vec<_> = (0..50).map(|n| serde_json::json!({ "key": format!("k{n}"), "value": n })).collect();
        let set = client.http("POST /v1/mset", "", &serde_json::json!({ "items": items }).to_string());
        assert_eq!(json(&set)["stored"], serde_json::json!(vec![true; 50]));
        let keys: Vec<_> = (0..51).map(|n| format!("k{n}")).collect();
        let got = json(&client.http("POST /v1/mget", "", &serde_json::json!({ "keys": keys }).to_string()));
        assert_eq!((&got["values"][49], &got["values"][50]), (&"49".into(), &serde_json::Value::Null));
        let run = client.http(
            "POST /v1/commands",
            "Content-Type: application/json; charset=utf-8\r\n",
            r#"[["set","q",{"base64":"/w=="}],["get","q"],["mget","k1","k2","no"],["nope"],["dbsize"],["auth","x"],
                ["ping"],["rename","k1","r1"],["get","r1"],["del","k2","k3","k4"],["hello"],["get"]]"#,
        );
        let wanted = serde_json::json!([{"result": "OK"}, {"result": {"base64": "/w=="}}, {"result": ["1", "2", null]},
            {"error": "ERR unknown command 'nope', with args beginning with: "}, {"result": 51},
            {"error": "ERR 'auth' concerns a connection, which HTTP requests do not have"}, {"result": "PONG"},
            {"result": "OK"}, {"result": "1"}, {"result": 3},
            {"error": "ERR 'hello' concerns a connection, which HTTP requests do not have"},
            {"error": "ERR wrong number of arguments for 'get' command"}]);
        assert_eq!(json(&run), wanted);
        // More than a round, one a line; a request behind it waits for it.
        let many = vec![["incr", "count"]; 1000];
        let body = serde_json::to_string(&many).unwrap();
        client.say(
            format!(
                "POST /v1/commands HTTP/1.1\r\nHost: h\r\nAccept: application/x-ndjson\r\nContent-Length: {}\r\n\r\n\
                 {body}GET /v1/keys/count HTTP/1.1\r\nHost: h\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        let lines = client.hear_http(true);
        assert_eq!(lines.field("content-type"), "application/x-ndjson");
        assert_eq!(lines.text().lines().last(), Some(r#"{"result":1000}"#));
        assert_eq!(client.hear_http(true).text(), "1000");
        walk(&mut client);
        for (route, body, status) in [
            ("commands", "{", 400),
            ("commands", "{}", 400),
            ("commands", "[[]]", 400),
            ("commands", "[[null]]", 400),
            ("mget", "[]", 400),
            ("commands", r#"[["get","a"],["get"]"#, 400),
            ("commands", r#"[["get","a"],]"#, 400),
            ("commands", r#"[["get","a"]] x"#, 400),
            ("commands", r#"[["get","a"] ["get","a"]]"#, 400),
            ("mget", r#"{"keys":["a"],"other":1}"#, 400),
            ("mset", r#"{"items":[{"key":"a"}]}"#, 400),
            ("mset", r#"{"items":[{"key":"a","value":"b","xx":1}]}"#, 400),
            ("mset", r#"{"items":[{"key":"a","value":"b","ttl":0}]}"#, 400),
        ] {
            assert_eq!(client.http(&format!("POST /v1/{route}"), "", body).status, status, "{body}");
        }
        assert_eq!(client.http("POST /v1/mget", "Content-Type: text/plain\r\n", "{}").status, 415);
        assert_eq!(json(&client.http("POST /v1/commands", "", "[]")), serde_json::json!([]));
    }
}

#[test]
fn every_path_tells_what_it_takes_and_the_description_has_them_all() {
    let fronts = Fronts::with_workers(1);
    let mut client = fronts.http();
    let api = json(&client.http("GET /openapi.json", "", ""));
    let paths = api["paths"].as_object().unwrap();
    assert!(paths.len() >= 9, "{paths:?}");
    for (path, methods) in paths {
        let refused = client.http(&format!("BREW {}", path.replace("{key}", "k")), "", "");
        assert_eq!(refused.status, 405);
        for method in methods.as_object().unwrap().keys() {
            assert!(refused.field("allow").contains(&method.to_uppercase()), "{path}");
        }
    }
    assert_eq!(client.http("GET /nowhere", "", "").status, 404);
    assert_eq!(client.http("get /v1/stats", "", "").status, 405);
    let page = client.http("GET /docs", "", "").text();
    assert!(page.contains("openapi.json") && !page.contains("https://"), "it needs nothing from elsewhere");
}

#[test]
fn nobody_is_let_in_without_the_password_or_from_elsewhere() {
    let settings = Settings { workers: 2, requirepass: "s3cret".into(), ..Settings::default() };
    let fronts = Fronts::start(&settings);
    for (fields, status) in [
        ("", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Basic ZGVmYXVsdDp3cm9uZw==\r\n", 401),
        ("Authorization: Basic b3RoZXI6czNjcmV0\r\n", 401),
        ("Authorization: Bearer s3cret\r\n", 404),
        ("authorization: basic ZGVmYXVsdDpzM2NyZXQ=\r\n", 404),
    ] {
        let answer = fronts.http().http("GET /v1/keys/a", fields, "");
        assert_eq!(answer.status, status, "{fields}");
        assert_eq!(answer.field("www-authenticate").is_empty(), status != 401);
    }
    // Each request shows its own; a large body is not taken from a stranger.
    let mut client = fronts.http();
    let large = "x".repeat(100_000);
    assert_eq!(client.http("PUT /v1/keys/a", "Authorization: Bearer s3cret\r\n", &large).status, 201);
    assert_eq!(client.http("GET /v1/keys/a", "", "").status, 401);
    let mut client = fronts.http();
    client.say(b"PUT /v1/keys/a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.hear_http(true).status, 401);

    let settings = Settings { workers: 1, http_allow_origin: "https://good.example".into(), ..Settings::default() };
    let fronts = Fronts::start(&settings);
    let preflight = |origin: &str| fronts.http().http("OPTIONS /v1/keys/a", &format!("Origin: {origin}\r\n"), "");
    let get = |origin: &str| fronts.http().http("GET /v1/keys/a", &format!("Origin: {origin}\r\n"), "");
    assert_eq!(preflight("https://good.example").field("access-control-allow-origin"), "https://good.example");
    assert_eq!(get("https://good.example").field("access-control-allow-origin"), "https://good.example");
    assert_eq!(preflight("https://bad.example").field("access-control-allow-origin"), "");
    assert_eq!((get("https://bad.example").status, get("http://h").status), (403, 404));
}

#[test]
fn one_of_many_computes_and_the_others_wait() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut holder = fronts.http();
        let won = holder.http("GET /v1/keys/k", "Corering-Lease: take\r\n", "");
        assert_eq!(won.status, 404);
        let token = won.field("corering-lease").strip_prefix("token=").expect("the first gets it").to_owned();
        let state = |fields: &str| fronts.http().http("GET /v1/keys/k", fields, "").field("corering-lease").to_owned();
        assert_eq!((state("Corering-Lease: take\r\n"), state("")), ("wait".to_owned(), String::new()));
        let port = fronts.http_port;
        let waiters: Vec<_> = (0..20)
            .map(|_| {
                std::thread::spawn(move || {
                    Client::to(port).http("GET /v1/keys/k", "Corering-Lease: wait=20000\r\n", "").text()
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let filled = holder.http("PUT /v1/keys/k?ttl=60", &format!("Corering-Lease: {token}\r\n"), "computed");
        assert!(filled.status < 300, "{filled:?}");
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), "computed"));
        assert_eq!(holder.http("PUT /v1/keys/k", &format!("Corering-Lease: {token}\r\n"), "late").status, 412);
        // A lease ends in time, and nothing can be known to be there as well.
        let again = |key: &str| {
            let path = format!("GET /v1/keys/{key}");
            fronts.http().http(&path, "Corering-Lease: for=1\r\n", "").field("corering-lease").to_owned()
        };
        assert!(again("dead").starts_with("token="));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let token = again("dead");
        assert!(token.starts_with("token="));
        let won =
            holder.http("GET /v1/keys/none", "Corering-Lease: for=20000\r\n", "").field("corering-lease").to_owned();
        let absent = holder.http("DELETE /v1/keys/none?ttl=60", &format!("Corering-Lease: {won}\r\n"), "");
        assert_eq!((absent.status, again("none")), (204, "absent".to_owned()));
        assert_eq!(holder.http("GET /v1/keys/k", "Corering-Lease: what\r\n", "").status, 400);
    }
}

#[test]
fn what_one_protocol_writes_the_others_read() {
    let fronts = Fronts::with_workers(2);
    let mut http = fronts.http();
    let mut resp = fronts.resp();
    http.http("PUT /v1/keys/k", "Content-Type: text/plain\r\n", "v");
    resp.say(b"GETVERSION k\r\n");
    let tag = http.http("GET /v1/keys/k", "", "").field("etag").trim_matches('"').to_owned();
    resp.say(format!("SET k w IFVERSION {tag}\r\nQUIT\r\n").as_bytes());
    assert_eq!(resp.hear_end(), format!("*2\r\n$1\r\nv\r\n${}\r\n{tag}\r\n+OK\r\n+OK\r\n", tag.len()));
    let got = http.http("GET /v1/keys/k", "", "");
    assert_eq!((got.text(), got.field("content-type")), ("w".to_owned(), "application/octet-stream"));
}

/// curl as people use it; skipped where it is not installed, unless `CORERING_REQUIRE_CLIENTS` is set.
#[test]
fn curl_stores_and_reads() {
    let fronts = Fronts::with_workers(2);
    let url = format!("http://127.0.0.1:{}/v1/keys", fronts.http_port);
    let curl = |args: &[&str]| {
        let output = Command::new("curl").args(["-sS", "--max-time", "20", "-w", "|%{http_code}"]).args(args).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    std::fs::write(&file, "x".repeat(2 << 20)).unwrap();
    let put = match curl(&["-T", file.to_str().unwrap(), &format!("{url}/file")]) {
        Ok(put) => put,
        Err(error) if !crate::installed::is_required() => {
            return eprintln!("skipped: curl: {error}");
        }
        Err(error) => panic!("curl: {error}"),
    };
    assert_eq!(put, "|201");
    assert_eq!(curl(&[&format!("{url}/file")]).unwrap().len(), (2 << 20) + 4);
    let chunked = ["-X", "PUT", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", "--data", "hello"];
    assert_eq!(curl(&[&chunked[..], &[&format!("{url}/chunked")]].concat()).unwrap(), "|201");
    // Two requests on one connection.
    let twice = curl(&[&format!("{url}/chunked"), &format!("{url}/chunked")]).unwrap();
    assert_eq!(twice, "hello|200hello|200");
    assert_eq!(curl(&["-0", &format!("{url}/chunked")]).unwrap(), "hello|200");
}
