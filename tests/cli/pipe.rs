//! The pipe: one command a line in, one JSON object a line out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::store::{Pipe, Store};

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn sub(answer: &Value) -> &str {
    assert_eq!(answer["ok"], false, "{answer}");
    answer["error"]["sub"].as_str().unwrap_or_default()
}

#[test]
fn a_write_and_a_read_answer_in_the_published_form() {
    let store = Store::start();
    let answers = store.pipe(
        "run begin agent --if-missing\n\
         --run agent kv put key '{\"a\":[1,2.0,null]}' --durability strict\n\
         --run agent kv get key\n\
         --run agent kv get missing\n\
         --run agent kv put key 5 --durability buffered\n\
         --run agent kv put gone 6 --durability in_memory\n",
    );
    assert_eq!(answers.len(), 6);
    let put = &answers[1];
    assert_eq!(
        keys(put),
        ["commit_version", "durability", "ok", "result", "version"]
    );
    assert_eq!((&put["ok"], &put["result"]), (&json!(true), &Value::Null));
    assert_eq!(put["durability"], "synced");
    assert_eq!(
        put["version"],
        json!({"type": "txn", "value": put["commit_version"]})
    );
    let get = &answers[2];
    assert_eq!(get["result"].to_string(), r#"{"a":[1,2.0,null]}"#);
    assert_eq!(get["found"], true);
    assert_eq!(get["version"], put["version"]);
    assert_eq!(
        (&get["commit_version"], &get["durability"]),
        (&Value::Null, &Value::Null)
    );
    let missing = &answers[3];
    assert_eq!(
        (&missing["ok"], &missing["found"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&missing["result"], &missing["version"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        keys(get),
        [
            "commit_version",
            "durability",
            "found",
            "ok",
            "result",
            "version"
        ]
    );
    assert_eq!(answers[4]["durability"], "logged");
    assert_eq!(answers[5]["durability"], "volatile");
    assert!(put["commit_version"].as_u64() < answers[4]["commit_version"].as_u64());
}

#[test]
fn a_line_that_cannot_be_understood_is_an_answer_and_the_next_line_is_served() {
    let store = Store::start();
    let bad = [
        "kv put 'open",
        "kv",
        "nonsense",
        "kv put key",
        "kv put key {broken",
        "kv put key 1 --durability often",
        "--socket /tmp/other.sock ping",
        "--run",
        "kv cas key 1",
        "kv incr key half",
        "kv put key --file -",
        "demo",
        "import --jsonl x --run y",
        "--help",
    ];
    for line in bad {
        let answers = store.pipe(&format!("{line}\nping\n"));
        assert_eq!(answers.len(), 2, "{line}");
        assert_eq!(sub(&answers[0]), "invalid_argument", "{line}");
        assert_eq!(answers[1]["ok"], true, "{line}");
    }
    let answers = store.pipe("\n   \n# a comment\n  # another\nping\n\n");
    assert_eq!(answers.len(), 1);
    let broken = store.ask_with(&["--json"], b"kv put key \xff\nping\n");
    assert_eq!(broken.out.lines().count(), 2);
    let unended = store.pipe("ping");
    assert_eq!(unended[0]["ok"], true);
}

#[test]
fn an_error_has_every_field_and_an_unknown_run_a_hint() {
    let store = Store::start();
    let answers = store.pipe("--run nobody kv get key\nkv put text hello\nkv incr text\n");
    let error = &answers[0]["error"];
    assert_eq!(keys(&answers[0]), ["error", "ok"]);
    let fields = [
        "code", "details", "message", "number", "outcome", "retry", "sub",
    ];
    assert_eq!(keys(error), fields);
    assert_eq!(
        (&error["code"], &error["number"]),
        (&json!("NotFound"), &json!(1))
    );
    assert_eq!(
        (&error["sub"], &error["retry"]),
        (&json!("run_not_found"), &json!("no"))
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("inmem run begin nobody")
    );
    assert_eq!(error["details"]["run"], "nobody");
    let wrong = &answers[2]["error"];
    assert_eq!(
        (&wrong["code"], &wrong["number"]),
        (&json!("WrongType"), &json!(2))
    );
}

#[test]
fn beginning_a_run_that_is_there_answers_with_it() {
    let store = Store::start();
    let answers = store.pipe(
        "run begin agent --if-missing\nrun begin agent --if-missing\nrun begin agent\n\
         run show agent\nrun status agent\n",
    );
    assert_eq!(answers[0]["result"]["id"], answers[1]["result"]["id"]);
    assert_eq!(answers[0]["result"]["name"], "agent");
    assert!(answers[0]["commit_version"].is_u64());
    assert!(answers[1]["commit_version"].is_null());
    assert_eq!(sub(&answers[2]), "already_exists");
    assert_eq!(answers[3]["result"]["id"], answers[0]["result"]["id"]);
    assert_eq!(answers[4]["result"], "active");
}

#[test]
fn every_value_comes_back_with_its_type() {
    let store = Store::start();
    let values = [
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.0", "1.0"),
        ("true", "true"),
        ("null", "null"),
        ("word", "\"word\""),
        ("'\"5\"'", "\"5\""),
        ("'two words'", "\"two words\""),
        ("b64:AAH/", "{\"$bytes\":\"AAH/\"}"),
        ("'{\"$f64\":\"NaN\"}'", "{\"$f64\":\"NaN\"}"),
        ("'{\"$f64\":\"-0.0\"}'", "{\"$f64\":\"-0.0\"}"),
        ("'{\"$obj\":{\"$bytes\":1}}'", "{\"$obj\":{\"$bytes\":1}}"),
        ("'[]'", "[]"),
    ];
    for (word, expected) in values {
        let line = format!("kv put key {word}\nkv get key\n");
        let answer = store.ask_with(&["--json"], line.as_bytes());
        let got = answer.out.lines().nth(1).unwrap_or_default();
        assert!(
            got.contains(&format!("\"result\":{expected},")),
            "{word}: {}",
            answer.out
        );
    }
}

#[test]
fn a_transaction_stays_open_from_line_to_line() {
    let store = Store::start();
    let answers = store.pipe(
        "kv put a 1\n\
         txn begin\n\
         kv put a 2\n\
         kv put b 3\n\
         kv get a\n\
         txn info\n\
         txn begin\n\
         run begin other\n\
         txn commit\n\
         kv get a\n\
         txn commit\n",
    );
    assert!(answers[1]["result"]["start_version"].is_u64());
    assert_eq!(
        (&answers[2]["ok"], &answers[2]["version"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(
        answers[4]["result"], 2,
        "the transaction reads its own writes"
    );
    assert!(1 <= answers[5]["result"]["operation_count"].as_u64().unwrap());
    assert_eq!(sub(&answers[6]), "transaction_already_active");
    assert_eq!(sub(&answers[7]), "not_in_transaction");
    assert!(answers[8]["commit_version"].is_u64(), "{}", answers[8]);
    assert_eq!(answers[9]["result"], 2);
    assert_eq!(answers[9]["version"]["value"], answers[8]["commit_version"]);
    assert_eq!(sub(&answers[10]), "transaction_not_active");
}

#[test]
fn a_transaction_rolled_back_or_in_conflict_leaves_nothing() {
    let store = Store::start();
    let answers = store.pipe("kv put a 1\ntxn begin\nkv put a 2\ntxn rollback\nkv get a\n");
    assert_eq!(answers[4]["result"], 1);

    let (mut one, mut other) = (Pipe::open(&store.socket()), Pipe::open(&store.socket()));
    one.ask("txn begin");
    assert_eq!(one.ask("kv get a")["result"], 1);
    other.ask("kv put a 10");
    assert_eq!(one.ask("kv get a")["result"], 1, "reads repeat");
    one.ask("kv put a 11");
    let conflict = one.ask("txn commit");
    assert_eq!(conflict["error"]["code"], "Conflict", "{conflict}");
    assert_eq!(conflict["error"]["outcome"], "not_committed");
    assert_eq!(one.ask("kv get a")["result"], 10);
    assert_eq!((one.finish(), other.finish()), (0, 0));
}

#[test]
fn a_transaction_is_bound_to_its_run() {
    let store = Store::start();
    let answers = store.pipe(
        "run begin one\nrun begin two\n--run one txn begin\nkv put a 1\n--run two kv put a 2\n\
         --run one kv put b 2\ntxn commit\n--run one kv count\n--run two kv count\n",
    );
    assert_eq!(sub(&answers[4]), "cross_run_write");
    assert_eq!(answers[6]["ok"], true, "{}", answers[6]);
    assert_eq!(
        (&answers[7]["result"], &answers[8]["result"]),
        (&json!(2), &json!(0))
    );
}

#[test]
fn a_lost_daemon_is_an_error_line_and_the_pipe_comes_back() {
    let mut store = Store::start();
    let mut pipe = Pipe::open(&store.socket());
    assert_eq!(pipe.ask("kv put a 1 --durability strict")["ok"], true);
    assert_eq!(pipe.ask("txn begin")["ok"], true);
    store.kill();
    let lost = pipe.ask("kv put a 2");
    assert_eq!(sub(&lost), "connection_lost");
    assert_eq!(lost["error"]["outcome"], "not_committed");
    store.restart();
    assert_eq!(
        pipe.ask("kv get a")["result"],
        1,
        "the transaction is gone with its connection"
    );
    assert_eq!(sub(&pipe.ask("txn commit")), "transaction_not_active");
    store.kill();
    assert_eq!(sub(&pipe.ask("kv get a")), "connection_lost");
    let asked = Instant::now();
    assert_eq!(sub(&pipe.ask("kv get a")), "connection_refused");
    let waited = asked.elapsed();
    assert!(Duration::from_millis(4_500) < waited, "{waited:?}");
    store.restart();
    assert_eq!(pipe.ask("kv put a 3")["ok"], true);
    assert_eq!(pipe.finish(), 0);
}

#[test]
fn a_command_waits_for_a_daemon_that_is_being_restarted() {
    let mut store = Store::start();
    let mut pipe = Pipe::open(&store.socket());
    assert_eq!(pipe.ask("kv put a 1 --durability strict")["ok"], true);
    store.kill();
    assert_eq!(sub(&pipe.ask("kv get a")), "connection_lost");
    pipe.say("kv get a");
    store.restart();
    assert_eq!(pipe.hear()["result"], 1);
    assert_eq!(pipe.finish(), 0);
}

#[test]
fn a_scan_goes_on_from_its_cursor_in_the_same_pipe() {
    let store = Store::start();
    let mut pipe = Pipe::open(&store.socket());
    for n in 0..7 {
        pipe.ask(&format!("kv put p/{n} {n}"));
    }
    let (mut line, mut scanned) = ("kv scan p/ --limit 3".to_owned(), Vec::new());
    for has_more in [true, true, false] {
        let page = pipe.ask(&line)["result"].clone();
        assert_eq!(page["has_more"], has_more, "{page}");
        scanned.extend(page["items"].as_array().unwrap().clone());
        line = format!(
            "kv scan p/ --limit 3 --cursor {}",
            page["cursor"].as_str().unwrap_or("-")
        );
    }
    let values: Vec<_> = scanned.iter().map(|item| item["value"].clone()).collect();
    assert_eq!(json!(values), json!([0, 1, 2, 3, 4, 5, 6]));
    assert_eq!(pipe.finish(), 0);
}

#[test]
fn lines_may_end_with_a_carriage_return() {
    let store = Store::start();
    let answers = store.pipe("kv put c 1\r\nkv get c\r\n\r\n# nothing\r\n");
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1]["result"], 1);
}

#[test]
fn an_answer_that_cannot_be_written_does_not_say_that_nothing_was_committed() {
    let store = Store::start();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut once = store.command(&["--json", "kv", "incr", "once"]);
    let refused = once.stdout(full().unwrap()).output().unwrap();
    let said: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(said["error"]["outcome"], "outcome_unknown", "{said}");
    assert_eq!(refused.status.code(), Some(31));
    assert_eq!(store.pipe("kv get once\n")[0]["result"], 1);
}

#[test]
fn a_pipe_whose_answers_nobody_reads_stops_and_does_not_end_with_success() {
    let store = Store::start();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut pipe = store.command(&["--json"]);
    let pipe = pipe.stdin(std::process::Stdio::piped()).stdout(writer);
    let mut child = pipe.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"kv put a 1\nkv put b 1\n").unwrap();
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(store.pipe("kv get b\n")[0]["found"], false);
}
