//! Looking inside: health, metrics, describe, top and doctor as they are typed.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::exposition::Exposition;
use crate::store::{Answer, DEADLINE, Pipe, Store, inmem};

fn metrics(store: &Store) -> Exposition {
    let answer = store.ask(&["metrics"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    Exposition::parse(&answer.out)
}

#[test]
fn metrics_are_valid_and_count_exactly_what_was_done() {
    let store = Store::start();
    let before = metrics(&store);
    let load = "kv put a 1 --durability strict\n\
                kv put b 1 --durability strict\n\
                kv put c 1 --durability buffered\n\
                kv put d 1 --durability in_memory\n\
                kv put d 2 --durability in_memory\n\
                kv cas a 9 1\n\
                kv put-if-absent a 1\n\
                kv get a\n\
                txn begin\nkv put e 1\ntxn rollback\n\
                flush\n";
    assert!(store.pipe(load).len() == 12);
    // What a transaction has read changes before it commits.
    let mut reader = Pipe::open(&store.socket());
    for line in ["txn begin", "kv get a", "kv put f 1"] {
        assert_eq!(reader.ask(line)["ok"], true, "{line}");
    }
    let meanwhile = metrics(&store);
    assert_eq!(meanwhile.get("inmem_transactions_open"), 1.0);
    // Beside the view of the command that asks.
    let views = before.get("inmem_read_views");
    assert_eq!(meanwhile.get("inmem_read_views"), views + 1.0);
    let age = meanwhile.get("inmem_read_view_age_max_seconds");
    assert!(0.0 < age && age < DEADLINE.as_secs_f64(), "{age}");
    assert_eq!(store.ask(&["set", "a", "2"]).code, 0);
    assert_eq!(reader.ask("txn commit")["ok"], false);
    let after = metrics(&store);
    let grew = |series: &str| after.get(series) - before.get(series);
    assert_eq!(grew("inmem_commits_total{level=\"volatile\"}"), 2.0);
    assert_eq!(grew("inmem_commits_total{level=\"logged\"}"), 1.0);
    assert_eq!(grew("inmem_commits_total{level=\"synced\"}"), 3.0);
    assert_eq!(grew("inmem_conflicts_total{kind=\"cas\"}"), 2.0);
    assert_eq!(grew("inmem_conflicts_total{kind=\"read\"}"), 1.0);
    assert_eq!(grew("inmem_aborts_total{cause=\"conflict\"}"), 1.0);
    assert_eq!(grew("inmem_aborts_total{cause=\"rollback\"}"), 1.0);
    assert_eq!(grew("inmem_aborts_total{cause=\"lost\"}"), 0.0);
    assert_eq!(
        grew("inmem_requests_total{operation=\"kv.cas_value\"}"),
        1.0
    );
    assert_eq!(grew("inmem_wal_records_total"), 4.0);
    assert!(1.0 <= grew("inmem_wal_syncs_total"));
    let syncs = "inmem_wal_sync_latency_seconds_count";
    assert_eq!(after.get(syncs), after.get("inmem_wal_syncs_total"));
    assert_eq!(grew("inmem_wal_batch_records_sum"), 4.0);
    let latency = "inmem_commit_latency_seconds_count{level=\"synced\"}";
    assert!(grew(latency) <= 3.0);
    // The pipe with the transaction, and the command that asks.
    assert_eq!(after.get("inmem_sessions"), 2.0);
    assert_eq!(after.get("inmem_transactions_open"), 0.0);
    assert_eq!(after.get("inmem_wal_pending_commits"), 0.0);
    let durable = after.get("inmem_wal_durable_lsn");
    assert_eq!(durable, after.get("inmem_wal_written_lsn"));
    assert_eq!(after.get("inmem_health_state{state=\"ok\"}"), 1.0);
    assert_eq!(after.get("inmem_poisoned"), 0.0);
    assert_eq!(after.get("inmem_read_views"), views);
    assert_names_of_backends_and_low_buckets(&store, &after);
    let numbers = store.json(&["metrics"])["result"].clone();
    assert_eq!(numbers["inmem_commits_total{level=\"synced\"}"], json!(3));
}

/// What is below is named, and a sync or a commit of a few microseconds has buckets of its own.
fn assert_names_of_backends_and_low_buckets(store: &Store, found: &Exposition) {
    let health = store.json(&["health"])["result"].clone();
    for (part, key) in [("log", "log_backend"), ("socket", "socket_backend")] {
        let backend = health[key].as_str().unwrap();
        let series = format!("inmem_backend_info{{part=\"{part}\",backend=\"{backend}\"}}");
        assert_eq!(found.get(&series), 1.0, "{series}");
    }
    for bound in ["0.000001", "0.000002", "0.000003", "0.000005", "0.000007"] {
        for family in [
            "inmem_wal_sync_latency_seconds_bucket{",
            "inmem_commit_latency_seconds_bucket{level=\"synced\",",
        ] {
            let count = found.get(&format!("{family}le=\"{bound}\"}}"));
            assert!(0.0 <= count, "{family} {bound}");
        }
    }
}

#[test]
fn health_and_describe_say_what_is_and_where_it_comes_from() {
    let store = Store::start();
    store.ask(&["run", "begin", "agent"]);
    store.ask(&["--run", "agent", "set", "key", "1"]);
    let health = store.json(&["health"])["result"].clone();
    assert_eq!(health["state"], "ok", "{health}");
    assert_eq!(health["faults"], json!([]));
    assert!(health["free_len_bytes"].as_u64().unwrap() > 0);
    let human = store.ask(&["health"]);
    assert_eq!(human.code, 0, "{human:?}");
    assert!(human.out.starts_with("state       ok\n"), "{}", human.out);
    let found = store.json(&["describe"])["result"].clone();
    assert_eq!(found["health"]["state"], "ok");
    // The key, and the metadata of its run.
    assert_eq!(found["info"]["key_count"], 2);
    let operations = found["capabilities"]["operations"].as_array().unwrap();
    for name in ["system.health", "system.metrics", "system.describe"] {
        assert!(operations.contains(&json!(name)), "{name}");
    }
    let setting = |name: &str| -> Value {
        let all = found["settings"].as_array().unwrap();
        let one = all.iter().find(|setting| setting["name"] == name);
        one.unwrap_or_else(|| panic!("no {name}")).clone()
    };
    assert_eq!(setting("data_dir")["origin"], "flag --data-dir");
    assert_eq!(setting("durability")["value"], "\"strict\"");
    assert_eq!(setting("durability")["origin"], "default");
    assert_eq!(setting("metrics_socket")["value"], Value::Null);
    let runs = found["runs"].as_array().unwrap();
    let agent = runs.iter().find(|run| run["name"] == "agent").unwrap();
    assert_eq!(
        (&agent["status"], &agent["key_count"]),
        // The key, and the metadata of the run.
        (&json!("active"), &json!(2))
    );
}

#[test]
fn top_prints_one_frame_for_a_script() {
    let store = Store::start();
    let answer = store.ask(&["top", "--once", "--interval-ms", "50"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.out.starts_with("in-mem ok  log "), "{}", answer.out);
    for word in [
        "ops/s",
        "commits/s",
        "fsync p50",
        "fsync p99",
        "batch size",
        "pending commits",
    ] {
        assert!(answer.out.contains(word), "{word} in {}", answer.out);
    }
    assert!(
        !answer.out.contains('\x1b'),
        "a script gets no control characters"
    );
    let mut lost = inmem();
    lost.args(["--socket", "/nonexistent/inmem.sock", "top", "--once"]);
    assert_eq!(Answer::of(lost, b"").code, 30);
}

fn doctor(words: &[&str]) -> (i32, Vec<Value>) {
    let mut command = inmem();
    command.args(["doctor", "--json"]).args(words);
    let answer = Answer::of(command, b"");
    let found: Value = serde_json::from_str(&answer.out).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer.code, found["result"].as_array().unwrap().clone())
}

fn grade<'a>(checks: &'a [Value], name: &str) -> &'a str {
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no {name}"))["grade"]
        .as_str()
        .unwrap()
}

#[test]
fn doctor_finds_nothing_wrong_with_a_good_installation() {
    let store = Store::start();
    let data = store.dir.path().join("data");
    let socket = store.socket();
    let words = [
        "--data-dir",
        data.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ];
    let (_, checks) = doctor(&words);
    for name in [
        "configuration",
        "data_directory",
        "parents",
        "socket",
        "version",
    ] {
        assert_eq!(grade(&checks, name), "ok", "{name} in {checks:?}");
    }
    for check in &checks {
        let is_ok = check["grade"] == "ok";
        assert_eq!(is_ok, check["advice"].is_null(), "{check}");
    }
}

#[test]
fn doctor_fails_on_a_directory_in_memory_and_on_one_open_to_everyone() {
    let memory = match tempfile::tempdir_in("/dev/shm") {
        Ok(memory) => memory,
        Err(error) => {
            println!("SKIPPED: needs /dev/shm: {error}");
            return;
        }
    };
    let data = memory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o777)).unwrap();
    let socket = memory.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let words = [
        "--data-dir",
        data.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ];
    let (code, checks) = doctor(&words);
    assert_eq!(code, 1);
    assert_eq!(grade(&checks, "filesystem"), "fail");
    assert_eq!(grade(&checks, "data_directory"), "fail");
    assert_eq!(grade(&checks, "socket"), "warn", "stale: {checks:?}");
}
