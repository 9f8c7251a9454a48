//! One operation in flight: the entries that do it, and what their results come to.
//!
//! Owns the buffer and the descriptor the kernel uses, until the operation is finished. Knows no
//! ring: whoever pushes the entries keeps the slot, unmoved, until both results are in.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::squeue::{Entry, Flags};
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
    /// Results of the entries, in order; a linked write has two.
    pub(super) results: [Option<i32>; 2],
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
            results: [None; 2],
            start_count: 0,
        }
    }

    /// The entries that do its work; the second one is linked behind the first.
    pub(super) fn entries(&mut self, user_data: u64) -> (Entry, Option<Entry>) {
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
    pub(super) fn is_done(&self) -> bool {
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
    pub(super) fn may_start_again(&self) -> bool {
        let is_transfer = match self.work {
            Work::Write { sync, .. } => sync != WriteSync::Data,
            Work::Read { .. } => true,
            Work::Sync | Work::SyncAll => false,
        };
        let [first, _] = self.results;
        let is_transient = matches!(outcome(first), Err(Errno::INTR | Errno::AGAIN));
        is_transfer && is_transient && self.start_count < START_COUNT_MAX
    }

    pub(super) fn finish(mut self) -> Completion {
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

#[cfg(test)]
mod tests {
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
}
