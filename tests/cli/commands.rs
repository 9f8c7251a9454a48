//! One command at a time: what is printed, and the exit code.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::store::{Answer, Store, inmem};

#[test]
fn the_exit_code_says_what_kind_of_answer_it_is() {
    let store = Store::start();
    store.ask(&["kv", "put", "text", "hello"]);
    store.ask(&["kv", "put", "max", "9223372036854775807"]);
    let long_key = "k".repeat(1025);
    let cases: &[(i32, &[&str])] = &[
        (0, &["ping"]),
        (0, &["kv", "get", "missing"]),
        (0, &["kv", "cas", "text", "hello", "hello"]),
        (1, &["kv", "cas", "text", "other", "hello"]),
        (1, &["kv", "put-if-absent", "text", "again"]),
        (2, &[]),
        (2, &["kv"]),
        (2, &["kv", "put", "text"]),
        (2, &["kv", "put", "text", "{"]),
        (2, &["txn", "begin"]),
        (11, &["--run", "nobody", "kv", "get", "a"]),
        (12, &["kv", "incr", "text"]),
        (13, &["kv", "put", &long_key, "1"]),
        (13, &["kv", "put", "", "1"]),
        (16, &["run", "end", "default"]),
        (21, &["kv", "incr", "max"]),
        (30, &["--socket", "/nonexistent/inmem.sock", "ping"]),
    ];
    for (code, words) in cases {
        let answer = store.ask(words);
        assert_eq!(answer.code, *code, "{words:?}: {answer:?}");
        let is_error = 2 < *code;
        if is_error {
            let error: Value = serde_json::from_str(&answer.err).unwrap();
            assert_eq!(error["ok"], false, "{words:?}");
            assert_eq!(answer.out, "", "{words:?}");
        }
    }
}

#[test]
fn a_durability_is_known_by_every_name_it_has() {
    let store = Store::start();
    let names = [
        ("in_memory", "volatile"),
        ("memory", "volatile"),
        ("inmemory", "volatile"),
        ("in-memory", "volatile"),
        ("InMemory", "volatile"),
        ("buffered", "logged"),
        ("strict", "synced"),
        ("Strict", "synced"),
    ];
    for (name, level) in names {
        let put = store.json(&["set", "key", "1", "--durability", name]);
        assert_eq!(put["durability"], level, "{name}");
    }
    assert_eq!(store.ask(&["ping", "--durability", "always"]).code, 2);
    // The help shows the names that the configuration and `capabilities` have.
    let help = store.ask(&["set", "--help"]).out;
    let modes = store.json(&["capabilities"])["result"]["durability_modes"].clone();
    for mode in modes.as_array().unwrap() {
        let shown = format!("- {}:", mode.as_str().unwrap());
        assert!(help.contains(&shown), "{shown} in {help}");
    }
}

#[test]
fn a_write_that_was_sent_and_not_answered_says_that_nobody_knows() {
    let mut store = Store::start();
    store.kill();
    store.restart_dying_at("AfterWalWriteBeforeFsync:1");
    let lost = store.ask(&["set", "key", "1", "--durability", "strict"]);
    assert_eq!(lost.code, 31, "{lost:?}");
    let error: Value = serde_json::from_str(&lost.err).unwrap();
    assert_eq!(error["error"]["outcome"], "outcome_unknown");
    assert_eq!(error["error"]["sub"], "connection_lost");
}

#[test]
fn a_server_that_speaks_something_else_is_told_from_none() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let other = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(&[b'x'; 256]).unwrap();
        // Kept open until the client goes, so that nothing it sends is reset.
        let _ = client.read_to_end(&mut Vec::new());
    });
    let mut ping = inmem();
    ping.arg("--socket").arg(&socket).arg("ping");
    let answer = Answer::of(ping, b"");
    assert_eq!(answer.code, 32, "{answer:?}");
    other.join().unwrap();
}

#[test]
fn the_human_form_tells_missing_counts_and_values_apart() {
    let store = Store::start();
    let cases: &[(&str, &[&str])] = &[
        ("PONG\n", &["ping"]),
        ("OK\n", &["set", "greeting", "hello"]),
        ("\"hello\"\n", &["get", "greeting"]),
        ("hello", &["get", "greeting", "--raw"]),
        ("(nil)\n", &["get", "missing"]),
        ("OK\n", &["set", "nothing", "null"]),
        ("null\n", &["get", "nothing"]),
        (
            "OK\n",
            &["mset", "a", "1", "b", "2.5", "c", "true", "d", "-7"],
        ),
        (
            "1) 1\n2) 2.5\n3) (nil)\n4) true\n5) -7\n",
            &["mget", "a", "b", "missing", "c", "d"],
        ),
        ("(integer) 1\n", &["exists", "a"]),
        ("(integer) 0\n", &["exists", "missing"]),
        ("(integer) 2\n", &["exists", "a", "missing", "b"]),
        ("(integer) 1\n", &["incr", "n"]),
        ("(integer) 11\n", &["incr", "n", "10"]),
        ("(integer) 6\n", &["decr", "n", "5"]),
        ("(integer) 2\n", &["del", "a", "b", "missing"]),
        ("(integer) 0\n", &["delete", "a"]),
        ("OK\n", &["set", "bytes", "b64:AAEC"]),
        ("{\"$bytes\":\"AAEC\"}\n", &["get", "bytes"]),
        ("\0\u{1}\u{2}", &["get", "bytes", "--raw"]),
        ("(integer) 6\n", &["kv", "count"]),
        ("\"bytes\"\n", &["kv", "list", "b"]),
        (
            "\"nothing\"  null\n",
            &["kv", "list", "--values", "--prefix", "no"],
        ),
    ];
    for (expected, words) in cases {
        let answer = store.ask(words);
        assert_eq!(answer.out, *expected, "{words:?}: {answer:?}");
        assert_eq!(answer.code, 0, "{words:?}");
    }
    let versioned = store.ask(&["get", "greeting", "--with-version"]).out;
    assert!(
        versioned.starts_with("\"hello\"\n(txn version) "),
        "{versioned}"
    );
    let written = store.ask(&[
        "set",
        "greeting",
        "x",
        "--with-version",
        "--durability",
        "strict",
    ]);
    assert!(written.out.ends_with(" synced\n"), "{}", written.out);
}

#[test]
fn short_forms_answer_like_their_long_forms() {
    let store = Store::start();
    store.ask(&["set", "key", "1"]);
    let pairs: &[(&[&str], &[&str])] = &[
        (&["get", "key"], &["kv", "get", "key"]),
        (&["mget", "key", "other"], &["kv", "mget", "key", "other"]),
        (&["exists", "key"], &["kv", "exists", "key"]),
        (&["history", "key"], &["kv", "history", "key"]),
        (&["runs"], &["run", "list"]),
        (&["del", "none"], &["kv", "del", "none"]),
        (&["delete", "none"], &["kv", "delete", "none"]),
    ];
    for (short, long) in pairs {
        assert_eq!(store.json(short), store.json(long), "{short:?}");
    }
}

#[test]
fn compare_and_swap_takes_every_kind_of_expectation() {
    let store = Store::start();
    let ok = |words: &[&str]| store.json(words)["result"]["ok"].clone();
    assert_eq!(ok(&["kv", "cas", "k", "one", "--absent"]), true);
    assert_eq!(store.ask(&["kv", "cas", "k", "one", "--absent"]).code, 1);
    assert_eq!(ok(&["kv", "cas", "k", "one", "two"]), true);
    assert_eq!(ok(&["kv", "cas", "k", "-3", "--expect", "two"]), true);
    let found = store.json(&["kv", "get", "k"]);
    assert_eq!(found["result"], -3);
    let version = found["version"]["value"].to_string();
    assert_eq!(ok(&["kv", "cas", "k", "four", "--version", &version]), true);
    let mismatch = store.ask(&["--json", "kv", "cas", "k", "five", "--version", &version]);
    let mismatch: Value = serde_json::from_str(&mismatch.out).unwrap();
    assert_eq!(
        (&mismatch["ok"], &mismatch["result"]["ok"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(mismatch["result"]["actual"]["type"], "txn");
    assert_ne!(mismatch["result"]["actual"]["value"].to_string(), version);
    assert_eq!(
        store.json(&["kv", "latest-version", "k"])["result"],
        mismatch["result"]["actual"]
    );
}

#[test]
fn history_shows_versions_newest_first_and_deletions_as_absent() {
    let store = Store::start();
    for words in [
        &["set", "k", "1"][..],
        &["set", "k", "2"],
        &["del", "k"],
        &["set", "k", "4"],
    ] {
        store.ask(words);
    }
    let history = store.json(&["kv", "history", "k"])["result"].clone();
    let values: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["value"].clone())
        .collect();
    assert_eq!(
        values,
        [json!(4), json!({"$absent": true}), json!(2), json!(1)]
    );
    let versions: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["version"]["value"].as_u64())
        .collect();
    assert!(
        versions.is_sorted_by(|newer, older| older < newer),
        "{versions:?}"
    );
    let oldest = versions[3].unwrap().to_string();
    assert_eq!(
        store.json(&["kv", "get", "k", "--at", &oldest])["result"],
        1
    );
    let limited = store.json(&["kv", "history", "k", "--limit", "2"])["result"].clone();
    assert_eq!(limited.as_array().unwrap().len(), 2);
}

#[test]
fn listings_are_sorted_and_pages_join_without_a_gap() {
    let store = Store::start();
    let lines: String = (0..25)
        .rev()
        .map(|n| format!("kv put p/{n:02} {n}\n"))
        .collect();
    store.pipe(&lines);
    store.ask(&["set", "q", "1"]);
    let keys: Vec<Value> = (0..25).map(|n| json!(format!("p/{n:02}"))).collect();
    assert_eq!(store.json(&["kv", "list", "p/"])["result"], json!(keys));
    assert_eq!(
        store.json(&["kv", "list", "p/", "--limit", "3"])["result"],
        json!(keys[..3])
    );
    let mut scanned = Vec::new();
    let first = store.pipe("kv scan p/ --limit 10\n").remove(0);
    scanned.extend(first["result"]["items"].as_array().unwrap().clone());
    assert_eq!(first["result"]["has_more"], true);
    let from = store.json(&["kv", "scan", "p/", "--start", "p/10"])["result"].clone();
    assert_eq!(from["has_more"], false);
    scanned.extend(from["items"].as_array().unwrap().clone());
    let scanned: Vec<Value> = scanned.iter().map(|item| item["key"].clone()).collect();
    assert_eq!(scanned, keys);
}

#[test]
fn a_value_can_come_from_a_file() {
    let store = Store::start();
    let text = "a text\nof two lines\n";
    let answer = store.ask_with(&["kv", "put", "text", "--file", "-"], text.as_bytes());
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(store.ask(&["kv", "get", "text", "--raw"]).out, text);
    std::fs::write(store.dir.path().join("bytes"), [0xFF, 0x00]).unwrap();
    assert_eq!(
        store.ask(&["kv", "put", "bytes", "--file", "bytes"]).code,
        2
    );
    assert_eq!(
        store
            .ask(&["kv", "put", "bytes", "--file", "bytes", "--as", "bytes"])
            .code,
        0
    );
    assert_eq!(
        store.json(&["get", "bytes"])["result"],
        json!({"$bytes": "/wA="})
    );
    let json_text = b" {\"a\": 1.50}\n";
    store.ask_with(
        &["kv", "put", "json", "--file", "-", "--as", "json"],
        json_text,
    );
    assert_eq!(store.json(&["get", "json"])["result"], json!({"a": 1.5}));
    assert_eq!(
        store.ask(&["kv", "put", "k", "--file", "absent-file"]).code,
        19
    );
}

#[test]
fn a_run_goes_through_its_statuses() {
    let store = Store::start();
    let status = |run: &str| store.ask(&["run", "status", run]).out;
    let steps: &[(&[&str], &str)] = &[
        (&["run", "pause", "r"], "paused\n"),
        (&["run", "resume", "r"], "active\n"),
        (&["run", "fail", "r", "it broke"], "failed\n"),
        (&["run", "archive", "r"], "archived\n"),
    ];
    assert_eq!(
        store
            .ask(&[
                "run",
                "begin",
                "r",
                "--tag",
                "blue",
                "--metadata",
                "{\"a\":1}"
            ])
            .code,
        0
    );
    for (words, expected) in steps {
        assert_eq!(store.ask(words).code, 0, "{words:?}");
        assert_eq!(status("r"), *expected, "{words:?}");
    }
    let shown = store.json(&["run", "show", "r"])["result"].clone();
    assert_eq!(
        (&shown["error"], &shown["tags"]),
        (&json!("it broke"), &json!(["blue"]))
    );
    assert_eq!(store.ask(&["--run", "r", "set", "k", "1"]).code, 16);
    for verb in ["end", "cancel"] {
        assert_eq!(store.ask(&["run", "begin", verb]).code, 0);
        assert_eq!(store.ask(&["--run", verb, "run", verb]).code, 0);
    }
    assert_eq!(
        (status("end").as_str(), status("cancel").as_str()),
        ("completed\n", "cancelled\n")
    );
    let names = |words: &[&str]| {
        let runs = store.json(words)["result"].clone();
        let runs = runs.as_array().unwrap().clone();
        runs.iter()
            .filter_map(|run| run["name"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert!(!names(&["runs"]).contains(&"r".to_owned()));
    assert!(names(&["runs", "--all"]).contains(&"r".to_owned()));
    assert_eq!(names(&["runs", "--status", "cancelled"]), ["cancel"]);
    let id = shown["id"].as_str().unwrap().to_owned();
    assert_eq!(store.ask(&["run", "status", &id]).out, "archived\n");
    let unknown = "01234567-89ab-4def-8123-456789abcdef";
    for (name, exists) in [
        ("r", true),
        (&id, true),
        ("default", true),
        ("nobody", false),
        (unknown, false),
    ] {
        assert_eq!(store.json(&["run", "exists", name])["result"], exists);
    }
    assert_eq!(store.ask(&["--run", unknown, "kv", "count"]).code, 11);
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let store = Store::start();
    store.ask(&["set", "a", "1"]);
    let changes = b"{\"put\":\"b\",\"value\":{\"x\":1}}\n\n{\"incr\":\"a\",\"delta\":4}\n\
        {\"delete\":\"none\"}\n{\"put_if_absent\":\"new\",\"value\":0}\n";
    let answer = store.ask_with(&["batch", "--json"], changes);
    assert_eq!(answer.code, 0, "{answer:?}");
    let answer: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(answer["result"], json!([null, 5, false, true]));
    assert!(answer["commit_version"].is_u64());
    let conflicting = b"{\"put\":\"c\",\"value\":1}\n{\"cas\":\"a\",\"value\":9,\"expected\":1}\n";
    let refused = store.ask_with(&["batch"], conflicting);
    assert_eq!(refused.code, 17, "{refused:?}");
    assert_eq!(store.ask(&["get", "c"]).out, "(nil)\n");
    let bad = store.ask_with(
        &["batch"],
        b"{\"put\":\"c\",\"value\":1}\n{\"put\":\"c\"}\n",
    );
    assert_eq!(bad.code, 2);
    assert!(bad.err.contains("line 2"), "{}", bad.err);
}

#[test]
fn info_and_capabilities_tell_what_runs() {
    let store = Store::start();
    store.ask(&["set", "a", "1"]);
    let info = store.json(&["info"])["result"].clone();
    assert_eq!(info["health"], "ok");
    assert_eq!(info["key_count"], 1);
    let capabilities = store.json(&["capabilities"])["result"].clone();
    let operations = capabilities["operations"].as_array().unwrap();
    assert!(operations.contains(&json!("kv.put")));
    assert!(capabilities["limits"].is_object());
    assert_eq!(store.ask(&["flush"]).code, 0);
}

#[test]
fn inmem_daemon_is_the_daemon() {
    for option in ["--version", "--help"] {
        let mut ours = inmem();
        ours.args(["daemon", option]);
        let mut theirs = std::process::Command::new(env!("CARGO_BIN_EXE_inmemd"));
        theirs.arg(option);
        let (ours, theirs) = (Answer::of(ours, b""), Answer::of(theirs, b""));
        assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out));
        assert_eq!(ours.code, 0);
    }
    let mut refused = inmem();
    refused.args(["daemon", "--no-such-option"]);
    assert_eq!(Answer::of(refused, b"").code, 2);
}
