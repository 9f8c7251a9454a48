//! The active segment: writing into it, syncing it, and rotating to the next.
//!
//! Rotation: the old segment is synced; the spare, which is open already and carries a synced
//! header with the next number, is renamed to its segment name; the directory is synced; only then
//! is a batch written into it. One block of every segment is kept for the close mark.
//!
//! With a direct write form a segment is open twice: batches that are synced go around the page
//! cache, batches whose promise is that the kernel has them go into it. A later sync of the file
//! covers both (fdatasync(2) knows files, not descriptors), and a direct write next to a cached
//! page is ordered behind that page by the kernel.

use std::io;

use super::{Failure, Shared, Writer};
use crate::config::{LogConfig, WriteForm};
use crate::disk::{AlignedBuf, Disk, FileId, Op, OpenMode, Output, Ticket, WriteSync};
use crate::faults::{self, Mutant, Planted, Point};
use crate::files;
use crate::limits::{SEGMENT_DATA_OFFSET, SPARE_OPEN_RETRY_DELAY_US};
use crate::lsn::Lsn;
use crate::names;
use crate::recover::Settled;
use crate::sink::{Sink, Stage};
use crate::spares::Spare;

/// The segment that batches go to.
pub(super) struct ActiveSegment {
    number: u64,
    files: SegmentFiles,
    len_bytes: u64,
    next_offset: u32,
    write_form: WriteForm,
    block_len_bytes: usize,
}

/// A spare the log thread holds open.
pub(super) struct AdoptedSpare {
    pub(super) spare: Spare,
    files: SegmentFiles,
}

/// One segment, open.
#[derive(Clone, Copy)]
struct SegmentFiles {
    /// For batches that are synced, and for syncs.
    synced: FileId,
    /// For batches that only have to reach the kernel.
    cached: FileId,
}

impl SegmentFiles {
    fn open(disk: &mut dyn Disk, path: &str, write_form: WriteForm) -> io::Result<Self> {
        let cached = files::open(disk, path, OpenMode::Write)?;
        if !write_form.is_direct() {
            return Ok(Self {
                synced: cached,
                cached,
            });
        }
        match files::open(disk, path, OpenMode::WriteDirect) {
            Ok(synced) => Ok(Self { synced, cached }),
            Err(error) => {
                files::close(disk, cached);
                Err(error)
            }
        }
    }

    fn for_write(self, sync: WriteSync) -> FileId {
        match sync {
            WriteSync::None => self.cached,
            WriteSync::Data | WriteSync::LinkedSync => self.synced,
        }
    }

    fn close(self, disk: &mut dyn Disk) {
        files::close(disk, self.cached);
        if self.synced != self.cached {
            files::close(disk, self.synced);
        }
    }
}

/// A prepared spare the log thread has taken and not opened.
pub(super) struct UnopenedSpare {
    spare: Spare,
    /// Not to be opened before this time.
    pub(super) try_at_us: u64,
    has_failed: bool,
}

/// A write in flight.
pub(super) struct Flight {
    ticket: Ticket,
    len_bytes: usize,
    sync: WriteSync,
    /// The sync is a step of its own, so that the harness can stop between the two.
    sync_is_apart: bool,
}

impl ActiveSegment {
    pub(super) fn open(
        disk: &mut dyn Disk,
        config: &LogConfig,
        settled: &Settled,
    ) -> io::Result<Self> {
        let path = names::segment_path(settled.active_segment);
        Ok(Self {
            number: settled.active_segment,
            files: SegmentFiles::open(disk, &path, config.write_form)?,
            len_bytes: settled.active_len_bytes,
            next_offset: settled.next_offset,
            write_form: config.write_form,
            block_len_bytes: config.log_block_len_bytes as usize,
        })
    }

    pub(super) fn next_lsn(&self) -> Lsn {
        Lsn::new(self.number, self.next_offset)
    }

    /// Bytes that batches may still take, without the block kept for the close mark.
    pub(super) fn room_len_bytes(&self, block_len_bytes: u64) -> u64 {
        self.len_bytes
            .saturating_sub(u64::from(self.next_offset) + block_len_bytes)
    }

    pub(super) fn advance(&mut self, len_bytes: u64) {
        let next = u64::from(self.next_offset) + len_bytes;
        assert!(next <= self.len_bytes, "a batch stays inside its segment");
        self.next_offset = u32::try_from(next).expect("a segment is below 4 GiB");
    }

    /// How a batch is written. RWF_DSYNC covers only its own bytes, so behind unsynced batches a
    /// sync of the whole file is needed.
    pub(super) fn sync_form(&self, wants_sync: bool, is_behind_unsynced: bool) -> WriteSync {
        match (
            wants_sync,
            is_behind_unsynced || !self.write_form.is_dsync(),
        ) {
            (false, _) => WriteSync::None,
            (true, true) => WriteSync::LinkedSync,
            (true, false) => WriteSync::Data,
        }
    }

    pub(super) fn submit(&self, disk: &mut dyn Disk, buf: AlignedBuf, sync: WriteSync) -> Flight {
        assert_eq!(disk.in_flight_count(), 0, "one batch in flight");
        let len_bytes = buf.len();
        let sync_is_apart =
            sync != WriteSync::None && faults::is_armed(Point::AfterWalWriteBeforeFsync);
        let first = if sync_is_apart { WriteSync::None } else { sync };
        let offset = u64::from(self.next_offset);
        let ticket = disk.submit(Op::Write {
            file: self.files.for_write(sync),
            offset,
            buf,
            sync: first,
        });
        Flight {
            ticket,
            len_bytes,
            sync,
            sync_is_apart,
        }
    }

    /// Waits for a batch and continues short writes. The buffer comes back whatever happens.
    pub(super) fn reap<T>(
        &self,
        disk: &mut dyn Disk,
        flight: Flight,
        shared: &Shared<T>,
    ) -> (AlignedBuf, Result<(), Failure>) {
        let completion = disk.complete();
        assert_eq!(
            completion.ticket, flight.ticket,
            "the only operation in flight completes"
        );
        let buf = completion.buf.unwrap_or_default();
        let planted = shared.config.planted;
        let result = written_count(completion.result, flight.len_bytes)
            .and_then(|count| {
                if count == flight.len_bytes || planted.is(Mutant::ShortWriteIgnored) {
                    return Ok(());
                }
                shared.counters.short_write();
                self.continue_write(disk, &buf, count, flight.sync)
            })
            .or_else(|error| self.sync_mutants(disk, error, flight.sync, planted))
            .map_err(Failure::at(Stage::Write))
            .and_then(|()| self.sync_apart(disk, &flight));
        (buf, result)
    }

    /// Writes what a short write left, from the block it stopped in, until all of it is there or
    /// no progress is made.
    fn continue_write(
        &self,
        disk: &mut dyn Disk,
        buf: &AlignedBuf,
        mut done: usize,
        sync: WriteSync,
    ) -> io::Result<()> {
        // What came before this piece is part of the promise now, so the file is synced whole.
        let sync = if sync == WriteSync::None {
            sync
        } else {
            WriteSync::LinkedSync
        };
        loop {
            let from = done - done % self.block_len_bytes;
            let rest = AlignedBuf::from(buf.get(from..).unwrap_or_default());
            let len_bytes = rest.len();
            let offset = u64::from(self.next_offset) + from as u64;
            let op = Op::Write {
                file: self.files.for_write(sync),
                offset,
                buf: rest,
                sync,
            };
            let count = written_count(files::run(disk, op), len_bytes)?;
            if count == len_bytes {
                return Ok(());
            }
            if from + count <= done {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done = from + count;
        }
    }

    /// Planted mistakes about failed syncs; hands the error on in a product build.
    fn sync_mutants(
        &self,
        disk: &mut dyn Disk,
        error: io::Error,
        sync: WriteSync,
        planted: Planted,
    ) -> io::Result<()> {
        if sync != WriteSync::None && planted.is(Mutant::SyncErrorIgnored) {
            return Ok(());
        }
        if sync != WriteSync::None && planted.is(Mutant::RetryAfterFailedSync) {
            return files::sync(disk, self.files.synced);
        }
        Err(error)
    }

    fn sync_apart(&self, disk: &mut dyn Disk, flight: &Flight) -> Result<(), Failure> {
        if flight.sync == WriteSync::None {
            return Ok(());
        }
        faults::pass(Point::AfterWalWriteBeforeFsync);
        if flight.sync_is_apart {
            files::sync(disk, self.files.synced).map_err(Failure::at(Stage::Sync))?;
        }
        Ok(())
    }

    pub(super) fn submit_sync(&self, disk: &mut dyn Disk) -> Ticket {
        assert_eq!(disk.in_flight_count(), 0, "one batch in flight");
        disk.submit(Op::Sync {
            file: self.files.synced,
        })
    }

    pub(super) fn reap_sync(
        &self,
        disk: &mut dyn Disk,
        ticket: Ticket,
        planted: Planted,
    ) -> Result<(), Failure> {
        let completion = disk.complete();
        assert_eq!(
            completion.ticket, ticket,
            "the only operation in flight completes"
        );
        completion
            .result
            .map(drop)
            .or_else(|error| self.sync_mutants(disk, error, WriteSync::LinkedSync, planted))
            .map_err(Failure::at(Stage::Sync))
    }

    pub(super) fn close(&self, disk: &mut dyn Disk) {
        self.files.close(disk);
    }
}

impl AdoptedSpare {
    /// Closes and deletes it: an orderly end leaves no temporary file. Failing to loses nothing,
    /// the next open deletes it.
    pub(super) fn remove(self, disk: &mut dyn Disk) {
        self.files.close(disk);
        remove(disk, &self.spare);
    }
}

impl UnopenedSpare {
    /// Deletes it, as [`AdoptedSpare::remove`] does.
    pub(super) fn remove(self, disk: &mut dyn Disk) {
        remove(disk, &self.spare);
    }
}

fn remove(disk: &mut dyn Disk, spare: &Spare) {
    files::remove_leftover(disk, &spare.path);
    if let Err(error) = files::sync_dir(disk, names::WAL_DIR) {
        tracing::debug!(%error, "a removed spare may come back until the next open");
    }
}

impl<T, S: Sink<T>> Writer<T, S> {
    /// Opens the spare that is ready, if any; its room counts from here on. One that cannot be
    /// opened is kept and tried again later: making another would only zero a segment again.
    pub(super) fn adopt_spare(&mut self, now_us: u64) {
        if let Some(spare) = self.shared.spares.take_ready() {
            self.forget_unopened();
            self.unopened = Some(UnopenedSpare {
                spare,
                try_at_us: now_us,
                has_failed: false,
            });
        }
        let Some(UnopenedSpare {
            spare, has_failed, ..
        }) = self
            .unopened
            .take_if(|unopened| unopened.try_at_us <= now_us)
        else {
            return;
        };
        let write_form = self.shared.config.write_form;
        match SegmentFiles::open(&mut *self.disk, &spare.path, write_form) {
            Ok(files) => {
                self.shared.spares.opened();
                if let Some(smaller) = self.spare.replace(AdoptedSpare { spare, files }) {
                    smaller.files.close(&mut *self.disk);
                    self.shared.spares.discard(smaller.spare);
                }
                self.publish_room();
            }
            // Somebody took it away: that does not mend by waiting.
            Err(error) if has_failed && error.kind() == io::ErrorKind::NotFound => {
                let held = self.spare.as_ref().map_or(0, |held| held.spare.len_bytes);
                self.shared.spares.lost(spare, held);
            }
            Err(error) => {
                // Nothing was promised on it: until it opens the log refuses what does not fit
                // the active segment.
                tracing::warn!(path = spare.path, %error, "a spare segment could not be opened");
                self.shared.spares.not_opened(error);
                self.unopened = Some(UnopenedSpare {
                    spare,
                    try_at_us: now_us + SPARE_OPEN_RETRY_DELAY_US,
                    has_failed: true,
                });
            }
        }
    }

    /// Gives up a spare that is not open.
    pub(super) fn forget_unopened(&mut self) {
        if let Some(unopened) = self.unopened.take() {
            self.shared.spares.discard(unopened.spare);
        }
    }

    /// Closes the active segment and makes the spare the active one.
    pub(super) fn rotate(&mut self) -> Result<(), Failure> {
        if self.unsynced.record_count != 0 {
            self.sync_active()?;
        }
        let Some(AdoptedSpare { spare, files }) = self.spare.take() else {
            return Err(Failure {
                stage: Stage::RotateNoSpare,
                source: io::ErrorKind::StorageFull.into(),
            });
        };
        assert_eq!(
            spare.segment,
            self.active.number + 1,
            "the spare is the next segment"
        );
        faults::pass(Point::DuringSegmentRotationBeforeRename);
        let disk = &mut *self.disk;
        files::rename(disk, &spare.path, &names::segment_path(spare.segment))
            .map_err(Failure::at(Stage::RotateRename))?;
        faults::pass(Point::DuringSegmentRotationAfterRename);
        files::sync_dir(disk, names::WAL_DIR).map_err(Failure::at(Stage::RotateSyncDir))?;
        faults::pass(Point::DuringSegmentRotationAfterSyncDir);
        self.active.files.close(disk);
        self.active.number = spare.segment;
        self.active.files = files;
        self.active.len_bytes = spare.len_bytes;
        self.active.next_offset = SEGMENT_DATA_OFFSET;
        self.publish_room();
        // It carries the number that is used up now.
        self.forget_unopened();
        self.shared.counters.rotated();
        self.shared.spares.rotated_to(spare.segment);
        self.news.rotated = Some(spare.segment);
        Ok(())
    }
}

/// Bytes written; none at all is an error, because it is how a full disk shows.
fn written_count(result: io::Result<Output>, asked: usize) -> io::Result<usize> {
    match result? {
        Output::Written { count: 0 } if asked != 0 => Err(io::ErrorKind::WriteZero.into()),
        Output::Written { count } if count <= asked => Ok(count),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("disk answered {other:?} to a write of {asked} bytes"),
        )),
    }
}
