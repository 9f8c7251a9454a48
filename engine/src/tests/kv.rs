//! KV: every operation, in every mode.

use in_mem_model::{RunId, SYSTEM_NAMESPACE, TypeTag, Value, Version, encode};

use super::{MODES, in_memory, int, over, text, world};
use crate::limits::{FILL_STEP_KEY_COUNT_MAX, LIST_STEP_LEN_BYTES_MAX};
use crate::{
    CasOutcome, CommitError, Database, Expected, KeyRef, ListRequest, ListStep, ReadError,
};

fn in_every_mode(check: impl Fn(&Database)) {
    for mode in MODES {
        let world = world();
        let database = over(&world, mode).open().unwrap();
        check(&database);
        database.shutdown().unwrap();
    }
}

#[test]
fn a_put_is_read_back_with_its_version_and_replaces_the_value_before() {
    in_every_mode(|database| {
        let run = database.default_run();
        let kv = run.kv();
        let first = kv.put("k", &text("a")).unwrap();
        let second = kv.put("k", &text("a")).unwrap();
        assert!(first < second, "an equal value is a new version");
        let found = kv.get_versioned("k").unwrap().unwrap();
        assert_eq!(
            (found.value.as_slice(), found.version),
            (text("a").as_bytes(), second)
        );
        assert_eq!(kv.latest_version("k").unwrap(), Some(Version::Txn(second)));
        assert!(kv.contains("k").unwrap() && !kv.contains("other").unwrap());
        let mut room = Vec::new();
        assert!(kv.get_into("k", &mut room).unwrap());
        assert_eq!(room, text("a").as_bytes());
    });
}

#[test]
fn a_delete_is_a_versioned_tombstone_and_says_whether_there_was_something() {
    in_every_mode(|database| {
        let run = database.default_run();
        let kv = run.kv();
        assert!(!kv.delete("k").unwrap());
        assert_eq!(database.version(), 0, "deleting nothing takes no version");
        kv.put("k", &int(1)).unwrap();
        assert!(kv.delete("k").unwrap());
        assert!(!kv.delete("k").unwrap());
        assert_eq!(kv.get("k").unwrap(), None);
        let history = kv.history("k", None, None).unwrap();
        assert_eq!(
            history
                .iter()
                .map(|e| e.value.is_some())
                .collect::<Vec<_>>(),
            [false, true]
        );
        let tombstone = history[0].version;
        let wrong = kv.cas_version("k", Expected::Version(0), &int(2)).unwrap();
        assert!(matches!(wrong, CasOutcome::Mismatch(actual) if actual.version == tombstone));
        let right = kv
            .cas_version("k", Expected::Version(tombstone), &int(2))
            .unwrap();
        assert!(matches!(right, CasOutcome::Written(_)));
    });
}

#[test]
fn a_mismatch_is_an_answer_with_the_actual_version_and_writes_nothing() {
    in_every_mode(|database| {
        let run = database.default_run();
        let kv = run.kv();
        let version = kv.put("k", &int(1)).unwrap();
        let before = database.version();
        let CasOutcome::Mismatch(actual) = kv.cas_version("k", Expected::Absent, &int(2)).unwrap()
        else {
            panic!("a live key is not absent")
        };
        assert_eq!((actual.version, actual.is_absent), (version, false));
        assert!(matches!(
            kv.cas_value("k", Some(&int(9)), &int(2)).unwrap(),
            CasOutcome::Mismatch(_)
        ));
        assert_eq!(kv.put_if_absent("k", &int(2)).unwrap(), None);
        assert_eq!(database.version(), before);
        assert!(matches!(
            kv.cas_value("k", Some(&int(1)), &int(2)).unwrap(),
            CasOutcome::Written(_)
        ));
        assert!(matches!(
            kv.cas_value("new", None, &int(1)).unwrap(),
            CasOutcome::Written(_)
        ));
        assert!(kv.put_if_absent("newer", &int(1)).unwrap().is_some());
    });
}

#[test]
fn a_value_with_nan_is_never_equal_to_what_is_expected() {
    let database = in_memory();
    let run = database.default_run();
    let nan = encode(&Value::Float(f64::NAN)).unwrap();
    run.kv().put("k", &nan).unwrap();
    assert!(matches!(
        run.kv().cas_value("k", Some(&nan), &int(1)).unwrap(),
        CasOutcome::Mismatch(_)
    ));
}

#[test]
fn correctness_val_2_incr_counts_from_zero_and_refuses_other_types_and_overflow() {
    in_every_mode(|database| {
        let run = database.default_run();
        let kv = run.kv();
        assert_eq!(kv.incr("n", 1).unwrap(), 1);
        assert_eq!(kv.incr("n", 300).unwrap(), 301);
        assert_eq!(kv.decr("n", 302).unwrap(), -1);
        assert_eq!(kv.get("n").unwrap().unwrap(), int(-1).as_bytes());
        kv.put("n", &int(i64::MAX)).unwrap();
        assert!(matches!(
            kv.incr("n", 1),
            Err(CommitError::Overflow {
                value: i64::MAX,
                ..
            })
        ));
        kv.put("s", &text("1")).unwrap();
        let wrong = kv.incr("s", 1);
        assert!(matches!(wrong, Err(CommitError::WrongType { actual, .. }) if actual != "Int"));
        assert_eq!(kv.get("n").unwrap().unwrap(), int(i64::MAX).as_bytes());
    });
}

/// Lost before: the least Int was never subtracted, not even where the difference fits.
#[test]
fn decr_subtracts_every_int_whose_difference_fits() {
    in_every_mode(|database| {
        let run = database.default_run();
        let kv = run.kv();
        for (value, delta, difference) in [
            (-1, i64::MIN, Some(i64::MAX)),
            (i64::MIN, i64::MIN, Some(0)),
            (0, i64::MIN, None),
            (i64::MAX, i64::MIN, None),
            (0, i64::MAX, Some(-i64::MAX)),
            (-1, i64::MAX, Some(i64::MIN)),
            (-2, i64::MAX, None),
        ] {
            kv.put("n", &int(value)).unwrap();
            let done = kv.decr("n", delta);
            match difference {
                Some(difference) => assert_eq!(done.unwrap(), difference),
                None => assert!(
                    matches!(&done, Err(CommitError::Overflow { operation: "decr", value: found })
                        if *found == value),
                    "{value} - {delta}: {done:?}"
                ),
            }
        }
    });
}

#[test]
fn get_and_set_and_get_and_delete_answer_with_the_value_before() {
    let database = in_memory();
    let run = database.default_run();
    let kv = run.kv();
    assert_eq!(kv.get_and_set("k", &int(1)).unwrap(), None);
    assert_eq!(
        kv.get_and_set("k", &int(2)).unwrap().unwrap(),
        int(1).as_bytes()
    );
    assert_eq!(kv.get_and_delete("k").unwrap().unwrap(), int(2).as_bytes());
    assert_eq!(kv.get_and_delete("k").unwrap(), None);
}

#[test]
fn several_keys_are_written_and_deleted_under_one_version() {
    in_every_mode(|database| {
        let run = database.default_run();
        let kv = run.kv();
        let version = kv
            .put_many(&[(b"a", &int(1)), (b"b", &int(2)), (b"a", &int(3))])
            .unwrap();
        let many = kv.get_many(&[b"b", b"none", b"a"]).unwrap();
        assert!(many[1].is_none());
        assert_eq!(many[0].as_ref().unwrap().version, version);
        assert_eq!(
            many[2].as_ref().unwrap().value,
            int(3).as_bytes(),
            "the later write counts"
        );
        assert_eq!(
            kv.history("a", None, None).unwrap().len(),
            1,
            "one version per commit and key"
        );
        assert_eq!(kv.exists_many(&[b"a", b"b", b"c"]).unwrap(), 2);
        let before = database.version();
        assert_eq!(kv.delete_many(&[b"a", b"none", b"b", b"a"]).unwrap(), 2);
        assert_eq!(database.version(), before + 1);
    });
}

#[test]
fn lists_are_sorted_paged_and_without_deleted_keys() {
    let database = in_memory();
    let run = database.default_run();
    let kv = run.kv();
    for index in (0..100).rev() {
        kv.put(format!("p/{index:03}"), &int(index)).unwrap();
    }
    kv.put("q", &int(0)).unwrap();
    kv.delete("p/050").unwrap();
    let keys = kv.list("p/").unwrap();
    assert_eq!(keys.len(), 99);
    assert!(keys.is_sorted());
    kv.put("p/0505", &int(0)).unwrap();
    let page = kv.scan("p/", Some(b"p/049"), 3, None).unwrap();
    let found: Vec<&[u8]> = page.items.iter().map(|item| item.key.as_slice()).collect();
    assert_eq!(found, [b"p/049".as_slice(), b"p/0505", b"p/051"]);
    let mut count = 0;
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        let page = kv.scan("", None, 7, cursor.as_deref()).unwrap();
        count += page.items.len();
        cursor = page.cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(count, 101);
    assert_eq!((kv.count("p/").unwrap(), kv.count("").unwrap()), (100, 101));
}

#[test]
fn get_at_finds_the_newest_version_at_or_below_and_nothing_before_creation() {
    let database = in_memory();
    let run = database.default_run();
    let kv = run.kv();
    kv.put("other", &int(0)).unwrap();
    let first = kv.put("k", &int(1)).unwrap();
    kv.put("other", &int(0)).unwrap();
    let second = kv.put("k", &int(2)).unwrap();
    let at = |version| {
        kv.get_at("k", Version::Txn(version))
            .unwrap()
            .map(|e| e.version)
    };
    assert_eq!(at(first - 1), None);
    assert_eq!(at(first + 1), Some(first));
    assert_eq!(at(second), Some(second));
    assert_eq!(at(u64::MAX), Some(second));
    let wrong = kv.get_at("k", Version::Counter(1));
    assert!(matches!(
        wrong,
        Err(ReadError::WrongType {
            actual: "counter",
            ..
        })
    ));
    assert_eq!(kv.history("k", None, Some(second)).unwrap().len(), 1);
}

#[test]
fn bad_keys_are_refused_by_reads_and_writes_alike() {
    let database = in_memory();
    let run = database.default_run();
    let reserved = format!("{SYSTEM_NAMESPACE}x");
    for key in ["", "a\0b", &reserved, &"k".repeat(1025)] {
        assert!(
            matches!(run.kv().put(key, &int(1)), Err(CommitError::InvalidKey(_))),
            "{key}"
        );
        assert!(
            matches!(run.kv().get(key), Err(ReadError::InvalidKey(_))),
            "{key}"
        );
    }
    assert!(run.kv().put("k".repeat(1024), &int(1)).is_ok());
    assert!(
        run.kv()
            .put(SYSTEM_NAMESPACE.trim_end_matches('/'), &int(1))
            .is_ok()
    );
}

/// Lost before: one step of a first listing put a sixteenth of the run in order, for most of a
/// second when the run was large.
#[test]
fn every_step_of_a_first_listing_is_bounded_and_none_of_the_keys_is_missed() {
    let database = in_memory();
    let run = database.default_run();
    let key = |n: usize| format!("{:05}", n * 7_919 % 10_000);
    let count = 50 * FILL_STEP_KEY_COUNT_MAX;
    for n in 0..count {
        run.kv().put(key(n), &int(1)).unwrap();
    }
    let view = run.read_view();
    let request = ListRequest {
        prefix: b"",
        after: None,
        start: b"",
        limit: 1,
        with_values: false,
    };
    assert!(!view.is_ordered());
    let mut step_count = 0;
    let step = |request| view.list_step(TypeTag::Kv, request).unwrap();
    while step(&request).items.is_empty() {
        step_count += 1;
        // Keys that come meanwhile are met as well.
        run.kv().put(key(count + step_count), &int(1)).unwrap();
    }
    assert!((50..=51).contains(&step_count), "{step_count} steps");
    assert!(view.is_ordered());
    let listed = run.kv().list("").unwrap();
    assert_eq!(listed.len(), count + step_count);
    assert!(listed.is_sorted());
}

#[test]
fn a_run_of_many_keys_is_dropped_without_recursion() {
    let database = in_memory();
    let run = database.default_run();
    let value = int(1);
    for n in 0..200_000_u32 {
        run.kv().put(format!("{n}"), &value).unwrap();
    }
}

/// Lost before: a step that may list nothing said "not complete" for ever.
#[test]
fn a_step_of_a_listing_that_may_list_nothing_is_refused() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("k", &int(1)).unwrap();
    let request = ListRequest {
        prefix: b"",
        after: None,
        start: b"",
        limit: 0,
        with_values: false,
    };
    let view = run.read_view();
    let mut context = database.begin_transaction(run.id()).unwrap();
    for _ in 0..2 {
        let steps = [
            view.list_step(TypeTag::Kv, &request),
            context.list_step(&request),
        ];
        for step in steps {
            assert!(
                matches!(step, Err(ReadError::InvalidArgument { .. })),
                "{step:?}"
            );
        }
        run.kv().list("").unwrap();
    }
}

#[test]
fn pages_of_large_values_are_bounded_in_bytes_and_hold_one_at_least() {
    let database = in_memory();
    let run = database.default_run();
    let value = text(&"x".repeat(700 << 10));
    for number in 0..4 {
        run.kv().put(format!("list-{number}"), &value).unwrap();
        run.kv().put("history", &value).unwrap();
    }
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    context.put(b"list-1", value.as_ref()).unwrap();
    context.put(b"list-1-own", value.as_ref()).unwrap();
    let view = run.read_view();
    for (len_bytes_max, count) in [(1, 1), (1 << 20, 1), (2 << 20, 2)] {
        let key = KeyRef::kv(b"history");
        let page = view.history_page(key, 10, None, len_bytes_max).unwrap();
        assert_eq!((page.entries.len(), page.has_more), (count, true));
        let before = page.entries.last().map(|oldest| oldest.version);
        let rest = view.history_page(key, 10, before, usize::MAX).unwrap();
        assert_eq!((rest.entries.len(), rest.has_more), (4 - count, false));
    }
    let listed = |step: &mut dyn FnMut(&ListRequest<'_>) -> ListStep| {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let step = step(&ListRequest {
                prefix: b"list-",
                after: after.as_deref(),
                start: &[],
                limit: 16,
                with_values: true,
            });
            let len_bytes: usize = step
                .items
                .iter()
                .flat_map(|item| &item.value)
                .map(Vec::len)
                .sum();
            assert!(len_bytes <= LIST_STEP_LEN_BYTES_MAX, "{len_bytes}");
            assert!(
                step.items
                    .iter()
                    .all(|item| item.value.as_deref() == Some(value.as_bytes()))
            );
            keys.extend(step.items.into_iter().map(|item| item.key));
            if step.is_complete {
                return keys;
            }
            after = step.after.or(after);
        }
    };
    let keys = listed(&mut |request| view.list_step(TypeTag::Kv, request).unwrap());
    assert_eq!(keys, [b"list-0", b"list-1", b"list-2", b"list-3"]);
    let keys = listed(&mut |request| context.list_step(request).unwrap());
    let own: [&[u8]; 5] = [b"list-0", b"list-1", b"list-1-own", b"list-2", b"list-3"];
    assert_eq!(keys, own);
}
