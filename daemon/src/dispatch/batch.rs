//! The one-shot batch: what was read and what is to change, validated and committed in one step.

use in_mem_engine::{Program, ReadCheck, Seen, Step};
use in_mem_ipc::request::txn::{ArchivedBatch, ArchivedBatchOperation, ArchivedReadCheck};
use in_mem_model::keys::{KeyError, is_system_key};
use in_mem_model::{Error, SubCode, ValueRef};

use super::kv_write::expected;
use super::{Call, Handled, Out};
use crate::answer::EffectShape;

/// What the effects of a batch look like.
pub(super) fn shapes(batch: &ArchivedBatch<'_>) -> Vec<EffectShape> {
    let shape = |operation: &ArchivedBatchOperation<'_>| match operation {
        ArchivedBatchOperation::Put(_)
        | ArchivedBatchOperation::CasVersion(_)
        | ArchivedBatchOperation::CasValue(_) => EffectShape::Put,
        ArchivedBatchOperation::PutIfAbsent(_) => EffectShape::PutIfAbsent,
        ArchivedBatchOperation::Delete(_) | ArchivedBatchOperation::Increment(_) => {
            EffectShape::Other
        }
    };
    batch.operations.iter().map(shape).collect()
}

/// Commits a batch.
pub(super) fn commit(call: &mut Call<'_>, batch: &ArchivedBatch<'_>, out: &mut Out<'_>) -> Handled {
    let start_version = batch
        .start_version
        .as_ref()
        .map(|version| version.to_native());
    let mut checks = Vec::with_capacity(batch.reads.len());
    for read in batch.reads.iter() {
        if is_system_key(&read.key) {
            return Err(KeyError::ReservedPrefix.into());
        }
        let seen = match &read.check {
            ArchivedReadCheck::Version(version) => Seen::Version(version.to_native()),
            ArchivedReadCheck::SinceStart => Seen::NotAfter(start_version.ok_or_else(|| {
                Error::new(
                    SubCode::InvalidArgument,
                    "a read since the start needs start_version",
                )
            })?),
        };
        checks.push(ReadCheck {
            key: &read.key,
            seen,
        });
    }
    let mut steps = Vec::with_capacity(batch.operations.len());
    for operation in batch.operations.iter() {
        steps.push(step(operation)?);
    }
    call.commit(
        &Program {
            checks: &checks,
            steps: &steps,
        },
        out,
    )
}

fn step<'a>(operation: &'a ArchivedBatchOperation<'_>) -> Result<Step<'a>, Error> {
    Ok(match operation {
        ArchivedBatchOperation::Put(put) => Step::Put {
            key: &put.key,
            value: ValueRef::new(&put.value)?,
        },
        ArchivedBatchOperation::Delete(delete) => Step::Delete { key: &delete.key },
        ArchivedBatchOperation::PutIfAbsent(put) => Step::PutIfAbsent {
            key: &put.key,
            value: ValueRef::new(&put.value)?,
        },
        ArchivedBatchOperation::CasVersion(cas) => Step::CasVersion {
            key: &cas.key,
            expected: expected(cas.expected.to_native()),
            value: ValueRef::new(&cas.value)?,
        },
        ArchivedBatchOperation::CasValue(cas) => Step::CasValue {
            key: &cas.key,
            expected: match cas.expected.as_ref() {
                Some(expected) => Some(ValueRef::new(expected)?),
                None => None,
            },
            value: ValueRef::new(&cas.value)?,
        },
        ArchivedBatchOperation::Increment(incr) => Step::Increment {
            key: &incr.key,
            delta: incr.delta.to_native(),
        },
    })
}
