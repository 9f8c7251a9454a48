//! From a request to the engine and back: one function per operation, no state of its own.
//!
//! A handler runs on the reactor, or on a worker when it may take long; it is the same code. It
//! answers into [`Out`], or says that the answer will come (the commit waits for its promise), that
//! the log has no room, or that this is too much for the reactor. Reads answer from a view taken
//! when the request started; writes are programs the engine decides in one step.

mod batch;
mod kv_read;
mod kv_write;
mod observe;
mod once;
mod out;
mod reply_bound;
mod retention;
mod run;
mod snapshots;
mod system;
mod transaction;
mod transaction_kv;

use std::panic::{AssertUnwindSafe, catch_unwind};

use in_mem_engine::{CommitError, CommitOptions, Completion, Program, ReadView, Step, Submitted};
use in_mem_ipc::codec::access_request;
use in_mem_ipc::frame::Frame;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::{ArchivedOperation, RequestHeader, RunChoice};
use in_mem_model::{
    Durability, Error, ErrorClass, Outcome as CommitOutcome, Retry, RunId, SubCode,
};

use crate::answer::{self, Shape};
use crate::caller::Caller;
use crate::defect::Defect;
use crate::store::{SessionRun, Store};
use crate::workers::Lane;

pub(crate) use once::begun_run;
pub(crate) use out::Out;
pub(crate) use reply_bound::{TEXT_LEN_BYTES_MAX, reply_len_bytes_max};

/// Requests and values above this many bytes are handled on a worker: copying and checking more
/// takes a good part of the millisecond a reactor may be held.
pub(crate) const LARGE_LEN_BYTES: usize = 256 << 10;

/// Requests on many keys above this many bytes are handled on a worker: at 30 bytes an entry this
/// is about a thousand of them.
pub(crate) const MANY_LEN_BYTES: usize = 32 << 10;

/// Metadata of a run above this many bytes is decoded on a worker: that costs several times what
/// copying does.
const METADATA_LEN_BYTES: usize = 32 << 10;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was answered.
    Replied,
    /// It is answered when its commit is published.
    Pending,
    /// The log has no room; nothing was done.
    Busy,
    /// It takes too long for the reactor; nothing was done.
    Offload,
    /// It was answered with a defect when its commit had been handed over: whether that happens is
    /// not known, and its completion may still come.
    GivenUp,
}

/// One request being handled.
pub(crate) struct Call<'a> {
    /// The database and what is known about it.
    pub(crate) store: &'a Store,
    /// Who asks.
    pub(crate) caller: &'a mut Caller,
    /// Run, durability, transaction, sequence.
    pub(crate) header: RequestHeader,
    /// The whole request, checked: what tells a repeat of it from another.
    pub(crate) body: &'a [u8],
    /// For a write: where the answer of a commit goes that is not decided at once.
    pub(crate) completion: Option<Completion>,
    /// For a write: what that answer looks like.
    pub(crate) shape: Shape,
    /// The view a read answers from, if it was taken before.
    pub(crate) view: Option<ReadView>,
    /// Size of the request, bytes.
    pub(crate) frame_len_bytes: usize,
    /// The time of the request, microseconds of the monotonic clock.
    pub(crate) now_us: u64,
    /// Whether this thread may be held for long.
    pub(crate) is_worker: bool,
    /// A commit has been handed over.
    pub(crate) is_submitted: bool,
}

/// A handler's result: an error is answered by whoever called it.
pub(crate) type Handled = Result<Verdict, Error>;

/// Whether a request is for the workers, as far as its head tells.
pub(crate) fn is_long(kind: OperationKind, frame_len_bytes: usize) -> bool {
    use OperationKind as Kind;
    match kind {
        Kind::KvList
        | Kind::KvScan
        | Kind::KvCount
        | Kind::KvHistory
        // Both walk versions one by one, as many as the key has.
        | Kind::KvGetAt
        | Kind::RunList
        | Kind::RunOrphaned
        // Both walk every version of a run.
        | Kind::RunRetentionStats
        | Kind::RunRetentionPreview
        | Kind::SystemInfo
        | Kind::SystemHealth
        | Kind::SystemMetrics
        | Kind::SystemDescribe
        | Kind::DbListSnapshots => true,
        Kind::KvGetMany
        | Kind::KvExistsMany
        | Kind::KvPutMany
        | Kind::KvDeleteMany
        | Kind::RunBegin
        | Kind::Batch => MANY_LEN_BYTES < frame_len_bytes,
        _ => LARGE_LEN_BYTES < frame_len_bytes,
    }
}

/// The same for a whole frame.
pub(crate) fn is_long_frame(frame: &Frame<'_>) -> bool {
    access_request(frame.body).is_ok_and(|request| {
        is_long(
            request.operation.kind(),
            frame.header.frame_len_bytes() as usize,
        )
    })
}

/// Which workers handle a long request.
pub(crate) fn lane_of(kind: OperationKind) -> Lane {
    let asks_the_disk = matches!(
        kind,
        OperationKind::SystemInfo | OperationKind::DbListSnapshots
    );
    if asks_the_disk || observe::is_observation(kind) {
        Lane::Look
    } else {
        Lane::Data
    }
}

/// What the answer to a request looks like if it commits. `begun_run` makes the id of a run that
/// is to be begun.
pub(crate) fn shape_of(
    operation: &ArchivedOperation<'_>,
    begun_run: impl FnOnce() -> RunId,
) -> Shape {
    match operation {
        ArchivedOperation::KvDelete(_) | ArchivedOperation::KvDeleteMany(_) => Shape::Deleted,
        ArchivedOperation::KvIncr(_) => Shape::Incremented,
        ArchivedOperation::KvGetAndSet(_) | ArchivedOperation::KvGetAndDelete(_) => Shape::Replaced,
        ArchivedOperation::Batch(batch) => Shape::Batch(batch::shapes(batch)),
        ArchivedOperation::RunBegin(begin) => Shape::RunBegun {
            run: begun_run(),
            if_missing: begin.if_missing,
        },
        _ => Shape::Written,
    }
}

/// Handles a request. A panic before the commit is an error of this request alone; the engine
/// poisons itself when one strikes later.
pub(crate) fn handle(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Verdict {
    let start = out.mark();
    let handled = catch_unwind(AssertUnwindSafe(|| {
        let handled = route(call, operation, out);
        let defect = match call.is_submitted {
            true => Defect::AfterSubmit,
            false => Defect::InHandler,
        };
        call.store.defects.strike(defect);
        handled
    }));
    match handled {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => {
            // Whatever ends up here was refused before its commit.
            let is_silent = error.outcome.is_none() && operation.kind().is_write();
            out.fail(if is_silent {
                error.with_outcome(CommitOutcome::NotCommitted)
            } else {
                error
            });
            Verdict::Replied
        }
        Err(_) => {
            tracing::error!(target: "ipc", operation = operation.kind().name(), "a handler panicked");
            out.rewind(start);
            out.fail(given_up(call.is_submitted));
            match call.is_submitted {
                true => Verdict::GivenUp,
                false => Verdict::Replied,
            }
        }
    }
}

/// What is told of a request that struck a defect.
pub(crate) fn given_up(may_be_committed: bool) -> Error {
    let (what, outcome) = match may_be_committed {
        true => ("it may be committed", CommitOutcome::OutcomeUnknown),
        false => ("nothing was done", CommitOutcome::NotCommitted),
    };
    let message = format!("the request was given up because of a defect; {what}");
    Error::of_class(ErrorClass::InternalError, message).with_outcome(outcome)
}

fn route(call: &mut Call<'_>, operation: &ArchivedOperation<'_>, out: &mut Out<'_>) -> Handled {
    use ArchivedOperation as Op;
    let kind = operation.kind();
    if call.header.txn_id != 0 {
        if kind == OperationKind::TxnBegin {
            let message = "a transaction is open already; it cannot hold another";
            return Err(Error::new(SubCode::TransactionAlreadyActive, message));
        }
        if !kind.joins_transaction() {
            let message = format!("{} cannot run inside a transaction", kind.name());
            return Err(Error::new(SubCode::NotInTransaction, message));
        }
        return transaction::route(call, operation, out);
    }
    if kind.is_write() && call.store.database.makes_log(call.durability()) {
        check_place(call.store)?;
        if !call.is_worker {
            return Ok(Verdict::Offload);
        }
    }
    match operation {
        Op::SystemPing | Op::SystemInfo | Op::SystemCapabilities => system::route(call, kind, out),
        Op::TxnBegin(_) | Op::TxnCommit | Op::TxnRollback | Op::TxnInfo => {
            transaction::route(call, operation, out)
        }
        Op::Batch(batch) => batch::commit(call, batch, out),
        _ if retention::is_about(kind) => retention::route(call, operation, out),
        _ if is_run(operation) => run::route(call, operation, out),
        Op::DbListSnapshots => snapshots::list(call, out),
        _ if observe::is_observation(kind) => observe::route(call, kind, out),
        _ if kind.is_write() => kv_write::route(call, operation, out),
        _ => kv_read::route(call, operation, out),
    }
}

/// Refuses the first logged commit where the data directory keeps nothing and that is forbidden.
fn check_place(store: &Store) -> Result<(), Error> {
    let file_system = store.place.file_system;
    if !store.settings.refuse_volatile_storage || !file_system.is_volatile() {
        return Ok(());
    }
    let message = format!(
        "the data directory lies on {}, which does not survive a restart of the machine or \
         container, and `refuse_volatile_storage` is set: only in_memory commits are taken",
        file_system.name()
    );
    Err(Error::new(SubCode::Unavailable, message)
        .with_retry(Retry::No)
        .with_detail("resource", "disk"))
}

fn is_run(operation: &ArchivedOperation<'_>) -> bool {
    operation.kind().name().starts_with("run.")
}

impl Call<'_> {
    /// The run the request names, or the session's.
    pub(crate) fn run(&mut self) -> Result<&SessionRun, Error> {
        match self.header.run {
            RunChoice::Session => Ok(&self.caller.run),
            RunChoice::Id(id) => self.caller.other_run(self.store, RunId(id)),
        }
    }

    /// The view of a read: the one taken when the request started, else one taken now.
    pub(crate) fn take_view(&mut self) -> Result<ReadView, Error> {
        match self.view.take() {
            Some(view) => Ok(view),
            None => Ok(self.run()?.read_view()),
        }
    }

    /// Whether the metadata of a run is too much to decode on this thread.
    pub(crate) fn has_large_metadata(&self, run: RunId) -> bool {
        !self.is_worker && METADATA_LEN_BYTES < self.store.database.runs().info_len_bytes(run)
    }

    /// The durability of a write outside a transaction.
    pub(crate) fn durability(&self) -> Durability {
        self.header
            .durability
            .durability()
            .unwrap_or(self.caller.durability)
    }

    /// Where the answer of the commit goes.
    pub(crate) fn completion(&self) -> Result<&Completion, Error> {
        self.completion
            .as_ref()
            .ok_or_else(|| Error::of_class(ErrorClass::InternalError, "a commit outside a write"))
    }

    /// Commits a program.
    pub(crate) fn commit(&mut self, program: &Program<'_>, out: &mut Out<'_>) -> Handled {
        let options = CommitOptions {
            durability: Some(self.durability()),
        };
        let once = self.once()?;
        let run = self.run()?.clone();
        self.is_submitted = true;
        let submitted = run.submit_as(program, options, once.as_ref(), self.completion()?);
        self.settle(submitted, out)
    }

    /// Commits a single step.
    pub(crate) fn commit_step(&mut self, step: Step<'_>, out: &mut Out<'_>) -> Handled {
        self.commit(
            &Program {
                checks: &[],
                steps: &[step],
            },
            out,
        )
    }

    /// Answers what is decided already.
    pub(crate) fn settle(&self, submitted: Submitted, out: &mut Out<'_>) -> Handled {
        match submitted {
            Submitted::Done(Err(CommitError::Busy)) | Submitted::Busy => Ok(Verdict::Busy),
            Submitted::Done(result) => {
                self.store.metrics.decided(&result);
                match answer::of_commit(self.store, &self.shape, result) {
                    Ok(response) => out.reply(&response),
                    Err(error) => out.fail(error),
                }
                Ok(Verdict::Replied)
            }
            Submitted::Pending => Ok(Verdict::Pending),
        }
    }
}
