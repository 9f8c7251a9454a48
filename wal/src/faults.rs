//! Fault points and planted mistakes: how the tests break the log on purpose.
//!
//! Without the `faults` feature all of it compiles to nothing: a point is an empty function and no
//! mistake can be planted. With it, the process aborts at the n-th passing of the point that
//! `INMEM_FAULT_POINT=name:n` names, and one log instance may carry one [`Mutant`]. With a third
//! part, `name:n:path`, the thread waits there instead until somebody opens the FIFO at the path for
//! writing: what a disk that does not answer looks like.

/// A moment at which the kill harness can stop the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A batch is built and not yet given to the kernel.
    BeforeWalWrite,
    /// The kernel has the batch; the sync has not started.
    AfterWalWriteBeforeFsync,
    /// The batch is durable; nobody has been told.
    AfterFsync,
    /// The old segment is synced; the spare has not been renamed.
    DuringSegmentRotationBeforeRename,
    /// The spare has its segment name; the directory is not synced.
    DuringSegmentRotationAfterRename,
    /// The new segment is durable; no batch is in it.
    DuringSegmentRotationAfterSyncDir,
    /// A spare is zeroed; it has no header.
    DuringSpareBeforeHeader,
    /// MANIFEST.new is about to be written.
    DuringManifestUpdateBeforeWrite,
    /// MANIFEST.new is written and not synced.
    DuringManifestUpdateBeforeFsync,
    /// MANIFEST.new is synced and not renamed.
    DuringManifestUpdateBeforeRename,
    /// MANIFEST is renamed; the directory is not synced.
    DuringManifestUpdateAfterRename,
    /// A part of a snapshot is written; it has no end.
    DuringSnapshotWrite,
    /// A snapshot is written and synced; it has no name.
    DuringSnapshotBeforeRename,
    /// A snapshot has its name; the directory is not synced.
    DuringSnapshotAfterRename,
    /// A snapshot has its name for good; MANIFEST does not name it.
    DuringSnapshotAfterSyncDir,
    /// MANIFEST names a new snapshot; those it makes superfluous are still there.
    DuringSnapshotAfterManifest,
    /// A segment that a snapshot covers is about to be removed.
    DuringCompactionBeforeUnlink,
    /// A segment that a snapshot covers is removed; the directory is not synced.
    DuringCompactionAfterUnlink,
    /// Recovery has loaded a snapshot and read nothing of the log.
    RecoveryAfterSnapshot,
    /// Recovery has read the log and changed nothing.
    RecoveryAfterScan,
    /// Left-over temporary files are deleted.
    RecoveryAfterTemps,
    /// What followed the end of the log is in quarantine.
    RecoveryAfterQuarantine,
    /// The hint is lowered; the empty newest segment still exists.
    RecoveryBeforeRemove,
    /// The empty newest segment is removed; the directory is not synced.
    RecoveryAfterRemove,
    /// The rewritten segment is complete and not synced.
    RecoveryBeforeRewriteSync,
    /// The rewritten segment is synced and not renamed.
    RecoveryBeforeRewriteRename,
    /// The rewritten segment is in place; the directory is not synced.
    RecoveryAfterRewriteRename,
    /// The log is settled; the database is not open yet.
    RecoveryAfterSettle,
}

impl Point {
    /// Every point, for a harness that visits them all.
    pub const ALL: [Self; 28] = [
        Self::BeforeWalWrite,
        Self::AfterWalWriteBeforeFsync,
        Self::AfterFsync,
        Self::DuringSegmentRotationBeforeRename,
        Self::DuringSegmentRotationAfterRename,
        Self::DuringSegmentRotationAfterSyncDir,
        Self::DuringSpareBeforeHeader,
        Self::DuringManifestUpdateBeforeWrite,
        Self::DuringManifestUpdateBeforeFsync,
        Self::DuringManifestUpdateBeforeRename,
        Self::DuringManifestUpdateAfterRename,
        Self::DuringSnapshotWrite,
        Self::DuringSnapshotBeforeRename,
        Self::DuringSnapshotAfterRename,
        Self::DuringSnapshotAfterSyncDir,
        Self::DuringSnapshotAfterManifest,
        Self::DuringCompactionBeforeUnlink,
        Self::DuringCompactionAfterUnlink,
        Self::RecoveryAfterSnapshot,
        Self::RecoveryAfterScan,
        Self::RecoveryAfterTemps,
        Self::RecoveryAfterQuarantine,
        Self::RecoveryBeforeRemove,
        Self::RecoveryAfterRemove,
        Self::RecoveryBeforeRewriteSync,
        Self::RecoveryBeforeRewriteRename,
        Self::RecoveryAfterRewriteRename,
        Self::RecoveryAfterSettle,
    ];

    /// The name in `INMEM_FAULT_POINT`.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// A mistake planted to prove that the tests would catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A Strict record is reported once written.
    AckBeforeSync,
    /// A record is read back without comparing its checksum.
    CrcNotChecked,
    /// A bad record is stepped over and the rest of its batch is applied.
    TornBatchAppliedPastHole,
    /// A failed sync counts as a good one.
    SyncErrorIgnored,
    /// A failed sync is tried again, and the second answer counts.
    RetryAfterFailedSync,
    /// A short write counts as a whole one.
    ShortWriteIgnored,
    /// Every third batch is written where the one before it lies.
    LsnReused,
    /// Zeros inside a batch are taken for its padding.
    ZeroSectorTakenForPadding,
    /// A mark states what was durable when the batch before it was submitted.
    MarkFilledWhenBuilt,
    /// A log that ends with a close mark is appended to in place.
    RewriteSkippedAfterCloseMark,
}

impl Mutant {
    /// Every mutant, for a test that runs them all.
    pub const ALL: [Self; 10] = [
        Self::AckBeforeSync,
        Self::CrcNotChecked,
        Self::TornBatchAppliedPastHole,
        Self::SyncErrorIgnored,
        Self::RetryAfterFailedSync,
        Self::ShortWriteIgnored,
        Self::LsnReused,
        Self::ZeroSectorTakenForPadding,
        Self::MarkFilledWhenBuilt,
        Self::RewriteSkippedAfterCloseMark,
    ];
}

/// At most one planted [`Mutant`] of one log instance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    #[cfg(any(test, feature = "faults"))]
    mutant: Option<Mutant>,
}

impl Planted {
    /// No mistake.
    pub const NONE: Self = Self {
        #[cfg(any(test, feature = "faults"))]
        mutant: None,
    };

    /// This mistake.
    #[cfg(any(test, feature = "faults"))]
    #[must_use]
    pub const fn new(mutant: Mutant) -> Self {
        Self {
            mutant: Some(mutant),
        }
    }

    /// True when `mutant` is planted; a constant `false` in a product build.
    #[inline]
    pub(crate) fn is(self, mutant: Mutant) -> bool {
        #[cfg(any(test, feature = "faults"))]
        return self.mutant == Some(mutant);
        #[cfg(not(any(test, feature = "faults")))]
        {
            let _ = mutant;
            false
        }
    }
}

/// Passes a fault point: aborts the process if it is the armed one and its turn has come.
#[cfg(not(any(test, feature = "faults")))]
#[inline(always)]
pub fn pass(point: Point) {
    let _ = point;
}

/// True when the harness has armed `point`.
#[cfg(not(any(test, feature = "faults")))]
#[inline(always)]
#[must_use]
pub fn is_armed(point: Point) -> bool {
    let _ = point;
    false
}

#[cfg(any(test, feature = "faults"))]
pub use armed::{is_armed, pass};

/// The armed point of this process, read from its environment once.
#[cfg(any(test, feature = "faults"))]
mod armed {
    use super::Point;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::fs::{Mode, OFlags};

    struct Armed {
        name: String,
        passes_left: AtomicU64,
        /// A FIFO to wait at instead of aborting.
        hold: Option<String>,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let setting = std::env::var("INMEM_FAULT_POINT").ok()?;
                let mut parts = setting.splitn(3, ':');
                let name = parts.next()?.to_owned();
                let nth = parts.next().unwrap_or("1");
                let nth = nth.parse::<u64>().ok().filter(|nth| *nth != 0)?;
                Some(Armed {
                    name,
                    passes_left: AtomicU64::new(nth),
                    hold: parts.next().map(str::to_owned),
                })
            })
            .as_ref()
    }

    /// True when the harness has armed `point`.
    #[must_use]
    pub fn is_armed(point: Point) -> bool {
        armed().is_some_and(|armed| armed.name == point.name())
    }

    /// Passes a fault point: aborts the process, or waits, if it is the armed one and its turn has
    /// come.
    pub fn pass(point: Point) {
        let Some(armed) = armed().filter(|armed| armed.name == point.name()) else {
            return;
        };
        // Relaxed: only the count matters, no other memory hangs on it.
        if armed.passes_left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        let Some(path) = &armed.hold else {
            std::process::abort();
        };
        // Opening a FIFO to read it waits for a writer.
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        opened.expect("the FIFO of a fault point can be opened");
    }
}
