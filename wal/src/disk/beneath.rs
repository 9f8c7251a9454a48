//! A disk as seen from one of its directories.
//!
//! For a database that is written beneath another name first: everything that works on the root of
//! a disk works on the directory through it.

use super::{Completion, Disk, DiskKind, Op, Ticket};

/// A [`Disk`] over a directory of another one.
pub struct Beneath<'a> {
    disk: &'a mut dyn Disk,
    directory: String,
}

impl<'a> Beneath<'a> {
    /// The directory of this name, which the disk's own paths begin at.
    pub fn new(disk: &'a mut dyn Disk, directory: &str) -> Self {
        let directory = directory.to_owned();
        Self { disk, directory }
    }

    fn whole(&self, path: &mut String) {
        *path = match path.is_empty() {
            true => self.directory.clone(),
            false => format!("{}/{path}", self.directory),
        };
    }
}

impl Disk for Beneath<'_> {
    fn submit(&mut self, mut op: Op) -> Ticket {
        match &mut op {
            Op::Open { path, .. }
            | Op::Unlink { path }
            | Op::SyncDir { path }
            | Op::CreateDir { path }
            | Op::RemoveDir { path }
            | Op::List { path } => self.whole(path),
            Op::Rename { from, to } | Op::RenameDir { from, to } => {
                self.whole(from);
                self.whole(to);
            }
            Op::Close { .. }
            | Op::Write { .. }
            | Op::Read { .. }
            | Op::Sync { .. }
            | Op::FileLen { .. }
            | Op::SetLen { .. }
            | Op::Allocate { .. } => {}
        }
        self.disk.submit(op)
    }

    fn complete(&mut self) -> Completion {
        self.disk.complete()
    }

    fn in_flight_count(&self) -> usize {
        self.disk.in_flight_count()
    }

    fn kind(&self) -> DiskKind {
        self.disk.kind()
    }
}
