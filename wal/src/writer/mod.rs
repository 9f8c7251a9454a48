//! The log writer: a state machine that turns queued records into durable batches.
//!
//! It owns no thread, no clock and no randomness: [`Writer::turn`] does one step (a batch, a sync,
//! a mark) and says when it wants the next. Exactly one batch is in flight; the next one fills in
//! the queue meanwhile, and is built when the previous sync has returned, so its mark states what
//! is durable at that moment.
//!
//! The sink is told about batch n before batch n+1 is built. Telling while n+1 flies hides the
//! sink's time, but splits committers into two groups that take turns: with 64 outstanding, batches
//! held 32, and half the throughput was lost.
//!
//! The first error of a write, a sync or a rotation poisons the log: every token not yet reached
//! fails, nothing more is written, nothing is retried.

mod batch;
mod news;
mod schedule;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::Clock;
use crate::codec::StorageCodec;
use crate::config::{ConfigError, LogConfig};
use crate::disk::Disk;
use crate::faults::{self, Mutant, Point};
use crate::format::mark::MarkKind;
use crate::limits::MARK_RETRY_DELAY_US;
use crate::lsn::Lsn;
use crate::recover::Settled;
use crate::sink::{LogStatus, Need, PoisonCause, Sink, Stage};
use crate::spares::Spares;
use batch::Batch;
use news::News;
use schedule::{Asks, Step, Unsynced};
use segment::{ActiveSegment, AdoptedSpare, UnopenedSpare};

use super::handle::{Entry, LogHandle, Pool, Shared, StartPosition};

/// What one turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something was done; take the next turn at once.
    Worked,
    /// Nothing to do until something is appended or asked for, or until the time given, in
    /// microseconds of the clock that `turn` is given.
    Idle {
        /// When to turn again at the latest.
        wake_at_us: Option<u64>,
    },
    /// Everything is written and synced, and the log is closed.
    Closed,
    /// The log has failed for good.
    Poisoned,
}

/// What [`start`] leaves to be opened on the thread that will write. Dropping it, or failing to
/// open it, ends the log: nobody waits for a log that no thread will ever write.
pub struct WriterSeed<T> {
    unwritten: Unwritten<T>,
    settled: Settled,
}

/// A log nobody writes; it ends with this.
struct Unwritten<T> {
    shared: Arc<Shared<T>>,
    has_writer: bool,
}

impl<T> Drop for Unwritten<T> {
    fn drop(&mut self) {
        if !self.has_writer {
            self.shared.end(None);
        }
    }
}

/// Starts a log where recovery settled it. The handle can be given out at once; reservations are
/// admitted when the writer is open.
///
/// # Errors
/// When a setting is outside its constraint.
pub fn start<T>(
    config: LogConfig,
    codec: Arc<dyn StorageCodec>,
    settled: &Settled,
) -> Result<(LogHandle<T>, WriterSeed<T>), ConfigError> {
    config.validate()?;
    let spares = Spares::new(&config, settled.database_uuid, settled.active_segment);
    let position = StartPosition {
        end_lsn: settled.end_lsn,
        last_txn_id: settled.last_txn_id,
        version_floor: settled.version_floor,
    };
    let shared = Arc::new(Shared::new(config, codec, Arc::new(spares), position));
    let handle = LogHandle {
        shared: Arc::clone(&shared),
    };
    Ok((
        handle,
        WriterSeed {
            unwritten: Unwritten {
                shared,
                has_writer: false,
            },
            settled: *settled,
        },
    ))
}

impl<T> WriterSeed<T> {
    /// A handle on the log it will write.
    #[must_use]
    pub fn handle(&self) -> LogHandle<T> {
        LogHandle {
            shared: Arc::clone(&self.unwritten.shared),
        }
    }

    /// Opens the active segment on `disk`, which the calling thread keeps.
    ///
    /// # Errors
    /// When the active segment cannot be opened.
    pub fn open<S: Sink<T>>(self, mut disk: Box<dyn Disk>, sink: S) -> io::Result<Writer<T, S>>
    where
        T: Send + 'static,
    {
        let Self {
            mut unwritten,
            settled,
        } = self;
        let shared = Arc::clone(&unwritten.shared);
        let active = ActiveSegment::open(&mut *disk, &shared.config, &settled)?;
        unwritten.has_writer = true;
        // Weak: the spares live in what the hook would keep alive.
        let poked = Arc::downgrade(&shared);
        shared.spares.on_done(move || {
            if let Some(shared) = poked.upgrade() {
                shared.poke_writer();
            }
        });
        let writer = Writer {
            backlog: VecDeque::with_capacity(
                usize::try_from(shared.config.queue_count_max).unwrap_or(usize::MAX),
            ),
            batch: Batch::new(&shared.config, settled.database_uuid),
            news: News::default(),
            active,
            spare: None,
            unopened: None,
            end_lsn: settled.end_lsn,
            durable_lsn: settled.end_lsn,
            durable_lsn_before: settled.end_lsn,
            txn_id_written: settled.last_txn_id,
            txn_id_durable: settled.last_txn_id,
            unsynced: Unsynced::default(),
            floor_stated: settled.version_floor,
            floor_told: settled.version_floor,
            last_write_us: None,
            tail_is_open: false,
            mark_retry_at_us: 0,
            close_is_written: false,
            asks: Asks::default(),
            state: State::Open,
            clock: None,
            shared,
            disk,
            sink,
        };
        writer.publish_room();
        Ok(writer)
    }
}

/// Writes batches; see the module.
pub struct Writer<T, S> {
    shared: Arc<Shared<T>>,
    disk: Box<dyn Disk>,
    sink: S,
    /// Records taken from the queue and not yet in a batch.
    backlog: VecDeque<Entry<T>>,
    batch: Batch<T>,
    news: News<T>,
    active: ActiveSegment,
    spare: Option<AdoptedSpare>,
    unopened: Option<UnopenedSpare>,
    /// End of the last record, or mark, written.
    end_lsn: Lsn,
    durable_lsn: Lsn,
    /// `durable_lsn` when the previous batch was submitted; only a planted mistake uses it.
    durable_lsn_before: Lsn,
    /// The highest id of the records written, and of those that are durable.
    txn_id_written: u64,
    txn_id_durable: u64,
    unsynced: Unsynced,
    /// The floor in the last mark written, and the one the sink was told.
    floor_stated: u64,
    floor_told: u64,
    last_write_us: Option<u64>,
    /// The last batch holds records and no mark behind it covers them.
    tail_is_open: bool,
    /// A mark found no room; not before this time again.
    mark_retry_at_us: u64,
    close_is_written: bool,
    asks: Asks,
    state: State,
    /// Only to note how long writes and syncs take.
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    Poisoned,
}

/// An error that ends the log.
#[derive(Debug)]
struct Failure {
    stage: Stage,
    source: io::Error,
}

impl Failure {
    fn at(stage: Stage) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { stage, source }
    }
}

impl<T, S: Sink<T>> Writer<T, S> {
    /// Does one step. `now_us` is a time that never decreases, microseconds; it decides only when
    /// Buffered records are synced and when an idle log gets its mark.
    pub fn turn(&mut self, now_us: u64) -> Turn {
        match self.state {
            State::Open => {}
            State::Closed => return Turn::Closed,
            State::Poisoned => return Turn::Poisoned,
        }
        self.shared.counters.turned();
        self.tell();
        self.adopt_spare(now_us);
        self.take_queued();
        if let Some(cause) = self.asks.poisoned.take() {
            self.fail_all(&cause);
            return Turn::Poisoned;
        }
        let step = self.choose(now_us);
        let done = match step {
            Step::Batch => self.write_batch(now_us),
            Step::Sync => self.sync_active(),
            Step::Mark(kind) => self.write_mark(kind, now_us),
            Step::Finish => {
                self.finish();
                return Turn::Closed;
            }
            // Adopting a spare may have let somebody in.
            Step::Wait { wake_at_us } => {
                return if self.tell() {
                    Turn::Worked
                } else {
                    Turn::Idle { wake_at_us }
                };
            }
        };
        match done {
            Ok(()) => Turn::Worked,
            Err(failure) => {
                self.poison(failure);
                Turn::Poisoned
            }
        }
    }

    /// Has it note how long its writes and syncs take, by this clock.
    #[must_use]
    pub fn timed_by(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Since when an operation runs, or until when it ran; none without a clock.
    fn time_us(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| clock.monotonic_us())
    }

    /// A handle on the log it writes.
    #[must_use]
    pub fn handle(&self) -> LogHandle<T> {
        LogHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The owner's side, for tests and drivers.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Sleeps until there may be work, at most until `wake_at_us` when it is `now_us` now.
    pub(crate) fn wait(&self, now_us: u64, wake_at_us: Option<u64>) {
        self.shared
            .wait_for_work(wake_at_us.map(|at| at.saturating_sub(now_us)));
    }

    /// Writes the next batch of records, and syncs it if one of them asks for that.
    fn write_batch(&mut self, now_us: u64) -> Result<(), Failure> {
        let Some(front) = self.backlog.front() else {
            return Ok(());
        };
        let block = self.batch.log_block_len_bytes();
        if self.active.room_len_bytes(block) < front.cost_bytes {
            self.rotate()?;
        }
        let room_len_bytes = self.active.room_len_bytes(block);
        self.batch
            .fill(&mut self.backlog, room_len_bytes, &*self.shared.codec)?;
        self.submit_batch(MarkKind::Batch, now_us)
    }

    /// Writes a batch without records, which states how far the log is durable.
    fn write_mark(&mut self, kind: MarkKind, now_us: u64) -> Result<(), Failure> {
        let block = self.batch.log_block_len_bytes();
        self.batch.clear();
        if kind == MarkKind::Close {
            // A block of every segment is kept for this mark.
            self.close_is_written = true;
            return self.submit_batch(kind, now_us);
        }
        if self.active.room_len_bytes(block) < block {
            self.rotate()?;
        }
        // The mark needs room like a record, or it would eat what was promised to one.
        if self.shared.room.try_take(block).is_err() {
            self.mark_retry_at_us = now_us + MARK_RETRY_DELAY_US;
            return Ok(());
        }
        self.batch.cost_of_mark(block);
        self.submit_batch(kind, now_us)
    }

    /// Fills the mark, gives the batch to the kernel, waits for it, and takes note of what it
    /// reached.
    fn submit_batch(&mut self, kind: MarkKind, now_us: u64) -> Result<(), Failure> {
        let mark = self.next_mark(kind);
        self.durable_lsn_before = self.durable_lsn;
        let is_empty = self.batch.record_count() == 0;
        let wants_sync = is_empty
            || (self.batch.needs_sync() && !self.shared.config.planted.is(Mutant::AckBeforeSync));
        let buf = self.batch.seal(&mark);
        let len_bytes = buf.len() as u64;
        let sync = self
            .active
            .sync_form(wants_sync, self.unsynced.record_count != 0);
        let from_us = self.time_us();
        faults::pass(Point::BeforeWalWrite);
        let flight = self.active.submit(&mut *self.disk, buf, sync);
        let (buf, result) = self.active.reap(&mut *self.disk, flight, &self.shared);
        self.batch.take_back(buf);
        result?;
        let took_us = from_us.zip(self.time_us());
        let record_count = self.batch.record_count();
        let observed = &self.shared.observed;
        observed.batch(record_count, wants_sync, took_us);
        self.batch_written(&mark, len_bytes, now_us);
        if wants_sync {
            self.synced();
            faults::pass(Point::AfterFsync);
        }
        self.shared.announce_progress();
        Ok(())
    }

    fn next_mark(&self, kind: MarkKind) -> crate::format::mark::Mark {
        let planted = self.shared.config.planted;
        let version_floor = match (kind, self.asks.close_version) {
            (MarkKind::Close, Some(version_highest)) => version_highest,
            _ => self.shared.floor_wanted.load(Ordering::SeqCst),
        };
        crate::format::mark::Mark {
            kind,
            log_block_len_bytes: u16::try_from(self.shared.config.log_block_len_bytes)
                .expect("a valid log block fits 16 bits"),
            batch_len_bytes: self.batch.len_bytes(),
            own_lsn: self.active.next_lsn(),
            durable_lsn: if planted.is(Mutant::MarkFilledWhenBuilt) {
                self.durable_lsn_before
            } else {
                self.durable_lsn
            },
            version_floor,
        }
    }

    /// The kernel has the batch: positions and room move, tokens that need no sync are news.
    fn batch_written(&mut self, mark: &crate::format::mark::Mark, len_bytes: u64, now_us: u64) {
        let record_count = self.batch.record_count();
        let reuses = self.shared.config.planted.is(Mutant::LsnReused);
        if !reuses || self.shared.counters.read().batch_count % 3 != 2 {
            self.active.advance(len_bytes);
        }
        let end_lsn = Lsn::new(mark.own_lsn.segment(), self.batch.end_offset(mark));
        assert!(reuses || self.end_lsn < end_lsn, "the log only grows");
        self.end_lsn = end_lsn;
        self.txn_id_written = self.txn_id_written.max(self.batch.txn_id_highest());
        self.floor_stated = self.floor_stated.max(mark.version_floor);
        self.tail_is_open = record_count != 0;
        self.last_write_us = Some(now_us);
        if self.unsynced.record_count == 0 {
            self.unsynced.since_us = now_us;
        }
        self.unsynced.record_count += record_count;
        self.unsynced.buffered_count += self.batch.buffered_count();
        self.unsynced.len_bytes += len_bytes;
        let shared = &self.shared;
        shared.counters.batch_written(record_count, len_bytes);
        shared
            .written_lsn
            .store(self.end_lsn.to_u64(), Ordering::Release);
        shared
            .written_count
            .fetch_add(record_count, Ordering::SeqCst);
        // First less is available, then the costs come back: see `room`.
        self.publish_room();
        let (count, cost_bytes) = self.batch.costs();
        self.shared.room.give_back(count, cost_bytes);
        self.batch.land(mark.own_lsn, &mut self.news.reached);
        self.batch.recycle(&self.shared.pool);
    }

    /// A sync that covers everything written has returned success.
    fn synced(&mut self) {
        let reuses = self.shared.config.planted.is(Mutant::LsnReused);
        assert!(
            reuses || self.durable_lsn <= self.end_lsn,
            "what is durable stays durable"
        );
        self.durable_lsn = self.end_lsn;
        self.txn_id_durable = self.txn_id_written;
        let shared = &self.shared;
        shared.counters.synced();
        shared
            .durable_lsn
            .store(self.durable_lsn.to_u64(), Ordering::Release);
        // What was counted before the sync, not "all": later appends stay pending.
        shared
            .synced_count
            .fetch_add(self.unsynced.record_count, Ordering::SeqCst);
        shared
            .buffered_pending_count
            .fetch_sub(self.unsynced.buffered_count, Ordering::SeqCst);
        self.unsynced = Unsynced::default();
        self.news.durable_lsn = Some(self.durable_lsn);
        if self.floor_told < self.floor_stated {
            self.floor_told = self.floor_stated;
            self.news.version_floor = Some(self.floor_stated);
        }
    }

    /// Syncs what was written without a sync.
    fn sync_active(&mut self) -> Result<(), Failure> {
        let from_us = self.time_us();
        let flight = self.active.submit_sync(&mut *self.disk);
        self.active
            .reap_sync(&mut *self.disk, flight, self.shared.config.planted)?;
        self.shared.observed.synced(from_us.zip(self.time_us()));
        self.synced();
        self.shared.announce_progress();
        Ok(())
    }

    fn publish_room(&self) {
        let block = self.batch.log_block_len_bytes();
        let active = self.active.room_len_bytes(block);
        let spare = self.spare.as_ref().map_or(0, |spare| {
            self.shared.spares.capacity_of(spare.spare.len_bytes)
        });
        self.shared.room.set_available(active.max(spare));
    }

    fn finish(&mut self) {
        self.active.close(&mut *self.disk);
        if let Some(spare) = self.spare.take() {
            spare.remove(&mut *self.disk);
        }
        if let Some(unopened) = self.unopened.take() {
            unopened.remove(&mut *self.disk);
        }
        self.state = State::Closed;
        self.shared.announce_end();
    }

    /// Ends the log: what was reached is still told, everything else fails.
    fn poison(&mut self, failure: Failure) {
        self.tell();
        let at = self.active.next_lsn();
        let source = Arc::new(failure.source);
        let cause = PoisonCause {
            stage: failure.stage,
            at,
            source,
        };
        self.fail_all(&cause);
    }

    /// Fails every token that has not reached its need.
    fn fail_all(&mut self, cause: &PoisonCause) {
        self.state = State::Poisoned;
        let queued = {
            let mut queue = self.shared.queue.lock();
            queue.status = LogStatus::Poisoned(cause.clone());
            self.shared.room.end();
            std::mem::take(&mut queue.entries)
        };
        tracing::error!(stage = %cause.stage, at = %cause.at, error = %cause.source, "log poisoned");
        self.sink.poisoned(cause);
        for token in self.batch.fail() {
            self.sink.failed(token);
        }
        for entry in self.backlog.drain(..).chain(queued) {
            self.sink.failed(entry.token);
        }
        // Whoever waits for room asks again, and hears why there will be none.
        self.sink.space_freed();
        self.sink.batch_end();
        self.shared.announce_end();
    }
}

/// True when a record that needs `need` must be synced with its batch.
fn is_strict(need: Need) -> bool {
    need == Need::Synced
}
