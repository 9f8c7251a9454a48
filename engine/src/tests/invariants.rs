//! Numbered invariants of storage, recovery and transactions that no other test is about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use in_mem_model::{Durability, EncodedValue, RunId, Value, encode};
use in_mem_snapshot::snapshot_path;
use in_mem_wal::codec::IdentityCodec;
use in_mem_wal::disk::{CrashMode, OpKind, SimRng, SimWorld};
use in_mem_wal::recover::{ScanOptions, scan};
use in_mem_wal::{Lsn, names};
use parking_lot::Mutex;

use super::checkpoint::{SEED, STRICT, act, open, reopened};
use super::recovery::with_marker_type;
use super::{Collector, MODES, drive, driven, int, over, small_log, text, world};
use crate::writeset_reader::{RecordHead, Unknown, read_writeset};
use crate::{
    CommitOptions, CompactMode, Completion, CompletionSink, HistoryEntry, Outcome, Program,
    RetryPolicy, Step, Submitted,
};

/// A record of the log, copied.
struct Logged {
    head: RecordHead,
    writeset: Vec<u8>,
}

/// Every record of the log as it lies on a disk.
fn logged(world: &SimWorld) -> Vec<Logged> {
    let disk = &mut world.kill(SEED).disk();
    let manifest = in_mem_snapshot::load(disk).unwrap().unwrap();
    let options = ScanOptions {
        database_uuid: manifest.database_uuid,
        record_len_bytes_max: small_log().record_len_bytes_max,
        snapshot_end: Lsn::default(),
        manifest_active_segment: 1,
        is_permissive: false,
        planted: small_log().planted,
    };
    let mut found = Vec::new();
    scan::<()>(disk, &options, &IdentityCodec, |record| {
        let head = RecordHead {
            run_id: RunId(record.run_id),
            commit_version: record.txn_id,
            timestamp_us: record.timestamp_us,
        };
        let writeset = record.writeset.to_vec();
        found.push(Logged { head, writeset });
        Ok(())
    })
    .unwrap();
    found
}

/// Whatever a power loss leaves, each version that is shown was committed, with that value, under
/// that key.
#[test]
fn recovery_invariant_r4_recovered_keys_and_versions_were_all_committed() {
    for image in 0..20 {
        let before = world();
        let database = over(&before, MODES[1]).open().unwrap();
        let run = database.default_run();
        let mut committed = Vec::new();
        for n in 0..40_i64 {
            let key = format!("k{}", n % 7);
            let value = int(n);
            let version = run.kv().put(&key, &value).unwrap();
            committed.push((key, version, value.as_bytes().to_vec()));
            if n % 9 == 0 {
                database.flush().unwrap();
            }
        }
        let recovered = over(&before.crash(image, CrashMode::Subset), MODES[1]);
        let recovered = recovered.open_existing().unwrap();
        let run = recovered.default_run();
        for key in run.kv().list("").unwrap() {
            let key = String::from_utf8(key).unwrap();
            for entry in run.kv().history(&key, None, None).unwrap() {
                let found = (key.clone(), entry.version, entry.value.unwrap());
                assert!(committed.contains(&found), "image {image}: {found:?}");
            }
        }
    }
}

/// Neither what a transaction wrote that was still open, nor what was rolled back or refused.
#[test]
fn recovery_invariant_r6_what_was_not_committed_is_in_no_image() {
    let before = world();
    let database = open(&before);
    let run = database.default_run();
    run.kv().put("committed", &int(1)).unwrap();
    let mut open = database.begin_transaction(RunId::DEFAULT).unwrap();
    open.put(b"open", int(2).as_ref()).unwrap();
    let mut rolled_back = database.begin_transaction(RunId::DEFAULT).unwrap();
    rolled_back.put(b"rolled-back", int(3).as_ref()).unwrap();
    database.end_transaction(rolled_back);
    let failed: Result<(), crate::CommitError> =
        database.transaction_with_retry(RunId::DEFAULT, RetryPolicy::default(), |context| {
            context.put(b"failed", int(4).as_ref())?;
            Err(crate::CommitError::Busy)
        });
    assert!(failed.is_err());
    let mut conflicting = database.begin_transaction(RunId::DEFAULT).unwrap();
    conflicting.get(b"committed").unwrap();
    conflicting.put(b"conflicting", int(5).as_ref()).unwrap();
    run.kv().put("committed", &int(6)).unwrap();
    assert!(conflicting.commit().unwrap_err().is_conflict());
    for image in 0..20 {
        let after = before.crash(image, CrashMode::Subset);
        let recovered = reopened(&after).unwrap();
        let keys = recovered.default_run().kv().list("").unwrap();
        assert_eq!(keys, [b"committed".to_vec()], "image {image}");
    }
    database.end_transaction(open);
}

#[test]
fn recovery_invariant_rs3_each_record_and_the_whole_log_applied_again_changes_nothing() {
    let world = world();
    let database = open(&world);
    let mut rng = SimRng::new(SEED);
    (0..150).for_each(|_| act(&database, &mut rng));
    drop(database);
    let records = logged(&world);
    assert!(100 < records.len());
    let database = reopened(&world).unwrap();
    let (digest, registry) = (database.state_digest(), super::writeset::registry());
    let apply = |record: &Logged| {
        let refused = Unknown::Refused;
        let read = read_writeset(&record.writeset, record.head, &registry, refused).unwrap();
        for entry in read.entries {
            let owner = registry.for_entry_type(entry.entry_type).unwrap();
            owner.apply_versioned(database.store(), &entry).unwrap();
        }
        if let Some((once, result)) = read.once {
            let store = database.store();
            store.apply_once_versioned(&record.head, &once, result);
        }
    };
    for record in &records {
        apply(record);
        apply(record);
        let version = record.head.commit_version;
        assert_eq!(database.state_digest(), digest, "commit {version}");
    }
    records.iter().for_each(apply);
    assert_eq!(database.state_digest(), digest);
}

/// What is missing is the marker alone: the record is whole and its checksum right.
#[test]
fn recovery_invariant_five_2_a_record_without_its_commit_marker_is_discarded_whole_and_counted() {
    let world = world();
    let database = open(&world);
    let run = database.default_run();
    run.kv().put("before", &int(1)).unwrap();
    let pair: [(&[u8], &EncodedValue); 2] = [(b"never-1", &int(2)), (b"never-2", &int(3))];
    run.kv().put_many(&pair).unwrap();
    run.kv().put("after", &int(4)).unwrap();
    drop(run);
    database.shutdown().unwrap();
    drop(database);
    let path = names::segment_path(1);
    let mut bytes = world.read_file(&path).unwrap();
    // A snapshot marker: a reader takes it for nothing.
    with_marker_type(&mut bytes, b"never-1", 0x02);
    world.write_file(&path, &bytes);
    let database = reopened(&world).unwrap();
    let result = database.last_recovery_result().unwrap();
    assert_eq!((result.records_skipped, result.records_applied), (1, 2));
    let keys = database.default_run().kv().list("").unwrap();
    assert_eq!(keys, [b"after".to_vec(), b"before".to_vec()]);
}

/// The log is gone as far as a compaction lets it go; every version is still there, and of no
/// record are the bytes in the image.
#[test]
fn storage_invariant_five_4_a_snapshot_holds_every_version_and_no_record_of_the_log() {
    let world = world();
    let database = open(&world);
    let run = database.default_run();
    for n in 0..40_i64 {
        let value = text(&format!("{n}-{}", "v".repeat(10_000)));
        run.kv().put(format!("k{}", n % 3), &value).unwrap();
    }
    run.kv().delete("k1").unwrap();
    run.kv().put("k1", &int(7)).unwrap();
    let histories = |run: &crate::Run| -> Vec<Vec<HistoryEntry>> {
        let keys = ["k0", "k1", "k2"].iter();
        keys.map(|key| run.kv().history(key, None, None).unwrap())
            .collect()
    };
    let (before, digest) = (histories(&run), database.state_digest());
    let records = logged(&world);
    let info = database.checkpoint().unwrap();
    database.compact(CompactMode::WALOnly).unwrap();
    drop(run);
    database.shutdown().unwrap();
    drop(database);
    let image = world.read_file(&snapshot_path(info.snapshot_id)).unwrap();
    let holds = |bytes: &[u8]| holds_start_of(&image, bytes);
    assert!(!records.iter().any(|record| holds(&record.writeset)));
    let database = reopened(&world).unwrap();
    let result = database.last_recovery_result().unwrap();
    assert_eq!((result.snapshot_used, result.records_applied), (1, 0));
    assert_eq!(histories(&database.default_run()), before);
    assert_eq!(database.state_digest(), digest);
}

/// Whether `bytes` stand anywhere in `image`, by their first 64 bytes.
fn holds_start_of(image: &[u8], bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(64)];
    image.windows(start.len()).any(|window| window == start)
}

/// The sections behind the first, which states the file's own number and the floor of its process.
fn sections(world: &SimWorld, snapshot_id: u64) -> Vec<u8> {
    let bytes = world.read_file(&snapshot_path(snapshot_id)).unwrap();
    let len: [u8; 8] = bytes[40..48].try_into().unwrap();
    let meta_end = 48 + usize::try_from(u64::from_le_bytes(len)).unwrap();
    bytes[meta_end..bytes.len() - 4].to_vec()
}

/// One state in three layouts: as commits left it, as a snapshot was loaded, as a log was replayed.
#[test]
fn storage_invariant_s5_snapshots_of_one_state_are_equal_whatever_its_layout_in_memory() {
    let world = world();
    let database = open(&world);
    let mut rng = SimRng::new(SEED);
    (0..150).for_each(|_| act(&database, &mut rng));
    let info = database.checkpoint().unwrap();
    drop(database);
    let first = sections(&world, info.snapshot_id);
    for again in [world.kill(1), super::checkpoint::log_alone(&world)] {
        let database = reopened(&again).unwrap();
        let info = database.checkpoint().unwrap();
        assert!(sections(&again, info.snapshot_id) == first);
    }
}

/// Notes how many operations the disk had been asked for when a commit was told.
struct OpsWhenTold(SimWorld, Mutex<Vec<u64>>);

impl CompletionSink for OpsWhenTold {
    fn complete(&self, _: u64, result: Result<Outcome, crate::CommitError>) {
        result.unwrap();
        self.1.lock().push(self.0.op_count());
    }
}

/// InMemory asks for nothing, Buffered for no sync, Strict is told only behind a sync of its batch.
#[test]
fn storage_invariant_eight_2_each_mode_asks_the_disk_for_what_it_promises_and_no_more() {
    let is_sync = |kind| matches!(kind, OpKind::Sync | OpKind::WriteSynced);
    for mode in MODES {
        let world = world();
        let database = over(&world, mode).manual().open().unwrap();
        let mut driver = database.take_driver().unwrap();
        while driver
            .as_mut()
            .is_some_and(|driver| driver.drive_background())
        {}
        world.record_moments();
        let begin = world.op_count();
        let told = Arc::new(OpsWhenTold(world.clone(), Mutex::default()));
        let run = database.default_run();
        for n in 0..20 {
            let value = int(n);
            let steps = [Step::Put {
                key: b"k",
                value: value.as_ref(),
            }];
            let program = Program {
                checks: &[],
                steps: &steps,
            };
            let completion = Completion {
                sink: Arc::<OpsWhenTold>::clone(&told),
                token: 1,
            };
            let submitted = run.submit(&program, CommitOptions::default(), &completion);
            let is_strict = mode.requires_immediate_fsync();
            assert_eq!(
                matches!(submitted, Submitted::Pending),
                is_strict,
                "{mode:?}"
            );
            driver.as_mut().into_iter().for_each(drive);
        }
        let moments = world.take_moments();
        let of_log = |path: &str| path.starts_with("WAL/wal-");
        let syncs = moments
            .iter()
            .filter(|m| is_sync(m.kind) && of_log(&m.path));
        let syncs: Vec<u64> = syncs.map(|moment| moment.op_index).collect();
        match mode {
            crate::DurabilityMode::InMemory => assert_eq!(world.op_count(), begin),
            crate::DurabilityMode::Buffered { .. } => assert!(syncs.is_empty()),
            crate::DurabilityMode::Strict => {
                let told = told.1.lock();
                assert_eq!((told.len(), syncs.len()), (20, 20));
                // Each was asked for a sync of its own before it was told.
                assert!(
                    syncs
                        .iter()
                        .zip(told.iter())
                        .all(|(sync, told)| sync < told)
                );
            }
        }
    }
}

/// Gaps included: versions of volatile commits are in neither.
#[test]
fn storage_invariant_eight_6_log_and_snapshot_keep_the_versions_they_are_given() {
    let world = world();
    let database = open(&world);
    let run = database.default_run();
    let mut given = Vec::new();
    for n in 0..60 {
        if n % 4 == 1 {
            let volatile = run.kv().with_durability(Durability::InMemory);
            volatile.put(format!("v{n}"), &int(n)).unwrap();
        } else {
            given.push(run.kv().put("k", &int(n)).unwrap());
        }
    }
    let in_log: Vec<u64> = logged(&world)
        .iter()
        .map(|record| record.head.commit_version)
        .collect();
    assert_eq!(in_log, given);
    database.checkpoint().unwrap();
    drop(run);
    drop(database);
    let database = reopened(&world).unwrap();
    assert_eq!(database.last_recovery_result().unwrap().records_applied, 0);
    let history = database
        .default_run()
        .kv()
        .history("k", None, None)
        .unwrap();
    let mut in_snapshot: Vec<u64> = history.iter().map(|entry| entry.version).collect();
    in_snapshot.reverse();
    assert_eq!(in_snapshot, given);
}

/// At every operation of a life with rotations, checkpoints, compactions and recoveries, each segment
/// but the newest has the bytes it was closed with.
#[test]
fn storage_invariant_eight_7_no_operation_changes_a_closed_segment() {
    let mut world = world();
    let mut closed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut look_count = 0;
    for round in 0..3 {
        world.record_moments();
        let database = open(&world);
        let run = database.default_run();
        for n in 0..30 {
            let value = text(&"v".repeat(30_000));
            run.kv().put(format!("k{n}"), &value).unwrap();
        }
        database.checkpoint().unwrap();
        database.compact(CompactMode::WALOnly).unwrap();
        drop(run);
        drop(database);
        for moment in world.take_moments() {
            let mut segments = moment.world.paths();
            segments.retain(|path| path.starts_with("WAL/wal-"));
            segments.sort();
            segments.pop();
            for path in segments {
                let bytes = moment.world.read_file(&path).unwrap();
                let as_closed = closed.entry(path.clone()).or_insert_with(|| bytes.clone());
                let (kind, on) = (moment.kind, &moment.path);
                assert!(
                    *as_closed == bytes,
                    "round {round}: {path}, {kind:?} of {on}"
                );
                look_count += 1;
            }
        }
        world = world.kill(round);
    }
    assert!(6 < closed.len(), "{} segments were closed", closed.len());
    println!("{look_count} looks at {} closed segments", closed.len());
}

/// Four writers in one run, and what the log and the visible version say of them.
#[test]
fn correctness_tx5_log_version_and_publication_have_one_order_in_each_run() {
    let world = world();
    let database = open(&world);
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let write = || {
            let run = database.default_run();
            for n in 0..50 {
                let version = run.kv().put("k", &int(n)).unwrap();
                assert!(version <= run.visible_version(), "told before published");
                told.lock().push(version);
            }
        };
        let writers = [(); 4].map(|()| scope.spawn(write));
        let run = database.default_run();
        let mut last = 0;
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let visible = run.visible_version();
            assert!(last <= visible, "{visible} after {last}");
            last = visible;
            thread::yield_now();
        }
    });
    let in_log: Vec<u64> = logged(&world)
        .iter()
        .map(|record| record.head.commit_version)
        .collect();
    assert!(in_log.is_sorted_by(|a, b| a < b), "{in_log:?}");
    let mut told = told.into_inner();
    told.sort_unstable();
    assert_eq!(in_log, told);
    publication_follows_the_log();
}

/// Commits that wait for one sync are told in the order of their versions.
fn publication_follows_the_log() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let (run, collector) = (database.default_run(), Arc::new(Collector::default()));
    for token in 0..30 {
        let value = int(1);
        let steps = [Step::Put {
            key: b"k",
            value: value.as_ref(),
        }];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let completion = collector.completion(token);
        let submitted = run.submit(&program, CommitOptions::default(), &completion);
        assert!(matches!(submitted, Submitted::Pending));
    }
    drive(&mut driver);
    let told = collector.take();
    let versions: Vec<u64> = told
        .iter()
        .map(|(_, result)| result.as_ref().unwrap().version)
        .collect();
    assert_eq!(versions.len(), 30);
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

/// In memory, in the log and in a snapshot, to the bit.
#[test]
fn correctness_val_5_the_sign_of_zero_and_the_bits_of_nan_survive_log_and_snapshot() {
    let values = [
        -0.0,
        0.0,
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7FF0_0000_0000_0001),
    ];
    let world = world();
    let database = over(&world, STRICT).open().unwrap();
    let bits = |run: &crate::Run| -> Vec<u64> {
        let keys = (0..values.len()).map(|n| format!("k{n}"));
        keys.map(|key| {
            let found = run.kv().get(&key).unwrap().unwrap();
            match in_mem_model::decode(&found).unwrap() {
                Value::Float(float) => float.to_bits(),
                other => panic!("{key} became {other:?}"),
            }
        })
        .collect()
    };
    let expected: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    for (n, value) in values.iter().enumerate() {
        let value = encode(&Value::Float(*value)).unwrap();
        database
            .default_run()
            .kv()
            .put(format!("k{n}"), &value)
            .unwrap();
    }
    assert_eq!(bits(&database.default_run()), expected);
    drop(database);
    let database = reopened(&world).unwrap();
    assert_eq!(bits(&database.default_run()), expected);
    database.checkpoint().unwrap();
    drop(database);
    let database = reopened(&world).unwrap();
    assert_eq!(database.last_recovery_result().unwrap().records_applied, 0);
    assert_eq!(bits(&database.default_run()), expected);
}
