//! From settings to a serving daemon, step by step, and back.
//!
//! The order is a promise: the reactor first (a kernel that refuses a ring that must be changes
//! nothing on disk), then the lock of the data directory, then the socket, which only the holder of the lock may take,
//! then recovery, and only then does anybody hear "ready". Clients that come earlier wait in the
//! socket's backlog.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use in_mem_engine::{
    BufferedAck, Database, DatabaseConfig, DurabilityMode, OpenError, RecoveryProgress,
    ShutdownError, TimeSource,
};
use in_mem_model::Durability;
use in_mem_wal::LogConfig;
use in_mem_wal::codec::CodecKey;
use in_mem_wal::disk::{
    DirectoryLock, DiskPreference, KeyFileError, LockError, OpenDisk, RealDisk, RealRoot,
    RingRefusal, RootError,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::acceptor::Acceptor;
use crate::config::{Configuration, IoChoice, Principals, Settings, group_id};
use crate::control_group;
use crate::core::Core;
use crate::exit::{self, Exit};
use crate::key;
use crate::log::Log;
use crate::metrics::{Responder, ResponderError};
use crate::reactor::{Reactor, Readiness, Ring, SetupError};
use crate::recovering::open_unless_stopped;
use crate::reload::{Reload, Sources};
use crate::server::{Server, Stopped};
use crate::signals::Signals;
use crate::socket::{Listener, SocketError};
use crate::store::{Place, Store};
use crate::supervisor::{ActivationError, PassedSocket, Supervisor};
use crate::workers::Workers;

/// How long a stop that is cut off may still take to sync the log.
const CUT_OFF_FLUSH_MAX: Duration = Duration::from_secs(2);

/// Why the daemon did not come to serve, or ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Ring(#[from] SetupError),
    #[error("io_uring is refused for the log: {0}; with `io = \"auto\"` it does without")]
    LogRing(RingRefusal),
    #[error("{}", chain(.0))]
    Root(#[from] RootError),
    #[error(
        "{} lies on {file_system}, which does not survive a restart of the machine or container, \
         and `refuse_volatile_storage` is set",
        directory.display()
    )]
    VolatileStorage {
        /// The data directory.
        directory: PathBuf,
        /// The name of what it lies on.
        file_system: &'static str,
    },
    #[error(
        "{} cannot be synced ({source}), so no commit could be kept there: put the data directory \
         on a file system that can (ext4, xfs), in a container on a volume",
        path.display()
    )]
    CannotSync {
        /// What was not synced.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    #[error("{}", chain(.0))]
    Lock(#[from] LockError),
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("{}{}", chain(.0), advice_on(.0))]
    Open(#[from] OpenError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("{}", chain(.0))]
    Shutdown(#[from] ShutdownError),
    #[error(transparent)]
    Responder(#[from] ResponderError),
    #[error("cannot {step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl RunError {
    /// The exit code it ends the process with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Activation(_) | Self::VolatileStorage { .. } => Exit::Usage,
            Self::Ring(_) | Self::LogRing(_) | Self::Shutdown(_) => Exit::Other,
            Self::Root(RootError::NotOurs { .. } | RootError::WritableByOthers { .. }) => {
                Exit::Permission
            }
            Self::Root(RootError::Io { source, .. }) | Self::Lock(LockError::Io { source, .. }) => {
                exit::of_io(source)
            }
            Self::Root(_) => Exit::Usage,
            Self::CannotSync { source, .. } => match exit::of_io(source) {
                Exit::Other => Exit::Usage,
                known => known,
            },
            Self::Lock(LockError::Locked { .. }) => Exit::Locked,
            Self::Socket(error) | Self::Responder(ResponderError::Socket(error)) => error.exit(),
            Self::Responder(ResponderError::Thread(source)) => exit::of_io(source),
            Self::Open(error) => of_open(error),
            Self::Key(error) => key::exit_of(error),
            Self::Io { source, .. } => exit::of_io(source),
        }
    }
}

/// The exit code of a database that does not open.
fn of_open(error: &OpenError) -> Exit {
    match error {
        newer if newer.needs_newer_build() => Exit::Other,
        OpenError::DatabaseLocked => Exit::Locked,
        of_codec if key::is_of_codec(of_codec) => Exit::Codec,
        OpenError::MissingManifest
        | OpenError::MissingWalDir
        | OpenError::MissingSnapshotsDir
        | OpenError::SnapshotUnrecoverable { .. }
        | OpenError::Record { .. } => Exit::Damage,
        OpenError::InvalidConfig { .. } | OpenError::LogConfig(_) | OpenError::Limit(_) => {
            Exit::Usage
        }
        other => of_source(other),
    }
}

/// What to do about a database that does not open, behind what is wrong.
fn advice_on(error: &OpenError) -> String {
    if error.needs_newer_build() {
        "; the data is whole, but a newer in-mem wrote it: open it with that build \
         (inmemd --version names the formats of a build); nothing was changed"
            .to_owned()
    } else {
        key::advice_on(error)
    }
}

/// What lies below decides: an I/O error by its number, anything else is damage.
fn of_source(error: &(dyn std::error::Error + 'static)) -> Exit {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return exit::of_io(error);
        }
        next = error.source();
    }
    Exit::Damage
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}

/// What a start is given.
pub(crate) struct Start {
    /// The configuration.
    pub(crate) configuration: Configuration,
    /// Where it comes from, and is read again.
    pub(crate) sources: Sources,
    /// The log, whose filter a reload may change.
    pub(crate) log: Log,
    /// Where to announce readiness beside standard output.
    pub(crate) ready_fd: Option<i32>,
}

/// Serves until told to stop, and tells the service manager how it ended.
pub(crate) fn run(start: Start) -> Result<Exit, RunError> {
    let failed = |step| move |source| RunError::Io { step, source };
    // Before anything is opened: see `activation`.
    let passed = PassedSocket::take()?;
    // Before any thread exists: threads inherit the mask.
    let signals = Signals::block().map_err(failed("block signals"))?;
    let supervisor = Supervisor::start().map_err(failed("start a thread"))?;
    let daemon = Daemon {
        start,
        passed,
        signals,
        descriptor_count_max: raise_descriptor_limit(),
        supervisor: supervisor.clone(),
    };
    let result = daemon.serve();
    if let Err(error) = &result {
        supervisor.status(format!("failed: {error}"));
    }
    supervisor.flush();
    result
}

/// The reactor of completions.
fn ring() -> Result<Ring, SetupError> {
    let ring = Ring::new()?;
    let flags = ring.step().name();
    tracing::info!(target: "ipc", flags, restricted = ring.is_restricted(), "io_uring");
    if !ring.is_restricted() {
        tracing::debug!(
            target: "ipc",
            "the kernel cannot restrict the ring to the operations it is used for"
        );
    }
    Ok(ring)
}

/// What a daemon starts with, whatever its reactor is.
struct Daemon {
    start: Start,
    passed: Option<PassedSocket>,
    signals: Signals,
    descriptor_count_max: u64,
    supervisor: Supervisor,
}

impl Daemon {
    /// Chooses the reactor, and serves.
    fn serve(self) -> Result<Exit, RunError> {
        let refusal = match self.start.configuration.settings.io {
            IoChoice::Readiness => None,
            IoChoice::IoUring => return self.serve_with(ring()?, None),
            IoChoice::Auto => match ring() {
                Ok(ring) => return self.serve_with(ring, None),
                Err(error) if error.is_of_ring() => Some(error.to_string()),
                Err(error) => return Err(error.into()),
            },
        };
        let made = Readiness::new();
        let reactor = made.map_err(|source| RunError::Io {
            step: "make the reactor",
            source,
        })?;
        self.serve_with(reactor, refusal)
    }

    /// Takes the directory and the socket, recovers, and serves until told to stop.
    fn serve_with<R: Reactor>(
        self,
        reactor: R,
        ring_refusal: Option<String>,
    ) -> Result<Exit, RunError> {
        let failed = |step| move |source| RunError::Io { step, source };
        let start = self.start;
        let is_socket_default = start.configuration.is_socket_default();
        let mut configuration = start.configuration;
        let mut settings = configuration.settings.clone();
        let principals = Principals::resolve(&settings.access)?;
        let group = settings.socket_group.as_deref();
        let group = group
            .map(|group| group_id("socket_group", group))
            .transpose()?;
        let metrics_group = settings.observe.group_id()?;
        let key = key::read(&settings)?;
        let root = RealRoot::open_or_create(&settings.data_dir).map_err(of_root)?;
        check_storage(&settings, &root)?;
        let lock = root.lock()?;
        root.check_sync(&lock).map_err(of_root)?;
        let listener = match self.passed {
            Some(passed) => {
                let expected = (!is_socket_default).then_some(settings.socket.as_path());
                Listener::adopt(passed, expected)?
            }
            None => Listener::bind(&settings.socket, settings.socket_mode, group)?,
        };
        settings.socket = listener.path().to_owned();
        configuration.settings = settings.clone();
        let backend = Backend {
            reactor: reactor.name(),
            ring_refusal,
        };
        let stored = Stored { root: &root, key };
        let opened = open(&settings, stored, backend, &self.supervisor, &self.signals)?;
        let Some((database, place)) = opened else {
            return Ok(Exit::Clean);
        };
        warn_of_place(&settings, &place);
        let count_max = settings.limits.connection_count_max;
        let acceptor = Acceptor::new(count_max, self.descriptor_count_max);
        let workers = Workers::start().map_err(failed("start the workers"))?;
        let ready = ready_line(&settings, &database);
        tracing::info!(
            target: "ipc",
            reactor = reactor.name(),
            connections = acceptor.count_max(),
            "{ready}"
        );
        let waker = reactor.waker();
        let store = Arc::new(Store::new(database, settings, principals, place));
        store.set_described(configuration.described());
        let reload = Reload::new(start.sources, start.log, configuration, waker.clone());
        let responder = Responder::start(&store.settings.observe, metrics_group, &store)?;
        // The first status line knows of the directory and the disk.
        crate::health::look(&store);
        let core = Core::new(Arc::clone(&store), &waker, workers);
        let (signals, supervisor) = (self.signals, self.supervisor);
        let mut server = Server::new(
            reactor, listener, signals, acceptor, core, supervisor, reload,
        );
        announce(&ready, start.ready_fd).map_err(failed("announce readiness"))?;
        let stopped = server.run().map_err(failed("wait for events"))?;
        finish(stopped, server, &store, responder, lock)
    }
}

/// Ends what runs, in the order that loses nothing.
fn finish<R: Reactor>(
    stopped: Stopped,
    server: Server<R>,
    store: &Arc<Store>,
    responder: Option<Responder>,
    lock: DirectoryLock,
) -> Result<Exit, RunError> {
    if let Some(responder) = &responder {
        responder.stop();
    }
    if stopped == Stopped::Forced {
        cut_off(store);
    }
    drop(server);
    let result = store.database.shutdown();
    // What its thread is at keeps no acknowledged commit from the disk; and the next daemon of this
    // directory finds its socket free.
    drop(responder);
    drop(lock);
    match (stopped, result) {
        (Stopped::Poisoned, _) => Ok(Exit::Other),
        (_, Ok(())) => Ok(Exit::Clean),
        (_, Err(error)) => Err(error.into()),
    }
}

/// Ends the process without waiting for what is stuck: every orderly end would wait for it. What was
/// acknowledged is in the log, and synced if that can be done in time; the next start recovers it
/// and finds the socket stale.
fn cut_off(store: &Arc<Store>) -> ! {
    let (sender, flushed) = mpsc::channel();
    let database = Arc::clone(store);
    let flush = move || {
        let _ = sender.send(database.database.flush());
    };
    let spawned = std::thread::Builder::new().spawn(flush);
    match spawned.map(|_| flushed.recv_timeout(CUT_OFF_FLUSH_MAX)) {
        Ok(Ok(Ok(_))) => tracing::warn!(target: "db", "cut off; the log is synced"),
        _ => tracing::error!(
            target: "db",
            "cut off; the log could not be synced: a power loss now may take Buffered commits"
        ),
    }
    std::process::exit(i32::from(Exit::Other as u8));
}

/// What serves the sockets.
struct Backend {
    reactor: &'static str,
    /// Why it is not a ring, where one was asked for.
    ring_refusal: Option<String>,
}

/// What is opened, and what opens it.
struct Stored<'a> {
    root: &'a RealRoot,
    key: Option<CodecKey>,
}

fn open(
    settings: &Settings,
    stored: Stored<'_>,
    backend: Backend,
    supervisor: &Supervisor,
    signals: &Signals,
) -> Result<Option<(Database, Place)>, RunError> {
    let preference = match settings.io {
        IoChoice::Auto | IoChoice::IoUring => DiskPreference::Auto,
        IoChoice::Readiness => DiskPreference::Thread,
    };
    let Stored { root, key } = stored;
    let disk = RealDisk::probe(root.clone(), preference);
    if let (IoChoice::IoUring, Some(refusal)) = (settings.io, disk.refusal()) {
        return Err(RunError::LogRing(*refusal));
    }
    let place = Place {
        file_system: root.file_system(),
        disk: disk.kind(),
        refusal: disk.refusal().map(ToString::to_string),
        root: Some(root.clone()),
        reactor: backend.reactor,
        ring_refusal: backend.ring_refusal,
    };
    let disk: Arc<dyn OpenDisk> = Arc::new(disk);
    let config = DatabaseConfig {
        key,
        ..config_of(settings, disk.block_bytes())
    };
    let progress = Arc::new(RecoveryProgress::default());
    supervisor.recovering(Arc::clone(&progress));
    let builder = Database::builder().config(config).disk(disk);
    let database = open_unless_stopped(builder, &progress, signals, supervisor)?;
    Ok(database.map(|database| (database, place)))
}

/// The settings of a database on a device that writes blocks of `block_len_bytes` whole.
fn config_of(settings: &Settings, block_len_bytes: u32) -> DatabaseConfig {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let buffered = &settings.buffered;
    let durability = match settings.durability {
        Durability::InMemory => DurabilityMode::InMemory,
        Durability::Buffered => DurabilityMode::Buffered {
            flush_interval_ms: buffered.flush_interval_ms,
            max_pending_writes: usize::try_from(buffered.max_pending_writes).unwrap_or(usize::MAX),
        },
        Durability::Strict => DurabilityMode::Strict,
    };
    DatabaseConfig {
        durability,
        wal_config: LogConfig {
            log_block_len_bytes: block_len_bytes,
            segment_len_bytes: narrow(settings.wal.segment_len_bytes),
            buffered_sync_len_bytes: narrow(settings.wal.buffered_sync_bytes),
            buffered_sync_count: narrow(buffered.max_pending_writes),
            buffered_sync_interval_us: buffered.flush_interval_ms.saturating_mul(1_000),
            ..LogConfig::default()
        },
        codec_id: settings.codec.clone(),
        buffered_ack: BufferedAck::Written,
        time_source: TimeSource::External,
        orphan_on_recovery: settings.orphan_on_recovery,
        shutdown_deadline_ms: settings.limits.shutdown_timeout_ms,
        limits: settings.data_limits,
        memory_len_bytes_max: settings.limits.memory_max,
        default_retention: settings.retention.default.clone(),
        ..DatabaseConfig::default()
    }
}

/// A directory that cannot be used; one that cannot be synced is named as such.
fn of_root(error: RootError) -> RunError {
    const NO_SYNC: [i32; 4] = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS, libc::EROFS];
    match error {
        RootError::Io {
            path,
            step: "sync",
            source,
        } if source
            .raw_os_error()
            .is_some_and(|no| NO_SYNC.contains(&no)) =>
        {
            RunError::CannotSync { path, source }
        }
        other => other.into(),
    }
}

/// Refuses a place that keeps no promise, if the configuration says so.
fn check_storage(settings: &Settings, root: &RealRoot) -> Result<(), RunError> {
    let file_system = root.file_system();
    let is_promised = settings.durability != Durability::InMemory;
    if settings.refuse_volatile_storage && is_promised && file_system.is_volatile() {
        return Err(RunError::VolatileStorage {
            directory: settings.data_dir.clone(),
            file_system: file_system.name(),
        });
    }
    Ok(())
}

/// Says aloud what weakens the promises made here.
fn warn_of_place(settings: &Settings, place: &Place) {
    if let Some(refusal) = &place.ring_refusal {
        tracing::warn!(
            target: "ipc",
            reactor = place.reactor,
            "{refusal}; sockets are served by readiness instead"
        );
    }
    if let Some(warning) = control_group::warning(settings.limits.memory_max) {
        tracing::warn!(target: "db", "{warning}");
    }
    if let Some(refusal) = &place.refusal {
        tracing::warn!(target: "wal", disk = %place.disk, "io_uring is refused for the log: {refusal}");
    } else {
        tracing::info!(target: "wal", disk = %place.disk, filesystem = %place.file_system.name(), directory = %settings.data_dir.display(), "disk");
    }
    if place.file_system.is_volatile() && settings.durability == Durability::InMemory {
        tracing::warn!(
            target: "db",
            filesystem = %place.file_system.name(),
            directory = %settings.data_dir.display(),
            is_refused = settings.refuse_volatile_storage,
            "the data directory does not survive a restart of the machine or container: no commit \
             is kept there, also not one that asks for more than in_memory"
        );
    }
    if place.file_system.is_volatile() && settings.durability != Durability::InMemory {
        tracing::warn!(
            target: "db",
            filesystem = %place.file_system.name(),
            directory = %settings.data_dir.display(),
            "THE DATA DIRECTORY LIES ON A FILESYSTEM THAT DOES NOT SURVIVE A RESTART OF THE \
             MACHINE OR CONTAINER: acknowledged commits will be lost with it"
        );
    }
}

/// The line harnesses wait for.
fn ready_line(settings: &Settings, database: &Database) -> String {
    let recovery = database.last_recovery_result().cloned().unwrap_or_default();
    format!(
        "ready socket={} recovered={} truncated_bytes={} recovery_us={} snapshot={}",
        settings.socket.display(),
        recovery.records_applied,
        recovery.truncated_bytes,
        recovery.recovery_time_us,
        recovery.snapshot_used,
    )
}

fn announce(line: &str, ready_fd: Option<i32>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // Nobody may be reading: a closed standard output does not keep the daemon from serving.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    let Some(descriptor) = ready_fd else {
        return Ok(());
    };
    crate::reactor::write_and_close(descriptor, format!("{line}\n").as_bytes())
}

/// Raises the soft limit of descriptors to the hard one; returns what holds.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        return limit.maximum.unwrap_or(u64::MAX);
    }
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was lost: every commit took 4 KiB of log, also on devices that write 512 bytes whole.
    #[test]
    fn the_log_is_told_the_block_of_the_device() {
        for block_len_bytes in [512, 4096] {
            let config = config_of(&Settings::default(), block_len_bytes);
            assert_eq!(config.wal_config.log_block_len_bytes, block_len_bytes);
            assert!(config.validate().is_ok());
        }
    }
}
