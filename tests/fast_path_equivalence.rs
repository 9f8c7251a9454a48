//! Every read that skips the transaction answers as a read-only transaction would that began at
//! the same instant: for keys that are there, that are gone and that never were, at rest and while
//! a writer changes them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use in_mem_engine::model::{EncodedValue, Value, encode};
use in_mem_engine::{CommitError, Database, KeyRef};

#[path = "support/scale.rs"]
#[allow(
    dead_code,
    reason = "each test target uses another part of the harness"
)]
mod scale;

use scale::scaled;

fn value(number: u64) -> EncodedValue {
    encode(&Value::from(i64::try_from(number).expect("small"))).expect("small")
}

fn database() -> Database {
    Database::builder()
        .in_memory()
        .open()
        .expect("nothing to fail")
}

#[test]
fn correctness_tx2_fast_reads_equal_transactional_ones_for_present_deleted_and_missing_keys() {
    let database = database();
    let run = database.default_run();
    let kv = run.kv();
    kv.put("there", &value(1)).expect("committed");
    kv.put("gone", &value(2)).expect("committed");
    kv.delete("gone").expect("committed");
    for key in ["there", "gone", "never"] {
        let slow = kv.get_with_transaction(key).expect("readable");
        assert_eq!(kv.get_versioned(key).expect("readable"), slow, "{key}");
        assert_eq!(
            kv.get(key).expect("readable"),
            slow.as_ref().map(|found| found.value.clone())
        );
        assert_eq!(kv.contains(key).expect("readable"), slow.is_some(), "{key}");
        assert_eq!(
            kv.get_many(&[key.as_bytes()]).expect("readable"),
            std::slice::from_ref(&slow),
            "{key}"
        );
        assert_eq!(
            run.read_view().get(KeyRef::kv(key.as_bytes())),
            slow,
            "{key}"
        );
    }
}

#[test]
fn get_many_answers_in_the_order_asked_with_holes() {
    let database = database();
    let run = database.default_run();
    for number in 0..10 {
        run.kv()
            .put(format!("k{number}"), &value(number))
            .expect("committed");
    }
    let keys: Vec<String> = [7, 3, 99, 3, 0].map(|number| format!("k{number}")).to_vec();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let found = run.kv().get_many(&keys).expect("readable");
    let found: Vec<Option<Vec<u8>>> = found
        .into_iter()
        .map(|found| found.map(|found| found.value))
        .collect();
    let expected = [Some(7), Some(3), None, Some(3), Some(0)];
    let expected = expected.map(|number| number.map(|number| value(number).as_bytes().to_vec()));
    assert_eq!(found, expected);
}

#[test]
fn an_uncommitted_write_is_seen_by_its_transaction_and_by_no_fast_read() {
    let database = database();
    let run = database.default_run();
    run.kv().put("k", &value(1)).expect("committed");
    let result: Result<(), CommitError> = database.transaction(run.id(), |context| {
        let own = value(2);
        context.put(b"k", own.as_ref())?;
        let seen = context.get(b"k").expect("readable").expect("there");
        assert_eq!(seen.value, own.as_bytes());
        assert_eq!(
            run.kv().get("k").expect("readable"),
            Some(value(1).as_bytes().to_vec())
        );
        Ok(())
    });
    result.expect("committed");
    assert_eq!(
        run.kv().get("k").expect("readable"),
        Some(value(2).as_bytes().to_vec())
    );
}

/// The writer changes both keys in one transaction, in a tight loop that overlaps the readers.
#[test]
fn correctness_tx2_a_batch_read_never_mixes_two_commits_while_a_writer_changes_both_keys() {
    let rounds = scaled(20_000, 200_000, 20_000_000);
    let database = database();
    let run = database.default_run();
    let put_both = |number: u64| {
        let encoded = value(number);
        let entries: [(&[u8], &EncodedValue); 2] = [(b"a", &encoded), (b"b", &encoded)];
        run.kv().put_many(&entries).expect("committed");
    };
    put_both(0);
    let is_over = AtomicBool::new(false);
    let changes_seen = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while !is_over.load(Ordering::Relaxed) {
                put_both(number);
                number += 1;
            }
        });
        let mut last = 0;
        for _ in 0..rounds {
            let both = run.kv().get_many(&[b"a", b"b"]).expect("readable");
            let [Some(a), Some(b)] = both.as_slice() else {
                panic!("a key vanished")
            };
            assert_eq!((&a.value, a.version), (&b.value, b.version));
            assert!(
                last <= a.version,
                "{} after {last}: a read went back in time",
                a.version
            );
            changes_seen.fetch_add(u64::from(last < a.version), Ordering::Relaxed);
            last = a.version;

            let view = run.read_view();
            let (first, second) = (view.get(KeyRef::kv(b"a")), view.get(KeyRef::kv(b"b")));
            assert_eq!(first, second);

            let mut context = database.begin_transaction(run.id()).expect("open");
            let slow = context.get_many(&[b"a", b"b"]).expect("readable");
            assert_eq!(
                slow[0].as_ref().map(|found| found.version),
                slow[1].as_ref().map(|found| found.version)
            );
            assert!(last <= slow[0].as_ref().map_or(0, |found| found.version));
            database.end_transaction(context);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let changes_seen = changes_seen.into_inner();
    println!("{rounds} rounds saw {changes_seen} changes");
    assert!(10 < changes_seen, "the writer did not overlap the reader");
}

#[test]
fn listings_are_of_one_moment_while_a_writer_moves_an_entry() {
    let rounds = scaled(500, 5_000, 1_000_000);
    let database = database();
    let run = database.default_run();
    for number in 0..20 {
        run.kv()
            .put(format!("fixed/{number:02}"), &value(number))
            .expect("committed");
    }
    run.kv().put("token/0", &value(0)).expect("committed");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let (from, to) = (
                    format!("token/{}", at % 5),
                    format!("token/{}", (at + 1) % 5),
                );
                let moved: Result<(), CommitError> = database.transaction(run.id(), |context| {
                    context.delete(from.as_bytes())?;
                    context.put(to.as_bytes(), value(at).as_ref())
                });
                moved.expect("committed");
                at += 1;
            }
        });
        for _ in 0..rounds {
            let tokens = run.kv().list("token/").expect("readable");
            assert_eq!(tokens.len(), 1, "{tokens:?}");
            assert_eq!(run.kv().count("fixed/").expect("readable"), 20);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
