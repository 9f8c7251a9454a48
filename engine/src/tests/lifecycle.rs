//! Opening, closing, and what is left of threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use in_mem_model::Durability;
use in_mem_wal::ReserveError;
use in_mem_wal::disk::{Disk, DiskKind, OpenDisk, SimWorld};
use parking_lot::Mutex;

use super::{MODES, in_memory, int, over, world};
use crate::{CommitError, Database, DurabilityMode};

#[test]
fn after_a_shutdown_writes_are_refused_reads_go_on_and_a_second_one_answers_the_same() {
    for mode in MODES {
        let world = world();
        let database = over(&world, mode).open().unwrap();
        let run = database.default_run();
        run.kv().put("k", &int(1)).unwrap();
        let mut open = database.begin_transaction(run.id()).unwrap();
        open.put(b"k", int(2).as_ref()).unwrap();
        database.shutdown().unwrap();
        database.shutdown().unwrap();
        assert!(!database.is_open());
        assert!(matches!(open.commit(), Err(CommitError::Closed(_))));
        assert!(matches!(
            run.kv().put("k", &int(3)),
            Err(CommitError::Closed(_))
        ));
        assert!(matches!(
            database.begin_transaction(run.id()),
            Err(CommitError::Closed(_))
        ));
        assert_eq!(run.kv().get("k").unwrap().unwrap(), int(1).as_bytes());
    }
}

#[test]
fn a_commit_that_races_a_shutdown_is_either_refused_or_there_after_reopening() {
    for round in 0..10 {
        let world = world();
        let acked = AtomicU64::new(0);
        let database = over(&world, MODES[1]).open().unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let run = database.default_run();
                    while run.kv().incr("n", 1).is_ok() {
                        acked.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while acked.load(Ordering::SeqCst) < 20 + round {
                thread::yield_now();
            }
            database.shutdown().unwrap();
        });
        drop(database);
        let again = over(&world, DurabilityMode::Strict)
            .open_existing()
            .unwrap();
        let found = again.default_run().kv().get("n").unwrap().unwrap();
        let count = in_mem_model::as_int(&found).unwrap();
        assert_eq!(
            u64::try_from(count).unwrap(),
            acked.into_inner(),
            "round {round}"
        );
    }
}

/// A disk whose first opening after it was armed waits until it may go on.
struct Gate {
    world: SimWorld,
    is_armed: AtomicBool,
    entered: mpsc::Sender<()>,
    may_open: Mutex<mpsc::Receiver<()>>,
}

impl OpenDisk for Gate {
    fn open_disk(&self) -> std::io::Result<Box<dyn Disk>> {
        if self.is_armed.swap(false, Ordering::SeqCst) {
            self.entered.send(()).unwrap();
            self.may_open.lock().recv().unwrap();
        }
        self.world.open_disk()
    }

    fn kind(&self) -> DiskKind {
        self.world.kind()
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.world.free_bytes()
    }
}

/// Lost before: a shutdown that met the first durable commit while it made the files reported that
/// all was closed and gave the directory free, and the log with its threads started behind it.
#[test]
fn a_shutdown_closes_the_log_that_the_first_durable_commit_is_making() {
    let world = world();
    let (entered, has_entered) = mpsc::channel();
    let (open, may_open) = mpsc::channel();
    let gate = Arc::new(Gate {
        world: world.clone(),
        is_armed: AtomicBool::new(false),
        entered,
        may_open: Mutex::new(may_open),
    });
    let database = Database::builder()
        .disk(Arc::<Gate>::clone(&gate))
        .wal_config(super::small_log())
        .in_memory()
        .open()
        .unwrap();
    gate.is_armed.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let committed = scope.spawn(|| {
            let run = database.default_run();
            run.kv()
                .with_durability(Durability::Strict)
                .put("k", &int(1))
        });
        has_entered.recv().unwrap();
        let closed = scope.spawn(|| database.shutdown());
        while database.is_open() {
            thread::yield_now();
        }
        // Time to close too early: right without it, but then it proves nothing.
        (0..10_000).for_each(|_| thread::yield_now());
        open.send(()).unwrap();
        closed.join().unwrap().unwrap();
        let refused = committed.join().unwrap();
        assert!(
            matches!(refused, Err(CommitError::Closed(_))),
            "{refused:?}"
        );
        if let Some(log) = database.inner.log.get() {
            let refused = log.handle.reserve(1).map(drop);
            assert!(matches!(refused, Err(ReserveError::Closed)), "{refused:?}");
        }
    });
}

/// Threads of the engine in this process, by their names; other tests run beside this one, so
/// only those of this test's own databases may be counted: it counts what is left at the end.
fn own_thread_count(database: &Database) -> usize {
    std::sync::Arc::strong_count(&database.inner.shared)
}

#[test]
fn correctness_tx3_threads_end_with_the_last_handle() {
    for mode in MODES {
        let world = world();
        let shared = {
            let database = over(&world, mode).open().unwrap();
            database.default_run().kv().put("k", &int(1)).unwrap();
            let second = database.clone();
            drop(database);
            second.default_run().kv().put("k", &int(2)).unwrap();
            assert!(
                1 < own_thread_count(&second),
                "the clock thread holds what is shared"
            );
            std::sync::Arc::downgrade(&second.inner.shared)
        };
        assert!(
            shared.upgrade().is_none(),
            "{mode:?}: a thread outlived its database"
        );
    }
}

#[test]
fn a_handle_on_a_run_keeps_the_database_open() {
    let run = in_memory().default_run();
    run.kv().put("k", &int(1)).unwrap();
    assert!(run.kv().contains("k").unwrap());
}

#[test]
fn timestamps_never_decrease_within_a_run_although_the_clock_steps_back() {
    let database = Database::builder()
        .in_memory()
        .external_time()
        .open()
        .unwrap();
    let run = database.default_run();
    let mut last = 0;
    for now_us in [1_000, 2_000, 500, 0, 3_000, 1] {
        database.set_now(now_us);
        run.kv().put("k", &int(1)).unwrap();
        let found = run.kv().get_versioned("k").unwrap().unwrap().timestamp_us;
        assert!(last <= found);
        last = found;
    }
    assert_eq!(last, 3_000);
}
