//! Loading a file of JSON lines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::store::Store;

#[test]
fn what_was_imported_is_read_back_after_a_kill_and_a_restart() {
    let mut store = Store::start();
    let mut text = String::new();
    for n in 0..5000 {
        writeln!(
            text,
            "{{\"key\":\"user/{n:05}\",\"value\":{{\"n\":{n},\"half\":{n}.5}}}}"
        )
        .unwrap();
    }
    text.push_str("\n{\"key\":\"user/00007\",\"value\":\"the last one wins\"}\n");
    std::fs::write(store.dir.path().join("load.jsonl"), &text).unwrap();
    let refused = store.ask(&["import", "--jsonl", "load.jsonl", "--run", "loaded"]);
    assert_eq!(refused.code, 11, "{refused:?}");
    let words = [
        "import",
        "--jsonl",
        "load.jsonl",
        "--run",
        "loaded",
        "--if-missing",
    ];
    let imported = store.json(&words);
    assert_eq!(imported["result"]["imported"], 5001);
    store.kill();
    store.restart();
    assert_eq!(
        store.json(&["--run", "loaded", "kv", "count", "user/"])["result"],
        5000
    );
    let get = |key: &str| store.json(&["--run", "loaded", "get", key])["result"].clone();
    assert_eq!(get("user/04999"), json!({"n": 4999, "half": 4999.5}));
    assert_eq!(get("user/00007"), "the last one wins");
}

#[test]
fn standard_input_and_strict_batches_work_too() {
    let store = Store::start();
    let lines = b"{\"value\":1,\"key\":\"a\"}\n{\"key\":\"b\",\"value\":{\"$bytes\":\"AA==\"}}";
    let words = [
        "import",
        "--jsonl",
        "-",
        "--durability",
        "strict",
        "--batch",
        "1",
    ];
    let answer = store.ask_with(&words, lines);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(
        answer.out.starts_with("imported 2 entries"),
        "{}",
        answer.out
    );
    assert_eq!(
        store.json(&["get", "b"])["result"],
        json!({"$bytes": "AA=="})
    );
}

/// Ten of them are more than one pipeline holds.
#[test]
fn large_values_one_after_another_are_imported() {
    const VALUE_COUNT: usize = 10;
    const VALUE_LEN_BYTES: usize = 16 << 20;
    let store = Store::start();
    let value = |n: usize| {
        let letter = char::from(b'a' + u8::try_from(n).unwrap());
        letter.to_string().repeat(VALUE_LEN_BYTES)
    };
    let mut text = String::new();
    for n in 0..VALUE_COUNT {
        writeln!(text, "{{\"key\":\"large/{n}\",\"value\":\"{}\"}}", value(n)).unwrap();
    }
    std::fs::write(store.dir.path().join("large.jsonl"), &text).unwrap();
    let imported = store.json(&["import", "--jsonl", "large.jsonl"]);
    assert_eq!(imported["result"]["imported"], VALUE_COUNT);
    for n in 0..VALUE_COUNT {
        let read = store.json(&["get", &format!("large/{n}")]);
        let read = read["result"].as_str().expect("a string");
        assert!(read == value(n), "large/{n}: {} bytes", read.len());
    }
}

#[test]
fn a_bad_line_is_named_and_those_before_it_are_in() {
    let store = Store::start();
    let cases = [
        ("not json", 2),
        ("[1]", 2),
        ("{\"key\":\"k\"}", 2),
        ("{\"value\":1}", 2),
        ("{\"key\":1,\"value\":1}", 2),
        ("{\"key\":\"k\",\"value\":1,\"ttl\":1}", 2),
        ("{\"key\":\"\",\"value\":1}", 13),
        ("{\"key\":\"k\",\"value\":99999999999999999999}", 2),
    ];
    for (bad, code) in cases {
        let text =
            format!("{{\"key\":\"first\",\"value\":1}}\n\n{bad}\n{{\"key\":\"z\",\"value\":1}}\n");
        let answer = store.ask_with(&["import", "--jsonl", "-"], text.as_bytes());
        assert_eq!(answer.code, code, "{bad}: {answer:?}");
        let error: Value = serde_json::from_str(&answer.err).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("line 3"), "{bad}: {message}");
        assert_eq!(error["error"]["details"]["acked_line"], 1, "{bad}");
        assert_eq!(store.ask(&["get", "first"]).out, "1\n");
        assert_eq!(store.ask(&["get", "z"]).out, "(nil)\n");
        store.ask(&["del", "first"]);
    }
}
