//! The `kv.*` operations that write, outside a transaction: each is one program.

use in_mem_engine::{Expected, Program, Step};
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::request::kv::ExpectedVersion;
use in_mem_model::{Error, ErrorClass, ValueRef};

use super::{Call, Handled, Out};
/// Handles a write outside a transaction.
// Longer than a screen: one arm for each operation of the wire.
pub(super) fn route(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    match operation {
        Op::KvPut(put) => {
            let value = ValueRef::new(&put.value)?;
            call.commit_step(
                Step::Put {
                    key: &put.key,
                    value,
                },
                out,
            )
        }
        Op::KvDelete(delete) => call.commit_step(Step::Delete { key: &delete.key }, out),
        Op::KvIncr(incr) => {
            let step = Step::Increment {
                key: &incr.key,
                delta: incr.delta.to_native(),
            };
            call.commit_step(step, out)
        }
        Op::KvCasVersion(cas) => {
            let expected = expected(cas.expected.to_native());
            let value = ValueRef::new(&cas.value)?;
            call.commit_step(
                Step::CasVersion {
                    key: &cas.key,
                    expected,
                    value,
                },
                out,
            )
        }
        Op::KvCasValue(cas) => {
            let expected = match cas.expected.as_ref() {
                Some(expected) => Some(ValueRef::new(expected)?),
                None => None,
            };
            let value = ValueRef::new(&cas.value)?;
            call.commit_step(
                Step::CasValue {
                    key: &cas.key,
                    expected,
                    value,
                },
                out,
            )
        }
        Op::KvPutIfAbsent(put) => {
            let value = ValueRef::new(&put.value)?;
            call.commit_step(
                Step::PutIfAbsent {
                    key: &put.key,
                    value,
                },
                out,
            )
        }
        Op::KvGetAndSet(put) => {
            let value = ValueRef::new(&put.value)?;
            call.commit_step(
                Step::GetAndSet {
                    key: &put.key,
                    value,
                },
                out,
            )
        }
        Op::KvGetAndDelete(delete) => {
            call.commit_step(Step::GetAndDelete { key: &delete.key }, out)
        }
        Op::KvDeleteMany(many) => {
            let steps: Vec<Step<'_>> = many.keys.iter().map(|key| Step::Delete { key }).collect();
            commit_many(call, &steps, out)
        }
        Op::KvPutMany(many) => {
            let mut steps = Vec::with_capacity(many.entries.len());
            for entry in many.entries.iter() {
                steps.push(Step::Put {
                    key: &entry.key,
                    value: ValueRef::new(&entry.value)?,
                });
            }
            commit_many(call, &steps, out)
        }
        _ => {
            let message = format!("{} is not a write", operation.kind().name());
            Err(Error::of_class(ErrorClass::InternalError, message))
        }
    }
}

/// The version a compare-and-swap expects, as the engine takes it.
pub(super) fn expected(expected: ExpectedVersion) -> Expected {
    match expected {
        ExpectedVersion::Raw(version) => Expected::Version(version),
        ExpectedVersion::Absent => Expected::Absent,
    }
}

fn commit_many(call: &mut Call<'_>, steps: &[Step<'_>], out: &mut Out<'_>) -> Handled {
    call.commit(&Program { checks: &[], steps }, out)
}
