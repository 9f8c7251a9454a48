//! Entries that expire: when they read as absent, what writes make of that, and what is kept.

use std::time::Duration;

use in_mem_model::{EncodedValue, ValueRef, Version};
use in_mem_wal::disk::{CrashMode, SimWorld};

use super::checkpoint::{SEED, STRICT};
use super::{MODES, int, over, world};
use crate::expiry::{self, Lifetime};
use crate::{
    Actual, CasOutcome, CommitError, CompactMode, Database, DurabilityMode, Expected, ListRequest,
    TTL_US_MAX,
};

/// When the tests begin, microseconds since the epoch.
const T0: u64 = 1_700_000_000_000_000;

const SECOND: Duration = Duration::from_secs(1);
const SECOND_US: u64 = 1_000_000;

fn open_with(world: &SimWorld, mode: DurabilityMode) -> Database {
    let database = over(world, mode).external_time().open().unwrap();
    database.set_now(T0);
    database
}

fn reopened(world: &SimWorld, now_us: u64) -> Database {
    let database = over(world, STRICT).external_time().open_existing().unwrap();
    database.set_now(now_us);
    database
}

fn value_of(database: &Database, key: &str) -> Option<EncodedValue> {
    let found = database.default_run().kv().get(key).unwrap();
    found.map(|bytes| EncodedValue::new(bytes).unwrap())
}

#[test]
fn an_expired_entry_reads_as_absent_everywhere_but_in_history_in_every_mode() {
    for mode in MODES {
        let database = open_with(&world(), mode);
        let run = database.default_run();
        let kv = run.kv();
        kv.put("a", &int(1)).unwrap();
        let version = kv.put_with_ttl("b", &int(2), SECOND).unwrap();
        let counted = database.store().count(run.id());
        database.set_now(T0 + SECOND_US - 1);
        let found = kv.get_versioned("b").unwrap().unwrap();
        assert_eq!(found.expires_at_us, Some(T0 + SECOND_US));
        assert_eq!(kv.get_versioned("a").unwrap().unwrap().expires_at_us, None);
        assert_eq!(kv.count("").unwrap(), 2);
        let view = run.read_view();
        let mut context = database.begin_transaction(run.id()).unwrap();
        database.set_now(T0 + SECOND_US);
        // What began before goes on as it began.
        assert!(view.contains(crate::KeyRef::kv(b"b")));
        assert!(context.contains(b"b").unwrap());
        assert_eq!(context.count(b"").unwrap(), 2);
        assert_eq!(kv.get("b").unwrap(), None);
        assert_eq!(kv.get_versioned("b").unwrap(), None);
        assert!(!kv.contains("b").unwrap());
        assert_eq!(kv.exists_many(&[b"a", b"b"]).unwrap(), 1);
        assert_eq!(kv.get_many(&[b"b"]).unwrap(), [None]);
        assert_eq!(kv.list("").unwrap(), [b"a".to_vec()]);
        assert_eq!(kv.scan("", None, 10, None).unwrap().items.len(), 1);
        assert_eq!(kv.count("").unwrap(), 1);
        assert_eq!(database.store().count(run.id()), counted - 1);
        let mut context = database.begin_transaction(run.id()).unwrap();
        assert_eq!(context.get(b"b").unwrap(), None);
        assert_eq!(context.value_len_bytes(b"b"), 0);
        let history = kv.history("b", None, None).unwrap();
        assert_eq!(history[0].expires_at_us, Some(T0 + SECOND_US));
        assert!(history[0].value.is_some());
        let at = kv.get_at("b", Version::Txn(version)).unwrap().unwrap();
        assert_eq!(at.version, version);
        assert_eq!(kv.latest_version("b").unwrap(), Some(Version::Txn(version)));
    }
}

#[test]
fn an_expired_entry_is_to_a_compare_and_swap_what_a_tombstone_is() {
    let database = open_with(&world(), MODES[0]);
    let run = database.default_run();
    let kv = run.kv();
    let put = |key: &str| kv.put_with_ttl(key, &int(1), SECOND).unwrap();
    let versions: Vec<u64> = ["a", "b", "c", "d"].into_iter().map(put).collect();
    let mismatch = CasOutcome::Mismatch(Actual {
        version: versions[0],
        is_absent: false,
    });
    assert_eq!(
        kv.cas_version("a", Expected::Absent, &int(2)).unwrap(),
        mismatch
    );
    database.set_now(T0 + SECOND_US);
    let mismatch = CasOutcome::Mismatch(Actual {
        version: versions[0],
        is_absent: true,
    });
    let never = kv.cas_version("a", Expected::Version(0), &int(2)).unwrap();
    assert_eq!(never, mismatch);
    assert_eq!(kv.cas_value("a", Some(&int(1)), &int(2)).unwrap(), mismatch);
    let written = |outcome: CasOutcome| matches!(outcome, CasOutcome::Written(_));
    assert!(written(
        kv.cas_version("a", Expected::Version(versions[0]), &int(2))
            .unwrap()
    ));
    assert!(written(
        kv.cas_version("b", Expected::Absent, &int(2)).unwrap()
    ));
    assert!(written(kv.cas_value("c", None, &int(2)).unwrap()));
    assert!(kv.put_if_absent("d", &int(2)).unwrap().is_some());
    for key in ["a", "b", "c", "d"] {
        assert_eq!(value_of(&database, key), Some(int(2)));
        let found = kv.get_versioned(key).unwrap().unwrap();
        assert_eq!(found.expires_at_us, None);
    }
}

#[test]
fn an_increment_keeps_the_expiry_and_every_other_write_makes_an_entry_that_stays() {
    let world = world();
    let database = open_with(&world, STRICT);
    let run = database.default_run();
    let kv = run.kv();
    let expiry = |key: &str| kv.get_versioned(key).unwrap().unwrap().expires_at_us;
    kv.put_with_ttl("n", &int(1), SECOND).unwrap();
    database.set_now(T0 + 1);
    assert_eq!(kv.incr("n", 4).unwrap(), 5);
    assert_eq!(expiry("n"), Some(T0 + SECOND_US));
    let sum = database.transaction(run.id(), |context| context.increment(b"n", 1));
    assert_eq!(sum.unwrap(), 6);
    assert_eq!(expiry("n"), Some(T0 + SECOND_US));
    let within = database.transaction(run.id(), |context| {
        let lifetime = Lifetime::of(SECOND)?;
        context.put_expiring(b"m", ValueRef::new(int(1).as_bytes())?, lifetime)?;
        context.increment(b"m", 1)
    });
    assert_eq!(within.unwrap(), 2);
    // From the commit on, not from the call.
    assert_eq!(expiry("m"), Some(T0 + 1 + SECOND_US));
    for key in ["p", "q", "r"] {
        kv.put_with_ttl(key, &int(1), SECOND).unwrap();
    }
    kv.put("p", &int(2)).unwrap();
    kv.get_and_set("q", &int(2)).unwrap();
    kv.cas_value("r", Some(&int(1)), &int(2)).unwrap();
    assert_eq!(["p", "q", "r"].map(expiry), [None; 3]);
    database.set_now(T0 + 2 * SECOND_US);
    assert_eq!(kv.incr("n", 4).unwrap(), 4);
    assert_eq!(expiry("n"), None);
    let digest = database.state_digest();
    drop(database);
    let reopened = reopened(&world.crash(SEED, CrashMode::Prefix), T0);
    assert_eq!(reopened.state_digest(), digest);
}

#[test]
fn recovery_keeps_what_has_expired_and_when_from_the_log_and_from_a_snapshot() {
    let world = world();
    let database = open_with(&world, STRICT);
    let run = database.default_run();
    let version = run.kv().put_with_ttl("a", &int(1), SECOND).unwrap();
    run.kv().put_with_ttl("b", &int(2), SECOND * 9).unwrap();
    let (digest, logical) = (database.state_digest(), database.digest().unwrap().sha256);
    let check = |world: &SimWorld| {
        let database = reopened(world, T0 + 2 * SECOND_US);
        assert_eq!(database.state_digest(), digest);
        assert_eq!(database.digest().unwrap().sha256, logical);
        assert_eq!(value_of(&database, "a"), None);
        assert_eq!(value_of(&database, "b"), Some(int(2)));
        let kv = database.default_run();
        let history = kv.kv().history("a", None, None).unwrap();
        assert_eq!(history[0].version, version);
        assert_eq!(history[0].expires_at_us, Some(T0 + SECOND_US));
        database.set_now(T0);
        assert_eq!(value_of(&database, "a"), Some(int(1)));
    };
    check(&world.crash(SEED, CrashMode::Prefix));
    database.checkpoint().unwrap();
    database.compact(CompactMode::WALOnly).unwrap();
    let world = world.crash(SEED, CrashMode::Prefix);
    check(&world);
    let snapshot = reopened(&world, T0);
    assert_eq!(snapshot.last_recovery_result().unwrap().snapshot_used, 1);
}

#[test]
fn a_deletion_of_what_has_expired_holds_when_the_clock_is_set_back() {
    let world = world();
    let database = open_with(&world, STRICT);
    let run = database.default_run();
    let kv = run.kv();
    for key in ["a", "b"] {
        kv.put_with_ttl(key, &int(1), SECOND).unwrap();
    }
    database.set_now(T0 + SECOND_US);
    assert!(!kv.delete("a").unwrap());
    let deleted = database.transaction(run.id(), |context| context.delete(b"b"));
    assert!(!deleted.unwrap());
    database.set_now(T0);
    assert_eq!(kv.exists_many(&[b"a", b"b"]).unwrap(), 0);
}

#[test]
fn a_transaction_that_saw_an_entry_expire_conflicts_with_a_writer_and_with_nobody_else() {
    let database = open_with(&world(), MODES[0]);
    let run = database.default_run();
    run.kv().put_with_ttl("a", &int(1), SECOND).unwrap();
    let other = int(7);
    let mut seen = database.begin_transaction(run.id()).unwrap();
    assert!(seen.contains(b"a").unwrap());
    seen.put(b"x", other.as_ref()).unwrap();
    database.set_now(T0 + SECOND_US);
    let mut missed = database.begin_transaction(run.id()).unwrap();
    assert!(missed.put_if_absent(b"a", other.as_ref()).unwrap());
    // That it expires is no change.
    seen.commit().unwrap();
    run.kv().put("a", &int(2)).unwrap();
    let refused = missed.commit().unwrap_err();
    assert!(matches!(refused, CommitError::Conflict { .. }), "{refused}");
}

#[test]
fn a_listing_of_a_transaction_shows_what_it_put_to_expire() {
    let database = open_with(&world(), MODES[0]);
    let run = database.default_run();
    let mut context = database.begin_transaction(run.id()).unwrap();
    let lifetime = Lifetime::of(SECOND).unwrap();
    context
        .put_expiring(b"a", int(1).as_ref(), lifetime)
        .unwrap();
    let request = ListRequest {
        prefix: b"",
        after: None,
        start: b"",
        limit: 9,
        with_values: true,
    };
    assert_eq!(context.scan(&request).unwrap().items.len(), 1);
    context.rollback();
    assert_eq!(value_of(&database, "a"), None);
}

#[test]
fn a_time_to_live_outside_its_range_and_a_payload_cut_short_are_refused() {
    let database = open_with(&world(), MODES[0]);
    let run = database.default_run();
    for wrong in [
        Duration::ZERO,
        Duration::from_nanos(999),
        Duration::from_micros(TTL_US_MAX + 1),
        Duration::MAX,
    ] {
        let refused = run.kv().put_with_ttl("a", &int(1), wrong);
        assert!(matches!(refused, Err(CommitError::InvalidArgument { .. })));
    }
    let longest = Duration::from_micros(TTL_US_MAX);
    run.kv().put_with_ttl("a", &int(1), longest).unwrap();
    let payload = [&expiry::head(0x0102)[..], &[7]].concat();
    assert_eq!(payload, [0xC1, 2, 1, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(expiry::split(&payload), Some((Some(0x0102), &[7][..])));
    assert_eq!(expiry::split(&[7]), Some((None, &[7][..])));
    for len in 1..9 {
        assert_eq!(expiry::split(&payload[..len]), None);
    }
}
