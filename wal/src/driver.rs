//! The log thread: runs a [`Writer`] and sleeps when it has nothing to do.
//!
//! The owner holds a [`LogThread`]; dropping it stops the log, wakes the thread and joins it, so no
//! log thread outlives its owner. The thread holds what committers share, never the owner. A panic
//! on it aborts the process: records may be half written and their committers wait.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use crate::clock::Clock;
use crate::disk::{DiskKind, OpenDisk, short_slice};
use crate::handle::LogHandle;
use crate::sink::Sink;
use crate::writer::{Turn, Writer, WriterSeed};

/// The name of the log thread, as the kernel shows it.
pub const LOG_THREAD_NAME: &str = "inmem-log";

/// Why there is no log thread. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The thread could not be created.
    #[error("log thread could not be started")]
    Thread(#[source] io::Error),
    /// The disk, or the active segment, could not be opened on it.
    #[error("log could not be opened")]
    Open(#[source] io::Error),
}

/// Owns the log thread.
pub struct LogThread {
    stop: Box<dyn Fn() + Send + Sync>,
    join: Option<thread::JoinHandle<()>>,
    disk_kind: DiskKind,
}

/// Starts the log thread: it opens its own disk and the active segment, then serves the log until
/// it is closed or poisoned. Returns once the log is open.
///
/// # Errors
/// See [`SpawnError`].
pub fn spawn_log_thread<T, S>(
    seed: WriterSeed<T>,
    opener: Arc<dyn OpenDisk>,
    clock: Arc<dyn Clock>,
    sink: S,
) -> Result<LogThread, SpawnError>
where
    T: Send + 'static,
    S: Sink<T> + Send + 'static,
{
    let (opened_sender, opened) = mpsc::channel();
    let handle = seed.handle();
    let disk_kind = opener.kind();
    let join = thread::Builder::new()
        .name(LOG_THREAD_NAME.to_owned())
        .spawn(move || {
            let _abort = AbortOnPanic;
            // Before the ring is built: its workers inherit the scheduling of this thread.
            if !short_slice() {
                tracing::info!("the kernel grants no short slice: syncs wait for busy neighbours");
            }
            let writer = opener.open_disk().and_then(|disk| seed.open(disk, sink));
            match writer {
                Ok(writer) => {
                    let _ = opened_sender.send(Ok(()));
                    serve(writer.timed_by(Arc::clone(&clock)), &*clock);
                }
                Err(error) => {
                    let _ = opened_sender.send(Err(error));
                }
            }
        })
        .map_err(SpawnError::Thread)?;
    let log = LogThread {
        stop: stopper(handle),
        join: Some(join),
        disk_kind,
    };
    match opened.recv() {
        Ok(Ok(())) => Ok(log),
        Ok(Err(error)) => Err(SpawnError::Open(error)),
        Err(_) => Err(SpawnError::Open(io::ErrorKind::BrokenPipe.into())),
    }
}

fn stopper<T: Send + 'static>(handle: LogHandle<T>) -> Box<dyn Fn() + Send + Sync> {
    Box::new(move || handle.stop())
}

fn serve<T, S: Sink<T>>(mut writer: Writer<T, S>, clock: &dyn Clock) {
    loop {
        let now_us = clock.monotonic_us();
        match writer.turn(now_us) {
            Turn::Worked => {}
            Turn::Idle { wake_at_us } => writer.wait(now_us, wake_at_us),
            Turn::Closed | Turn::Poisoned => return,
        }
    }
}

impl LogThread {
    /// Which disk it writes through.
    #[must_use]
    pub fn disk_kind(&self) -> DiskKind {
        self.disk_kind
    }

    /// Waits until the thread has ended: after [`LogHandle::close`] or [`LogHandle::stop`] when
    /// everything is written and synced, or after the log failed. Idempotent.
    pub fn join(&mut self) {
        let Some(join) = self.join.take() else { return };
        if join.thread().id() == thread::current().id() {
            // The sink dropped the last owner on the log thread itself: it ends by itself, and
            // joining would wait for ever.
            return;
        }
        // A panic on the log thread aborts the process, so there is none to hand on.
        let _ = join.join();
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        (self.stop)();
        self.join();
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("log thread panicked");
            std::process::abort();
        }
    }
}
