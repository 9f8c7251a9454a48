//! The disk of plain system calls: an operation is done by the calling thread while it submits it.
//!
//! It works wherever Linux does and is taken where io_uring is refused. Completions come in the
//! order of submission.

use std::collections::VecDeque;

use super::calls::Files;
use super::root::RealRoot;
use super::{Completion, Disk, DiskKind, Op, Ticket};

/// A [`Disk`] whose operations are done when `submit` returns.
#[derive(Debug)]
pub struct ThreadDisk {
    files: Files,
    finished: VecDeque<Completion>,
    next_ticket: u64,
}

impl ThreadDisk {
    /// A disk over `root` for the calling thread.
    #[must_use]
    pub fn new(root: RealRoot) -> Self {
        Self {
            files: Files::new(root),
            finished: VecDeque::new(),
            next_ticket: 0,
        }
    }
}

impl Disk for ThreadDisk {
    fn submit(&mut self, op: Op) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (result, buf) = self.files.perform(op);
        self.finished.push_back(Completion {
            ticket,
            result,
            buf,
        });
        ticket
    }

    fn complete(&mut self) -> Completion {
        self.finished
            .pop_front()
            .expect("complete is called only while something is in flight")
    }

    fn in_flight_count(&self) -> usize {
        self.finished.len()
    }

    fn kind(&self) -> DiskKind {
        DiskKind::Thread
    }
}
