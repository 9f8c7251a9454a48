//! Checkpoints, compactions, removals of snapshots and exports that clients ask for.
//!
//! Such a request is parked: it holds no worker and not the reactor. The background thread of the
//! database does the work and leaves what came of it in an inbox. The engine takes one at a time
//! and refuses the next at once. What was begun goes on whatever becomes of who asked: a client
//! that leaves, or runs out of time, changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use in_mem_engine::{
    CheckpointError, CheckpointInfo, CompactError, CompactInfo, CompactMode, DeleteSnapshotError,
    ExportError, ExportInfo,
};
use in_mem_ipc::codec::access_request;
use in_mem_ipc::frame::Frame;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::response::{Response, db};
use in_mem_model::{Error, Retry, SubCode};

use super::Core;
use crate::automatic::Step;
use crate::completions::Inbox;
use crate::dispatch::Out;
use crate::exports;
use crate::reactor::Waker;
use crate::session::SessionId;
use crate::snapshot_errors::{of_checkpoint, of_compaction, of_deletion};

/// Modes of a compaction, as they are named on the wire.
const MODES: [CompactMode; 2] = [CompactMode::WALOnly, CompactMode::Full];

/// The number of work that nobody waits for: the daemon's own.
pub(super) const OWN: u64 = 0;

/// Work on snapshots that is under way.
pub(super) struct SnapshotWork {
    inbox: Arc<Inbox<Done>>,
    done: Vec<Done>,
    /// Who waits, by the number of the work.
    parked: BTreeMap<u64, Parked>,
    last_number: u64,
}

/// A request that waits.
struct Parked {
    session: SessionId,
    request_id: u64,
    kind: OperationKind,
    frame_len_bytes: u64,
    deadline_us: Option<u64>,
}

/// Work that is over.
struct Done {
    number: u64,
    what: Came,
}

/// What came of it.
pub(super) enum Came {
    Checkpoint(Result<CheckpointInfo, CheckpointError>),
    Compaction(Result<CompactInfo, CompactError>),
    Deletion(Result<bool, DeleteSnapshotError>),
    Export(Result<ExportInfo, ExportError>),
}

impl SnapshotWork {
    pub(super) fn new(waker: &Waker) -> Self {
        Self {
            inbox: Arc::new(Inbox::new(waker.clone())),
            done: Vec::new(),
            parked: BTreeMap::new(),
            last_number: OWN,
        }
    }

    /// The earliest deadline of a parked request.
    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        self.parked.values().filter_map(|it| it.deadline_us).min()
    }

    /// Something to be called, on another thread, with what came of the work of a number.
    fn teller<T: 'static>(
        &self,
        number: u64,
        came: fn(T) -> Came,
    ) -> Box<dyn FnOnce(T) + Send + 'static> {
        let inbox = Arc::clone(&self.inbox);
        Box::new(move |result| {
            let what = came(result);
            inbox.push(Done { number, what });
            inbox.wake();
        })
    }
}

/// Whether this is one of the requests handled here.
pub(super) fn is_about_snapshots(kind: OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::DbCheckpoint
            | OperationKind::DbCompact
            | OperationKind::DbDeleteSnapshot
            | OperationKind::DbExport
    )
}

impl Core {
    /// Begins what a request asks for and parks it, or refuses it.
    pub(super) fn on_snapshot_request(&mut self, slot: u32, frame: &Frame<'_>) {
        let Ok(request) = access_request(frame.body) else {
            return;
        };
        let kind = request.operation.kind();
        let header = request.header.to_native();
        let request_id = frame.header.request_id;
        let number = self.snapshots.last_number + 1;
        let begun = if header.txn_id != 0 {
            let message = format!("{} cannot run inside a transaction", kind.name());
            Err(Error::new(SubCode::NotInTransaction, message))
        } else {
            self.begin(number, &request.operation)
        };
        if let Err(error) = begun {
            self.refuse(slot, request_id, kind, error);
            return;
        }
        self.snapshots.last_number = number;
        let deadline_us = (header.deadline_us != 0).then(|| {
            self.monotonic_us()
                .saturating_add(u64::from(header.deadline_us))
        });
        let frame_len_bytes = u64::from(frame.header.frame_len_bytes());
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        session.started(frame_len_bytes);
        let parked = Parked {
            session: session.id,
            request_id,
            kind,
            frame_len_bytes,
            deadline_us,
        };
        self.snapshots.parked.insert(number, parked);
    }

    fn begin(&self, number: u64, operation: &ArchivedOperation<'_>) -> Result<(), Error> {
        match operation {
            ArchivedOperation::DbCheckpoint => self
                .begin_checkpoint(number)
                .map_err(|error| of_checkpoint(&error)),
            ArchivedOperation::DbCompact(compact) => self
                .begin_compaction(number, mode_of(compact.mode.as_str())?)
                .map_err(|error| of_compaction(&error)),
            ArchivedOperation::DbDeleteSnapshot(delete) => self
                .store
                .database
                .start_delete_snapshot(
                    delete.snapshot_id.to_native(),
                    self.snapshots.teller(number, Came::Deletion),
                )
                .map_err(|error| of_deletion(&error)),
            ArchivedOperation::DbExport(export) => {
                let export_dir = self.store.settings.export_dir.as_deref();
                let dest = exports::place(export_dir, export.name.as_str())?;
                self.store
                    .database
                    .start_export(dest, self.snapshots.teller(number, Came::Export))
                    .map_err(|error| exports::of_export(&error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin_checkpoint(&self, number: u64) -> Result<(), CheckpointError> {
        let done = self.snapshots.teller(number, Came::Checkpoint);
        self.store.database.start_checkpoint(done)
    }

    pub(super) fn begin_compaction(
        &self,
        number: u64,
        mode: CompactMode,
    ) -> Result<(), CompactError> {
        let done = self.snapshots.teller(number, Came::Compaction);
        self.store.database.start_compaction(mode, done)
    }

    /// Takes what the background thread has finished, and tells who waited.
    pub(super) fn take_snapshot_work(&mut self) {
        let mut done = std::mem::take(&mut self.snapshots.done);
        self.snapshots.inbox.take(&mut done);
        for Done { number, what } in done.drain(..) {
            match &what {
                Came::Checkpoint(Ok(_)) => self.store.automatic.succeeded(Step::Checkpoint),
                Came::Compaction(Ok(_)) => self.store.automatic.succeeded(Step::Compaction),
                _ => {}
            }
            if number == OWN {
                self.own_work_done(what);
                continue;
            }
            self.answer_snapshot_work(number, || answer_of(what));
        }
        self.snapshots.done = done;
    }

    /// Answers a parked request, if it still waits.
    fn answer_snapshot_work(
        &mut self,
        number: u64,
        answer: impl FnOnce() -> Result<Response<'static>, Error>,
    ) {
        let Some(parked) = self.snapshots.parked.remove(&number) else {
            return;
        };
        let Some(session) = self.session_of(parked.session) else {
            return;
        };
        session.finished(parked.frame_len_bytes);
        let encoding = session.encoding;
        let buffer = session.outbound.buffer();
        let mut out = Out::new(buffer, encoding, parked.request_id, parked.kind);
        match answer() {
            Ok(response) => out.reply(&response),
            Err(error) => out.fail(error),
        }
        self.touch(parked.session.slot);
    }

    /// Tells those whose deadline has passed that the work goes on without them.
    pub(super) fn expire_snapshot_work(&mut self) {
        let now_us = self.monotonic_us();
        let is_late = |parked: &Parked| parked.deadline_us.is_some_and(|us| us <= now_us);
        while let Some(number) = self.parked_number(is_late) {
            let message = "it was begun and is not done within the deadline of the request; it \
                           goes on: `inmem info` tells how far it is";
            self.answer_snapshot_work(number, || {
                Err(Error::new(SubCode::Timeout, message).with_retry(Retry::Later))
            });
        }
    }

    /// The stop has begun, and does not wait for work on snapshots.
    pub(super) fn give_up_snapshot_work(&mut self) {
        while let Some(number) = self.parked_number(|_| true) {
            let message = "the server is shutting down; what is not done is given up: the snapshot \
                           before it counts, and nothing has the name of the export";
            self.answer_snapshot_work(number, || {
                Err(Error::new(SubCode::Unavailable, message).with_retry(Retry::Later))
            });
        }
    }

    /// The session is gone; what it asked for goes on.
    pub(super) fn forget_snapshot_work(&mut self, id: SessionId) {
        self.snapshots.parked.retain(|_, it| it.session != id);
    }

    fn parked_number(&self, is_wanted: impl Fn(&Parked) -> bool) -> Option<u64> {
        let mut parked = self.snapshots.parked.iter();
        parked.find_map(|(number, it)| is_wanted(it).then_some(*number))
    }
}

/// The mode of a name.
fn mode_of(name: &str) -> Result<CompactMode, Error> {
    let mut modes = MODES.into_iter();
    modes.find(|mode| mode.name() == name).ok_or_else(|| {
        let known = MODES.map(CompactMode::name).join(", ");
        let shown: String = name.chars().take(64).collect();
        let message = format!("there is no compaction of mode {shown:?}; there is: {known}");
        Error::new(SubCode::InvalidArgument, message)
            .with_detail("mode", shown)
            .with_detail("modes", known)
    })
}

fn answer_of(what: Came) -> Result<Response<'static>, Error> {
    match what {
        Came::Checkpoint(result) => match result {
            Ok(info) => Ok(Response::Checkpoint(db::CheckpointInfo {
                watermark_txn: info.watermark_txn,
                snapshot_id: info.snapshot_id,
                timestamp_us: info.timestamp_us,
                size_bytes: info.size_bytes,
            })),
            Err(error) => Err(of_checkpoint(&error)),
        },
        Came::Compaction(result) => match result {
            Ok(info) => Ok(Response::Compacted(db::CompactInfo {
                mode: info.mode.name().into(),
                reclaimed_bytes: info.reclaimed_bytes,
                wal_segments_removed: info.wal_segments_removed,
                versions_removed: info.versions_removed,
                snapshot_watermark: info.snapshot_watermark,
                duration_ms: info.duration_ms,
                timestamp_us: info.timestamp_us,
            })),
            Err(error) => Err(of_compaction(&error)),
        },
        Came::Export(result) => result
            .map(|info| Response::Exported(exports::answer(&info)))
            .map_err(|error| exports::of_export(&error)),
        Came::Deletion(result) => result
            .map(Response::Flag)
            .map_err(|error| of_deletion(&error)),
    }
}
