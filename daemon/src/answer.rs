//! From what the engine did to what the client is told.

use in_mem_engine::{CommitError, Outcome, StepOutcome, StepOutcomes};
use in_mem_ipc::Bytes;
use in_mem_ipc::request::version::TaggedVersion;
use in_mem_ipc::response::kv::{
    BatchEffect, BatchResult, Deleted, Incremented, Mismatch, Replaced,
};
use in_mem_ipc::response::run::RunBegun;
use in_mem_ipc::response::{Receipt, Response};
use in_mem_model::{Error, Outcome as CommitOutcome, RunId, RunInfo, SubCode, Version};

use crate::errors;
use crate::store::Store;

/// What the answer to a committed request looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A receipt, or the version found instead.
    Written,
    /// How many of the keys existed.
    Deleted,
    /// The sum.
    Incremented,
    /// The value before.
    Replaced,
    /// One effect for each operation.
    Batch(Vec<EffectShape>),
    /// The run that was begun.
    RunBegun {
        /// Its id, chosen by the server.
        run: RunId,
        /// Whether a taken name answers with the run that has it.
        if_missing: bool,
    },
}

/// What the effect of one operation of a batch looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EffectShape {
    /// A put, conditional or not.
    Put,
    /// A put if absent.
    PutIfAbsent,
    /// A deletion or an increment, which say enough themselves.
    Other,
}

/// The answer to a commit.
pub(crate) fn of_commit(
    store: &Store,
    shape: &Shape,
    result: Result<Outcome, CommitError>,
) -> Result<Response<'static>, Error> {
    match (shape, result) {
        (Shape::RunBegun { run, .. }, Ok(outcome)) => {
            let info = store.database.runs().get_at(*run, outcome.version);
            run_begun(*run, info, receipt_of(&outcome))
        }
        (
            Shape::RunBegun {
                if_missing: true, ..
            },
            Err(CommitError::AlreadyExists { run }),
        ) => begun(store, run, Receipt::NOTHING),
        (_, Ok(outcome)) => of_outcome(shape, outcome),
        (_, Err(error)) => Err(errors::of_commit(&error)),
    }
}

fn of_outcome(shape: &Shape, outcome: Outcome) -> Result<Response<'static>, Error> {
    let receipt = receipt_of(&outcome);
    if let StepOutcomes::Counted { deleted_count } = outcome.steps {
        return Ok(match shape {
            Shape::Deleted => Response::Deleted(Deleted {
                count: deleted_count,
                receipt,
            }),
            // Of an answer that was too long to be kept the receipt is left.
            _ => Response::Written(receipt),
        });
    }
    let steps = outcome.steps.as_slice();
    if let Shape::Batch(shapes) = shape {
        return batch(shapes, steps, receipt);
    }
    if let [StepOutcome::Mismatch(actual)] = steps {
        return Ok(Response::Mismatch(Mismatch {
            actual: TaggedVersion::Txn(actual.version),
            is_tombstone: actual.is_absent && actual.version != 0,
        }));
    }
    Ok(match (shape, steps) {
        (Shape::Deleted, steps) => {
            let existed = |step: &&StepOutcome| matches!(step, StepOutcome::Deleted(true));
            let count = u32::try_from(steps.iter().filter(existed).count()).unwrap_or(u32::MAX);
            Response::Deleted(Deleted { count, receipt })
        }
        (Shape::Incremented, [StepOutcome::Incremented(value)]) => {
            Response::Incremented(Incremented {
                value: *value,
                receipt,
            })
        }
        (Shape::Replaced, [StepOutcome::Previous(previous)]) => {
            let previous = previous.clone().map(Bytes::from);
            Response::Replaced(Replaced { previous, receipt })
        }
        _ => Response::Written(receipt),
    })
}

/// The answer to a begin that was committed, or that found the run there.
pub(crate) fn begun(
    store: &Store,
    run: RunId,
    receipt: Receipt,
) -> Result<Response<'static>, Error> {
    run_begun(run, store.database.runs().get(run), receipt)
}

fn run_begun(
    run: RunId,
    info: Option<RunInfo>,
    receipt: Receipt,
) -> Result<Response<'static>, Error> {
    let info = info.ok_or_else(|| {
        Error::new(SubCode::RunNotFound, format!("run {run} does not exist"))
            .with_detail("run", run.to_string())
    })?;
    Ok(Response::RunBegun(RunBegun {
        run: encoded_run(&info)?,
        receipt,
    }))
}

/// The metadata of a run as it is answered.
pub(crate) fn encoded_run(info: &RunInfo) -> Result<Bytes<'static>, Error> {
    Ok(info.encode()?.into_bytes().into_vec().into())
}

/// What a commit made.
pub(crate) fn receipt_of(outcome: &Outcome) -> Receipt {
    if outcome.version == 0 {
        return Receipt::NOTHING;
    }
    Receipt::of_commit(outcome.version, Some(outcome.level).into())
}

fn batch(
    shapes: &[EffectShape],
    steps: &[StepOutcome],
    receipt: Receipt,
) -> Result<Response<'static>, Error> {
    // All of a batch happens or nothing: a single condition that does not hold is a conflict too.
    if let [StepOutcome::Mismatch(actual)] = steps {
        return Err(Error::new(
            SubCode::CasMismatch,
            "a condition of the batch does not hold",
        )
        .with_outcome(CommitOutcome::NotCommitted)
        .with_detail("actual", Version::Txn(actual.version)));
    }
    let effects = shapes
        .iter()
        .zip(steps)
        .map(|(shape, step)| match (shape, step) {
            (_, StepOutcome::Deleted(existed)) => BatchEffect::Deleted(*existed),
            (_, StepOutcome::Incremented(value)) => BatchEffect::Incremented(*value),
            (EffectShape::PutIfAbsent, _) => BatchEffect::PutIfAbsent(true),
            _ => BatchEffect::Put,
        });
    Ok(Response::Batch(BatchResult {
        receipt,
        effects: effects.collect(),
    }))
}
