//! What bounds a transaction: its time, what it reads, and what a listing in it costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use in_mem_model::RunId;
use in_mem_wal::clock::{Clock, SimClock};
use in_mem_wal::disk::SimRng;

use super::{in_memory, int};
use crate::limits::{READ_SET_COUNT_MAX, READ_SET_LEN_BYTES_MAX};
use crate::{
    Actual, CommitError, Database, ListRequest, Program, ReadError, Step, StepOutcome,
    TransactionContext, TransactionOptions,
};

const SECOND_US: u64 = 1_000_000;

/// A simulated clock that counts how often it is read.
#[derive(Default)]
struct CountingClock {
    inner: SimClock,
    read_count: AtomicU64,
}

impl Clock for CountingClock {
    fn wall_us(&self) -> u64 {
        self.read_count.fetch_add(1, Ordering::SeqCst);
        self.inner.wall_us()
    }

    fn monotonic_us(&self) -> u64 {
        self.read_count.fetch_add(1, Ordering::SeqCst);
        self.inner.monotonic_us()
    }
}

/// A database whose time is stamped by its owner alone.
fn timed() -> (Database, Arc<CountingClock>) {
    let clock = Arc::new(CountingClock::default());
    let database = Database::builder()
        .in_memory()
        .external_time()
        .clock(Arc::<CountingClock>::clone(&clock))
        .open()
        .unwrap();
    (database, clock)
}

fn begin(database: &Database, timeout_ms: u64) -> TransactionContext {
    let options = TransactionOptions {
        timeout_ms,
        ..TransactionOptions::default()
    };
    database.default_run().begin(options).unwrap()
}

fn put(context: &mut TransactionContext) -> Result<(), CommitError> {
    context.put(b"k", int(1).as_ref())
}

/// What was lost: the time of day stood still without commits, so that a timeout was counted from
/// long before the beginning, or never came.
#[test]
fn a_timeout_counts_from_the_beginning_whatever_the_time_of_day_does() {
    let (database, clock) = timed();
    database.set_now(clock.wall_us());
    clock.inner.advance_us(10 * SECOND_US);
    let mut context = begin(&database, 1_000);
    // A commit moves the time of day; so does whoever sets it.
    database.set_now(clock.wall_us());
    put(&mut context).unwrap();
    clock.inner.jump_forward_us(3_600 * SECOND_US);
    database.set_now(clock.wall_us());
    put(&mut context).unwrap();
    clock.inner.step_back_us(7_200 * SECOND_US);
    database.set_now(clock.wall_us());
    clock.inner.advance_us(SECOND_US);
    put(&mut context).unwrap();
    clock.inner.advance_us(1);
    assert!(matches!(put(&mut context), Err(CommitError::Timeout)));
    assert!(matches!(context.commit(), Err(CommitError::Timeout)));
}

#[test]
fn a_transaction_without_a_timeout_never_reads_a_clock() {
    let (database, clock) = timed();
    let read_count = clock.read_count.load(Ordering::SeqCst);
    let mut context = begin(&database, 0);
    put(&mut context).unwrap();
    clock.inner.advance_us(u64::from(u32::MAX) * SECOND_US);
    context.get(b"k").unwrap();
    context.commit().unwrap();
    assert_eq!(clock.read_count.load(Ordering::SeqCst), read_count);
}

#[test]
fn a_transaction_reads_as_many_keys_as_the_limit_and_not_one_more() {
    let database = in_memory();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    for number in 0..READ_SET_COUNT_MAX {
        context.get(number.to_string().as_bytes()).unwrap();
    }
    let refused = context.get(b"one more").unwrap_err();
    assert!(
        matches!(refused, ReadError::TransactionTooLarge { read_count, .. }
            if read_count == READ_SET_COUNT_MAX),
        "{refused:?}"
    );
    let refused = context.increment(b"one more", 1).unwrap_err();
    assert!(
        matches!(refused, CommitError::TransactionTooLarge { .. }),
        "{refused:?}"
    );
    context.get(b"0").unwrap();
    put(&mut context).unwrap();
    context.commit().unwrap();
    let options = TransactionOptions {
        read_only: true,
        ..TransactionOptions::default()
    };
    let mut reader = database.default_run().begin(options).unwrap();
    for number in 0..=READ_SET_COUNT_MAX {
        reader.get(number.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn a_transaction_reads_as_many_bytes_of_keys_as_the_limit_and_not_one_more() {
    const KEY_LEN_BYTES: usize = 1_024;
    let database = in_memory();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    let key = |number: usize| format!("{number:0KEY_LEN_BYTES$}").into_bytes();
    for number in 0..READ_SET_LEN_BYTES_MAX / KEY_LEN_BYTES {
        context.get(&key(number)).unwrap();
    }
    let refused = context.get(b"x").unwrap_err();
    assert!(
        matches!(refused, ReadError::TransactionTooLarge { len_bytes, .. }
            if len_bytes == READ_SET_LEN_BYTES_MAX + 1),
        "{refused:?}"
    );
}

/// What was lost: inside a transaction a deleted key had version 0.
#[test]
fn a_refused_write_names_the_same_version_inside_a_transaction_as_outside() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("gone", &int(1)).unwrap();
    run.kv().delete("gone").unwrap();
    run.kv().put("live", &int(1)).unwrap();
    let (two, three) = (int(2), int(3));
    for key in [b"gone".as_slice(), b"live", b"never"] {
        let steps = [Step::CasValue {
            key,
            expected: Some(two.as_ref()),
            value: three.as_ref(),
        }];
        let outside = run
            .commit(
                &Program {
                    checks: &[],
                    steps: &steps,
                },
                crate::CommitOptions::default(),
            )
            .unwrap();
        let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
        let inside = context
            .cas_value(key, Some(two.as_ref()), three.as_ref())
            .unwrap()
            .unwrap_err();
        let Some(StepOutcome::Mismatch(outside)) = outside.steps.as_slice().first().cloned() else {
            panic!("{outside:?}");
        };
        assert_eq!(inside, outside, "{key:?}");
        assert_eq!(inside.version == 0, key == b"never");
        context.delete(key).unwrap();
        let own = context
            .cas_value(key, Some(two.as_ref()), three.as_ref())
            .unwrap()
            .unwrap_err();
        let nothing_yet = Actual {
            version: 0,
            is_absent: true,
        };
        assert_eq!(own, nothing_yet, "what is not committed has no version");
    }
}

#[test]
fn a_listing_in_a_transaction_shows_what_it_wrote_whatever_the_step() {
    let seed = 0x115;
    println!("seed {seed}");
    let mut rng = SimRng::new(seed);
    for _ in 0..60 {
        let database = in_memory();
        let run = database.default_run();
        let mut expected = BTreeMap::new();
        let mut key = {
            let mut rng = SimRng::new(rng.next_u64());
            move || format!("{}/{:03}", ["a", "b"][rng.index(2)], rng.below(120))
        };
        for number in 0..60 {
            let key = key();
            run.kv().put(&key, &int(number)).unwrap();
            expected.insert(key.into_bytes(), number);
        }
        let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
        for round in 0..4_i64 {
            for number in 0..20 {
                let (key, value) = (key(), 1_000 * (round + 1) + number);
                if rng.coin() {
                    context.put(key.as_bytes(), int(value).as_ref()).unwrap();
                    expected.insert(key.into_bytes(), value);
                } else {
                    context.delete(key.as_bytes()).unwrap();
                    expected.remove(key.as_bytes());
                }
            }
            let limit = 1 + rng.index(9);
            let prefix = [b"".as_slice(), b"a", b"b/0"][rng.index(3)];
            let start = [b"".as_slice(), b"a/050", b"b"][rng.index(3)];
            let wanted = expected
                .iter()
                .filter(|(key, _)| key.starts_with(prefix) && start <= key.as_slice());
            let wanted: Vec<_> = wanted
                .map(|(key, value)| (key.clone(), int(*value).as_bytes().to_vec()))
                .collect();
            assert_eq!(listed(&mut context, prefix, start, limit), wanted);
        }
    }
}

/// Every key and value of a listing made step by step; no step gives more than it may.
fn listed(
    context: &mut TransactionContext,
    prefix: &[u8],
    start: &[u8],
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut found, mut cursor) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let request = ListRequest {
            prefix,
            after: cursor.as_deref(),
            start,
            limit,
            with_values: true,
        };
        let step = context.list_step(&request).unwrap();
        assert!(step.items.len() <= limit);
        let items = step.items.into_iter();
        found.extend(items.map(|item| (item.key, item.value.unwrap())));
        if step.is_complete {
            return found;
        }
        cursor = step.after;
    }
}
