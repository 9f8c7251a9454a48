//! Checkpoints, compaction and snapshots as they are typed.

use serde_json::json;

use crate::store::{Store, inmem};

#[test]
fn checkpoint_compact_and_snapshots_say_what_was_done_for_people_and_programs() {
    let mut store = Store::start();
    assert_eq!(store.ask(&["set", "key", "1"]).code, 0);
    let early = store.ask(&["compact"]);
    assert_eq!(early.code, 19, "{early:?}");
    assert!(early.err.contains("no_snapshot"), "{early:?}");
    let taken = &store.json(&["checkpoint"])["result"];
    assert_eq!(taken["snapshot_id"], 1);
    let watermark = taken["watermark_txn"].as_u64().unwrap();
    assert!(0 < watermark && 0 < taken["timestamp_us"].as_u64().unwrap());
    let text = store.ask(&["checkpoint"]);
    assert!(text.out.starts_with("snapshot   2\n"), "{text:?}");
    let listed = &store.json(&["snapshots", "list"])["result"];
    assert_eq!(listed[0]["snapshot_id"], 1);
    assert_eq!(listed[0]["size_bytes"], taken["size_bytes"]);
    assert_eq!(listed[0]["created_at_us"], taken["timestamp_us"]);
    assert_eq!(listed[1]["path"], "SNAPSHOTS/snap-000002.chk");
    let compacted = &store.json(&["compact", "--mode", "wal_only"])["result"];
    assert_eq!(compacted["mode"], "wal_only");
    assert_eq!(compacted["snapshot_watermark"], json!(watermark));
    assert_eq!(store.ask(&["snapshots", "delete", "2"]).code, 16);
    assert_eq!(store.ask(&["snapshots", "delete", "1"]).code, 0);
    assert_eq!(store.ask(&["snapshots", "delete", "1"]).code, 1);
    let lines = store.ask(&["snapshots", "list"]).out;
    assert_eq!(lines.lines().count(), 1, "{lines}");
    store.kill();
    store.restart();
    let info = store.json(&["info"]);
    assert_eq!(info["result"]["measures"]["recovery_snapshot_id"], 2);
    assert_eq!(store.ask(&["get", "key"]).out, "1\n");
}

#[test]
fn an_unknown_mode_is_refused_naming_the_known_one_and_a_transaction_allows_none_of_it() {
    let store = Store::start();
    let unknown = store.ask(&["compact", "--mode", "everything"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.err.contains("wal_only"), "{unknown:?}");
    let answers = store.pipe(
        "txn begin\nkv put key 1\ncheckpoint\ncompact\nsnapshots list\nsnapshots delete 1\n\
         txn commit\ncheckpoint\n",
    );
    for refused in &answers[2..6] {
        assert_eq!(refused["error"]["sub"], "not_in_transaction", "{refused}");
    }
    assert_eq!(answers[6]["ok"], true);
    assert_eq!(answers[7]["result"]["snapshot_id"], 1);
}

#[test]
fn the_new_verbs_have_manual_pages_and_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let made = inmem()
        .args(["generate", "man"])
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(made.success());
    for page in [
        "inmem-checkpoint.1",
        "inmem-compact.1",
        "inmem-snapshots-list.1",
        "inmem-snapshots-delete.1",
    ] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    let completions = inmem()
        .args(["generate", "completions", "bash"])
        .output()
        .unwrap();
    let completions = String::from_utf8(completions.stdout).unwrap();
    assert!(completions.contains("wal_only"));
}
