//! How far commits are durable, and waiting for it.

use std::sync::Arc;
use std::time::Duration;

use in_mem_model::{Durability, Level};
use in_mem_wal::disk::{CrashMode, Fault, FaultRule, OpKind, SimWorld};

use super::once::{add, request};
use super::{Collector, MODES, drive, driven, in_memory, int, over, world};
use crate::{CompletionSink, Database, DurabilityMode, Submitted, WaitDurableError};

/// Long enough that only a lost wake-up can use it up.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_wait_makes_every_buffered_commit_below_durable_with_one_sync() {
    let database = over(&world(), MODES[1]).open().unwrap();
    let run = database.default_run();
    let syncs = || database.log_metrics().unwrap().sync_count;
    // What the log still does for its opening comes before.
    let strict = run.kv().with_durability(Durability::Strict);
    strict.put("first", &int(0)).unwrap();
    let before = syncs();
    let mut last = 0;
    // Below what syncs by itself: 64 KiB, of which each takes a block of 512 bytes if it is alone.
    for value in 0..50 {
        last = run.kv().put("k", &int(value)).unwrap();
    }
    assert!(!database.is_durable(last).unwrap());
    assert_eq!(syncs(), before);
    let reached = database.wait_durable(last, Some(LONG)).unwrap();
    assert!(last <= reached);
    assert!(database.is_durable(last).unwrap());
    assert_eq!(database.durable_version(), reached);
    assert_eq!(syncs(), before + 1);
}

#[test]
fn a_version_that_is_in_no_log_is_refused_whatever_is_durable_around_it() {
    let database = over(&world(), MODES[1]).open().unwrap();
    let run = database.default_run();
    let kv = run.kv();
    let volatile = kv
        .with_durability(Durability::InMemory)
        .put("v", &int(1))
        .unwrap();
    let is_refused = |version: u64| {
        matches!(
            database.wait_durable(version, Some(LONG)),
            Err(WaitDurableError::NotLogged { version: told }) if told == version
        )
    };
    assert!(is_refused(volatile), "nothing is logged behind it");
    let logged = kv.put("l", &int(1)).unwrap();
    assert!(is_refused(volatile), "something is");
    database.wait_durable(logged, Some(LONG)).unwrap();
    assert!(is_refused(volatile), "and is durable");
    let next = logged + 1;
    assert!(matches!(
        database.wait_durable(next, Some(LONG)),
        Err(WaitDurableError::NeverIssued { version, last_issued })
            if version == next && last_issued == logged
    ));
    assert!(database.is_durable(0).unwrap(), "nothing was committed");

    let database = in_memory();
    let version = database.default_run().kv().put("k", &int(1)).unwrap();
    assert!(matches!(
        database.wait_durable(version, None),
        Err(WaitDurableError::NotLogged { .. })
    ));
}

#[test]
fn a_commit_that_a_power_loss_took_is_never_told_to_be_durable_afterwards() {
    let world = world();
    let (kept, lost) = {
        let database = over(&world, MODES[1]).open().unwrap();
        let run = database.default_run();
        let kv = run.kv();
        let kept = kv.put("k", &int(1)).unwrap();
        database.wait_durable(kept, Some(LONG)).unwrap();
        let lost = kv.put("k", &int(2)).unwrap();
        // The machine stops here; closing the database touches another one.
        let after = world.crash(1, CrashMode::Prefix);
        drop(run);
        drop(database);
        let database = over(&after, MODES[1]).open().unwrap();
        assert!(database.is_durable(kept).unwrap());
        for _ in 0..2 {
            assert!(matches!(
                database.is_durable(lost),
                Err(WaitDurableError::NotLogged { .. })
            ));
            let later = database.default_run().kv().put("k", &int(3)).unwrap();
            assert!(lost < later);
            database.wait_durable(later, Some(LONG)).unwrap();
        }
        database.shutdown().unwrap();
        drop(database);
        let database = over(&after, MODES[1]).open().unwrap();
        assert!(database.is_durable(kept).unwrap());
        assert!(matches!(
            database.is_durable(lost),
            Err(WaitDurableError::NotLogged { .. })
        ));
        (kept, lost)
    };
    assert!(kept < lost);
}

#[test]
fn a_wait_ends_when_its_time_is_up_when_the_log_fails_and_when_the_database_closes() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let kv = run.kv().with_durability(Durability::Buffered);
    let version = kv.put("k", &int(1)).unwrap();
    assert!(matches!(
        database.wait_durable(version, Some(Duration::ZERO)),
        Err(WaitDurableError::TimedOut { durable_version, .. }) if durable_version < version
    ));
    for kind in [OpKind::Sync, OpKind::WriteSynced] {
        world.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| database.wait_durable(version, Some(LONG)));
        while !database.is_poisoned() {
            drive(&mut driver);
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert!(matches!(waiting, Err(WaitDurableError::Poisoned(Some(_)))));
    let mut watch = database.watch_durable();
    assert!(matches!(
        watch.next(None),
        Err(WaitDurableError::Poisoned(_))
    ));

    let database = over(&super::world(), MODES[1]).open().unwrap();
    let mut watch = database.watch_durable();
    let version = database.default_run().kv().put("k", &int(1)).unwrap();
    database.shutdown().unwrap();
    assert_eq!(watch.next(None).unwrap(), Some(version), "closing syncs");
    assert!(matches!(watch.next(None), Err(WaitDurableError::Closed)));
    assert!(database.wait_durable(version, None).is_ok());
}

#[test]
fn a_watch_tells_the_newest_version_only_and_a_listener_hears_rising_ones() {
    let database = over(&world(), MODES[2]).open().unwrap();
    let collector = Arc::new(Collector::default());
    let listener: Arc<dyn CompletionSink> = Arc::clone(&collector) as _;
    database.add_listener(&listener);
    let mut watch = database.watch_durable();
    let run = database.default_run();
    let kv = run.kv();
    let mut last = 0;
    for value in 0..20 {
        last = kv.put("k", &int(value)).unwrap();
    }
    database.wait_durable(last, Some(LONG)).unwrap();
    assert_eq!(watch.next(Some(LONG)).unwrap(), Some(last));
    assert_eq!(watch.next(Some(Duration::ZERO)).unwrap(), None);
    database.shutdown().unwrap();
    let told = collector.durable.lock().clone();
    assert_eq!(told.last(), Some(&last));
    assert!(told.is_sorted(), "{told:?}");
}

/// Opens for reading only what a killed process left: because it is asked for, or because the disk
/// is full.
fn open_read_only(killed: &SimWorld, is_full: bool) -> Database {
    let builder = over(killed, DurabilityMode::Strict);
    let database = if is_full {
        let no_space = FaultRule::new(Fault::NoSpace).on(OpKind::Create);
        killed.add_rule(no_space);
        builder.open_existing().unwrap()
    } else {
        builder.read_only_skipping_unknown().open().unwrap()
    };
    assert!(database.last_recovery_result().unwrap().is_read_only);
    database
}

/// The highest version that is told to be durable, in any of the ways there are.
fn highest_told(database: &Database) -> u64 {
    let mut told = database.durable_version();
    let shown = database.default_run().visible_version();
    for version in 1..=shown {
        match database.wait_durable(version, None) {
            Ok(reached) => told = told.max(reached).max(version),
            Err(WaitDurableError::Closed) => assert!(told < version),
            Err(other) => panic!("{version}: {other:?}"),
        }
    }
    let mut watch = database.watch_durable();
    assert!(matches!(watch.next(None), Err(WaitDurableError::Closed)));
    for sequence in 1..=REQUEST_COUNT {
        match add(&database.default_run(), &request(sequence)) {
            Ok(again) if again.level == Level::Synced => told = told.max(again.version),
            Ok(again) => assert_eq!(again.level, Level::Logged),
            Err(error) => assert!(matches!(error, crate::CommitError::OpenedReadOnly)),
        }
    }
    told
}

const REQUEST_COUNT: u64 = 6;

/// What was lost: whatever a read-only open had read was told to be durable, although the process
/// before may have been killed between its write and its sync.
#[test]
fn an_open_for_reading_only_tells_no_more_to_be_durable_than_a_power_loss_leaves() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    world.record_moments();
    for sequence in 1..=REQUEST_COUNT {
        let steps = [crate::Step::Increment {
            key: b"n",
            delta: 1,
        }];
        let program = crate::Program {
            checks: &[],
            steps: &steps,
        };
        let once = request(sequence);
        let options = crate::CommitOptions::default();
        let completion = collector.completion(sequence);
        let submitted = run.submit_as(&program, options, Some(&once), &completion);
        assert!(matches!(submitted, Submitted::Pending));
        drive(&mut driver);
    }
    let (mut proven_count, mut unproven_count) = (0, 0);
    for (number, moment) in world.take_moments().iter().enumerate() {
        let killed = moment.world.kill(number as u64);
        let database = open_read_only(&killed, number % 2 == 0);
        let shown = database.default_run().visible_version();
        let told = highest_told(&database);
        proven_count += u64::from(0 < told);
        unproven_count += u64::from(told < shown);
        drop(database);
        killed.clear_faults();
        for image in 0..4 {
            let mode = [CrashMode::Prefix, CrashMode::Subset][image % 2];
            let after = killed.crash(image as u64, mode);
            let database = over(&after, DurabilityMode::Strict).open_existing();
            let left = database.unwrap().default_run().visible_version();
            assert!(
                told <= left,
                "moment {number}: {told} was told, {left} is left"
            );
        }
    }
    assert!(0 < proven_count && 0 < unproven_count);
}

#[test]
fn a_log_that_was_closed_in_order_is_durable_whole_also_for_who_only_reads_it() {
    let world = world();
    let database = over(&world, MODES[1]).open().unwrap();
    let run = database.default_run();
    let volatile = run.kv().with_durability(Durability::InMemory);
    let volatile = volatile.put("v", &int(1)).unwrap();
    let last = run.kv().put("k", &int(1)).unwrap();
    database.shutdown().unwrap();
    drop((run, database));
    let database = over(&world, MODES[1])
        .read_only_skipping_unknown()
        .open()
        .unwrap();
    assert_eq!(database.durable_version(), last);
    assert!(database.is_durable(last).unwrap());
    // What lies before the first record was told to be durable.
    assert!(matches!(
        database.is_durable(volatile),
        Err(WaitDurableError::NotLogged { .. })
    ));
}

/// What was lost: of more than 4,096 gaps the oldest were forgotten, and volatile and lost commits
/// in them were told to be durable.
#[test]
fn volatile_versions_are_never_told_to_be_durable_however_many_there_are() {
    let database = over(&world(), MODES[1]).open().unwrap();
    let run = database.default_run();
    let kv = run.kv();
    let volatile = kv.with_durability(Durability::InMemory);
    let mut versions = Vec::new();
    for value in 0..5_000 {
        let lost = volatile.put("v", &int(value)).unwrap();
        versions.push((lost, kv.put("l", &int(value)).unwrap()));
    }
    let last = versions.last().unwrap().1;
    database.wait_durable(last, Some(LONG)).unwrap();
    for (lost, kept) in versions {
        assert!(matches!(
            database.is_durable(lost),
            Err(WaitDurableError::NotLogged { version }) if version == lost
        ));
        assert!(database.is_durable(kept).unwrap());
    }
}

/// The log that could tell may be gone: nothing is claimed of what a snapshot covers, and all of what
/// follows it.
#[test]
fn of_versions_that_a_snapshot_covers_nothing_is_told_after_a_restart() {
    let world = world();
    let database = over(&world, DurabilityMode::Strict).open().unwrap();
    let run = database.default_run();
    run.kv().put("a", &int(1)).unwrap();
    let kv = run.kv();
    let volatile = kv.with_durability(Durability::InMemory);
    let missing = volatile.put("v", &int(1)).unwrap();
    let covered = run.kv().put("b", &int(1)).unwrap();
    assert_eq!(database.checkpoint().unwrap().watermark_txn, covered);
    let behind = volatile.put("v", &int(2)).unwrap();
    let last = run.kv().put("c", &int(1)).unwrap();
    drop(database);
    let database = over(&world, DurabilityMode::Strict).open().unwrap();
    for version in [missing, covered] {
        let told = database.wait_durable(version, Some(LONG));
        assert!(
            matches!(told, Err(WaitDurableError::Forgotten { known_above, .. }) if known_above == covered),
            "{version}: {told:?}"
        );
    }
    let told = database.is_durable(behind);
    assert!(
        matches!(told, Err(WaitDurableError::NotLogged { .. })),
        "{told:?}"
    );
    assert!(database.is_durable(last).unwrap());
    assert!(last <= database.durable_version());
}
