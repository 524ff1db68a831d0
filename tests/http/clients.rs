//! What tools of others make of it: schemathesis, which tries what `/openapi.json` promises, and wrk.

use std::path::Path;
use std::process::Command;

use crate::installed::{has_module, python, run};
use crate::server::Fronts;

/// The same requests each time; by hand run it with `--seed` and more of them.
#[test]
fn schemathesis_finds_what_the_description_promises() {
    if !has_module(Command::new(python()).args(["-c", "import schemathesis"]), "schemathesis") {
        return;
    }
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/schemathesis.toml");
    for workers in [1, 2] {
        let fronts = Fronts::with_workers(workers);
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(python());
        command.current_dir(&folder).args(["-m", "schemathesis.cli", "--config-file"]).arg(&settings);
        command.args(["run", &format!("http://127.0.0.1:{}/openapi.json", fronts.http_port)]);
        run(command.args(["--max-examples", "40", "--seed", "1", "--no-color"]));
        fronts.server.stop();
    }
}

#[test]
fn wrk_gets_every_reply() {
    for workers in [1, 2] {
        let fronts = Fronts::with_workers(workers);
        assert_eq!(fronts.http().http("PUT /v1/keys/k", "", &"x".repeat(1024)).status, 201);
        let url = format!("http://127.0.0.1:{}/v1/keys/k", fronts.http_port);
        let Some(report) = run(Command::new("wrk").args(["-t", "1", "-c", "64", "-d", "1", &url])) else { return };
        assert!(
            report.contains("requests in") && !report.contains("errors") && !report.contains("Non-2xx"),
            "{report}"
        );
        fronts.server.stop();
    }
}
