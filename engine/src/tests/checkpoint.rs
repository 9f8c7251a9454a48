//! Checkpoints and what recovery makes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use in_mem_model::Durability;
use in_mem_snapshot::snapshot_path;
use in_mem_wal::disk::{CrashMode, DiskPreference, Fault, FaultRule, OpKind, SimRng, SimWorld};
use parking_lot::Mutex;

use super::checkpoint_recovery::with_two_snapshots;
use super::once::{add, of_client};
use super::{drive, driven, in_memory, int, over, text, world};
use crate::{
    BeginRun, CheckpointError, CheckpointInfo, CompactError, CompactMode, Database, Driver,
    DurabilityMode, OnceRequest, OpenError, PrimitiveStorageExt, SnapshotTarget,
};

pub(super) const STRICT: DurabilityMode = DurabilityMode::Strict;
pub(super) const SEED: u64 = 42;

pub(super) fn open(world: &SimWorld) -> Database {
    over(world, STRICT).open().unwrap()
}

pub(super) fn reopened(world: &SimWorld) -> Result<Database, OpenError> {
    over(world, STRICT).open_existing()
}

/// The same disk with a MANIFEST that names no snapshot: recovery from the log alone.
pub(super) fn log_alone(world: &SimWorld) -> SimWorld {
    let alone = world.kill(SEED);
    let disk = &mut alone.disk();
    let mut manifest = in_mem_snapshot::load(disk).unwrap().unwrap();
    manifest.snapshot_id = 0;
    manifest.snapshot_watermark = 0;
    in_mem_snapshot::publish(disk, &manifest).unwrap();
    alone
}

/// Something of everything that is stored, drawn.
pub(super) fn act(database: &Database, rng: &mut SimRng) {
    let runs = database.store().run_ids();
    // Another writer's run may be listed and not yet begun.
    let run = database.run(runs[rng.index(runs.len())]);
    let run = run.unwrap_or_else(|_| database.default_run());
    let key = format!("k{}", rng.below(9));
    let value = text(&"v".repeat(rng.index(200)));
    match rng.below(12) {
        0 => {
            let begin = BeginRun {
                name: Some(format!("run-{}", rng.next_u64())),
                ..BeginRun::default()
            };
            database.runs().begin_run(begin).map(drop)
        }
        1 if !run.id().is_default() => match rng.below(3) {
            0 => database.runs().end_run(run.id()).map(drop),
            _ => database.runs().add_tags(run.id(), &["a", "b"]).map(drop),
        },
        2 | 3 => run.kv().delete(&key).map(drop),
        4 => {
            let volatile = run.kv().with_durability(Durability::InMemory);
            volatile.put(&key, &value).map(drop)
        }
        5..=7 => {
            let sequence = database.version() + 1;
            let once = OnceRequest {
                lowest_awaited: sequence.saturating_sub(rng.below(30)),
                ..of_client(rng.below(4), sequence)
            };
            add(&run, &once).map(drop)
        }
        _ => run.kv().put(&key, &value).map(drop),
    }
    // A run that was ended takes no writes: that is an answer too.
    .unwrap_or_default();
}

#[test]
fn recovery_invariant_rs4_snapshot_and_log_give_what_the_log_alone_gives() {
    for seed in SEED..SEED + 12 {
        println!("seed {seed}");
        let mut rng = SimRng::new(seed);
        let mut world = world();
        for _ in 0..4 {
            let database = open(&world);
            let mut taken = 0;
            for _ in 0..rng.below(120) {
                act(&database, &mut rng);
                if rng.below(40) == 0 {
                    let info = database.checkpoint().unwrap();
                    assert!(info.watermark_txn <= database.version());
                    taken = info.snapshot_id;
                }
            }
            if rng.coin() {
                database.shutdown().unwrap();
            }
            drop(database);
            if rng.coin() {
                world = world.crash(rng.next_u64(), CrashMode::Subset);
            }
            let alone = reopened(&log_alone(&world)).unwrap().state_digest();
            let database = reopened(&world).unwrap();
            let result = database.last_recovery_result().unwrap();
            assert!(taken == 0 || result.snapshot_used == taken, "seed {seed}");
            assert_eq!(database.state_digest(), alone, "seed {seed}");
        }
    }
}

/// Asks for a checkpoint of a driven database.
fn ask(database: &Database) -> Arc<Mutex<Option<Result<CheckpointInfo, CheckpointError>>>> {
    let told = Arc::new(Mutex::new(None));
    let teller = Arc::clone(&told);
    let done = Box::new(move |result| *teller.lock() = Some(result));
    database.start_checkpoint(done).unwrap();
    told
}

fn take(database: &Database, driver: &mut Driver) -> Result<CheckpointInfo, CheckpointError> {
    let told = ask(database);
    loop {
        while driver.drive_background() {}
        drive(driver);
        if let Some(result) = told.lock().take() {
            return result;
        }
    }
}

/// The state that commits up to the watermark have made, though others were committed, published
/// and pending before a byte of the snapshot was written, and made the exactly-once tables forget.
#[test]
fn storage_invariant_s6_a_snapshot_holds_what_commits_up_to_its_watermark_made_and_nothing_of_later_ones()
 {
    let world = world();
    let (database, mut driver) = driven(&world);
    let collector = Arc::new(super::Collector::default());
    let run = database.default_run();
    let submit = |sequence: u64, lowest_awaited: u64| {
        let once = OnceRequest {
            lowest_awaited,
            ..of_client(sequence % 3, sequence)
        };
        let program = crate::Program {
            checks: &[],
            steps: &[crate::Step::Increment {
                key: b"n",
                delta: 1,
            }],
        };
        let completion = collector.completion(sequence);
        let options = crate::CommitOptions::default();
        let _ = run.submit_as(&program, options, Some(&once), &completion);
    };
    (1..=9).for_each(|sequence| submit(sequence, 0));
    drive(&mut driver);
    let told = ask(&database);
    // It begins; these come after it has, and before its watermark is known.
    assert!(driver.drive_background());
    (10..=15).for_each(|sequence| submit(sequence, 5));
    drive(&mut driver);
    let at_watermark = database.state_digest();
    let version = database.version();
    // The watermark is known, and these come before the tables are read.
    (16..=30).for_each(|sequence| submit(sequence, sequence));
    while driver.drive_background() {}
    let info = told.lock().take().unwrap().unwrap();
    assert_eq!(info.watermark_txn, version);
    assert_ne!(
        database.state_digest(),
        at_watermark,
        "the tables have gone on"
    );
    let crashed = world.crash(SEED, CrashMode::Prefix);
    let database = reopened(&crashed).unwrap();
    let result = database.last_recovery_result().unwrap();
    assert_eq!(result.snapshot_watermark, version);
    assert_eq!(database.state_digest(), at_watermark);
}

#[test]
fn storage_invariant_s5_equal_content_gives_equal_bytes_apart_from_time_and_number() {
    let world = world();
    let database = open(&world);
    let mut rng = SimRng::new(SEED);
    (0..100).for_each(|_| act(&database, &mut rng));
    let mut files = Vec::new();
    for _ in 0..2 {
        let info = database.checkpoint().unwrap();
        let mut bytes = world.read_file(&snapshot_path(info.snapshot_id)).unwrap();
        assert_eq!(bytes.len() as u64, info.size_bytes);
        // Time; the checksum of the first block and the snapshot's number in it; the file's.
        let len = bytes.len();
        bytes[14..22].fill(0);
        bytes[56..68].fill(0);
        bytes[len - 4..].fill(0);
        files.push(bytes);
    }
    assert!(files[0] == files[1]);
}

#[test]
fn volatile_commits_are_in_no_snapshot() {
    let world = world();
    let database = open(&world);
    let kv = database.default_run();
    let kv = kv.kv();
    kv.put("logged", &int(1)).unwrap();
    let volatile = kv.with_durability(Durability::InMemory);
    volatile.put("logged", &int(2)).unwrap();
    volatile.put("volatile", &int(3)).unwrap();
    let after = kv.put("after", &int(4)).unwrap();
    let info = database.checkpoint().unwrap();
    assert_eq!(info.watermark_txn, after, "they lie below the watermark");
    drop(database);
    let database = reopened(&world).unwrap();
    let run = database.default_run();
    assert_eq!(
        run.kv().get("logged").unwrap().as_deref(),
        Some(int(1).as_bytes())
    );
    assert!(!run.kv().contains("volatile").unwrap());
    assert!(run.kv().contains("after").unwrap());
}

#[test]
fn each_refusal_of_a_checkpoint_says_why() {
    assert!(matches!(
        in_memory().checkpoint(),
        Err(CheckpointError::NoLog)
    ));
    let world = world();
    let (database, driver) = driven(&world);
    let told = ask(&database);
    let second = database.start_checkpoint(Box::new(|_| panic!("refused")));
    assert!(matches!(second, Err(CheckpointError::AlreadyInProgress)));
    assert!(told.lock().is_none());
    assert!(database.checkpoint_progress().is_none(), "it has not begun");
    drop((database, driver));
    let database = open(&world);
    database.shutdown().unwrap();
    assert!(matches!(
        database.checkpoint(),
        Err(CheckpointError::Closed)
    ));
    drop(database);
    let database = over(&world, STRICT)
        .read_only_skipping_unknown()
        .open()
        .unwrap();
    assert!(matches!(
        database.checkpoint(),
        Err(CheckpointError::ReadOnly)
    ));
}

#[test]
fn a_checkpoint_that_fails_leaves_the_one_before_it_and_the_next_one_succeeds() {
    let cases = [
        (OpKind::Create, "SNAPSHOTS", false),
        (OpKind::Write, "SNAPSHOTS", false),
        (OpKind::Sync, "SNAPSHOTS", false),
        (OpKind::Read, "SNAPSHOTS", false),
        (OpKind::Rename, "SNAPSHOTS", false),
        (OpKind::SyncDir, "SNAPSHOTS", false),
        (OpKind::Write, "MANIFEST", false),
        (OpKind::Rename, "MANIFEST", true),
    ];
    for (kind, path, poisons) in cases {
        let world = world();
        let digest = with_two_snapshots(&world);
        let database = reopened(&world).unwrap();
        world.add_rule(FaultRule::new(Fault::Io).on(kind).under(path).times(1));
        let error = database.checkpoint().unwrap_err();
        println!("{kind:?} {path}: {error}");
        assert_eq!(database.is_poisoned(), poisons, "{kind:?} {path}");
        if !poisons {
            database.checkpoint().unwrap();
        }
        drop(database);
        let database = reopened(&world).unwrap();
        assert_eq!(database.state_digest(), digest, "{kind:?} {path}");
    }
}

#[test]
fn compaction_drops_the_segments_that_every_kept_snapshot_covers_and_no_other() {
    let world = world();
    let database = open(&world);
    let refused = database.compact(CompactMode::WALOnly);
    assert!(matches!(refused, Err(CompactError::NoSnapshot)));
    let run = database.default_run();
    let kv = run.kv();
    let fill = || {
        for _ in 0..40 {
            kv.put("k", &text(&"v".repeat(30_000))).unwrap();
        }
    };
    let segments = || {
        let paths = world.paths();
        paths
            .iter()
            .filter(|path| path.starts_with("WAL/wal-"))
            .count()
    };
    fill();
    database.checkpoint().unwrap();
    let info = database.compact(CompactMode::WALOnly).unwrap();
    assert_ne!(info.wal_segments_removed, 0);
    assert_eq!(segments(), 1);
    fill();
    // The first snapshot is kept for the day the second cannot be read: so are its segments.
    database.checkpoint().unwrap();
    let kept = segments();
    assert!(1 < kept);
    let info = database.compact(CompactMode::WALOnly).unwrap();
    assert_eq!((info.wal_segments_removed, segments()), (0, kept));
    fill();
    database.checkpoint().unwrap();
    assert_ne!(
        database
            .compact(CompactMode::WALOnly)
            .unwrap()
            .reclaimed_bytes,
        0
    );
    kv.put("last", &int(1)).unwrap();
    let digest = database.state_digest();
    drop(database);
    assert_eq!(reopened(&world).unwrap().state_digest(), digest);
    let (second, third) = (snapshot_path(2), snapshot_path(3));
    assert!(world.flip_byte(&third, 70, 1));
    assert_eq!(reopened(&world).unwrap().state_digest(), digest);
    assert!(world.flip_byte(&second, 70, 1));
    let refused = reopened(&world).err().unwrap();
    assert!(
        matches!(refused, OpenError::SnapshotUnrecoverable { .. }),
        "{refused}"
    );
}

/// Nobody is stopped: commits and reads go on while a checkpoint is written, and it shows no torn
/// pair of theirs.
#[test]
fn storage_invariant_s4_a_checkpoint_under_writers_shows_no_torn_pair() {
    let world = world();
    let database = open(&world);
    let stop = AtomicBool::new(false);
    let is_stopped = || stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        // Also when something below panics.
        let _stopper = Stopper(&stop);
        for thread in 0..2 {
            let (database, is_stopped) = (&database, &is_stopped);
            scope.spawn(move || {
                let run = database.default_run();
                let keys = [format!("{thread}/a"), format!("{thread}/b")];
                for round in 0.. {
                    if is_stopped() {
                        return;
                    }
                    let value = int(round);
                    let steps = keys.each_ref().map(|key| crate::Step::Put {
                        key: key.as_bytes(),
                        value: value.as_ref(),
                    });
                    let program = crate::Program {
                        checks: &[],
                        steps: &steps,
                    };
                    run.commit(&program, crate::CommitOptions::default())
                        .unwrap();
                }
            });
        }
        for _ in 0..6 {
            let info = database.checkpoint().unwrap();
            // The state of the snapshot alone: the log behind it is cut off.
            let image = world.kill(SEED);
            let seen = image_at(&image, &info);
            for thread in 0..2 {
                let pair = ["a", "b"].map(|half| {
                    let run = seen.default_run();
                    run.kv().get(format!("{thread}/{half}")).unwrap()
                });
                assert_eq!(pair[0], pair[1], "watermark {}", info.watermark_txn);
            }
        }
    });
}

/// Tells the writers of a test to end when it is dropped.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a snapshot alone holds: its records are the last of a log that ends there.
fn image_at(image: &SimWorld, info: &CheckpointInfo) -> Database {
    let database = in_memory();
    let disk = &mut image.disk();
    let codec = in_mem_wal::get_codec("identity").unwrap();
    let path = snapshot_path(info.snapshot_id);
    let (mut reader, meta) =
        in_mem_snapshot::SnapshotReader::open(disk, &path, in_mem_wal::disk::OpenMode::Read, codec)
            .unwrap();
    assert_eq!(meta.watermark_txn, info.watermark_txn);
    let target = SnapshotTarget::new(database.store(), meta.watermark_txn);
    while let Some(section) = reader.next_section(disk).unwrap() {
        let mut source = in_mem_snapshot::SectionSource {
            reader: &mut reader,
            disk,
        };
        if section == 1 {
            let kv = crate::kv_storage::KvStorage;
            kv.snapshot_deserialize(&target, &mut source).unwrap();
        }
    }
    reader.close(disk);
    database
}

#[test]
fn a_buffered_commit_is_durable_once_a_checkpoint_behind_it_returned() {
    let world = world();
    let buffered = super::MODES[1];
    let database = over(&world, buffered).open().unwrap();
    let version = database.default_run().kv().put("k", &int(1)).unwrap();
    let info = database.checkpoint().unwrap();
    assert!(version <= info.watermark_txn);
    assert!(database.is_durable(version).unwrap());
    let crashed = world.crash(SEED, CrashMode::Prefix);
    drop(database);
    let database = over(&crashed, buffered).open_existing().unwrap();
    assert!(database.default_run().kv().contains("k").unwrap());
}

#[test]
fn a_checkpoint_waits_until_what_was_committed_before_it_is_durable() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let collector = Arc::new(super::Collector::default());
    let value = int(1);
    let program = crate::Program {
        checks: &[],
        steps: &[crate::Step::Put {
            key: b"k",
            value: value.as_ref(),
        }],
    };
    let run = database.default_run();
    let options = crate::CommitOptions::default();
    let _ = run.submit(&program, options, &collector.completion(1));
    let told = ask(&database);
    while driver.drive_background() {}
    assert!(told.lock().is_none(), "the log has not written it");
    drive(&mut driver);
    while driver.drive_background() {}
    let info = told.lock().take().unwrap().unwrap();
    assert_eq!(info.watermark_txn, database.version());
}

#[test]
fn a_driven_checkpoint_is_taken_turn_by_turn() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let info = take(&database, &mut driver).unwrap();
    assert_eq!((info.watermark_txn, info.snapshot_id), (0, 1));
    assert_eq!(take(&database, &mut driver).unwrap().snapshot_id, 2);
    assert!(database.checkpoint_progress().is_none());
    drop((database, driver));
    assert_eq!(reopened(&world).unwrap().version() >> 32, 1, "the floor");
}

/// Through tokio-uring on the background thread where the kernel allows, and without a ring.
#[test]
fn a_checkpoint_on_a_real_disk_is_read_back_and_recovered() {
    for preference in [DiskPreference::Auto, DiskPreference::Thread] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.inmem");
        let config = || {
            Database::builder()
                .path(&path)
                .disk_preference(preference)
                .wal_config(super::small_log())
        };
        let database = config().create().unwrap();
        let run = database.default_run();
        let kv = run.kv();
        // Several blocks, the last one of any length.
        for key in 0..60 {
            kv.put(format!("k{key}"), &text(&"v".repeat(40_000 + key)))
                .unwrap();
        }
        let info = database.checkpoint().unwrap();
        assert!(2 << 20 < info.size_bytes);
        assert_ne!(
            database
                .compact(CompactMode::WALOnly)
                .unwrap()
                .wal_segments_removed,
            0
        );
        kv.put("last", &int(1)).unwrap();
        let digest = database.state_digest();
        drop((run, database));
        let database = config().open_existing().unwrap();
        let result = database.last_recovery_result().unwrap();
        assert_eq!((result.snapshot_used, result.records_applied), (1, 1));
        assert_eq!(database.state_digest(), digest, "{preference:?}");
    }
}
