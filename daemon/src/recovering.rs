//! Opening the database while somebody listens for the stop.
//!
//! The reactor that reads signals later does not run yet, and a long replay must not make a stop
//! wait. A thread of its own listens until the database is open; a stop ends the replay before its
//! next record, with nothing changed on disk.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use in_mem_engine::{Database, DatabaseBuilder, OpenError, RecoveryProgress};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{EventfdFlags, eventfd};

use crate::signals::Signals;
use crate::start::RunError;
use crate::supervisor::Supervisor;

/// What a stop may take that comes when the last record has been read: the rewrite of the end of
/// the log, and its last sync.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Opens the database; none when a stop was asked for meanwhile. Then nothing is open any more.
pub(crate) fn open_unless_stopped(
    builder: DatabaseBuilder,
    progress: &Arc<RecoveryProgress>,
    signals: &Signals,
    supervisor: &Supervisor,
) -> Result<Option<Database>, RunError> {
    let failed = |step| move |source| RunError::Io { step, source };
    let done = eventfd(0, EventfdFlags::CLOEXEC).map_err(io::Error::from);
    let done = done.map_err(failed("make an eventfd"))?;
    let stop = |signal: Signal| {
        tracing::info!(target: "db", %signal, "stopping: the recovery is given up");
        progress.request_stop();
        supervisor.stopping("stopping: the recovery is given up".to_owned(), STOP_MAX);
    };
    let (opened, is_reload_asked) = std::thread::scope(|scope| {
        let watch = || signals.watch(done.as_fd(), stop);
        let builder_of_thread = std::thread::Builder::new().name("inmem-signals".to_owned());
        let watching = builder_of_thread.spawn_scoped(scope, watch)?;
        let is_done = Done(&done);
        let opened = builder.progress(Arc::clone(progress)).open();
        drop(is_done);
        Ok((opened, watching.join().unwrap_or(false)))
    })
    .map_err(failed("start a thread"))?;
    if is_reload_asked {
        // Back to where the reactor finds it; it stays blocked until then.
        let _ = kill(Pid::this(), Signal::SIGHUP);
    }
    match opened {
        Err(OpenError::Interrupted) => Ok(None),
        Ok(database) if progress.is_stop_requested() => {
            database.shutdown()?;
            Ok(None)
        }
        opened => Ok(Some(opened?)),
    }
}

/// Ends the listening when it is dropped, also by a panic of the open.
struct Done<'a>(&'a OwnedFd);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        // The counter of an eventfd takes a 1.
        let _ = rustix::io::write(self.0, &1_u64.to_le_bytes());
    }
}
