//! Exports as they are typed.

use crate::store::{Answer, Store, inmem};

#[test]
fn an_export_is_a_database_with_the_digest_that_was_told() {
    let store = Store::start();
    assert_eq!(store.ask(&["set", "key", "1"]).code, 0);
    let made = &store.json(&["export", "first"])["result"];
    let path = made["path"].as_str().unwrap();
    assert_eq!(path, store.exports().join("first").to_str().unwrap());
    assert_eq!(made["checkpoint_watermark"], 0);
    assert!(0 < made["size_bytes"].as_u64().unwrap());
    let mut command = inmem();
    command.args(["digest", path]);
    let digest = Answer::of(command, b"");
    assert_eq!(digest.out.trim_end(), made["digest"], "{digest:?}");
    assert_eq!(store.ask(&["checkpoint"]).code, 0);
    let text = store.ask(&["export", "second"]);
    assert!(text.out.starts_with("path       "), "{text:?}");
    assert!(text.out.contains(&format!("digest     {}", digest.out)));
    let taken = store.ask(&["export", "second"]);
    assert!(taken.err.contains("already_exists"), "{taken:?}");
    let path = store.ask(&["export", "../third"]);
    assert!(path.err.contains("invalid_argument"), "{path:?}");
    let answers = store.pipe("txn begin\nexport fourth\ntxn rollback\n");
    assert_eq!(answers[1]["error"]["sub"], "not_in_transaction");
    assert!(!store.exports().join("fourth").exists());
}
