//! Loading a file of JSON lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::time::Instant;

use in_mem_client::Client;
use in_mem_client::model::Value as Stored;
use serde_json::{Value, json};

use crate::store::{DEADLINE, Store, wait};

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

/// Lines of the file that is imported through kills.
const LINE_COUNT: usize = 6_000;

/// The command that imports it, into a run of its own.
fn words(run: &str) -> [&str; 7] {
    [
        "--run",
        run,
        "import",
        "--jsonl",
        "long.jsonl",
        "--batch",
        "4",
    ]
}

fn line(n: usize) -> String {
    format!("{{\"key\":\"line/{n:05}\",\"value\":{n}}}\n")
}

/// What is imported of the file: each line and the version of its key. Fails unless it is a
/// beginning of the file.
fn imported(client: &Client, run: &str) -> BTreeMap<String, u64> {
    let kv = client.run(run).unwrap().kv();
    let mut found = BTreeMap::new();
    let mut cursor = None;
    loop {
        let options = in_mem_client::ListOptions {
            prefix: "line/",
            cursor: cursor.as_ref(),
            ..in_mem_client::ListOptions::default()
        };
        let page = kv.list_with_values::<i64>(options).unwrap();
        for entry in page.entries {
            let expected = i64::try_from(found.len()).unwrap();
            assert_eq!(
                entry.key,
                format!("line/{expected:05}"),
                "no line is left out"
            );
            assert_eq!(entry.value, expected);
            found.insert(entry.key, entry.version);
        }
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

/// How many lines the progress of the run says are imported.
fn progress_of(client: &Client, run: &str) -> Option<i64> {
    let kv = client.run(run).unwrap().kv();
    let options = in_mem_client::ListOptions {
        prefix: "inmem.import/",
        ..in_mem_client::ListOptions::default()
    };
    let page = kv.list_with_values::<Stored>(options).unwrap();
    let Stored::Object(fields) = &page.entries.first()?.value else {
        panic!("{page:?}");
    };
    let lines = fields.iter().find(|(name, _)| name == "lines");
    let Some((_, Stored::Int(count))) = lines else {
        panic!("{fields:?}");
    };
    Some(*count)
}

/// Starts the import, and comes back when so many lines are in; nothing if it was too fast.
fn import_until(store: &Store, client: &Client, run: &str, line_count: i64) -> Option<Child> {
    let mut command = store.command(&words(run));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut import = command.stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + DEADLINE;
    while progress_of(client, run).is_none_or(|count| count < line_count) {
        if import.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < end, "no progress");
    }
    Some(import)
}

/// Waits until the daemon is done with everybody else.
fn settle(client: &Client, run: &str) {
    let end = Instant::now() + DEADLINE;
    let is_alone = || {
        let measures = client.info().unwrap().measures;
        let count = measures.iter().find(|it| it.name == "connection_count");
        count.unwrap().value == 1
    };
    while !is_alone() {
        assert!(
            Instant::now() < end,
            "the connection of the killed one stays"
        );
    }
    // Commits behind what others had sent.
    client.run(run).unwrap().kv().put("mark", &1).unwrap();
}

/// Repeats the import to its end: it puts what was missing, and nothing a second time.
fn finish(store: &Store, client: &Client, run: &str, before: &BTreeMap<String, u64>) {
    let answer = store.json(&words(run));
    assert_eq!(answer["result"]["imported"], LINE_COUNT - before.len());
    assert_eq!(answer["result"]["skipped_lines"], before.len());
    let after = imported(client, run);
    assert_eq!(after.len(), LINE_COUNT);
    for (key, version) in before {
        assert_eq!(after[key], *version, "{key} was put again");
    }
    assert_eq!(progress_of(client, run), None);
}

/// A store with the file in it, and a client that waits for a daemon that is started again.
fn long_file() -> (Store, Client) {
    let store = Store::start();
    let text: String = (0..LINE_COUNT).map(line).collect();
    std::fs::write(store.dir.path().join("long.jsonl"), text).unwrap();
    let client = Client::builder().socket(store.socket()).connect().unwrap();
    (store, client)
}

#[test]
fn a_killed_import_goes_on_where_it_stopped_and_puts_nothing_twice() {
    let (store, client) = long_file();
    let mut landed_count = 0;
    for (number, line_count) in [1, 400, 1_200, 1, 400, 1_200].into_iter().enumerate() {
        let run = format!("run-{number}");
        store.json(&["run", "begin", &run]);
        let Some(mut import) = import_until(&store, &client, &run, line_count) else {
            continue;
        };
        import.kill().unwrap();
        import.wait().unwrap();
        settle(&client, &run);
        let before = imported(&client, &run);
        if progress_of(&client, &run).is_some() {
            assert_eq!(progress_of(&client, &run), i64::try_from(before.len()).ok());
            finish(&store, &client, &run, &before);
            landed_count += 1;
        }
        if landed_count == 3 {
            return;
        }
    }
    panic!("only {landed_count} kills came before the end of the import");
}

#[test]
fn an_import_and_its_daemon_both_killed_leave_a_beginning_that_is_completed() {
    let (mut store, client) = long_file();
    for (number, line_count) in [1, 800].into_iter().enumerate() {
        let run = format!("run-{number}");
        store.json(&["run", "begin", &run]);
        let import = import_until(&store, &client, &run, line_count);
        store.kill();
        if let Some(mut import) = import {
            import.kill().unwrap();
            import.wait().unwrap();
        }
        store.restart();
        let before = imported(&client, &run);
        assert!(usize::try_from(line_count).unwrap() <= before.len());
        if progress_of(&client, &run).is_some() {
            finish(&store, &client, &run, &before);
        }
        assert_eq!(imported(&client, &run).len(), LINE_COUNT);
    }
}

#[test]
fn an_import_outlives_its_daemon_and_puts_each_line_once() {
    let (mut store, client) = long_file();
    store.json(&["run", "begin", "run"]);
    let import = import_until(&store, &client, "run", 400);
    store.kill();
    store.restart();
    if let Some(mut import) = import {
        let before = imported(&client, "run");
        assert_eq!(wait(&mut import), 0);
        let after = imported(&client, "run");
        for (key, version) in &before {
            assert_eq!(after[key], *version, "{key} was put again");
        }
    }
    assert_eq!(imported(&client, "run").len(), LINE_COUNT);
    assert_eq!(progress_of(&client, "run"), None);
}

#[test]
fn an_import_goes_on_behind_a_line_put_right_and_refuses_a_file_that_was_changed() {
    let store = Store::start();
    let path = store.dir.path().join("long.jsonl");
    let write = |changed: &str, bad: &str| {
        let text: String = (0..50).map(line).collect();
        let text = text.replacen(&line(3), changed, 1);
        std::fs::write(&path, text.replacen(&line(40), bad, 1)).unwrap();
    };
    let import = |more: &[&str]| store.ask(&[&["--json"][..], &words("run")[..], more].concat());
    store.json(&["run", "begin", "run"]);

    write(&line(3), "not json\n");
    let answer = import(&[]);
    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(answer.err.contains("line 41"), "{answer:?}");
    let changed = line(3).replace(":3}", ":33}");
    write(&changed, &line(40));
    let answer = import(&[]);
    assert_eq!(answer.code, 16, "{answer:?}");
    assert!(answer.err.contains("--from-start"), "{answer:?}");
    assert!(answer.err.contains("40 lines"), "{answer:?}");
    assert_eq!(
        store.json(&["--run", "run", "get", "line/00003"])["result"],
        3
    );
    // A file with fewer lines than are in.
    std::fs::write(&path, line(0)).unwrap();
    assert_eq!(import(&[]).code, 16);

    write(&line(3), &line(40));
    let answer: Value = serde_json::from_str(&import(&[]).out).unwrap();
    assert_eq!(answer["result"]["imported"], 10);
    assert_eq!(answer["result"]["skipped_lines"], 40);
    assert_eq!(store.json(&["--run", "run", "kv", "count"])["result"], 50);

    write(&line(3), "not json\n");
    assert_eq!(import(&[]).code, 2);
    write(&changed, &line(40));
    let answer: Value = serde_json::from_str(&import(&["--from-start"]).out).unwrap();
    assert_eq!(answer["result"]["imported"], 50);
    assert_eq!(
        store.json(&["--run", "run", "get", "line/00003"])["result"],
        33
    );
    assert_eq!(store.json(&["--run", "run", "kv", "count"])["result"], 50);
}
