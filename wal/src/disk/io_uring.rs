//! The disk of a raw io_uring: transfers and syncs go through the ring of the thread that opened
//! it; opening, renaming and the like are plain calls.
//!
//! A write with a sync behind it goes through the ring, and its sync is a call of this thread when
//! it has completed, whole. A ring always gives a sync to a worker thread of the kernel
//! (`io_fsync_prep` and `io_fsync`, io_uring/sync.c), and this thread would only wait for it: two
//! wake-ups of another thread more for each batch. `benches/RESULTS.md` has the linked form, which
//! was measured first. For the same reason a sync beside which nothing is in flight is a call.
//!
//! An operation is handed to the kernel while it is submitted; waiting sleeps in the kernel and
//! never spins.
//!
//! Invariant of the unsafe code here: the buffer and the descriptor of an operation stay in its
//! slot (see [`slot`]), unmoved, until every completion of it was reaped. A slot is emptied only
//! then; dropping the disk waits for all of them; and if the ring itself fails, buffers the kernel
//! may still hold are leaked, not freed.
#![expect(
    unsafe_code,
    reason = "entries carry addresses the kernel will use later"
)]

mod slot;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use io_uring::IoUring;
use rustix::fs::fdatasync;
use rustix::io::Errno;

use super::calls::Files;
use super::ring::{self, IN_FLIGHT_COUNT_MAX};
use super::root::RealRoot;
use super::{AlignedBuf, Completion, Disk, DiskKind, Op, Ticket, WriteSync};
use slot::{Slot, Work};

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
        let slot = Slot::new(ticket, work, fd, buf);
        let index = self.free_slot();
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
            self.push_entry(index);
            self.enter(0);
        }
    }

    /// Whether the ring would only pass it on to a worker thread of the kernel, for which this
    /// thread would wait: a copy into the page cache, as far as the file system does not make it
    /// without waiting, and a sync beside which nothing is in flight.
    fn is_better_called(&self, op: &Op) -> bool {
        match op {
            Op::Write { file, sync, .. } => *sync != WriteSync::Data && self.files.is_cached(*file),
            Op::Sync { .. } => self.in_flight_count() == 0,
            _ => false,
        }
    }

    /// Performs an operation on this thread.
    fn call(&mut self, ticket: Ticket, op: Op) {
        let (result, buf) = self.files.perform(op);
        self.finished.push_back(Completion {
            ticket,
            result,
            buf,
        });
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

    /// Writes the entry of a slot into the submission queue.
    fn push_entry(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        slot.start_count += 1;
        slot.result = None;
        let entry = slot.entry(index as u64);
        // SAFETY: the entry's buffer and descriptor are those of the slot, which keeps both until
        // the entry's completion was reaped.
        unsafe { self.ring.submission().push(&entry) }
            .expect("the queue has an entry for each slot and is emptied by each enter");
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
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some(place) = self.slots.get_mut(index) else {
                continue;
            };
            let Some(slot) = place else { continue };
            slot.result = Some(entry.result());
            if slot.may_start_again() {
                self.push_entry(index);
                self.enter(0);
            } else if let Some(slot) = place.take() {
                self.finished.push_back(slot.finish(|fd| fdatasync(fd)));
            }
        }
    }
}

impl Disk for IoUringDisk {
    fn submit(&mut self, op: Op) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        match op {
            op if self.is_better_called(&op) => self.call(ticket, op),
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
            op => self.call(ticket, op),
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
    use super::super::open::refusing::with_refused;
    use super::super::{OpenMode, Output};
    use super::*;

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
                        sync: WriteSync::Data,
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
