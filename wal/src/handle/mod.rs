//! The side of the log that committers hold: reserve, append, flush, and look.
//!
//! Shared by all committers and the log thread. Locks: `queue`, the one short hand-off lock
//! (never held across a kernel call, a sync or a sink call; nothing is locked while it is held);
//! the pool has its own. `work` wakes the log thread and `progress` wakes waiting committers;
//! both waits are predicate loops under `queue`. Positions and counts are atomics written by the
//! log thread alone.

mod appender;
mod flush;
mod pool;
mod reservation;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use appender::{Append, AppendError, Appender};
pub use flush::{FlushError, FlushTicket};
pub use reservation::{Reservation, ReserveError};

use crate::codec::StorageCodec;
use crate::config::LogConfig;
use crate::format::{mark, record};
use crate::lsn::Lsn;
use crate::metrics::{Counters, LogMetrics};
use crate::observed::LogObserved;
use crate::pulse::LogPulse;
use crate::room::Room;
use crate::sink::{LogStatus, Need, PoisonCause};
use crate::spares::Spares;
pub(crate) use pool::Pool;

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// A handle on an open log. Cheap to clone; owns no thread.
pub struct LogHandle<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

impl<T> Clone for LogHandle<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> LogHandle<T> {
    /// The first byte not yet durable: a record is durable iff `end_lsn <= durable_lsn`.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::from_u64(self.shared.durable_lsn.load(Ordering::Acquire))
    }

    /// The first byte the kernel has not been given.
    #[must_use]
    pub fn written_lsn(&self) -> Lsn {
        Lsn::from_u64(self.shared.written_lsn.load(Ordering::Acquire))
    }

    /// Whether the log takes records, and if not, why.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        self.shared.queue.lock().status.clone()
    }

    /// A copy of the counters at this moment.
    #[must_use]
    pub fn metrics(&self) -> LogMetrics {
        self.shared.metrics()
    }

    /// What the log thread notes about its batches.
    #[must_use]
    pub fn observed(&self) -> &Arc<LogObserved> {
        &self.shared.observed
    }

    /// Whether the log thread gets on; compare two of them some time apart.
    #[must_use]
    pub fn pulse(&self) -> LogPulse {
        self.shared.pulse()
    }

    /// The settings the log was started with.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.shared.config
    }

    /// The prepared segments; the background thread works on them with
    /// [`crate::spares::prepare_spare`].
    #[must_use]
    pub fn spares(&self) -> &Arc<Spares> {
        &self.shared.spares
    }

    /// An empty writeset buffer, recycled if one is at hand. [`Appender::append`] takes it.
    #[must_use]
    pub fn take_buffer(&self) -> Vec<u8> {
        self.shared.pool.take()
    }

    /// Gives back a buffer that was not appended.
    pub fn recycle_buffer(&self, buffer: Vec<u8>) {
        self.shared.pool.give(buffer);
    }

    /// Asks for a durable mark that states `version_floor`. [`crate::Sink::floor_durable`] tells
    /// when it is. Lower than an earlier request: no effect.
    pub fn set_version_floor(&self, version_floor: u64) {
        let before = self
            .shared
            .floor_wanted
            .fetch_max(version_floor, Ordering::SeqCst);
        if before < version_floor {
            self.shared.poke_writer();
        }
    }

    /// Has [`crate::Sink::space_freed`] called when the log has gone on: for whoever was refused,
    /// not by the log, but by what waits for it.
    pub fn note_refusal(&self) {
        self.shared.room.note_refusal();
    }

    /// While it is on, appends leave a sleeping log thread asleep: for one thread that appends for
    /// many, whose records are then one batch and not several. Turning it off wakes the log thread
    /// if something waits for it. Whoever asks for a flush or an end is heard at once, and a log
    /// thread that is awake takes what there is. Takes no lock unless an append was kept back.
    pub fn gather(&self, is_on: bool) {
        let shared = &self.shared;
        // SeqCst, as in `wake_for_append`: either the append sees the end of the gathering, or this
        // sees that an append was kept back.
        shared.is_gathering.store(is_on, Ordering::SeqCst);
        if !is_on && shared.is_kept_back.swap(false, Ordering::SeqCst) {
            let mut queue = shared.queue.lock();
            if !queue.entries.is_empty() {
                shared.wake_if_waiting(&mut queue);
            }
        }
    }

    /// Takes no more records, writes and syncs what is queued, and ends without a close mark. What
    /// dropping the owner does; idempotent.
    pub fn stop(&self) {
        self.shared.end(None);
    }

    /// Ends the log for good because something beside it failed: takes no more records and writes
    /// nothing more but the batch in flight. The log thread fails what is queued. No effect on a
    /// log that has failed already.
    pub fn poison(&self, cause: PoisonCause) {
        self.shared.poison(cause);
    }

    /// Takes no more records, writes and syncs what is queued, and ends the log with a close mark
    /// that states `version_highest`, the highest version ever issued. Idempotent; returns at
    /// once. Joining the log thread waits for the end.
    pub fn close(&self, version_highest: u64) {
        self.shared.end(Some(version_highest));
    }
}

/// What committers and the log thread share.
pub(crate) struct Shared<T> {
    pub(crate) config: LogConfig,
    pub(crate) codec: Arc<dyn StorageCodec>,
    pub(crate) queue: Mutex<Queue<T>>,
    work: Condvar,
    progress: Condvar,
    /// Threads in `progress`. SeqCst: read by the log thread after it has moved a position, so
    /// that a waiter either sees the move or is seen.
    progress_waiting_count: AtomicUsize,
    /// Appends do not wake the log thread: more will follow.
    is_gathering: AtomicBool,
    /// One of them did not.
    is_kept_back: AtomicBool,
    pub(crate) room: Room,
    pub(crate) written_lsn: AtomicU64,
    pub(crate) durable_lsn: AtomicU64,
    /// Records written and synced since the log started, in append order.
    pub(crate) written_count: AtomicU64,
    pub(crate) synced_count: AtomicU64,
    /// Buffered records appended and not yet synced, for back-pressure.
    pub(crate) buffered_pending_count: AtomicU64,
    pub(crate) floor_wanted: AtomicU64,
    pub(crate) pool: Pool,
    pub(crate) spares: Arc<Spares>,
    pub(crate) counters: Counters,
    pub(crate) observed: Arc<LogObserved>,
}

/// What the hand-off lock protects.
pub(crate) struct Queue<T> {
    pub(crate) entries: VecDeque<Entry<T>>,
    pub(crate) status: LogStatus,
    /// The highest version ever issued, once closing was asked for.
    pub(crate) close_version: Option<u64>,
    /// Records appended since the log started.
    pub(crate) appended_count: u64,
    /// A sync must cover this many records.
    pub(crate) flush_target_count: u64,
    pub(crate) last_txn_id: u64,
    /// The log thread sleeps in `work`.
    pub(crate) writer_is_waiting: bool,
    /// Something other than an entry waits for the log thread.
    poked: bool,
}

/// One record on its way to the log.
pub(crate) struct Entry<T> {
    pub(crate) txn_id: u64,
    pub(crate) run_id: [u8; 16],
    pub(crate) timestamp_us: u64,
    pub(crate) writeset: Vec<u8>,
    pub(crate) need: Need,
    pub(crate) token: T,
    pub(crate) cost_bytes: u64,
}

/// Where a log starts: positions recovery has established.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartPosition {
    pub(crate) end_lsn: Lsn,
    pub(crate) last_txn_id: u64,
    pub(crate) version_floor: u64,
}

impl<T> Shared<T> {
    pub(crate) fn new(
        config: LogConfig,
        codec: Arc<dyn StorageCodec>,
        spares: Arc<Spares>,
        start: StartPosition,
    ) -> Self {
        let capacity = usize::try_from(config.queue_count_max).unwrap_or(usize::MAX);
        let end = start.end_lsn.to_u64();
        Self {
            config,
            codec,
            queue: Mutex::new(Queue {
                entries: VecDeque::with_capacity(capacity),
                status: LogStatus::Open,
                close_version: None,
                appended_count: 0,
                flush_target_count: 0,
                last_txn_id: start.last_txn_id,
                writer_is_waiting: false,
                poked: false,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            progress_waiting_count: AtomicUsize::new(0),
            is_gathering: AtomicBool::new(false),
            is_kept_back: AtomicBool::new(false),
            room: Room::new(config.queue_count_max),
            written_lsn: AtomicU64::new(end),
            durable_lsn: AtomicU64::new(end),
            written_count: AtomicU64::new(0),
            synced_count: AtomicU64::new(0),
            buffered_pending_count: AtomicU64::new(0),
            floor_wanted: AtomicU64::new(start.version_floor),
            pool: Pool::new(),
            spares,
            counters: Counters::default(),
            observed: Arc::new(LogObserved::new()),
        }
    }

    /// Worst case of one record alone in a batch, mark and padding included, bytes.
    pub(crate) fn cost_bytes(&self, stored_len_bytes: u64) -> u64 {
        let framed = u64::from(mark::MARK_LEN_BYTES)
            + u64::from(record::RECORD_OVERHEAD_BYTES)
            + stored_len_bytes;
        framed.next_multiple_of(u64::from(self.config.log_block_len_bytes))
    }

    /// Makes the log thread look around; the caller holds the lock.
    pub(crate) fn wake_writer(&self, queue: &mut MutexGuard<'_, Queue<T>>) {
        queue.poked = true;
        self.wake_if_waiting(queue);
    }

    /// Wakes the log thread if it sleeps: no system call while it is busy.
    fn wake_if_waiting(&self, queue: &mut MutexGuard<'_, Queue<T>>) {
        if queue.writer_is_waiting {
            queue.writer_is_waiting = false;
            self.work.notify_one();
        }
    }

    /// Takes no more records; see [`LogHandle::close`].
    pub(crate) fn end(&self, close_version: Option<u64>) {
        let mut queue = self.queue.lock();
        if matches!(queue.status, LogStatus::Open) {
            queue.status = LogStatus::Closed;
            queue.close_version = close_version;
            self.room.end();
        }
        self.wake_writer(&mut queue);
        self.progress.notify_all();
    }

    fn poison(&self, cause: PoisonCause) {
        let mut queue = self.queue.lock();
        if matches!(queue.status, LogStatus::Poisoned(_)) {
            return;
        }
        queue.status = LogStatus::Poisoned(cause);
        self.room.end();
        self.wake_writer(&mut queue);
        self.progress.notify_all();
    }

    /// Makes the log thread look around although nothing was appended.
    pub(crate) fn poke_writer(&self) {
        self.wake_writer(&mut self.queue.lock());
    }

    /// Wakes the log thread for an append, unless more will follow.
    fn wake_for_append(&self, queue: &mut MutexGuard<'_, Queue<T>>) {
        if self.is_gathering.load(Ordering::SeqCst) {
            self.is_kept_back.store(true, Ordering::SeqCst);
            if self.is_gathering.load(Ordering::SeqCst) {
                return;
            }
        }
        self.wake_if_waiting(queue);
    }

    /// Sleeps until there may be work, or for `timeout_us`. The log thread only.
    pub(crate) fn wait_for_work(&self, timeout_us: Option<u64>) {
        let mut queue = self.queue.lock();
        while queue.entries.is_empty() && !queue.poked {
            queue.writer_is_waiting = true;
            match timeout_us {
                None => self.work.wait(&mut queue),
                Some(us) => {
                    if self
                        .work
                        .wait_for(&mut queue, Duration::from_micros(us))
                        .timed_out()
                    {
                        break;
                    }
                }
            }
        }
        queue.writer_is_waiting = false;
        queue.poked = false;
    }

    /// Wakes committers that wait for a sync, for room, or for the end. The log thread only.
    pub(crate) fn announce_progress(&self) {
        if self.progress_waiting_count.load(Ordering::SeqCst) != 0 {
            // Taking the lock orders this after a waiter's last look at its predicate.
            drop(self.queue.lock());
            self.progress.notify_all();
        }
    }

    /// Wakes everyone who waits: the log is closed or has failed. The log thread only.
    pub(crate) fn announce_end(&self) {
        drop(self.queue.lock());
        self.progress.notify_all();
    }

    /// Waits for progress once; the caller loops over its predicate under the same lock.
    fn wait_for_progress(&self, queue: &mut MutexGuard<'_, Queue<T>>) {
        self.progress.wait(queue);
    }

    fn pulse(&self) -> LogPulse {
        let (turn_count, written_count) = (
            self.counters.turn_count(),
            self.written_count.load(Ordering::SeqCst),
        );
        let busy = LogPulse {
            turn_count,
            written_count,
            ..LogPulse::default()
        };
        // Never waits: a thread that is stuck may hold the lock, or have been handed it.
        let Some(queue) = self.queue.try_lock() else {
            return busy;
        };
        let has_ended = !matches!(queue.status, LogStatus::Open);
        LogPulse {
            unwritten_count: queue.appended_count.saturating_sub(written_count),
            is_idle: has_ended || (queue.writer_is_waiting && queue.entries.is_empty()),
            ..busy
        }
    }

    fn metrics(&self) -> LogMetrics {
        let (appended_count, queued_count) = {
            let queue = self.queue.lock();
            (queue.appended_count, queue.entries.len() as u64)
        };
        let synced_count = self.synced_count.load(Ordering::Relaxed);
        let (outstanding_count, outstanding_len_bytes) = self.room.outstanding();
        LogMetrics {
            pending_count: appended_count.saturating_sub(synced_count),
            queued_count,
            outstanding_count,
            outstanding_len_bytes,
            available_len_bytes: self.room.available(),
            ..self.counters.read()
        }
    }
}

/// Counts a thread as waiting for progress for as long as it lives.
struct ProgressWaiter<'a>(&'a AtomicUsize);

impl<'a> ProgressWaiter<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for ProgressWaiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
