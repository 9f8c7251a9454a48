//! The log of an open database: its handle, its threads, and how it is started and ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use in_mem_snapshot::Manifest;
use in_mem_wal::clock::Clock;
use in_mem_wal::disk::{Disk, DiskKind, OpenDisk};
use in_mem_wal::recover::Settled;
use in_mem_wal::{
    LogConfig, LogHandle, LogThread, StorageCodec, Turn, Writer, WriterSeed, spawn_log_thread,
    start,
};
use parking_lot::Mutex;

use crate::background::{BackgroundThread, BackgroundWork, Signal};
use crate::config::Driving;
use crate::errors::OpenError;
use crate::registry::PrimitiveRegistry;
use crate::shared::{InFlight, LogSink, Shared};

/// A started log. The threads end when it is closed or dropped.
pub(crate) struct Log {
    pub(crate) handle: LogHandle<InFlight>,
    pub(crate) database_uuid: [u8; 16],
    pub(crate) disk_kind: DiskKind,
    thread: Mutex<Option<LogThread>>,
    background: Mutex<Option<BackgroundThread>>,
    /// Until somebody drives the log by hand.
    parts: Mutex<Option<(WriterSeed<InFlight>, BackgroundWork)>>,
}

/// Drives a log and its background work turn by turn, on the thread that took it.
pub struct Driver {
    writer: Writer<InFlight, LogSink>,
    background: BackgroundWork,
    disk: Box<dyn Disk>,
    clock: Arc<dyn Clock>,
}

impl Driver {
    /// One turn of the log.
    pub fn drive_log(&mut self) -> Turn {
        self.writer.turn(self.clock.monotonic_us())
    }

    /// One turn of the background work; true when something was done.
    pub fn drive_background(&mut self) -> bool {
        self.background.turn(&mut *self.disk)
    }
}

/// What a log is started with.
pub(crate) struct LogSetup<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) opener: Arc<dyn OpenDisk>,
    pub(crate) config: LogConfig,
    pub(crate) codec: Arc<dyn StorageCodec>,
    pub(crate) registry: &'a PrimitiveRegistry,
    pub(crate) driving: Driving,
}

impl Log {
    /// Starts the log where recovery settled it.
    pub(crate) fn start(
        setup: &LogSetup<'_>,
        manifest: Manifest,
        settled: &Settled,
    ) -> Result<Self, OpenError> {
        let (handle, seed) =
            start(setup.config, Arc::clone(&setup.codec), settled).map_err(OpenError::LogConfig)?;
        let shared = setup.shared;
        shared
            .active_segment
            .store(settled.active_segment, Ordering::SeqCst);
        let background = BackgroundWork {
            shared: Arc::clone(shared),
            spares: Arc::clone(handle.spares()),
            manifest,
            segment_len_bytes: u64::from(setup.config.segment_len_bytes),
            is_reserve_checked: false,
            codec: Arc::clone(&setup.codec),
            registry: setup.registry.clone(),
            log_config: setup.config,
            job: None,
        };
        let log = Self {
            handle,
            database_uuid: background.manifest.database_uuid,
            disk_kind: setup.opener.kind(),
            thread: Mutex::new(None),
            background: Mutex::new(None),
            parts: Mutex::new(None),
        };
        match setup.driving {
            Driving::Manual => *log.parts.lock() = Some((seed, background)),
            Driving::Threads => log.start_threads(setup, seed, background)?,
        }
        // The first log of a database is its only one: a start that failed sets nothing.
        let _ = shared.log.set(log.handle.clone());
        shared.for_each_listener(|listener| listener.log_started(log.handle.observed()));
        Ok(log)
    }

    fn start_threads(
        &self,
        setup: &LogSetup<'_>,
        seed: WriterSeed<InFlight>,
        work: BackgroundWork,
    ) -> Result<(), OpenError> {
        let shared = setup.shared;
        let sink = LogSink::new(Arc::clone(shared));
        let opener = Arc::clone(&setup.opener);
        let thread = spawn_log_thread(seed, opener, Arc::clone(&shared.clock), sink)
            .map_err(OpenError::Log)?;
        *self.thread.lock() = Some(thread);
        let signal = Arc::new(Signal::default());
        let wanted = Arc::clone(&signal);
        self.handle.spares().on_wanted(move || wanted.wake());
        let rotated = Arc::clone(&signal);
        *shared.wake_background.lock() = Some(Box::new(move || rotated.wake()));
        let background = BackgroundThread::start(work, signal, Arc::clone(&setup.opener))
            .map_err(OpenError::Io)?;
        *self.background.lock() = Some(background);
        Ok(())
    }

    /// Hands the log over to be driven by hand, once.
    pub(crate) fn take_driver(
        &self,
        shared: &Arc<Shared>,
        opener: &dyn OpenDisk,
    ) -> io::Result<Option<Driver>> {
        let Some((seed, background)) = self.parts.lock().take() else {
            return Ok(None);
        };
        let writer = seed.open(opener.open_disk()?, LogSink::new(Arc::clone(shared)))?;
        Ok(Some(Driver {
            writer,
            background,
            disk: opener.open_background_disk()?,
            clock: Arc::clone(&shared.clock),
        }))
    }

    /// Writes and syncs what is queued, states the highest version issued, and ends the threads.
    /// Idempotent.
    pub(crate) fn close(&self, version_highest: u64) {
        self.handle.close(version_highest);
        if let Some(mut thread) = self.thread.lock().take() {
            thread.join();
        }
        drop(self.background.lock().take());
    }
}
