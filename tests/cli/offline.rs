//! check, repair and digest, as they are typed.

use serde_json::Value;

use crate::store::Store;

fn result(store: &Store, words: &[&str], code: i32) -> Value {
    let answer = store.ask(&[words, &["--json"]].concat());
    assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    let text: Value = serde_json::from_str(&answer.out).unwrap();
    text["result"].clone()
}

/// The daemon and the offline commands agree about what is stored, and about the key.
#[test]
fn an_encrypted_directory_is_looked_at_with_its_key_file_and_refused_without() {
    let mut store = Store::start();
    store.kill();
    let dir = store.dir.path().to_owned();
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    for (name, byte) in [("key", "0f"), ("other", "f0")] {
        std::fs::write(dir.join(name), byte.repeat(32)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.join(name), mode).unwrap();
    }
    let settings = format!(
        "codec = \"aes-256-gcm\"\nkey_file = {:?}\n",
        dir.join("key")
    );
    store.restart_with(&settings);
    assert_eq!(
        store
            .ask(&["set", "plain-key", "1", "--durability", "strict"])
            .code,
        0
    );
    store.kill();
    let digest = result(&store, &["digest", "data", "--key-file", "key"], 0);
    let report = result(&store, &["check", "data", "--key-file", "key"], 0);
    assert_eq!(report["state"]["digest"], digest["digest"]);
    for words in [&["check", "data"][..], &["digest", "data"]] {
        let missing = store.ask(words);
        assert_eq!(missing.code, 19, "{missing:?}");
        assert!(missing.err.contains("--key-file"), "{missing:?}");
        let wrong = store.ask(&[words, &["--key-file", "other"]].concat());
        assert_eq!(wrong.code, 19, "{wrong:?}");
        assert!(
            wrong.err.contains("does not fit this database"),
            "{wrong:?}"
        );
    }
    // Its MANIFEST lost, it does not say any more what it is stored with.
    std::fs::remove_file(dir.join("data/MANIFEST")).unwrap();
    let lost = [
        "repair",
        "data",
        "--output",
        "repaired",
        "--key-file",
        "key",
    ];
    assert_ne!(store.ask(&lost).code, 0);
    let said = [&lost[..], &["--codec", "aes-256-gcm"]].concat();
    assert_eq!(result(&store, &said, 0)["digest"], digest["digest"]);
    let again = result(&store, &["digest", "repaired", "--key-file", "key"], 0);
    assert_eq!(again["digest"], digest["digest"]);
}

#[test]
fn a_directory_is_checked_damaged_and_repaired_and_a_daemon_starts_on_what_was_made() {
    let mut store = Store::start();
    for number in 0..20 {
        let key = format!("k{number}");
        let put = store.ask(&["set", &key, "1", "--durability", "strict"]);
        assert_eq!(put.code, 0, "{put:?}");
    }
    for words in [&["check", "data"][..], &["digest", "data"]] {
        let locked = store.ask(words);
        assert_eq!(locked.code, 19, "{locked:?}");
        assert!(locked.err.contains("database_locked"), "{locked:?}");
    }
    store.kill();
    let report = result(&store, &["check", "data"], 0);
    assert_eq!(report["sound"], true);
    let state = &report["state"];
    assert_eq!(
        (&state["entities"], &state["runs"]),
        (&20.into(), &1.into())
    );
    assert_eq!(
        result(&store, &["digest", "data"], 0)["digest"],
        state["digest"]
    );
    // A byte of the eleventh record.
    let path = store.dir.path().join("data/WAL/wal-000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|it| it == b"k10").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let report = result(&store, &["check", "data"], 1);
    assert_eq!(report["faults"][0]["path"], "WAL/wal-000001.seg");
    assert!(report["faults"][0]["offset"].is_u64(), "{report}");
    assert_eq!(report["loss"]["records"], 9);
    assert_eq!(report["state"]["entities"], 10);
    let refused = store.ask(&["repair", "data", "--output", "data"]);
    assert_eq!(refused.code, 16, "{refused:?}");
    let absent = store.ask(&["check", "absent"]);
    assert_eq!(absent.code, 19, "{absent:?}");
    let repaired = result(&store, &["repair", "data", "--output", "repaired"], 0);
    assert_eq!(repaired["check"], report);
    let told = store.ask(&["check", "repaired"]);
    let digest = repaired["digest"].as_str().unwrap();
    assert!(told.code == 0 && told.out.contains(digest), "{told:?}");
    let dir = store.dir.path();
    std::fs::rename(dir.join("data"), dir.join("damaged")).unwrap();
    std::fs::rename(dir.join("repaired"), dir.join("data")).unwrap();
    store.restart();
    assert_eq!(store.ask(&["get", "k9"]).out, "1\n");
    assert_eq!(store.ask(&["get", "k10"]).out, "(nil)\n");
    assert_eq!(
        store
            .ask(&["set", "k10", "2", "--durability", "strict"])
            .code,
        0
    );
}
