//! The hand-off of the log under ten thousand schedules: the files of the product, compiled once more
//! over locks and atomics whose every step a scheduler chooses, with a simulated disk below.
//!
//! Committers, the log thread, whoever asks for a flush and whoever ends the log: nobody waits for
//! ever, each token comes back once, and what comes back as durable is.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the files are whole, and a test uses a part of what they offer"
)]

#[path = "../../handle/mod.rs"]
mod handle;
mod sync;
#[path = "../../writer/mod.rs"]
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use shuttle::thread;

use self::handle::{Append, LogHandle, Reservation, ReserveError};
use self::sync::{Condvar, Mutex, under_schedules};
use self::writer::{Turn, start};
use crate::codec::IdentityCodec;
use crate::config::LogConfig;
use crate::disk::{Fault, FaultRule, OpKind, OpenDisk, SimOptions, SimWorld};
use crate::harness::{UUID, recover, sound};
use crate::lsn::Lsn;
use crate::recover::{Settled, create_log};
use crate::sink::{Need, PoisonCause, Sink};

const SEED: u64 = 42;

/// Schedules of each test: ten thousand together.
const SCHEDULE_COUNT: usize = 2_000;

/// Bytes of a writeset.
const LEN_BYTES: usize = 40;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Reached(Lsn),
    Failed,
}

/// What the log told of each record, by its version.
#[derive(Default)]
struct Board {
    told: Mutex<BTreeMap<u64, Fate>>,
    changed: Condvar,
}

impl Board {
    fn tell(&self, txn_id: u64, fate: Fate) {
        let before = self.told.lock().insert(txn_id, fate);
        assert_eq!(before, None, "{txn_id} comes back once");
        self.changed.notify_all();
    }

    fn wait(&self, txn_id: u64) -> Fate {
        let mut told = self.told.lock();
        loop {
            if let Some(fate) = told.get(&txn_id) {
                return *fate;
            }
            self.changed.wait(&mut told);
        }
    }
}

struct Acks(Arc<Board>);

impl Sink<u64> for Acks {
    fn reached(&mut self, txn_id: u64, end_lsn: Lsn) {
        self.0.tell(txn_id, Fate::Reached(end_lsn));
    }

    fn poisoned(&mut self, _cause: &PoisonCause) {}

    fn failed(&mut self, txn_id: u64) {
        self.0.tell(txn_id, Fate::Failed);
    }
}

/// An empty log, to be copied.
struct Template {
    world: SimWorld,
    settled: Settled,
    config: LogConfig,
}

impl Template {
    fn new(config: LogConfig) -> Arc<Self> {
        let world = SimWorld::new(SimOptions::new(SEED));
        create_log(&mut *world.open_disk().unwrap(), UUID).unwrap();
        let (_, settled) = recover(&world, &config).unwrap();
        Arc::new(Self {
            world,
            settled,
            config,
        })
    }

    /// A log of its own on a disk of its own, with a thread.
    fn open(&self) -> Life {
        let world = self.world.kill(SEED);
        let (handle, seed) = start(self.config, Arc::new(IdentityCodec), &self.settled).unwrap();
        let board = Arc::new(Board::default());
        let (opener, acks) = (world.clone(), Acks(Arc::clone(&board)));
        let thread = thread::spawn(move || {
            let disk = opener.open_disk().unwrap();
            let mut writer = seed.open(disk, acks).unwrap();
            loop {
                match writer.turn(0) {
                    Turn::Worked => {}
                    Turn::Idle { wake_at_us } => writer.wait(0, wake_at_us),
                    Turn::Closed | Turn::Poisoned => return,
                }
            }
        });
        let log = Log { handle, board };
        Life { world, log, thread }
    }
}

struct Life {
    world: SimWorld,
    log: Log,
    thread: thread::JoinHandle<()>,
}

/// What each thread of a life holds.
#[derive(Clone)]
struct Log {
    handle: LogHandle<u64>,
    board: Arc<Board>,
}

impl Log {
    /// Appends one record and gives its version; none when the log takes no more.
    fn append(&self, need: Need) -> Option<u64> {
        match self.handle.reserve_wait(LEN_BYTES) {
            Ok(reservation) => self.append_to(reservation, need),
            Err(ReserveError::Closed | ReserveError::Poisoned) => None,
            Err(other) => panic!("{other}"),
        }
    }

    /// The same with room that was reserved.
    fn append_to(&self, reservation: Reservation<'_, u64>, need: Need) -> Option<u64> {
        let mut appender = self.handle.appender().ok()?;
        let txn_id = appender.last_txn_id() + 1;
        let append = Append {
            txn_id,
            run_id: [1; 16],
            timestamp_us: txn_id,
            writeset: vec![7; LEN_BYTES],
            need,
            token: txn_id,
        };
        appender.append(reservation, append);
        Some(txn_id)
    }

    /// Commits and waits; what it was told is true at that moment.
    fn commit(&self) -> Option<(u64, Fate)> {
        let txn_id = self.append(Need::Synced)?;
        let fate = self.board.wait(txn_id);
        if let Fate::Reached(end_lsn) = fate {
            assert!(end_lsn <= self.handle.durable_lsn(), "told before durable");
        }
        Some((txn_id, fate))
    }

    fn spawn(&self, work: impl FnOnce(Self) + Send + 'static) -> thread::JoinHandle<()> {
        let own = self.clone();
        thread::spawn(move || work(own))
    }
}

impl Life {
    /// Ends in order; what was told as reached is on the disk, in order.
    fn finish(self, workers: Vec<thread::JoinHandle<()>>, stops: bool) -> Vec<u64> {
        for worker in workers {
            worker.join().unwrap();
        }
        if stops {
            self.log.handle.stop();
        }
        self.thread.join().unwrap();
        self.world.clear_faults();
        let told = self.log.board.told.lock().clone();
        let (recovered, _) = recover(&self.world.kill(SEED), &sound()).unwrap();
        let found: Vec<u64> = recovered.records.iter().map(|found| found.txn_id).collect();
        let mut reached = told
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Reached(_)));
        assert!(reached.all(|(txn_id, _)| found.contains(txn_id)));
        assert!(found.is_sorted_by(|a, b| a < b));
        found
    }
}

#[test]
fn under_any_schedule_committers_and_flushes_are_all_answered() {
    let template = Template::new(sound());
    under_schedules(SEED, SCHEDULE_COUNT, move || {
        let life = template.open();
        let mut workers = Vec::new();
        for _ in 0..2 {
            workers.push(life.log.spawn(|log| {
                for _ in 0..2 {
                    let (txn_id, fate) = log.commit().expect("it is open");
                    assert!(matches!(fate, Fate::Reached(_)), "{txn_id}: {fate:?}");
                }
            }));
        }
        workers.push(life.log.spawn(|log| {
            let txn_id = log.append(Need::Written).expect("it is open");
            let durable_lsn = log.handle.flush().expect("nothing fails");
            let Fate::Reached(end_lsn) = log.board.wait(txn_id) else {
                panic!("nothing fails")
            };
            assert!(end_lsn <= durable_lsn);
        }));
        assert_eq!(life.finish(workers, true).len(), 5);
    });
}

/// Nobody else is there whose progress would wake it too.
#[test]
fn under_any_schedule_a_flush_alone_hears_of_the_sync_that_covers_it() {
    let template = Template::new(sound());
    under_schedules(SEED + 4, SCHEDULE_COUNT, move || {
        let life = template.open();
        let flusher = life.log.spawn(|log| {
            for _ in 0..3 {
                let txn_id = log.append(Need::Written).expect("it is open");
                let durable_lsn = log.handle.flush().expect("nothing fails");
                let Fate::Reached(end_lsn) = log.board.wait(txn_id) else {
                    panic!("nothing fails")
                };
                assert!(end_lsn <= durable_lsn);
            }
        });
        assert_eq!(life.finish(vec![flusher], true).len(), 3);
    });
}

#[test]
fn under_any_schedule_a_commit_beside_a_shutdown_is_refused_or_durable() {
    let template = Template::new(sound());
    under_schedules(SEED + 1, SCHEDULE_COUNT, move || {
        let life = template.open();
        let mut workers = Vec::new();
        let count = Arc::new(Mutex::new(0));
        for _ in 0..3 {
            let count = Arc::clone(&count);
            workers.push(life.log.spawn(move |log| {
                for _ in 0..2 {
                    let Some((txn_id, fate)) = log.commit() else {
                        return;
                    };
                    assert!(matches!(fate, Fate::Reached(_)), "{txn_id}: {fate:?}");
                    *count.lock() += 1;
                }
            }));
        }
        workers.push(life.log.spawn(|log| log.handle.close(1_000)));
        let found = life.finish(workers, false);
        assert_eq!(
            found.len(),
            *count.lock(),
            "admitted is durable, refused is absent"
        );
    });
}

#[test]
fn under_any_schedule_a_failing_disk_leaves_nobody_waiting() {
    let template = Template::new(sound());
    under_schedules(SEED + 2, SCHEDULE_COUNT, move || {
        let life = template.open();
        let after = shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..4);
        for kind in [OpKind::WriteSynced, OpKind::Sync] {
            let rule = FaultRule::new(Fault::Io).on(kind).under("WAL/");
            life.world.add_rule(rule.after(after));
        }
        let mut workers = Vec::new();
        for _ in 0..2 {
            workers.push(life.log.spawn(
                |log| {
                    while let Some((_, Fate::Reached(_))) = log.commit() {}
                },
            ));
        }
        workers.push(life.log.spawn(|log| {
            while let Some(txn_id) = log.append(Need::Written) {
                let flushed = log.handle.flush();
                // Told either way, and reached before anything was flushed.
                let fate = log.board.wait(txn_id);
                assert!(flushed.is_err() || matches!(fate, Fate::Reached(_)));
            }
        }));
        life.finish(workers, false);
    });
}

#[test]
fn under_any_schedule_a_full_queue_lets_everyone_in_again_also_behind_a_gathering() {
    let template = Template::new(LogConfig {
        queue_count_max: 2,
        ..sound()
    });
    under_schedules(SEED + 3, SCHEDULE_COUNT, move || {
        let life = template.open();
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(life.log.spawn(|log| {
                let (txn_id, fate) = log.commit().expect("it is open");
                assert!(matches!(fate, Fate::Reached(_)), "{txn_id}: {fate:?}");
            }));
        }
        workers.push(life.log.spawn(|log| {
            // Whoever gathers must not wait: others may be kept back behind it.
            log.handle.gather(true);
            let room = log.handle.reserve(LEN_BYTES).ok();
            let kept_back = room.and_then(|room| log.append_to(room, Need::Synced));
            log.handle.gather(false);
            if let Some(txn_id) = kept_back {
                assert!(matches!(log.board.wait(txn_id), Fate::Reached(_)));
            }
        }));
        assert!(3 <= life.finish(workers, true).len());
    });
}
