//! The `kv.*` operations that write, outside a transaction: each is one program.

use in_mem_engine::{Expected, Lifetime, Program, Step};
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::request::kv::ExpectedVersion;
use in_mem_model::{Error, ErrorClass, ValueRef};

use super::{Call, Handled, Out};
use crate::errors;

/// Handles a write outside a transaction.
pub(super) fn route(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    match operation {
        Op::KvDeleteMany(many) => {
            let steps: Vec<Step<'_>> = many.keys.iter().map(|key| Step::Delete { key }).collect();
            call.commit(
                &Program {
                    checks: &[],
                    steps: &steps,
                },
                out,
            )
        }
        Op::KvPutMany(many) => {
            let mut steps = Vec::with_capacity(many.entries.len());
            for entry in many.entries.iter() {
                steps.push(Step::Put {
                    key: &entry.key,
                    value: ValueRef::new(&entry.value)?,
                });
            }
            call.commit(
                &Program {
                    checks: &[],
                    steps: &steps,
                },
                out,
            )
        }
        _ => call.commit_step(step_of(operation)?, out),
    }
}

/// The one step of a write on one key.
fn step_of<'a>(operation: &'a ArchivedOperation<'_>) -> Result<Step<'a>, Error> {
    use ArchivedOperation as Op;
    Ok(match operation {
        Op::KvPut(put) => Step::Put {
            key: &put.key,
            value: ValueRef::new(&put.value)?,
        },
        Op::KvPutWithTtl(put) => Step::PutExpiring {
            key: &put.key,
            value: ValueRef::new(&put.value)?,
            lifetime: lifetime(put.ttl_us.to_native())?,
        },
        Op::KvDelete(delete) => Step::Delete { key: &delete.key },
        Op::KvIncr(incr) => Step::Increment {
            key: &incr.key,
            delta: incr.delta.to_native(),
        },
        Op::KvCasVersion(cas) => Step::CasVersion {
            key: &cas.key,
            expected: expected(cas.expected.to_native()),
            value: ValueRef::new(&cas.value)?,
        },
        Op::KvCasValue(cas) => Step::CasValue {
            key: &cas.key,
            expected: match cas.expected.as_ref() {
                Some(expected) => Some(ValueRef::new(expected)?),
                None => None,
            },
            value: ValueRef::new(&cas.value)?,
        },
        Op::KvPutIfAbsent(put) => Step::PutIfAbsent {
            key: &put.key,
            value: ValueRef::new(&put.value)?,
        },
        Op::KvGetAndSet(put) => Step::GetAndSet {
            key: &put.key,
            value: ValueRef::new(&put.value)?,
        },
        Op::KvGetAndDelete(delete) => Step::GetAndDelete { key: &delete.key },
        _ => {
            let message = format!("{} is not a write", operation.kind().name());
            return Err(Error::of_class(ErrorClass::InternalError, message));
        }
    })
}

/// How long an entry lives, as the engine takes it.
pub(super) fn lifetime(ttl_us: u64) -> Result<Lifetime, Error> {
    Lifetime::of_us(ttl_us).map_err(|error| errors::of_commit(&error))
}

/// The version a compare-and-swap expects, as the engine takes it.
pub(super) fn expected(expected: ExpectedVersion) -> Expected {
    match expected {
        ExpectedVersion::Raw(version) => Expected::Version(version),
        ExpectedVersion::Absent => Expected::Absent,
    }
}
