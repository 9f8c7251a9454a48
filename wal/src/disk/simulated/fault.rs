//! What can go wrong on a simulated disk, where, and how often.
//!
//! A fault hits one operation. It is asked for by the operation's number, or by a rule over kinds
//! and names. A fault asked of an operation it makes no sense for does nothing and is not counted
//! as fired, so a loop over all operations and all faults sees which pairs exist. A lie is a
//! disk that breaks the contract for good; no correct program survives it, and a test that does
//! not notice one is no test.

use super::super::{Op, OpenMode, WriteSync};
use super::rng::SimRng;

/// The kinds of operation, for fault rules and for tables of moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// [`Op::Open`] of an existing file.
    Open,
    /// [`Op::Open`] that creates or empties a file.
    Create,
    /// [`Op::Close`].
    Close,
    /// [`Op::Write`] with [`WriteSync::None`].
    Write,
    /// [`Op::Write`] that is also a sync.
    WriteSynced,
    /// [`Op::Read`].
    Read,
    /// [`Op::Sync`].
    Sync,
    /// [`Op::FileLen`].
    FileLen,
    /// [`Op::SetLen`].
    SetLen,
    /// [`Op::Allocate`].
    Allocate,
    /// [`Op::Rename`].
    Rename,
    /// [`Op::Unlink`].
    Unlink,
    /// [`Op::SyncDir`].
    SyncDir,
    /// [`Op::CreateDir`].
    CreateDir,
    /// [`Op::RenameDir`].
    RenameDir,
    /// [`Op::RemoveDir`].
    RemoveDir,
    /// [`Op::List`].
    List,
}

/// One way for one operation to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// EIO. Of a write: some prefix may be in the cache. Of a sync: what it should have written
    /// reads as new until reboot and is the old content after. Of a rename or removal: it may
    /// have happened.
    Io,
    /// ENOSPC, nothing done; of a sync as [`Fault::Io`].
    NoSpace,
    /// A write that stops early and reports its count; a linked sync does not happen.
    ShortWrite,
    /// A read that stops early and reports its count.
    ShortRead,
    /// EINTR, nothing done.
    Interrupted,
    /// ECANCELED: a linked write happened, its sync did not.
    BrokenLink,
    /// The operation finishes after all others in flight on its disk.
    Delay,
    /// A sync that fails as with [`Fault::Io`] and reports success: the error went to somebody
    /// else. Nothing acknowledged after it is safe.
    SyncErrorLost,
    /// A write reports success, fails in the background, and the next sync of the file says so,
    /// once.
    WritebackError,
    /// One bit of what a read returns is wrong; the file is not.
    BitRot,
}

impl Fault {
    /// Every fault, for exhaustive loops.
    pub const ALL: [Self; 10] = [
        Self::Io,
        Self::NoSpace,
        Self::ShortWrite,
        Self::ShortRead,
        Self::Interrupted,
        Self::BrokenLink,
        Self::Delay,
        Self::SyncErrorLost,
        Self::WritebackError,
        Self::BitRot,
    ];

    /// Whether it makes sense for `op`.
    #[must_use]
    pub fn applies_to(self, op: &Op) -> bool {
        let kind = OpKind::of(op);
        let is_write = matches!(kind, OpKind::Write | OpKind::WriteSynced);
        match self {
            Self::Io | Self::Interrupted => kind != OpKind::Close,
            Self::Delay => true,
            Self::NoSpace => {
                is_write
                    || matches!(
                        kind,
                        OpKind::Create
                            | OpKind::Sync
                            | OpKind::SetLen
                            | OpKind::Allocate
                            | OpKind::Rename
                            | OpKind::RenameDir
                            | OpKind::CreateDir
                    )
            }
            Self::ShortWrite | Self::WritebackError => is_write,
            Self::ShortRead | Self::BitRot => kind == OpKind::Read,
            Self::BrokenLink => matches!(
                op,
                Op::Write {
                    sync: WriteSync::LinkedSync,
                    ..
                }
            ),
            Self::SyncErrorLost => matches!(kind, OpKind::Sync | OpKind::WriteSynced),
        }
    }
}

impl OpKind {
    /// The kind of an operation.
    #[must_use]
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Open {
                mode:
                    OpenMode::CreateNew | OpenMode::CreateTruncate | OpenMode::CreateTruncateDirect,
                ..
            } => Self::Create,
            Op::Open { .. } => Self::Open,
            Op::Close { .. } => Self::Close,
            Op::Write {
                sync: WriteSync::None,
                ..
            } => Self::Write,
            Op::Write { .. } => Self::WriteSynced,
            Op::Read { .. } => Self::Read,
            Op::Sync { .. } => Self::Sync,
            Op::FileLen { .. } => Self::FileLen,
            Op::SetLen { .. } => Self::SetLen,
            Op::Allocate { .. } => Self::Allocate,
            Op::Rename { .. } => Self::Rename,
            Op::Unlink { .. } => Self::Unlink,
            Op::SyncDir { .. } => Self::SyncDir,
            Op::CreateDir { .. } => Self::CreateDir,
            Op::RenameDir { .. } => Self::RenameDir,
            Op::RemoveDir { .. } => Self::RemoveDir,
            Op::List { .. } => Self::List,
        }
    }
}

/// Operations to hit: those of a kind and under a name, after some were let through, so many
/// times, each with a chance.
#[derive(Debug, Clone)]
pub struct FaultRule {
    fault: Fault,
    kind: Option<OpKind>,
    path_prefix: String,
    skip_count: u64,
    hit_count: u64,
    chance_per_mille: u16,
}

impl FaultRule {
    /// Hits every operation `fault` makes sense for.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            kind: None,
            path_prefix: String::new(),
            skip_count: 0,
            hit_count: u64::MAX,
            chance_per_mille: 1000,
        }
    }

    /// Only operations of this kind.
    #[must_use]
    pub fn on(mut self, kind: OpKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only files and directories whose path begins with this.
    #[must_use]
    pub fn under(mut self, path_prefix: &str) -> Self {
        path_prefix.clone_into(&mut self.path_prefix);
        self
    }

    /// Lets so many that match pass first.
    #[must_use]
    pub fn after(mut self, skip_count: u64) -> Self {
        self.skip_count = skip_count;
        self
    }

    /// Hits at most so many.
    #[must_use]
    pub fn times(mut self, hit_count: u64) -> Self {
        self.hit_count = hit_count;
        self
    }

    /// Hits each that matches with this chance.
    #[must_use]
    pub fn chance(mut self, per_mille: u16) -> Self {
        self.chance_per_mille = per_mille;
        self
    }

    /// The fault, when this rule hits this operation. Counts what it sees.
    pub(super) fn hit(&mut self, op: &Op, path: &str, rng: &mut SimRng) -> Option<Fault> {
        let matches = self.kind.is_none_or(|kind| kind == OpKind::of(op))
            && path.starts_with(&self.path_prefix)
            && self.fault.applies_to(op);
        if !matches || self.hit_count == 0 {
            return None;
        }
        if self.skip_count > 0 {
            self.skip_count -= 1;
            return None;
        }
        if !rng.chance(u64::from(self.chance_per_mille), 1000) {
            return None;
        }
        self.hit_count -= 1;
        Some(self.fault)
    }
}

/// A fault that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The operation's number.
    pub op_index: u64,
    /// Its kind.
    pub kind: OpKind,
    /// The file or directory it was about.
    pub path: String,
    /// What happened to it.
    pub fault: Fault,
}

/// A way for a disk to break its contract for good. Survives a crash: the disk stays a liar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// Directory syncs under this path succeed and do nothing.
    NoDirectorySync {
        /// Beginning of the directory's path; empty for all.
        path_prefix: String,
    },
    /// Syncs of files under this path succeed and do nothing: acknowledged before synced.
    NoFileSync {
        /// Beginning of the file's path; empty for all.
        path_prefix: String,
    },
    /// Syncs of files under this path fail, lose what they should have written, and succeed: a
    /// program that ignores sync errors.
    LostSync {
        /// Beginning of the file's path; empty for all.
        path_prefix: String,
    },
}
