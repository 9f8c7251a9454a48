//! The disk of a raw io_uring: transfers and syncs go through the ring of the thread that opened
//! it; opening, renaming and the like are plain calls.
//!
//! A linked write and its sync are two entries and one result: a write that is short or fails
//! breaks the link, so the sync never happens behind it. An operation is handed to the kernel
//! while it is submitted; waiting sleeps in the kernel and never spins. Task work runs while this
//! thread waits, so of a direct write linked to a sync the sync starts no earlier than the wait.
//!
//! Invariant of the unsafe code here: the buffer and the descriptor of an operation stay in its
//! slot, unmoved, until every completion of it was reaped. A slot is emptied only then; dropping
//! the disk waits for all of them; and if the ring itself fails, buffers the kernel may still hold
//! are leaked, not freed.
#![expect(
    unsafe_code,
    reason = "entries carry addresses the kernel will use later"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use rustix::io::{Errno, ReadWriteFlags};

use super::calls::{self, Files};
use super::ring::{self, IN_FLIGHT_COUNT_MAX};
use super::root::RealRoot;
use super::{AlignedBuf, Completion, Disk, DiskKind, Op, Output, Ticket, WriteSync};

/// Longest transfer of one entry, bytes: what the kernel moves at most in one call (`MAX_RW_COUNT`,
/// read(2)). A longer one is reported short.
const TRANSFER_BYTES_MAX: u32 = 0x7FFF_F000;

/// How often an operation the kernel could not start is started again before its error counts.
const START_COUNT_MAX: u32 = 16;

/// How often entering the ring may fail for lack of memory while nothing else makes progress.
const ENTER_COUNT_MAX: u32 = 1000;

/// A [`Disk`] of one ring.
pub struct IoUringDisk {
    ring: IoUring,
    files: Files,
    slots: Vec<Option<Slot>>,
    finished: VecDeque<Completion>,
    next_ticket: u64,
    /// Set when the ring itself failed: nothing can be done with it any more.
    broken: Option<Errno>,
}

/// One operation the kernel has.
struct Slot {
    ticket: Ticket,
    work: Work,
    fd: Rc<OwnedFd>,
    buf: Option<AlignedBuf>,
    /// Results of the entries, in order; a linked write has two.
    results: [Option<i32>; 2],
    start_count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Write {
        offset: u64,
        sync: WriteSync,
    },
    Read {
        offset: u64,
        len_bytes: usize,
    },
    /// Bytes and length.
    Sync,
    /// Everything, of a directory.
    SyncAll,
}

impl IoUringDisk {
    /// A disk over `root` for the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses a ring: EPERM or ENOSYS where it is forbidden or missing, ENOMEM
    /// where the memory lock limit is too low.
    pub fn new(root: RealRoot) -> io::Result<Self> {
        let slot_count = IN_FLIGHT_COUNT_MAX as usize;
        Ok(Self {
            ring: ring::build()?,
            files: Files::new(root),
            slots: std::iter::repeat_with(|| None).take(slot_count).collect(),
            finished: VecDeque::with_capacity(slot_count),
            next_ticket: 0,
            broken: None,
        })
    }

    /// Does one thing through the ring, since a kernel may give a ring and refuse to enter it.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.submit(Op::SyncDir {
            path: String::new(),
        });
        self.complete().result.map(drop)
    }

    /// Hands an operation to the kernel, or finishes it at once when that is impossible.
    fn start(
        &mut self,
        ticket: Ticket,
        work: Work,
        fd: Result<Rc<OwnedFd>, Errno>,
        mut buf: Option<AlignedBuf>,
    ) {
        let fd = match (fd, self.broken) {
            (Ok(fd), None) => fd,
            (Err(errno), _) | (_, Some(errno)) => {
                if let (Work::Read { .. }, Some(buf)) = (work, &mut buf) {
                    buf.clear();
                }
                self.finished.push_back(Completion {
                    ticket,
                    result: Err(errno.into()),
                    buf,
                });
                return;
            }
        };
        let slot = Slot {
            ticket,
            work,
            fd,
            buf,
            results: [None; 2],
            start_count: 0,
        };
        let index = self.free_slot();
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
            self.push_entries(index);
            self.enter(0);
        }
    }

    /// The index of an empty slot, after waiting for one if need be.
    fn free_slot(&mut self) -> usize {
        loop {
            if let Some(index) = self.slots.iter().position(Option::is_none) {
                return index;
            }
            self.reap();
            if self.slots.iter().all(Option::is_some) {
                self.enter(1);
            }
        }
    }

    /// Writes the entries of a slot into the submission queue.
    fn push_entries(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        slot.start_count += 1;
        slot.results = [None; 2];
        let (first, second) = slot.entries(index as u64 * 2);
        let mut queue = self.ring.submission();
        for entry in std::iter::once(first).chain(second) {
            // SAFETY: the entry's buffer and descriptor are those of the slot, which keeps both
            // until the entry's completion was reaped.
            unsafe { queue.push(&entry) }
                .expect("the queue has two entries for each slot and is emptied by each enter");
        }
    }

    /// Submits what is queued and waits for `wanted` completions. Whatever goes wrong, progress is
    /// made: a failure of the ring itself finishes every operation.
    fn enter(&mut self, wanted: usize) {
        let mut refusal_count = 0;
        while refusal_count < ENTER_COUNT_MAX {
            let Err(error) = self.ring.submit_and_wait(wanted) else {
                return;
            };
            match Errno::from_io_error(&error) {
                Some(Errno::INTR) => {}
                // No memory for a request, or completions to be reaped first.
                Some(Errno::AGAIN | Errno::BUSY) => {
                    if self.reap() > 0 {
                        return;
                    }
                    refusal_count += 1;
                    rustix::thread::sched_yield();
                }
                errno => return self.fail(errno.unwrap_or(Errno::IO)),
            }
        }
        self.fail(Errno::AGAIN);
    }

    /// Gives up the ring. What the kernel still holds is leaked.
    fn fail(&mut self, errno: Errno) {
        self.broken = Some(errno);
        for slot in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget(slot.buf);
            std::mem::forget(slot.fd);
            let result = Err(errno.into());
            self.finished.push_back(Completion {
                ticket: slot.ticket,
                result,
                buf: None,
            });
        }
    }

    /// Takes in every completion there is and says how many there were.
    fn reap(&mut self) -> usize {
        let mut count = 0;
        loop {
            let Some(entry) = self.ring.completion().next() else {
                return count;
            };
            count += 1;
            let index = usize::try_from(entry.user_data() / 2).unwrap_or(usize::MAX);
            let Some(place) = self.slots.get_mut(index) else {
                continue;
            };
            let Some(slot) = place else { continue };
            let [first, second] = &mut slot.results;
            let result = if entry.user_data() % 2 == 0 {
                first
            } else {
                second
            };
            *result = Some(entry.result());
            if !slot.is_done() {
                continue;
            }
            if slot.may_start_again() {
                self.push_entries(index);
                self.enter(0);
            } else if let Some(slot) = place.take() {
                self.finished.push_back(slot.finish());
            }
        }
    }
}

impl Slot {
    /// The entries that do its work; the second one is linked behind the first.
    fn entries(&mut self, user_data: u64) -> (Entry, Option<Entry>) {
        let fd = types::Fd(self.fd.as_raw_fd());
        let data_sync = || {
            opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build()
        };
        match (self.work, &mut self.buf) {
            (Work::Write { offset, sync }, Some(buf)) => {
                let len = transfer_len(buf.len());
                let write = opcode::Write::new(fd, buf.as_ptr(), len).offset(offset);
                let (write, second) = match sync {
                    WriteSync::None => (write.build(), None),
                    WriteSync::Data => {
                        let flags = ReadWriteFlags::DSYNC.bits().cast_signed();
                        (write.rw_flags(flags).build(), None)
                    }
                    WriteSync::LinkedSync => {
                        let linked = write.build().flags(Flags::IO_LINK);
                        (linked, Some(data_sync().user_data(user_data + 1)))
                    }
                };
                (write.user_data(user_data), second)
            }
            (Work::Read { offset, len_bytes }, Some(buf)) => {
                let room = buf.room_for_read(len_bytes);
                let read = opcode::Read::new(fd, room.as_mut_ptr(), transfer_len(room.len()));
                (read.offset(offset).build().user_data(user_data), None)
            }
            (Work::SyncAll, _) => (opcode::Fsync::new(fd).build().user_data(user_data), None),
            // A transfer always has its buffer.
            (Work::Sync | Work::Write { .. } | Work::Read { .. }, _) => {
                (data_sync().user_data(user_data), None)
            }
        }
    }

    /// Whether every entry of it has its result.
    fn is_done(&self) -> bool {
        let is_linked = matches!(
            self.work,
            Work::Write {
                sync: WriteSync::LinkedSync,
                ..
            }
        );
        let [first, second] = self.results;
        first.is_some() && (second.is_some() || !is_linked)
    }

    /// Whether a signal or a lack of memory kept the transfer from starting. Anything that may
    /// have been an error of a sync is final.
    fn may_start_again(&self) -> bool {
        let is_transfer = match self.work {
            Work::Write { sync, .. } => sync != WriteSync::Data,
            Work::Read { .. } => true,
            Work::Sync | Work::SyncAll => false,
        };
        let [first, _] = self.results;
        let is_transient = matches!(outcome(first), Err(Errno::INTR | Errno::AGAIN));
        is_transfer && is_transient && self.start_count < START_COUNT_MAX
    }

    fn finish(mut self) -> Completion {
        let [first, second] = self.results;
        let outcome = outcome(first);
        let result = match (self.work, &mut self.buf) {
            (
                Work::Write {
                    sync: WriteSync::Data,
                    offset,
                },
                Some(buf),
            ) if outcome == Err(Errno::OPNOTSUPP) => {
                // A file system without RWF_DSYNC has written nothing yet.
                calls::write(&self.fd, offset, buf, WriteSync::LinkedSync)
            }
            (Work::Write { sync, .. }, Some(buf)) => finish_write(outcome, second, sync, buf.len()),
            (Work::Read { .. }, Some(buf)) => {
                buf.filled(outcome.unwrap_or(0));
                outcome.map(|count| Output::Read { count })
            }
            _ => outcome.map(|_| Output::Done),
        };
        let result = result.map_err(io::Error::from);
        Completion {
            ticket: self.ticket,
            result,
            buf: self.buf,
        }
    }
}

/// One result of a write and, when it is linked, its sync.
fn finish_write(
    write: Result<usize, Errno>,
    sync_result: Option<i32>,
    sync: WriteSync,
    len_bytes: usize,
) -> Result<Output, Errno> {
    let count = write?;
    let is_whole = count == len_bytes.min(TRANSFER_BYTES_MAX as usize);
    if sync == WriteSync::LinkedSync && is_whole {
        outcome(sync_result)?;
    }
    Ok(Output::Written { count })
}

/// What an entry's result says: a count, or an error number.
fn outcome(result: Option<i32>) -> Result<usize, Errno> {
    let result = result.unwrap_or(0);
    usize::try_from(result).map_err(|_| Errno::from_raw_os_error(result.saturating_neg()))
}

fn transfer_len(len_bytes: usize) -> u32 {
    u32::try_from(len_bytes)
        .unwrap_or(u32::MAX)
        .min(TRANSFER_BYTES_MAX)
}

impl Disk for IoUringDisk {
    fn submit(&mut self, op: Op) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        match op {
            Op::Write {
                file,
                offset,
                buf,
                sync,
            } => {
                let fd = self.files.share(file);
                self.start(ticket, Work::Write { offset, sync }, fd, Some(buf));
            }
            Op::Read {
                file,
                offset,
                len_bytes,
                buf,
            } => {
                let fd = self.files.share(file);
                self.start(ticket, Work::Read { offset, len_bytes }, fd, Some(buf));
            }
            Op::Sync { file } => {
                let fd = self.files.share(file);
                self.start(ticket, Work::Sync, fd, None);
            }
            Op::SyncDir { path } => {
                let fd = self.files.open_directory(&path).map(Rc::new);
                self.start(ticket, Work::SyncAll, fd, None);
            }
            op => {
                let (result, buf) = self.files.perform(op);
                self.finished.push_back(Completion {
                    ticket,
                    result,
                    buf,
                });
            }
        }
        ticket
    }

    fn complete(&mut self) -> Completion {
        loop {
            if let Some(completion) = self.finished.pop_front() {
                return completion;
            }
            assert!(
                self.slots.iter().any(Option::is_some),
                "complete is called only while something is in flight"
            );
            if self.reap() == 0 {
                self.enter(1);
            }
        }
    }

    fn in_flight_count(&self) -> usize {
        self.slots.iter().flatten().count() + self.finished.len()
    }

    fn kind(&self) -> DiskKind {
        DiskKind::IoUring
    }
}

impl Drop for IoUringDisk {
    fn drop(&mut self) {
        while self.slots.iter().any(Option::is_some) {
            if self.reap() == 0 {
                self.enter(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OpenMode;
    use super::super::open::refusing::with_refused;
    use super::*;

    const WHOLE: Option<i32> = Some(100);
    const EIO: i32 = -libc::EIO;
    const ECANCELED: i32 = -libc::ECANCELED;

    fn finished(work: Work, results: [Option<i32>; 2]) -> Result<Output, i32> {
        let fd = Rc::new(std::fs::File::open("/dev/null").expect("opens").into());
        let buf = Some(AlignedBuf::zeroed(100));
        let slot = Slot {
            ticket: Ticket(7),
            work,
            fd,
            buf,
            results,
            start_count: START_COUNT_MAX,
        };
        assert!(slot.is_done());
        assert!(!slot.may_start_again());
        let completion = slot.finish();
        assert_eq!(completion.ticket, Ticket(7));
        completion
            .result
            .map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    #[test]
    fn a_linked_write_and_its_sync_are_one_result() {
        let written = |count| Ok(Output::Written { count });
        let table = [
            // write, sync, what comes of it
            (WHOLE, Some(0), written(100)),
            (WHOLE, Some(EIO), Err(libc::EIO)),
            (WHOLE, Some(ECANCELED), Err(libc::ECANCELED)),
            (Some(60), Some(ECANCELED), written(60)),
            (Some(0), Some(ECANCELED), written(0)),
            (Some(EIO), Some(ECANCELED), Err(libc::EIO)),
            (Some(-libc::ENOSPC), Some(ECANCELED), Err(libc::ENOSPC)),
        ];
        for (write, sync, expected) in table {
            let work = Work::Write {
                offset: 0,
                sync: WriteSync::LinkedSync,
            };
            assert_eq!(
                finished(work, [write, sync]),
                expected,
                "{write:?} {sync:?}"
            );
        }
    }

    #[test]
    fn the_results_of_single_entries_are_reported_as_they_are() {
        let write = |sync| Work::Write { offset: 0, sync };
        let read = Work::Read {
            offset: 0,
            len_bytes: 100,
        };
        let written = |count| Ok(Output::Written { count });
        let table = [
            (write(WriteSync::None), 60, written(60)),
            (write(WriteSync::Data), 100, written(100)),
            (write(WriteSync::Data), EIO, Err(libc::EIO)),
            (read, 60, Ok(Output::Read { count: 60 })),
            (read, EIO, Err(libc::EIO)),
            (Work::Sync, 0, Ok(Output::Done)),
            (Work::Sync, EIO, Err(libc::EIO)),
            (Work::SyncAll, EIO, Err(libc::EIO)),
        ];
        for (work, result, expected) in table {
            assert_eq!(
                finished(work, [Some(result), None]),
                expected,
                "{work:?} {result}"
            );
        }
    }

    #[test]
    fn only_a_transfer_that_never_started_is_started_again() {
        let table = [
            (
                Work::Write {
                    offset: 0,
                    sync: WriteSync::None,
                },
                true,
            ),
            (
                Work::Write {
                    offset: 0,
                    sync: WriteSync::LinkedSync,
                },
                true,
            ),
            (
                Work::Read {
                    offset: 0,
                    len_bytes: 100,
                },
                true,
            ),
            (
                Work::Write {
                    offset: 0,
                    sync: WriteSync::Data,
                },
                false,
            ),
            (Work::Sync, false),
            (Work::SyncAll, false),
        ];
        for (work, expected) in table {
            for (errno, is_transient) in [
                (libc::EINTR, true),
                (libc::EAGAIN, true),
                (libc::EIO, false),
            ] {
                let fd = Rc::new(std::fs::File::open("/dev/null").expect("opens").into());
                let results = [Some(-errno), Some(ECANCELED)];
                let buf = Some(AlignedBuf::new());
                let slot = Slot {
                    ticket: Ticket(0),
                    work,
                    fd,
                    buf,
                    results,
                    start_count: 1,
                };
                assert_eq!(
                    slot.may_start_again(),
                    expected && is_transient,
                    "{work:?} {errno}"
                );
            }
        }
    }

    #[test]
    fn a_ring_that_cannot_be_entered_fails_its_operations_and_hangs_nobody() {
        for errno in [Errno::PERM, Errno::AGAIN, Errno::BUSY] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let root = RealRoot::open(directory.path()).expect("opens");
            with_refused(libc::SYS_io_uring_enter, errno, move || {
                let mut disk = IoUringDisk::new(root).expect("a ring");
                disk.submit(Op::Open {
                    path: "file".into(),
                    mode: OpenMode::CreateNew,
                });
                let Ok(Output::File(file)) = disk.complete().result else {
                    panic!("opens")
                };
                for _ in 0..3 {
                    let buf = AlignedBuf::zeroed(4096);
                    disk.submit(Op::Write {
                        file,
                        offset: 0,
                        buf,
                        sync: WriteSync::LinkedSync,
                    });
                    let failed = disk.complete().result.expect_err("cannot be done");
                    assert!(failed.raw_os_error().is_some());
                }
                disk.submit(Op::Sync { file });
                drop(disk);
            });
        }
    }
}
