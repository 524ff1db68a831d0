//! The pages behind the console: their shape, their types, and who may see them.

use serde_json::Value;

use corering::config::TABLE;
use corering::doctor::CHECKS;

use crate::observed::Observed;
use crate::process::PATIENCE;

const JSON_PAGES: &[&str] = &["status", "history", "settings", "doctor", "clients", "hotkeys", "slowlog"];

/// Of which the last three tell what clients do.
const CONFIDENTIAL: &[&str] = &["clients", "hotkeys", "slowlog"];

fn json(observed: &Observed, page: &str) -> Value {
    let answer = observed.get(&format!("/{page}.json"));
    assert_eq!(answer.status, 200, "{page}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{page}: {error}"))
}

#[test]
fn every_page_has_its_type_and_a_policy() {
    let observed = Observed::start(&["--workers", "1"]);
    let pages = JSON_PAGES.iter().map(|page| (format!("/{page}.json"), "application/json"));
    let others = [("/", "text/html; charset=utf-8"), ("/health", "text/plain; charset=utf-8")];
    for (path, media_type) in pages.chain(others.map(|(path, kind)| (path.to_owned(), kind))) {
        let answer = observed.get(&path);
        let head = observed.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        for (answer, has_body) in [(&answer, true), (&head, false)] {
            assert_eq!((answer.status, !answer.body.is_empty()), (200, has_body), "{path}");
            for field in [
                &format!("Content-Type: {media_type}\r\n"),
                "Content-Security-Policy: default-src 'none'; ",
                "frame-ancestors 'none'",
                "X-Content-Type-Options: nosniff\r\n",
                "Cross-Origin-Resource-Policy: same-origin\r\n",
                "Referrer-Policy: no-referrer\r\n",
                "Cache-Control: no-store\r\n",
            ] {
                assert!(answer.head.contains(field), "{path}: {field}: {}", answer.head);
            }
            assert!(!answer.head.contains("Access-Control"), "{path}");
        }
        assert!(answer.head.contains(&format!("Content-Length: {}\r\n", answer.body.len())), "{path}");
    }
    let page = observed.get("/");
    let policy = page.head.lines().find(|line| line.starts_with("Content-Security-Policy")).expect("a policy");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for address in ["http:", "https:"] {
        let addresses = page.body.match_indices(address).map(|(at, _)| &page.body[at..]);
        let namespace = "http://www.w3.org/2000/svg\"";
        assert!(addresses.into_iter().all(|text| text.starts_with(namespace)), "it loads nothing");
    }
}

#[test]
fn settings_and_findings_are_all_there_and_secrets_are_not() {
    let observed = Observed::start(&["--workers", "1", "--profile", "latency", "--requirepass", "geheim"]);
    let settings = json(&observed, "settings");
    assert_eq!(settings["profile"], "latency");
    let rows = settings["settings"].as_array().expect("rows");
    let keys: Vec<&str> = rows.iter().filter_map(|row| row["key"].as_str()).collect();
    assert_eq!(keys, TABLE.iter().map(|row| row.key).collect::<Vec<_>>());
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).expect("a setting");
    let of = |key: &str, field: &str| row(key)[field].to_string();
    assert_eq!((of("requirepass", "value"), of("admin-token", "value")), ("\"(hidden)\"".into(), "\"\"".into()));
    assert_eq!((of("send-bytes", "value"), of("send-bytes", "is_default")), ("\"65536\"".into(), "false".into()));
    assert_eq!((of("port", "is_mutable"), of("timeout", "is_mutable")), ("false".into(), "true".into()));
    assert!(row("spin")["advice"].as_str().is_some_and(|advice| advice.contains("before it sleeps")));
    let pages = ["status", "settings", "history", "doctor"].map(|page| json(&observed, page).to_string());
    assert!(pages.iter().all(|page| !page.contains("geheim")));

    let findings = json(&observed, "doctor");
    let names: Vec<&str> =
        findings["findings"].as_array().expect("rows").iter().filter_map(|row| row["check"].as_str()).collect();
    assert_eq!(names, CHECKS.iter().map(|check| check.name).collect::<Vec<_>>());
    let first_age = findings["age_seconds"].as_u64().expect("seconds");
    let start = std::time::Instant::now();
    assert!(json(&observed, "doctor")["age_seconds"].as_u64() >= Some(first_age));
    assert!(start.elapsed().as_millis() < 900, "the host is not looked at again at once");
}

#[test]
fn the_doctor_of_a_server_with_epoll_sets_no_ring_up() {
    let observed = Observed::start(&["--workers", "1", "--io", "epoll"]);
    let findings = json(&observed, "doctor").to_string();
    assert!(findings.contains("not needed with io epoll") && findings.contains("sets a ring up"), "{findings}");
}

#[test]
fn what_clients_do_is_told() {
    let options = ["--workers", "2", "--hotkeys-sampling", "1", "--slowlog-log-slower-than", "0"];
    let observed = Observed::start(&options);
    let mut client = observed.client();
    client.ask("CLIENT SETNAME <b>bold</b>");
    let others: Vec<_> = (0..80).map(|_| observed.client()).collect();
    (0..40).for_each(|_| drop(client.ask("GET hot")));

    let clients = json(&observed, "clients");
    assert_eq!(clients["connected"].as_u64(), Some(others.len() as u64 + 1));
    assert_eq!(clients["silent_workers"], serde_json::json!([]));
    let rows = clients["clients"].as_array().expect("rows");
    assert!((32..=64).contains(&rows.len()), "{} of 81", rows.len());
    let named = rows.iter().find(|row| row["name"] == "<b>bold</b>").expect("the first of its worker");
    assert_eq!((&named["protocol"], &named["last_command"]), (&"RESP2".into(), &"get".into()));
    assert!(named["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));

    let keys = json(&observed, "hotkeys");
    assert_eq!((&keys["keys"][0]["key"], keys["keys"][0]["requests"].as_u64()), (&"hot".into(), Some(40)));
    let slow = json(&observed, "slowlog");
    let entries = slow["entries"].as_array().expect("rows");
    assert!(entries.len() == 32 && slow["kept"].as_u64() > Some(40), "{}", slow["kept"]);
    assert!(entries.iter().any(|entry| entry["arguments"] == serde_json::json!(["GET", "hot"])), "{entries:?}");

    let start = std::time::Instant::now();
    let history = loop {
        let history = json(&observed, "history");
        if history["points"].as_array().is_some_and(|points| !points.is_empty()) {
            break history;
        }
        assert!(start.elapsed() < PATIENCE, "{history}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let (point, columns) = (&history["points"][0], &history["columns"]);
    assert_eq!(point["counters"].as_array().map(Vec::len), history["counters"].as_array().map(Vec::len));
    assert_eq!(point["times"].as_array().map(Vec::len), history["times"].as_array().map(Vec::len));
    assert_eq!(columns.as_array().map(Vec::len), Some(5));
}

#[test]
fn a_worker_that_does_not_answer_is_named() {
    let observed = Observed::start(&["--workers", "1"]);
    let mut client = observed.client();
    let sleeper = std::thread::spawn(move || client.ask("DEBUG SLEEP 2.5"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let clients = json(&observed, "clients");
    assert_eq!((&clients["silent_workers"], &clients["connected"]), (&serde_json::json!([0]), &1.into()));
    assert_eq!(sleeper.join().expect("it ends"), "OK");
}

#[test]
fn what_clients_do_is_not_for_everybody() {
    let observed = Observed::start(&["--workers", "1"]);
    let ask = |page: &str, fields: &str| {
        observed.ask(&format!("GET /{page}.json HTTP/1.1\r\nConnection: close\r\n{fields}\r\n")).status
    };
    for page in CONFIDENTIAL {
        assert_eq!(ask(page, "Host: 127.0.0.1:9180\r\n"), 200, "{page}");
        // As when another site's name was made to lead here.
        assert_eq!(ask(page, "Host: evil.example:9180\r\n"), 403, "{page}");
    }
    for page in JSON_PAGES {
        assert_eq!(ask(page, "Host: evil.example:9180\r\n"), 403, "{page}");
        // A proxy on this host asks for others, who see figures and no more.
        let is_open = ["status", "history", "settings"].contains(page);
        let expected = if is_open { 200 } else { 403 };
        assert_eq!(ask(page, "Host: localhost\r\nX-Forwarded-For: 10.0.0.9\r\n"), expected, "{page}");
    }
    for (path, status) in [("/metrics", 403), ("/health", 200), ("/ready", 200), ("/", 200)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        assert_eq!(observed.ask(&request).status, status, "{path}");
    }
    assert_eq!(json(&observed, "status")["withheld"], serde_json::json!({}));

    observed.resp(&["CONFIG SET requirepass geheim"]);
    for page in CONFIDENTIAL {
        let answer = observed.get(&format!("/{page}.json"));
        assert_eq!(answer.status, 403, "{page}");
        assert!(
            answer.body.contains("requirepass") && answer.body.contains("CONFIG SET admin-token"),
            "{}",
            answer.body
        );
    }
    let withheld = json(&observed, "status")["withheld"].clone();
    for page in CONFIDENTIAL {
        let why = withheld[format!("{page}.json")].as_str();
        assert!(why.is_some_and(|why| why.contains("CONFIG SET admin-token")), "{withheld}");
    }
    assert!(json(&observed, "doctor")["costs"].is_u64(), "it tells nothing of clients");
    assert_eq!(observed.get("/").status, 200);

    let mut client = observed.client();
    client.ask("AUTH geheim");
    client.ask("CONFIG SET admin-token token");
    for page in JSON_PAGES {
        assert_eq!(ask(page, "Host: any.example\r\n"), 401, "{page}");
        assert_eq!(ask(page, "Host: any.example\r\nAuthorization: Bearer token\r\n"), 200, "{page}");
    }
    assert_eq!((observed.get("/").status, observed.get("/health").status), (200, 200));
}
