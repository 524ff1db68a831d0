//! What a person who types something is told: help, usage, and what of their environment has no effect.

use std::net::TcpListener;

use super::*;

#[test]
fn usage_is_explained() {
    let ended = run(&mut corering(&["--no-such-flag"]));
    assert_eq!((ended.code, ended.err.contains("--no-such-flag")), (Some(2), true), "{ended:?}");
    for arguments in [&["--help"][..], &["serve", "--help"], &["config", "--help"]] {
        let ended = run(&mut corering(arguments));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.is_empty() && ended.out.contains("--maxmemory"), "{ended:?}");
    }
    let ended = run(&mut corering(&["--version"]));
    assert_eq!(ended.out.trim(), concat!("corering ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_is_readable_and_shows_sizes_with_units_and_exit_codes() {
    let help = |arguments: &[&str]| {
        let ended = run(&mut corering(arguments));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // Names and forms stand alone, however long they are.
        let sentences = ended.out.lines().filter(|line| !line.starts_with("      -"));
        let longest = sentences.map(|line| line.chars().count()).max();
        assert!(longest.is_some_and(|columns| columns <= 100), "{longest:?} columns: {}", ended.out);
        ended.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let short = help(&["-h"]);
    assert!(short.contains("[default: 50%]") && !short.contains("--ring-buffers"), "{short}");
    let long = help(&["--help"]);
    for words in ["[default: 512MiB]", "[default: 16KiB]", "[default: 50us]", "[default: 300s]", "78 the host refuses"]
    {
        assert!(long.contains(words), "{words}: {long}");
    }
    let rows = [
        ("doctor", "0 nothing costs latency, 1 something does"),
        ("health", "0 it is well, 1 it is not"),
        ("hotkeys", "1 the server does not answer"),
        ("bench", "0 every reply was right"),
    ];
    for (subcommand, codes) in rows {
        let help = help(&[subcommand, "--help"]);
        assert!(help.contains("Exit codes: ") && help.contains(codes), "{help}");
    }
}

/// A flag without its value does not take the next flag for it.
#[test]
fn a_missing_value_is_named() {
    for (arguments, flag) in [
        (&["--huge-pages", "--port", "1"][..], "--huge-pages"),
        (&["--port", "0", "--requirepass", "--workers", "1"], "--requirepass"),
        (&["bench", "--target", "--keys", "1"], "--target"),
    ] {
        let ended = run(&mut corering(arguments));
        let words = format!("a value is required for '{flag} ");
        assert_eq!((ended.code, ended.err.contains(&words)), (Some(2), true), "{ended:?}");
    }
}

#[test]
fn variables_that_set_nothing_are_named() {
    let words = ["CORERING_MAX_MEMORY", "sets nothing", "did you mean CORERING_MAXMEMORY?"];
    let mut command = corering(&["--port", "0", "--workers", "1"]);
    let serving = Serving::start(command.env("CORERING_MAX_MEMORY", "1gb")).expect("it starts");
    let printed = run(corering(&["config"]).env("CORERING_MAX_MEMORY", "1gb"));
    assert_eq!(printed.code, Some(0));
    for word in words {
        assert!(serving.warnings.contains(word) && printed.err.contains(word), "{} {}", serving.warnings, printed.err);
    }
    let mut command = corering(&["--port", "0", "--workers", "1"]);
    let serving = Serving::start(command.env("CORERING_REQUIRE_CLIENTS", "1")).expect("it starts");
    assert_eq!(serving.warnings, "");
}

/// What does not speak the protocol that is asked for is told by what it speaks.
#[test]
fn a_measured_server_of_another_protocol_is_named_with_its_remedy() {
    let ports: [String; 2] = std::array::from_fn(|_| process::free_port().to_string());
    let arguments = ["--port", "0", "--workers", "1", "--memcache-port", &ports[0], "--http-port", &ports[1]];
    let serving = Serving::start(&mut corering(&arguments)).expect("it starts");
    let (resp, [memcache, http]) = (serving.port().to_string(), &ports);
    let rows = [
        ("resp2", memcache, "memcache"),
        ("resp3", http, "http"),
        ("memcache", &resp, "resp2"),
        ("memcache", http, "http"),
        ("http", &resp, "resp2"),
        ("http", memcache, "memcache"),
    ];
    for (protocol, port, spoken) in rows {
        let target = format!("127.0.0.1:{port}");
        let arguments = ["bench", "--target", &target, "--protocol", protocol, "--timeout", "200ms"];
        let words = format!("it speaks {spoken}: give --protocol {spoken}");
        assert_refusal(&run(&mut corering(&arguments)), 1, &[&target, &words]);
    }
    let silent = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, _silent) = silent.expect("a free port");
    let ended = run(&mut corering(&["bench", "--target", &address.to_string(), "--timeout", "200ms"]));
    assert_refusal(&ended, 1, &["does not answer within 200ms\n"]);
}
