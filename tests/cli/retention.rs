//! The retention policy of a run as it is typed.

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
