//! One operation in flight: the entry that does it, and what its result comes to.
//!
//! Owns the buffer and the descriptor the kernel uses, until the operation is finished. Knows no
//! ring: whoever pushes the entry keeps the slot, unmoved, until its result is in.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use rustix::io::{Errno, ReadWriteFlags};

use super::super::{AlignedBuf, Completion, Output, Ticket, WriteSync, calls};

/// Longest transfer of one entry, bytes: what the kernel moves at most in one call (`MAX_RW_COUNT`,
/// read(2)). A longer one is reported short.
const TRANSFER_BYTES_MAX: u32 = 0x7FFF_F000;

/// How often an operation the kernel could not start is started again before its error counts.
const START_COUNT_MAX: u32 = 16;

/// One operation the kernel has.
pub(super) struct Slot {
    pub(super) ticket: Ticket,
    work: Work,
    pub(super) fd: Rc<OwnedFd>,
    pub(super) buf: Option<AlignedBuf>,
    pub(super) result: Option<i32>,
    pub(super) start_count: u32,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
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

impl Slot {
    pub(super) fn new(
        ticket: Ticket,
        work: Work,
        fd: Rc<OwnedFd>,
        buf: Option<AlignedBuf>,
    ) -> Self {
        Self {
            ticket,
            work,
            fd,
            buf,
            result: None,
            start_count: 0,
        }
    }

    /// The entry that does its work.
    pub(super) fn entry(&mut self, user_data: u64) -> Entry {
        let fd = types::Fd(self.fd.as_raw_fd());
        let entry = match (self.work, &mut self.buf) {
            (Work::Write { offset, sync }, Some(buf)) => {
                let len = transfer_len(buf.len());
                let write = opcode::Write::new(fd, buf.as_ptr(), len).offset(offset);
                match sync {
                    WriteSync::None | WriteSync::LinkedSync => write.build(),
                    WriteSync::Data => {
                        let flags = ReadWriteFlags::DSYNC.bits().cast_signed();
                        write.rw_flags(flags).build()
                    }
                }
            }
            (Work::Read { offset, len_bytes }, Some(buf)) => {
                let room = buf.room_for_read(len_bytes);
                let read = opcode::Read::new(fd, room.as_mut_ptr(), transfer_len(room.len()));
                read.offset(offset).build()
            }
            (Work::SyncAll, _) => opcode::Fsync::new(fd).build(),
            // A transfer always has its buffer.
            (Work::Sync | Work::Write { .. } | Work::Read { .. }, _) => opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        };
        entry.user_data(user_data)
    }

    /// Whether a signal or a lack of memory kept the transfer from starting. Anything that may
    /// have been an error of a sync is final.
    pub(super) fn may_start_again(&self) -> bool {
        let is_transfer = match self.work {
            Work::Write { sync, .. } => sync != WriteSync::Data,
            Work::Read { .. } => true,
            Work::Sync | Work::SyncAll => false,
        };
        let is_transient = matches!(outcome(self.result), Err(Errno::INTR | Errno::AGAIN));
        is_transfer && is_transient && self.start_count < START_COUNT_MAX
    }

    /// What it came to. `sync_file` is called behind a whole write that is to be durable
    /// with everything before it.
    pub(super) fn finish(
        mut self,
        sync_file: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Completion {
        let outcome = outcome(self.result);
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
            (Work::Write { sync, .. }, Some(buf)) => outcome.and_then(|count| {
                let is_whole = count == buf.len().min(TRANSFER_BYTES_MAX as usize);
                if sync == WriteSync::LinkedSync && is_whole {
                    sync_file(&self.fd)?;
                }
                Ok(Output::Written { count })
            }),
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

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: i32 = 100;
    const EIO: i32 = -libc::EIO;

    fn slot(work: Work, result: i32, start_count: u32) -> Slot {
        let fd = std::fs::File::open("/dev/null").expect("opens").into();
        Slot {
            result: Some(result),
            start_count,
            ..Slot::new(Ticket(7), work, Rc::new(fd), Some(AlignedBuf::zeroed(100)))
        }
    }

    fn finished(
        work: Work,
        result: i32,
        sync_file: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<Output, i32> {
        let slot = slot(work, result, START_COUNT_MAX);
        assert!(!slot.may_start_again());
        let completion = slot.finish(sync_file);
        assert_eq!(completion.ticket, Ticket(7));
        completion
            .result
            .map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    #[test]
    fn a_write_and_the_sync_behind_it_are_one_result_and_only_a_whole_write_is_synced() {
        let written = |count| Ok(Output::Written { count });
        let table = [
            // write, sync if there is to be one, what comes of it
            (WHOLE, Some(Ok(())), written(100)),
            (WHOLE, Some(Err(Errno::IO)), Err(libc::EIO)),
            (60, None, written(60)),
            (0, None, written(0)),
            (EIO, None, Err(libc::EIO)),
            (-libc::ENOSPC, None, Err(libc::ENOSPC)),
        ];
        for (write, sync, expected) in table {
            let work = Work::Write {
                offset: 0,
                sync: WriteSync::LinkedSync,
            };
            let mut sync_count = 0;
            let result = finished(work, write, |_| {
                sync_count += 1;
                sync.expect("no sync behind a write that is not whole")
            });
            assert_eq!(result, expected, "{write:?} {sync:?}");
            assert_eq!(sync_count, usize::from(sync.is_some()));
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
                finished(work, result, |_| unreachable!("it is synced by itself")),
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
                let slot = slot(work, -errno, 1);
                assert_eq!(
                    slot.may_start_again(),
                    expected && is_transient,
                    "{work:?} {errno}"
                );
            }
        }
    }
}
