//! The retention policy of a run, and entries that expire, as they are typed.

use crate::store::Store;

#[test]
fn a_policy_is_set_shown_previewed_and_cleared_for_people_and_programs() {
    let store = Store::start();
    assert_eq!(store.ask(&["run", "begin", "kept"]).code, 0);
    for value in ["1", "2", "3", "4"] {
        assert_eq!(store.ask(&["--run", "kept", "set", "key", value]).code, 0);
    }
    let none = &store.json(&["run", "retention", "get", "kept"])["result"];
    assert!(none["own"].is_null(), "{none}");
    assert_eq!(none["effective"], "keep-all");
    let preview = ["run", "retention", "preview", "kept", "keep-last 1"];
    let preview = &store.json(&preview)["result"];
    assert_eq!(preview["removable_count"], 3, "{preview}");
    let set = store.ask(&["run", "retention", "set", "kept", "keep-last 3"]);
    assert_eq!((set.code, set.out.as_str()), (0, "OK\n"), "{set:?}");
    let get = store.ask(&["--run", "kept", "run", "retention", "get"]);
    assert!(
        get.out.starts_with("policy  keep-last 3\nfrom    its own"),
        "{get:?}"
    );
    let stats = &store.json(&["run", "retention", "stats", "kept"])["result"];
    assert_eq!(
        (&stats["policy"], &stats["removable_count"]),
        (&"keep-last 3".into(), &1.into())
    );
    let listed = store.ask(&["--run", "kept", "kv", "list"]);
    assert_eq!(listed.out.lines().count(), 1, "{listed:?}");
    assert_eq!(store.ask(&["run", "retention", "clear", "kept"]).code, 0);
    let get = store.ask(&["run", "retention", "get", "kept"]);
    assert!(get.out.contains("the default of the daemon"), "{get:?}");
    let wrong = store.ask(&["run", "retention", "set", "kept", "keep-last 0"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.err.contains("a limit of 0"), "{wrong:?}");
    assert_eq!(store.ask(&["run", "end", "kept"]).code, 0);
    let closed = store.ask(&["run", "retention", "set", "kept", "keep-all"]);
    assert!(closed.err.contains("run_closed"), "{closed:?}");
}

#[test]
fn an_entry_put_with_a_time_to_live_says_when_it_expires_and_then_reads_as_absent() {
    let mut store = Store::start();
    assert_eq!(store.ask(&["kv", "put", "stays", "1"]).code, 0);
    let put = store.ask(&["set", "soon", "2", "--ttl", "1us"]);
    assert_eq!(put.out, "OK\n", "{put:?}");
    assert_eq!(
        store.ask(&["kv", "put", "later", "3", "--ttl", "7d"]).code,
        0
    );
    assert_eq!(store.ask(&["kv", "expires-at", "stays"]).out, "(nil)\n");
    assert_eq!(store.ask(&["kv", "expires-at", "soon"]).out, "(nil)\n");
    let at_us = store.json(&["kv", "expires-at", "later"])["result"].clone();

    assert!(at_us.as_u64().is_some(), "{at_us}");
    let read = |store: &Store| {
        assert_eq!(store.ask(&["get", "soon"]).out, "(nil)\n");
        assert_eq!(store.ask(&["kv", "count"]).out, "(integer) 2\n");
        assert_eq!(store.ask(&["get", "later"]).out, "3\n");
        assert_eq!(store.json(&["kv", "expires-at", "later"])["result"], at_us);
    };
    read(&store);
    store.kill();
    store.restart();
    read(&store);
    let wrong = store.ask(&["kv", "put", "key", "1", "--ttl", "soon"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    let none = store.ask(&["kv", "put", "key", "1", "--ttl", "0s"]);
    assert!(none.err.contains("invalid_argument"), "{none:?}");
}
