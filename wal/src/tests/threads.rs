//! The log on its own thread, on every disk.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::clock::SystemClock;
use crate::codec::IdentityCodec;
use crate::config::LogConfig;
use crate::disk::{Disk, DiskKind, OpenDisk, SimOptions, SimWorld, with_refused};
use crate::driver::{LogThread, spawn_log_thread};
use crate::handle::{Append, LogHandle, ReserveError};
use crate::harness::{UUID, World, recover, sound};
use crate::lsn::Lsn;
use crate::recover::create_log;
use crate::sink::{Need, PoisonCause, Sink};
use crate::spares::prepare_spare;
use crate::writer::start;

use super::every_disk::{TestDisk, every_disk};

/// Longest a thread may take to be told something, as a count of looks.
const LOOK_COUNT_MAX: u32 = 1_000_000;

struct Acks(Sender<(u64, bool)>);

impl Sink<u64> for Acks {
    fn reached(&mut self, token: u64, _end_lsn: Lsn) {
        let _ = self.0.send((token, true));
    }

    fn poisoned(&mut self, _cause: &PoisonCause) {}

    fn failed(&mut self, token: u64) {
        let _ = self.0.send((token, false));
    }
}

/// A log on its thread, and what it tells.
type Spawned = (
    LogThread,
    LogHandle<u64>,
    std::sync::mpsc::Receiver<(u64, bool)>,
);

fn spawn<W: World + 'static>(world: &W, config: LogConfig) -> Spawned {
    spawn_counted(world, config).0
}

/// The same, with the number of threads of this log that have not ended.
fn spawn_counted<W: World + 'static>(world: &W, config: LogConfig) -> (Spawned, Arc<AtomicUsize>) {
    let (_, settled) = recover(world, &config).unwrap();
    let (handle, seed) = start(config, Arc::new(IdentityCodec), &settled).unwrap();
    let (sender, receiver) = channel();
    let living = Arc::new(AtomicUsize::new(0));
    let opener: Arc<dyn OpenDisk> = Arc::new(Counting {
        world: world.clone(),
        living: Arc::clone(&living),
    });
    let thread = spawn_log_thread(seed, opener, Arc::new(SystemClock), Acks(sender)).unwrap();
    assert_eq!(thread.disk_kind(), world.kind());
    prepare_spare(&mut *world.open_background_disk().unwrap(), handle.spares());
    ((thread, handle, receiver), living)
}

/// An empty log on each disk, one after the other.
fn new_worlds() -> impl Iterator<Item = TestDisk> {
    every_disk().inspect(|disk| create_log(&mut *disk.disk(), UUID).unwrap())
}

fn append(handle: &LogHandle<u64>, txn_id: u64, need: Need) -> Result<(), ReserveError> {
    let reservation = handle.reserve_wait(20)?;
    let append = Append {
        txn_id,
        run_id: [0; 16],
        timestamp_us: 0,
        writeset: vec![1; 20],
        need,
        token: txn_id,
    };
    handle
        .appender()
        .map_err(|_| ReserveError::Closed)?
        .append(reservation, append);
    Ok(())
}

thread_local! {
    /// What a log thread leaves when it ends: dropped with the thread, not with the log.
    static LIFE: RefCell<Option<Life>> = const { RefCell::new(None) };
}

/// Counts a thread for as long as it lives.
struct Life(Arc<AtomicUsize>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Opens disks, and counts the threads that opened one and have not ended: the threads of one log.
struct Counting<W> {
    world: W,
    living: Arc<AtomicUsize>,
}

impl<W: World> OpenDisk for Counting<W> {
    fn open_disk(&self) -> io::Result<Box<dyn Disk>> {
        assert_eq!(
            std::thread::current().name(),
            Some(crate::driver::LOG_THREAD_NAME)
        );
        self.living.fetch_add(1, Ordering::SeqCst);
        let life = Life(Arc::clone(&self.living));
        LIFE.with(|place| *place.borrow_mut() = Some(life));
        self.world.open_disk()
    }

    fn kind(&self) -> DiskKind {
        self.world.kind()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.world.free_bytes()
    }
}

#[test]
fn committers_on_many_threads_are_all_answered_and_the_thread_ends_with_its_owner() {
    for world in new_worlds() {
        let config = LogConfig {
            segment_len_bytes: 1 << 20,
            ..sound()
        };
        let ((log, handle, acks), living) = spawn_counted(&world, config);
        assert_eq!(living.load(Ordering::SeqCst), 1);
        let next = parking_lot::Mutex::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let reservation = handle.reserve_wait(20).unwrap();
                        let mut appender = handle.appender().unwrap();
                        let mut next = next.lock();
                        *next += 1;
                        appender.append(
                            reservation,
                            Append {
                                txn_id: (1 << 40) + *next,
                                run_id: [0; 16],
                                timestamp_us: 0,
                                writeset: vec![3; 20],
                                need: Need::Synced,
                                token: *next,
                            },
                        );
                    }
                });
            }
        });
        let answered: Vec<(u64, bool)> = acks.iter().take(800).collect();
        assert_eq!(
            answered,
            (1..=800).map(|token| (token, true)).collect::<Vec<_>>()
        );
        drop(log);
        assert_eq!(
            living.load(Ordering::SeqCst),
            0,
            "no log thread outlives its owner"
        );
        assert_eq!(handle.reserve(1).err(), Some(ReserveError::Closed));
        assert_eq!(recover(&world, &config).unwrap().0.records.len(), 800);
    }
}

#[test]
fn dropping_the_owner_writes_and_syncs_what_is_queued() {
    for world in new_worlds() {
        let (log, handle, acks) = spawn(&world, sound());
        for txn_id in 1..=10 {
            append(&handle, (1 << 40) + txn_id, Need::Queued).unwrap();
        }
        drop(log);
        assert_eq!(acks.iter().count(), 10);
        assert_eq!(handle.durable_lsn(), handle.written_lsn());
        let image = world.after_power_loss();
        assert_eq!(recover(&image, &sound()).unwrap().0.records.len(), 10);
    }
}

#[test]
fn a_flush_from_another_thread_returns_after_the_covering_sync() {
    for world in new_worlds() {
        let (mut log, handle, _acks) = spawn(&world, sound());
        append(&handle, 1 << 40, Need::Queued).unwrap();
        let durable_lsn = handle.flush().unwrap();
        assert_eq!(durable_lsn, handle.written_lsn());
        assert_eq!(handle.metrics().pending_count, 0);
        handle.close(1 << 40);
        log.join();
        log.join();
    }
}

#[test]
fn a_committer_that_waits_for_room_wakes_when_there_is_some_or_when_the_log_ends() {
    for world in new_worlds() {
        let (log, handle, _acks) = spawn(&world, sound());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut txn_id = 1 << 40;
                loop {
                    txn_id += 1;
                    if let Err(error) = append(&handle, txn_id, Need::Synced) {
                        break (txn_id, error);
                    }
                }
            });
            // Rotations go on while spares are made; then nobody makes one and the committer waits.
            let mut disk = world.open_background_disk().unwrap();
            for _ in 0..50 {
                prepare_spare(&mut *disk, handle.spares());
                std::thread::yield_now();
            }
            drop(log);
            let (_, error) = waiting.join().unwrap();
            assert_eq!(error, ReserveError::Closed);
        });
    }
}

/// What was lost: a preparation that failed woke nobody. On a full disk a committer that had been told
/// to wait for room waited for ever, unless the log happened to have other work.
#[test]
fn a_committer_that_waits_for_room_learns_that_the_disk_is_full() {
    let world = SimWorld::new(SimOptions::new(42));
    create_log(&mut world.disk(), UUID).unwrap();
    let config = LogConfig {
        idle_mark_delay_us: u64::MAX / 2,
        ..sound()
    };
    let (log, handle, _acks) = spawn(&world, config);
    let mut txn_id = 1 << 40;
    // One rotation uses the spare up; nobody makes another one. Only what is written leaves no room
    // for good: until then more is promised than will be used.
    while handle.metrics().rotation_count == 0 || handle.reserve(20).is_ok() {
        txn_id += 1;
        append(&handle, txn_id, Need::Synced).unwrap();
        handle.flush().unwrap();
    }
    world.set_capacity(Some(world.used_bytes()));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let refused = handle.reserve_wait(20).err();
            is_over.store(true, Ordering::SeqCst);
            refused
        });
        let mut disk = world.disk();
        for _ in 0..LOOK_COUNT_MAX {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            prepare_spare(&mut disk, handle.spares());
            std::thread::yield_now();
        }
        // Wakes whoever still waits.
        drop(log);
        assert_eq!(waiting.join().unwrap(), Some(ReserveError::NoSpace));
    });
}

#[test]
fn correctness_tx3_repeated_open_and_drop_leaks_no_thread() {
    for world in new_worlds() {
        for _ in 0..20 {
            let ((log, _, _), living) = spawn_counted(&world, sound());
            drop(log);
            assert_eq!(living.load(Ordering::SeqCst), 0);
        }
    }
}

/// What was lost: a log that never got its thread stayed open, and a committer that waited for room
/// waited for ever.
#[test]
fn a_log_without_a_thread_keeps_nobody_waiting() {
    for world in new_worlds() {
        let (_, settled) = recover(&world, &sound()).unwrap();
        let (handle, seed) = start::<u64>(sound(), Arc::new(IdentityCodec), &settled).unwrap();
        assert_eq!(handle.reserve(1).err(), Some(ReserveError::Busy));
        let (sender, _receiver) = channel();
        let opener: Arc<dyn OpenDisk> = Arc::new(world.clone());
        let clock = Arc::new(SystemClock);
        let result = with_refused(libc::SYS_clone3, rustix::io::Errno::AGAIN, move || {
            spawn_log_thread(seed, opener, clock, Acks(sender)).map(drop)
        });
        assert!(matches!(result, Err(crate::driver::SpawnError::Thread(_))));
        assert_eq!(handle.reserve(1).err(), Some(ReserveError::Closed));
        assert_eq!(handle.reserve_wait(1).err(), Some(ReserveError::Closed));
        let (handle, seed) = start::<u64>(sound(), Arc::new(IdentityCodec), &settled).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| handle.reserve_wait(1).err());
            drop(seed);
            assert_eq!(waiting.join().unwrap(), Some(ReserveError::Closed));
        });
    }
}

#[test]
fn a_log_whose_segment_cannot_be_opened_is_no_log() {
    for world in new_worlds() {
        let (_, settled) = recover(&world, &sound()).unwrap();
        let (_, seed) = start::<u64>(sound(), Arc::new(IdentityCodec), &settled).unwrap();
        world.remove_file("WAL/wal-000001.seg");
        let (sender, _receiver) = channel();
        let opener: Arc<dyn OpenDisk> = Arc::new(world.clone());
        let result = spawn_log_thread(seed, opener, Arc::new(SystemClock), Acks(sender));
        assert!(matches!(result, Err(crate::driver::SpawnError::Open(_))));
    }
}
