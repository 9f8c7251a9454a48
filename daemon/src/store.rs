//! The open database and everything about this daemon that requests may ask for.
//!
//! Shared by the reactor and the workers; what changes is atomic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use in_mem_engine::{Database, Run};
use in_mem_ipc::frame::FRAME_LEN_BYTES_MAX;
use in_mem_model::RunId;
use in_mem_wal::clock::{Clock, SystemClock};
use in_mem_wal::disk::{DiskKind, FileSystem, RealRoot};

use parking_lot::RwLock;

use crate::automatic::Automatic;
use crate::config::{DescribedSetting, Limits, Principals, Settings};
use crate::defect::Defects;
use crate::disk_space::{DiskFound, DiskSpace};
use crate::health::LastLook;
use crate::live_limits::LiveLimits;
use crate::metrics::Metrics;
use crate::session::Credentials;
use crate::shares::{Resource, Shares};

/// Version of the server program.
pub(crate) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Limits of data types that no operation here takes: not reported.
const UNUSED_LIMITS: &[&str] = &[
    "document_len_bytes_max",
    "document_depth_max",
    "path_segment_count_max",
    "document_array_count_max",
    "vector_dimension_max",
    "collection_name_len_bytes_max",
    "event_type_len_bytes_max",
];

/// A handle on the run of a session; resolved once.
pub(crate) type SessionRun = Run;

/// Where the data lies and how it is written.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// What the data directory lies on.
    pub(crate) file_system: FileSystem,
    /// How the log is written.
    pub(crate) disk: DiskKind,
    /// Why io_uring is not used for the log, if it is refused.
    pub(crate) refusal: Option<String>,
    /// The data directory; none over a disk of the tests.
    pub(crate) root: Option<RealRoot>,
    /// The reactor's kind, in one word.
    pub(crate) reactor: &'static str,
    /// Why io_uring is not used for the sockets, if it is refused.
    pub(crate) ring_refusal: Option<String>,
}

/// See the module.
pub(crate) struct Store {
    pub(crate) database: Database,
    /// As of the start: what a reload may change is kept apart.
    pub(crate) settings: Settings,
    principals: RwLock<Principals>,
    limits: LiveLimits,
    pub(crate) place: Place,
    /// Every setting in force with its origin.
    described: RwLock<Vec<DescribedSetting>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) last_look: LastLook,
    pub(crate) defects: Defects,
    pub(crate) shares: Shares,
    pub(crate) disk: DiskSpace,
    /// Checkpoints that nobody asked for.
    pub(crate) automatic: Automatic,
    started_us: u64,
    started_at_us: u64,
    is_draining: AtomicBool,
    connection_count: AtomicU64,
    last_txn_id: AtomicU64,
}

impl Store {
    /// A store that is ready now.
    pub(crate) fn new(
        database: Database,
        settings: Settings,
        principals: Principals,
        place: Place,
    ) -> Self {
        Self {
            database,
            limits: LiveLimits::new(&settings.limits),
            automatic: Automatic::new(settings.snapshot),
            settings,
            principals: RwLock::new(principals),
            place,
            described: RwLock::default(),
            metrics: Arc::default(),
            last_look: LastLook::default(),
            defects: Defects::default(),
            shares: Shares::default(),
            disk: DiskSpace::default(),
            started_us: SystemClock.monotonic_us(),
            started_at_us: SystemClock.wall_us(),
            is_draining: AtomicBool::new(false),
            connection_count: AtomicU64::new(0),
            last_txn_id: AtomicU64::new(0),
        }
    }

    /// This is what each setting in force is, and where it came from.
    pub(crate) fn set_described(&self, described: Vec<DescribedSetting>) {
        *self.described.write() = described;
    }

    /// What each setting in force is, and where it came from.
    pub(crate) fn described(&self) -> Vec<DescribedSetting> {
        self.described.read().clone()
    }

    /// When the store was ready, microseconds since the Unix epoch.
    pub(crate) fn started_at_us(&self) -> u64 {
        self.started_at_us
    }

    /// The limits of clients in force.
    #[inline]
    pub(crate) fn limits_in_force(&self) -> Limits {
        self.limits.get()
    }

    /// These limits are in force from now on.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.limits.set(limits);
    }

    /// Whether a peer with these credentials may connect.
    pub(crate) fn may_connect(&self, credentials: Credentials) -> bool {
        let principals = self.principals.read();
        principals.allows(credentials.user, credentials.group)
    }

    /// These may connect from now on.
    pub(crate) fn set_principals(&self, principals: Principals) {
        *self.principals.write() = principals;
    }

    /// The default run of the database.
    pub(crate) fn default_run(&self) -> SessionRun {
        self.database.default_run()
    }

    /// A run that exists.
    pub(crate) fn open_run(&self, id: RunId) -> Option<SessionRun> {
        self.database.run(id).ok()
    }

    /// The run of a name.
    pub(crate) fn resolve_run(&self, name: &str) -> Option<RunId> {
        self.database.runs().resolve(name)
    }

    /// Stamps the time that commits take from now on, microseconds since the epoch.
    pub(crate) fn set_now(&self, wall_us: u64) {
        self.database.set_now(wall_us);
    }

    /// Whether the log has failed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.database.is_poisoned()
    }

    /// Whether the database was opened for reading only.
    pub(crate) fn is_read_only(&self) -> bool {
        let result = self.database.last_recovery_result();
        result.is_some_and(|result| result.is_read_only)
    }

    /// The stop has begun.
    pub(crate) fn set_draining(&self) {
        // Relaxed: only reported, nothing is ordered by it.
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the stop has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub(crate) fn set_connection_count(&self, count: u64) {
        // Relaxed: only reported.
        self.connection_count.store(count, Ordering::Relaxed);
    }

    /// Connections open at the last turn.
    pub(crate) fn connection_count(&self) -> u64 {
        self.connection_count.load(Ordering::Relaxed)
    }

    /// Requests parked until commits are durable, of all sessions.
    pub(crate) fn durable_wait_count(&self) -> u64 {
        self.shares.all().get(Resource::DurableWaits)
    }

    /// An id no transaction had before.
    pub(crate) fn next_txn_id(&self) -> u64 {
        // Relaxed: only uniqueness counts.
        self.last_txn_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Time since the store was ready, microseconds.
    pub(crate) fn uptime_us(&self) -> u64 {
        SystemClock.monotonic_us().saturating_sub(self.started_us)
    }

    /// Looks how much is free for the data, and has growing writes refused or taken accordingly.
    /// Asks the kernel about a file system: not for the reactor, except where nothing else will do.
    pub(crate) fn look_at_disk(&self) -> DiskFound {
        let found = DiskFound {
            free_len_bytes: self
                .place
                .root
                .as_ref()
                .and_then(|root| root.free_bytes().ok()),
            free_len_bytes_min: self.limits_in_force().disk_free_len_bytes_min,
            segment_len_bytes: self.settings.wal.segment_len_bytes,
        };
        self.disk.found(&found);
        self.database.set_low_disk(found.low());
        found
    }

    /// Every limit in force, by name.
    pub(crate) fn limits(&self) -> Vec<(&'static str, u64)> {
        let own = self.limits_in_force();
        let mut limits = self.database.limits().entries();
        limits.retain(|(name, _)| !UNUSED_LIMITS.contains(name));
        limits.extend([
            ("frame_len_bytes_max", u64::from(FRAME_LEN_BYTES_MAX)),
            ("connection_count_max", own.connection_count_max),
            (
                "connection_count_per_user_max",
                own.connection_count_per_user_max,
            ),
            ("in_flight_count_max", own.in_flight_count_max),
            ("in_flight_len_bytes_max", own.in_flight_len_bytes_max),
            ("reply_len_bytes_max", own.reply_len_bytes_max),
            (
                "reply_len_bytes_per_user_max",
                own.reply_len_bytes_per_user_max,
            ),
            ("reply_total_len_bytes_max", own.reply_total_len_bytes_max),
            ("gather_len_bytes_max", own.gather_len_bytes_max),
            (
                "gather_len_bytes_per_user_max",
                own.gather_len_bytes_per_user_max,
            ),
            ("disk_free_len_bytes_min", own.disk_free_len_bytes_min),
            ("memory_max", self.settings.limits.memory_max),
            ("open_transaction_count_max", own.open_transaction_count_max),
            (
                "open_transaction_count_per_user_max",
                own.open_transaction_count_per_user_max,
            ),
            ("durable_wait_count_max", own.durable_wait_count_max),
            (
                "durable_wait_count_per_user_max",
                own.durable_wait_count_per_user_max,
            ),
            ("transaction_idle_ms", own.transaction_idle_ms),
            ("transaction_total_ms", own.transaction_total_ms),
            ("idle_timeout_ms", own.idle_timeout_ms),
            ("frame_timeout_ms", own.frame_timeout_ms),
        ]);
        limits
    }
}
