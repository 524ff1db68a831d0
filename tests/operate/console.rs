//! The console in a real browser: what it shows, under load and without, and to those who use no mouse or no screen.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::observed::{Client, Observed};
use crate::process::{PATIENCE, Running, Serving, corering, start};

/// The first text of a tile, or a later one.
fn tile(browser: &mut Browser, name: &str, line: usize) -> String {
    let find = format!("[...document.querySelectorAll('#tiles dt')].find((it) => it.textContent === '{name}')");
    browser.text(&format!("{find}.parentElement.querySelectorAll('dd')[{line}].textContent"))
}

/// The first number in a text.
fn number(text: &str) -> f64 {
    let digits: String =
        text.trim_start().chars().take_while(|it| !it.is_whitespace()).filter(|it| *it != ',').collect();
    digits.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// The cell of a row, by the row's name.
fn cell(browser: &mut Browser, table: &str, row: &str, column: usize) -> String {
    let rows = format!("[...document.querySelectorAll('#{table} tbody tr')]");
    let find = format!("{rows}.find((row) => row.cells[0].textContent.trim() === '{row}')");
    browser.text(&format!("{find}.cells[{column}].textContent"))
}

/// Waits for figures that were asked for from now on.
fn renew(browser: &mut Browser) {
    let asked = "performance.getEntriesByType('resource').filter((it) => it.name.endsWith('status.json')).length";
    browser.value("performance.setResourceTimingBufferSize(100000)");
    let before = browser.value(asked);
    browser.until(&format!("{asked} > {before} + 1"));
}

fn open(browser: &mut Browser, observed: &Observed) -> String {
    let url = format!("http://127.0.0.1:{}/", observed.admin_port);
    browser.open(&url, 1400, "light");
    browser.until("document.getElementById('link').textContent === 'Live'");
    url
}

/// As many connections as the kernel does not give to a single worker by chance.
const LOADING: usize = 30;

/// A generator at work until it is dropped.
fn load(observed: &Observed) -> Running {
    let target = format!("127.0.0.1:{}", observed.serving.port());
    let connections = LOADING.to_string();
    let options = ["--duration", "60s", "--rate", "2000", "--connections", &connections, "--keys", "2000"];
    start(
        corering(&[&["bench", "--target", &target], &options[..]].concat()).stdout(Stdio::null()).stderr(Stdio::null()),
    )
}

/// The page's figure lies between those of `INFO` before and after, which only grow.
fn assert_agrees(browser: &mut Browser, client: &mut Client, field: &str, shown: impl Fn(&mut Browser) -> String) {
    let figure = |client: &mut Client| client.info(field).parse::<f64>().expect("a number");
    let before = figure(client);
    renew(browser);
    let text = shown(browser);
    let after = figure(client);
    assert!(before > 0.0 && (before..=after).contains(&number(&text)), "{field}: {before} {text} {after}");
}

#[test]
fn under_load_its_figures_are_those_of_info() {
    let Some(mut browser) = Browser::start() else { return };
    let options = ["--workers", "2", "--stage-sampling", "1", "--hotkeys-sampling", "1"];
    let observed = Observed::start(&options);
    let mut client = observed.client();
    let _load = load(&observed);
    let url = open(&mut browser, &observed);
    browser.until("document.querySelectorAll('#stages tbody tr').length === 7");
    let clients = LOADING + 1;
    browser.until(&format!("document.querySelectorAll('#connected tbody tr').length === {clients}"));
    browser.until("document.querySelectorAll('#keys tbody tr').length === 20");

    let requests = |browser: &mut Browser| tile(browser, "Requests/s", 1);
    assert_agrees(&mut browser, &mut client, "total_commands_processed", requests);
    let hits = |browser: &mut Browser| tile(browser, "Hit ratio", 1);
    assert_agrees(&mut browser, &mut client, "keyspace_hits", hits);
    assert_eq!(tile(&mut browser, "Clients", 0), clients.to_string(), "the generator's and ours");
    assert_eq!(client.info("connected_clients"), clients.to_string());
    assert_eq!(number(&tile(&mut browser, "Keys", 0)), 2000.0);
    renew(&mut browser);
    let used = number(&cell(&mut browser, "kinds", "used", 1));
    let told: f64 = client.info("used_memory").parse().expect("bytes");
    assert!((used - told).abs() < told / 20.0, "{used} {told}");
    // Two thousand a second, as far as this machine can; of them half on each worker, half of those by the hop.
    let rate = number(&tile(&mut browser, "Requests/s", 0));
    assert!((200.0..4000.0).contains(&rate), "{rate}");
    for worker in ["0", "1"] {
        assert!(number(&cell(&mut browser, "load", worker, 4)) > 10.0, "worker {worker}");
        assert!(number(&cell(&mut browser, "load", worker, 5)) > 1.0, "hops of worker {worker}");
        assert!(number(&cell(&mut browser, "rings", worker, 1)) > 10.0, "turns of worker {worker}");
    }
    assert_ne!(cell(&mut browser, "stages", "execute", 3), "–");
    // What opens first is the slowest stage, not the commands' own time.
    assert!(tile(&mut browser, "Latency p99", 1).starts_with("slowest stage: "));
    assert_ne!(browser.text("document.getElementById('percentiles-of').value"), "0");
    assert!(number(&cell(&mut browser, "calls", "get", 1)) > 100.0);
    assert!(browser.text("document.getElementById('identity').textContent").contains(&client.info("io_mode")[..5]));
    assert!(browser.text("document.getElementById('rings-caption').textContent").contains(&client.info("io_mode")));
    // Curves are drawn, each with its text.
    let curves = "[...document.querySelectorAll('#percentiles-plot path[class^=s]')].filter((it) => \
                  it.getAttribute('d').includes('L')).length";
    browser.until(&format!("{curves} === 3"));
    let spoken = browser.text("document.querySelector('#percentiles-plot svg').getAttribute('aria-label')");
    assert!(spoken.contains("p99.9") && spoken.contains("highest"), "{spoken}");
    browser.assert_well_behaved(&url);
}

#[test]
fn what_clients_send_is_text() {
    let Some(mut browser) = Browser::start() else { return };
    let options = ["--workers", "1", "--slowlog-log-slower-than", "0", "--hotkeys-sampling", "1"];
    let observed = Observed::start(&options);
    let mut client = observed.client();
    let hostile =
        ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "\u{202e}gpj.exe", "__proto__"];
    client.ask("CLIENT SETNAME <img/src=x/onerror=alert(3)>");
    client.ask("CLIENT SETINFO LIB-NAME <svg/onload=alert(4)>");
    for key in hostile {
        (0..5).for_each(|_| redis::cmd("GET").arg(key).exec(&mut client.0).expect("a reply"));
    }
    redis::cmd("SET").arg(&b"\xff\x00\r\n<b>"[..]).arg("x".repeat(100_000)).exec(&mut client.0).expect("OK");
    let url = open(&mut browser, &observed);
    for (table, text) in [
        ("keys", hostile[0]),
        ("keys", hostile[1]),
        ("keys", "\\u{202e}gpj.exe"),
        ("keys", "__proto__"),
        ("keys", "\\xff\\0\\r\\n<b>"),
        ("slow", "GET <img src=x onerror=alert(1)>"),
        ("slow", "SET \\xff\\0\\r\\n<b> xxx"),
        ("connected", "<img/src=x/onerror=alert(3)>"),
        ("connected", "<svg/onload=alert(4)>"),
    ] {
        browser.until(&format!("document.getElementById('{table}').textContent.includes({})", json!(text)));
    }
    assert_eq!(browser.value("document.querySelectorAll('main img, main b:not(.legend b), main script').length"), 0);
    assert_eq!(browser.happened("Page.javascriptDialogOpening"), Vec::<&Value>::new());
    browser.assert_well_behaved(&url);
}

#[test]
fn a_token_is_asked_for_and_goes_nowhere_else() {
    let Some(mut browser) = Browser::start() else { return };
    let observed = Observed::start(&["--workers", "1", "--admin-token", "geheim-\u{fc}"]);
    let url = format!("http://127.0.0.1:{}/", observed.admin_port);
    browser.open(&url, 400, "dark");
    // The form has the focus: a keyboard is enough.
    browser.until("document.activeElement.id === 'token'");
    assert_eq!(browser.value("document.getElementById('overview').checkVisibility()"), false);
    browser.type_text("wrong");
    browser.press("Enter", "\r");
    browser.until("document.getElementById('token-wrong').checkVisibility()");
    browser.type_text("geheim-\u{fc}");
    browser.press("Enter", "\r");
    browser.until("document.getElementById('link').textContent === 'Live'");
    browser.until("document.querySelectorAll('#findings tbody tr, #fine tbody tr').length > 20");
    assert_eq!(browser.text("location.href"), url);
    assert_eq!(browser.value("[document.cookie, localStorage.length, history.length]")[0], "");
    assert_eq!(browser.value("localStorage.length"), 0);
    assert_eq!(browser.text("sessionStorage.getItem(sessionStorage.key(0))"), "geheim-\u{fc}");
    assert_eq!(browser.value("document.documentElement.outerHTML.includes('geheim')"), false);
    for request in browser.happened("Network.requestWillBeSent") {
        assert!(!request["request"]["url"].to_string().contains("geheim"), "{request}");
    }
    // A reload keeps it, and it can be given up.
    browser.call("Page.reload", json!({}));
    browser.until("document.getElementById('link').textContent === 'Live'");
    browser.value("document.getElementById('forget').click()");
    browser.until("document.activeElement.id === 'token'");
    assert_eq!(browser.value("sessionStorage.length"), 0);
}

#[test]
fn an_error_in_drawing_is_an_error_and_not_a_silent_server() {
    let Some(mut browser) = Browser::start() else { return };
    let observed = Observed::start(&["--workers", "1"]);
    open(&mut browser, &observed);
    // Where two of its parts are drawn: one of each turn, one of what is asked now and then.
    browser.value("document.getElementById('memory-plot').remove(); document.getElementById('connected').remove()");
    let start = std::time::Instant::now();
    let names = ["showMemory", "showClients"];
    let told = |browser: &Browser, name: &str| {
        browser.happened("Runtime.exceptionThrown").iter().any(|event| event.to_string().contains(name))
    };
    while !names.iter().all(|name| told(&browser, name)) {
        assert!(start.elapsed() < PATIENCE, "{:?}", browser.happened("Runtime.exceptionThrown"));
        std::thread::sleep(std::time::Duration::from_millis(100));
        browser.value("1");
    }
    browser.until("document.getElementById('link').textContent === 'Live'");
}

#[test]
fn it_says_what_is_off_and_since_when_nobody_answers() {
    let Some(mut browser) = Browser::start() else { return };
    let mut observed = Observed::start(&["--workers", "1", "--requirepass", "geheim"]);
    let url = open(&mut browser, &observed);
    for (id, text) in [
        ("latency-state", "CONFIG SET stage-sampling 64"),
        ("whatif-state", "Nothing is told yet"),
        ("commands-state", "No command has come yet"),
        ("hotkeys-state", "requirepass"),
        ("slowlog-state", "CONFIG SET admin-token"),
        ("clients-state", "requirepass"),
    ] {
        browser.until(&format!("document.getElementById('{id}').textContent.includes({})", json!(text)));
    }
    observed.client().ask("PING");
    renew(&mut browser);
    let latency = tile(&mut browser, "Latency p99", 1);
    assert!(latency.contains("without waiting") || latency.contains("nothing was timed"), "{latency}");
    browser.assert_well_behaved(&url);
    observed.serving.process.terminate();
    observed.serving.process.wait();
    browser.until("/^No answer since [0-9:]{8}; trying again$/.test(document.getElementById('link').textContent)");
    // The last figures stay.
    assert!(number(&tile(&mut browser, "Memory used", 0)) > 1.0);
    let port = observed.admin_port.to_string();
    let again = Serving::start(&mut corering(&["--port", "0", "--admin-port", &port, "--workers", "2"]));
    let _again = again.expect("it starts again");
    browser.value("document.getElementById('again').click()");
    browser.until("document.getElementById('link').textContent === 'Live'");
    browser.until("document.querySelectorAll('#load tbody tr').length === 2");
}

/// Roles and names as a screen reader gets them.
fn accessible(browser: &mut Browser) -> Vec<(String, String)> {
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    let nodes = tree["nodes"].as_array().expect("nodes");
    nodes.iter().filter(|node| node["ignored"] != true).map(|node| (text(&node["role"]), text(&node["name"]))).collect()
}

/// A server with something in every section, and a page that shows it.
fn busy(browser: &mut Browser) -> (Observed, Running) {
    let options = ["--workers", "2", "--stage-sampling", "1", "--hotkeys-sampling", "1", "--maxmemory", "24mb"];
    let observed = Observed::start(&[&options[..], &["--slowlog-log-slower-than", "0"]].concat());
    let load = load(&observed);
    open(browser, &observed);
    for table in ["stages", "load", "rings", "kinds", "calls", "keys", "slow", "connected", "table-of-settings"] {
        browser.until(&format!("document.querySelector('#{table} tbody tr').checkVisibility()"));
    }
    browser.until("document.querySelector('#fine tbody tr') !== null");
    (observed, load)
}

const SECTIONS: &[&str] = &[
    "Overview",
    "Latency",
    "Traffic",
    "Cache",
    "Workers, hops and rings",
    "Memory",
    "Commands",
    "Hot keys",
    "Slow log",
    "Clients",
    "Doctor",
    "Settings",
];

#[test]
fn a_screen_reader_finds_its_way() {
    let Some(mut browser) = Browser::start() else { return };
    let _busy = busy(&mut browser);
    let nodes = accessible(&mut browser);
    let names =
        |role: &str| nodes.iter().filter(|(of, _)| of == role).map(|(_, name)| name.as_str()).collect::<Vec<_>>();
    for role in ["banner", "main", "contentinfo", "status", "combobox", "searchbox", "columnheader", "rowheader"] {
        assert!(!names(role).is_empty(), "no {role}");
    }
    assert_eq!((names("navigation"), names("region")), (vec!["Sections"], SECTIONS.to_vec()));
    assert_eq!(names("heading"), [&["Corering"], SECTIONS].concat());
    for role in ["table", "image", "combobox", "searchbox", "checkbox", "button", "link"] {
        assert!(names(role).iter().all(|name| !name.trim().is_empty()), "{role} without a name: {:?}", names(role));
    }
    assert!(names("group").iter().any(|name| name.starts_with("Newest slow requests") && name.ends_with("scrollable")));
    assert!(names("table").len() >= 9 && names("image").len() >= 5, "{:?} {:?}", names("table"), names("image"));
    assert_eq!(browser.value("document.querySelectorAll('thead th:not([scope]), tbody th:not([scope])').length"), 0);
}

#[test]
fn a_keyboard_is_enough() {
    let Some(mut browser) = Browser::start() else { return };
    let _busy = busy(&mut browser);
    // The first key press offers to go past the navigation; every stop can be seen.
    browser.press("Tab", "");
    assert_eq!(browser.text("document.activeElement.className"), "skip");
    browser.press("Enter", "\r");
    browser.until("document.activeElement.id === 'main'");
    let mut stops = BTreeSet::new();
    for _ in 0..40 {
        browser.press("Tab", "");
        let stop = browser.text("document.activeElement.id || document.activeElement.textContent.slice(0, 40)");
        let is_seen = "document.activeElement === document.body \
                       || getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(browser.value(is_seen), true, "{stop}");
        stops.insert(stop);
    }
    for stop in ["percentiles-of", "Percentiles as a table", "slow", "settings-find", "settings-changed", "hold"] {
        assert!(stops.contains(stop), "{stop}: {stops:?}");
    }
    browser.value("document.getElementById('settings-find').focus()");
    browser.type_text("ring buffer");
    browser.until("/^[1-9] of /.test(document.getElementById('settings-count').textContent)");
    // What moves can be held.
    browser.value("document.getElementById('hold').focus()");
    browser.press("Enter", "\r");
    browser.until("document.getElementById('link').textContent.startsWith('Paused at')");
    let held = tile(&mut browser, "Requests/s", 1);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(tile(&mut browser, "Requests/s", 1), held);
    browser.press("Enter", "\r");
    browser.until("document.getElementById('link').textContent === 'Live'");
}

#[test]
fn every_text_can_be_read_light_and_dark_wide_and_narrow() {
    let Some(mut browser) = Browser::start() else { return };
    let _busy = busy(&mut browser);
    browser.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    for (width, scheme) in [(1400, "dark"), (400, "dark"), (400, "light"), (1400, "light")] {
        browser.resize(width, scheme);
        renew(&mut browser);
        let wide = browser.value("document.documentElement.scrollWidth - innerWidth").as_i64();
        assert!(wide <= Some(0), "{width}: {wide:?} too wide");
        assert_eq!(browser.text(include_str!("contrast.js")), "", "{width} {scheme}");
    }
}
