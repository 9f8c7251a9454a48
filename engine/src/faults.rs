//! Fault points of the commit sequence and planted mistakes of the engine.
//!
//! Without the `faults` feature all of it compiles to nothing. With it, the process aborts at the
//! n-th passing of the point that `INMEM_FAULT_POINT=name:n` names, and one database may carry one
//! [`Mutant`].

/// A moment of the commit sequence at which the kill harness can stop the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Validated; no version has been assigned.
    CommitValidated,
    /// The record is with the log; nothing is installed.
    CommitHandedOff,
    /// Installed; not yet published.
    CommitInstalled,
}

impl Point {
    /// Every point, for a harness that visits them all.
    pub const ALL: [Self; 3] = [
        Self::CommitValidated,
        Self::CommitHandedOff,
        Self::CommitInstalled,
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
    /// A logged commit counts as promised when its record is handed to the log.
    PublishedBeforePromise,
    /// A commit is validated against what is published, without what is pending.
    PendingIgnored,
    /// A negative answer does not wait for the pending versions it depends on.
    FollowerAnsweredAtOnce,
    /// Commits are told to be durable when the kernel has their records.
    DurableBeforeSync,
    /// Recovery does not rebuild the exactly-once table from the log.
    OnceNotRebuilt,
    /// The record of an exactly-once request says nothing of the request.
    OnceKeptInMemoryAlone,
    /// A repeat is found only once the request that it repeats is published.
    OnceFoundWhenPublished,
    /// A checkpoint drops the segments it covers before MANIFEST names its snapshot.
    SegmentsDroppedBeforeManifest,
    /// A snapshot holds what is published when it is written, instead of what its watermark says.
    SnapshotWithoutWatermark,
    /// A compaction ranks the versions of an entity from one that is not published yet.
    PendingCountedAsNewest,
}

impl Mutant {
    /// Every mutant, for a test that runs them all.
    pub const ALL: [Self; 10] = [
        Self::PublishedBeforePromise,
        Self::PendingIgnored,
        Self::FollowerAnsweredAtOnce,
        Self::DurableBeforeSync,
        Self::OnceNotRebuilt,
        Self::OnceKeptInMemoryAlone,
        Self::OnceFoundWhenPublished,
        Self::SegmentsDroppedBeforeManifest,
        Self::SnapshotWithoutWatermark,
        Self::PendingCountedAsNewest,
    ];

    /// Whether it is one with checkpoints.
    #[must_use]
    pub fn is_about_checkpoints(self) -> bool {
        matches!(
            self,
            Self::SegmentsDroppedBeforeManifest
                | Self::SnapshotWithoutWatermark
                | Self::PendingCountedAsNewest
        )
    }

    /// Whether it is one with exactly-once requests.
    #[must_use]
    pub fn is_about_once(self) -> bool {
        matches!(
            self,
            Self::OnceNotRebuilt | Self::OnceKeptInMemoryAlone | Self::OnceFoundWhenPublished
        )
    }
}

/// Reads the writeset of a record of this run and commit version, as recovery does; for tests
/// that bring bytes of their own.
///
/// # Errors
/// See [`crate::WritesetError`].
#[cfg(any(test, feature = "faults"))]
pub fn read_writeset(
    bytes: &[u8],
    run_id: in_mem_model::RunId,
    commit_version: u64,
) -> Result<Vec<crate::WalEntry<'_>>, crate::WritesetError> {
    use std::sync::Arc;

    let mut registry = crate::PrimitiveRegistry::new();
    let primitives: [Arc<dyn crate::PrimitiveStorageExt>; 2] = [
        Arc::new(crate::kv_storage::KvStorage),
        Arc::new(crate::run_storage::RunStorage::new(false)),
    ];
    for primitive in primitives {
        let registered = registry.register(primitive);
        assert!(registered.is_ok(), "the primitives of this build agree");
    }
    let head = crate::writeset_reader::RecordHead {
        run_id,
        commit_version,
        timestamp_us: 0,
    };
    let unknown = crate::writeset_reader::Unknown::Refused;
    crate::writeset_reader::read_writeset(bytes, head, &registry, unknown)
        .map(|mutations| mutations.entries)
}

/// At most one planted [`Mutant`] of one database.
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

/// Passes a fault point.
#[cfg(not(any(test, feature = "faults")))]
#[inline(always)]
pub(crate) fn pass(point: Point) {
    let _ = point;
}

#[cfg(any(test, feature = "faults"))]
pub use armed::panic_at;
#[cfg(any(test, feature = "faults"))]
pub(crate) use armed::pass;

/// The armed point of this process, read from its environment once.
#[cfg(any(test, feature = "faults"))]
mod armed {
    use super::Point;
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    thread_local! {
        static PANICS_AT: Cell<Option<Point>> = const { Cell::new(None) };
    }

    /// The next passing of `point` by this thread panics, once.
    pub fn panic_at(point: Point) {
        PANICS_AT.set(Some(point));
    }

    /// Passes a fault point: panics if this thread is to, and aborts the process if the point is
    /// the armed one and its turn has come.
    pub(crate) fn pass(point: Point) {
        if PANICS_AT.get() == Some(point) {
            PANICS_AT.set(None);
            std::panic::panic_any("a planted panic");
        }
        static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| {
            let setting = std::env::var("INMEM_FAULT_POINT").ok()?;
            let (name, nth) = setting.split_once(':').unwrap_or((&setting, "1"));
            let nth = nth.parse::<u64>().ok().filter(|nth| *nth != 0)?;
            Some((name.to_owned(), AtomicU64::new(nth)))
        });
        let Some((name, passes_left)) = armed else {
            return;
        };
        // Relaxed: only the count matters, no other memory hangs on it.
        if *name == point.name() && passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}
