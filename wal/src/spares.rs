//! Prepared segments, so that rotation is a rename and a full disk is known before a commit.
//!
//! A spare is a file `WAL/spare-N.tmp`, preallocated, zeroed and synced, then given the header of
//! the next segment and synced again. The background thread makes one by [`prepare_spare`]; the
//! log thread opens it as soon as it is ready (so rotation needs no free descriptor) and counts its
//! room only then. A record larger than a segment asks for an enlarged spare that holds it and an
//! ordinary segment's worth beside it, so that what was admitted before still fits.
//!
//! A full disk while preparing is a state (`reserve` answers `NoSpace`), never a poisoned log; each
//! refused `reserve` makes the background try again.
//!
//! One mutex, held for a few field accesses, never across a disk operation.

use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::config::LogConfig;
use crate::disk::{Disk, FileId, Op, OpenMode};
use crate::faults::{self, Point};
use crate::files;
use crate::format::header::{HEADER_LEN_BYTES, SegmentHeader};
use crate::format::mark::MARK_LEN_BYTES;
use crate::limits::{SEGMENT_DATA_OFFSET, SEGMENT_LEN_BYTES_MAX};
use crate::names;

/// The state of preparation, shared by the background thread, the log thread and committers.
pub struct Spares {
    database_uuid: [u8; 16],
    segment_len_bytes: u64,
    log_block_len_bytes: u64,
    state: Mutex<State>,
    wanted_hook: OnceLock<Hook>,
    done_hook: OnceLock<Hook>,
}

type Hook = Box<dyn Fn() + Send + Sync>;

#[derive(Debug)]
struct State {
    /// The number the next spare must carry; the active segment's plus one.
    next_segment: u64,
    /// Length it must have, bytes.
    wanted_len_bytes: u64,
    /// A spare is wanted and nobody prepares it.
    is_wanted: bool,
    is_preparing: bool,
    /// Length of the spare the log thread holds open, bytes.
    adopted_len_bytes: u64,
    ready: Option<Spare>,
    /// Spares that turned out useless; the background removes them.
    discarded: Vec<String>,
    last_error: Option<Arc<io::Error>>,
    serial: u64,
}

/// A prepared segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) path: String,
    pub(crate) segment: u64,
    pub(crate) len_bytes: u64,
}

/// What one call of [`prepare_spare`] came to.
#[derive(Debug)]
pub enum Prepared {
    /// Nothing was wanted.
    Nothing,
    /// The next segment waits.
    Ready {
        /// Its number.
        segment: u64,
    },
    /// The disk is full. A refused `reserve` asks again.
    NoSpace,
    /// It failed otherwise. A refused `reserve` asks again.
    Failed(Arc<io::Error>),
}

impl Spares {
    pub(crate) fn new(config: &LogConfig, database_uuid: [u8; 16], active_segment: u64) -> Self {
        let segment_len_bytes = u64::from(config.segment_len_bytes);
        Self {
            database_uuid,
            segment_len_bytes,
            log_block_len_bytes: u64::from(config.log_block_len_bytes),
            state: Mutex::new(State {
                next_segment: active_segment + 1,
                wanted_len_bytes: segment_len_bytes,
                is_wanted: true,
                is_preparing: false,
                adopted_len_bytes: 0,
                ready: None,
                discarded: Vec::new(),
                last_error: None,
                serial: 0,
            }),
            wanted_hook: OnceLock::new(),
            done_hook: OnceLock::new(),
        }
    }

    /// Sets what is called, from any thread, when there is work for [`prepare_spare`]. It must
    /// not block. Only the first call has an effect.
    pub fn on_wanted(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.wanted_hook.set(Box::new(hook));
        if self.is_wanted() {
            self.call_wanted();
        }
    }

    pub(crate) fn on_done(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.done_hook.set(Box::new(hook));
    }

    /// True when [`prepare_spare`] has something to do.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        state.is_wanted || !state.discarded.is_empty()
    }

    /// Why the last preparation failed; none after one that succeeded.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<io::Error>> {
        self.state.lock().last_error.clone()
    }

    /// Bytes of batches that a segment file of `len_bytes` admits: the header, and one block kept
    /// for the close mark, are not to be had.
    pub(crate) fn capacity_of(&self, len_bytes: u64) -> u64 {
        len_bytes.saturating_sub(u64::from(SEGMENT_DATA_OFFSET) + self.log_block_len_bytes)
    }

    /// A reservation of `cost_bytes` found no room. Makes sure that a spare of a size that helps
    /// is under way; true when the disk refused the last one.
    pub(crate) fn ask(&self, cost_bytes: u64) -> bool {
        let mut state = self.state.lock();
        if self.capacity_of(state.wanted_len_bytes) < cost_bytes {
            let beside = self.segment_len_bytes + cost_bytes;
            let len_bytes = beside.next_multiple_of(u64::from(SEGMENT_DATA_OFFSET));
            state.wanted_len_bytes = len_bytes.min(SEGMENT_LEN_BYTES_MAX);
        }
        let waiting = state.ready.as_ref().map_or(0, |spare| spare.len_bytes);
        let there = waiting.max(state.adopted_len_bytes);
        let has_failed = state.last_error.is_some();
        if there < state.wanted_len_bytes && !state.is_preparing && !state.is_wanted {
            state.is_wanted = true;
            drop(state);
            self.call_wanted();
        }
        has_failed
    }

    /// Takes the spare that is ready, if it is the next segment and larger than what is held.
    pub(crate) fn take_ready(&self) -> Option<Spare> {
        let mut state = self.state.lock();
        let spare = state.ready.take()?;
        if spare.segment == state.next_segment && state.adopted_len_bytes < spare.len_bytes {
            state.adopted_len_bytes = spare.len_bytes;
            return Some(spare);
        }
        state.discarded.push(spare.path);
        drop(state);
        self.call_wanted();
        None
    }

    /// The log thread no longer needs a spare it had taken.
    pub(crate) fn discard(&self, spare: Spare) {
        self.state.lock().discarded.push(spare.path);
        self.call_wanted();
    }

    /// The log thread has opened the spare it had taken.
    pub(crate) fn opened(&self) {
        self.state.lock().last_error = None;
    }

    /// The log thread could not open the spare it had taken, and will try again.
    pub(crate) fn not_opened(&self, error: io::Error) {
        self.state.lock().last_error = Some(Arc::new(error));
    }

    /// The spare the log thread had taken is gone; it still holds one of `held_len_bytes`, 0 for
    /// none.
    pub(crate) fn lost(&self, spare: Spare, held_len_bytes: u64) {
        let mut state = self.state.lock();
        state.adopted_len_bytes = held_len_bytes;
        state.is_wanted = true;
        state.discarded.push(spare.path);
        drop(state);
        self.call_wanted();
    }

    /// `segment` has become the active one: the spare is used up, the next is wanted.
    pub(crate) fn rotated_to(&self, segment: u64) {
        let mut state = self.state.lock();
        state.next_segment = segment + 1;
        state.wanted_len_bytes = self.segment_len_bytes;
        state.adopted_len_bytes = 0;
        state.is_wanted = true;
        drop(state);
        self.call_wanted();
    }

    fn call_wanted(&self) {
        if let Some(hook) = self.wanted_hook.get() {
            hook();
        }
    }

    fn begin(&self) -> Option<Spare> {
        let mut state = self.state.lock();
        if !state.is_wanted || state.is_preparing {
            return None;
        }
        state.is_wanted = false;
        state.is_preparing = true;
        state.serial += 1;
        Some(Spare {
            path: names::spare_path(state.serial),
            segment: state.next_segment,
            len_bytes: state.wanted_len_bytes,
        })
    }

    fn finish(&self, spare: Spare, result: io::Result<()>) -> Prepared {
        let mut state = self.state.lock();
        state.is_preparing = false;
        let prepared = match result {
            Ok(()) => {
                state.last_error = None;
                let segment = spare.segment;
                let wants_more =
                    segment != state.next_segment || spare.len_bytes < state.wanted_len_bytes;
                // What this one is too small or too late for was asked while it was made.
                state.is_wanted |= wants_more;
                if let Some(unused) = state.ready.replace(spare) {
                    state.discarded.push(unused.path);
                }
                Prepared::Ready { segment }
            }
            Err(error) => {
                let error = Arc::new(error);
                state.last_error = Some(Arc::clone(&error));
                if files::is_no_space(&error) {
                    Prepared::NoSpace
                } else {
                    Prepared::Failed(error)
                }
            }
        };
        drop(state);
        // Also after a failure: whoever waits for the room learns that there will be none.
        if let Some(hook) = self.done_hook.get() {
            hook();
        }
        prepared
    }

    fn take_discarded(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().discarded)
    }
}

/// Does the preparation that is wanted, if any, and removes spares that became useless. For the
/// background thread, or inline before a log takes its first record. Takes as long as zeroing a
/// segment does.
pub fn prepare_spare(disk: &mut dyn Disk, spares: &Spares) -> Prepared {
    for path in spares.take_discarded() {
        files::remove_leftover(disk, &path);
    }
    let Some(spare) = spares.begin() else {
        return Prepared::Nothing;
    };
    let result = build(disk, spares, &spare);
    if let Err(error) = &result {
        files::remove_leftover(disk, &spare.path);
        tracing::warn!(segment = spare.segment, %error, "no spare segment could be prepared");
    }
    spares.finish(spare, result)
}

fn build(disk: &mut dyn Disk, spares: &Spares, spare: &Spare) -> io::Result<()> {
    // Around the page cache, like the batches that will be synced: a copy of the zeros in the cache
    // costs CPU and memory, and its pages would be in the way of those batches.
    let file = files::open(disk, &spare.path, OpenMode::CreateTruncateDirect)?;
    let result = fill(disk, file, spares, spare);
    files::close(disk, file);
    result
}

fn fill(disk: &mut dyn Disk, file: FileId, spares: &Spares, spare: &Spare) -> io::Result<()> {
    // Space first, in one step: a full disk is met before a segment's worth of zeros is written.
    files::run(
        disk,
        Op::Allocate {
            file,
            len_bytes: spare.len_bytes,
        },
    )?;
    // Then zeros: a sync into extents that were never written costs half as much again.
    files::write_zeros(disk, file, 0, spare.len_bytes)?;
    files::sync(disk, file)?;
    faults::pass(Point::DuringSpareBeforeHeader);
    let header = SegmentHeader {
        segment: spare.segment,
        database_uuid: spares.database_uuid,
    };
    let mut block = [0; SEGMENT_DATA_OFFSET as usize];
    if let Some(front) = block.first_chunk_mut::<HEADER_LEN_BYTES>() {
        *front = header.encode();
    }
    files::write_all(disk, file, 0, &block)?;
    files::sync(disk, file)
}

const _: () = assert!((MARK_LEN_BYTES as u64) < SEGMENT_DATA_OFFSET as u64);
