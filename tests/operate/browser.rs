//! Chromium without a display, told what to do by the DevTools protocol over two pipes, as its own tools do.
//!
//! Source: chromedevtools.github.io/devtools-protocol; `--remote-debugging-pipe` reads messages from descriptor 3 and
//! writes them to descriptor 4, each ended by a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::installed;
use crate::process::PATIENCE;

/// One at a time: each takes a CPU of its own.
static ALONE: Mutex<()> = Mutex::new(());

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    next_id: u64,
    session: String,
    /// What has happened on the page.
    pub(crate) events: Vec<Value>,
    _profile: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts it; `None`, with a word about it, when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        installed::run(Command::new("chromium").arg("--version"))?;
        // A test that failed while it held the lock has nothing to do with this one.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"]);
        // Tests run as root in containers, where its sandbox does not work, and /dev/shm is small.
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.env("HOME", profile.path()).env("TMPDIR", profile.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let messages = BufReader::new(output).split(0).map_while(Result::ok);
            messages.map(|text| serde_json::from_slice(&text).expect("JSON")).all(|it: Value| sender.send(it).is_ok())
        });
        let mut browser = Self {
            child,
            input,
            messages,
            next_id: 0,
            session: String::new(),
            events: Vec::new(),
            _profile: profile,
            _alone: alone,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = self.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        self.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
    }

    /// Asks for something and waits for the answer.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.ask(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.next_id += 1;
        let mut message = json!({"id": self.next_id, "method": method});
        message["params"] = parameters;
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let text = [message.to_string().as_bytes(), b"\0"].concat();
        self.input.write_all(&text).expect("it reads");
        loop {
            let answer = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.next_id {
                return if answer["error"].is_null() { Ok(answer["result"].clone()) } else { Err(answer) };
            }
            self.events.push(answer);
        }
    }

    /// Opens a page of this size, light or dark.
    pub(crate) fn open(&mut self, url: &str, width: u32, scheme: &str) {
        self.resize(width, scheme);
        self.call("Page.navigate", json!({"url": url}));
    }

    pub(crate) fn resize(&mut self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        match self.value(expression) {
            Value::String(text) => text,
            other => panic!("{expression}: {other}"),
        }
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) {
        let start = Instant::now();
        loop {
            // The page may be on its way to be another, or not be there as a whole.
            let answer = self.ask("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
            if answer.is_ok_and(|answer| answer["result"]["value"] == true) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{expression}: {}", self.value("document.body.innerText"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str, text: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let typed = if kind == "keyDown" { text } else { "" };
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": typed});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Events of this name.
    pub(crate) fn happened(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == name).map(|event| &event["params"]).collect()
    }

    /// Fails when the page has complained, or has asked for anything but what begins with `own`.
    #[track_caller]
    pub(crate) fn assert_well_behaved(&self, own: &str) {
        for name in ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"] {
            assert_eq!(self.happened(name), Vec::<&Value>::new(), "{name}");
        }
        let requests = self.happened("Network.requestWillBeSent");
        assert!(!requests.is_empty());
        for request in requests {
            let url = request["request"]["url"].as_str().expect("a URL");
            assert!(url.starts_with(own) || url == "data:,", "{url}");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session.clear();
        let _ = self.input.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
