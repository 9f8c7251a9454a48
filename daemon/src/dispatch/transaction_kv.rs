//! The `kv.*` operations inside an open transaction.

use in_mem_engine::{Actual, CommitError, ReadError, TransactionContext, Versioned as Found};
use in_mem_ipc::Bytes;
use in_mem_ipc::frame::FRAME_LEN_BYTES_MAX;
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::request::version::TaggedVersion;
use in_mem_ipc::response::kv::{Deleted, Incremented, Mismatch, Replaced, Slot, Versioned};
use in_mem_ipc::response::{Receipt, Response};
use in_mem_model::{Error, ErrorClass, ValueRef};

use super::kv_read::{self, HISTORY_COUNT_MAX, PAGE_LEN_BYTES_MAX, bounded};
use super::kv_write::{expected, lifetime};
use super::{Handled, Out, Verdict};
use crate::errors;
use crate::transactions::OpenTransaction;

/// Handles an operation that joins a transaction.
pub(super) fn route(
    open: &mut OpenTransaction,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    // Refused before anything is copied: a small request may name a large value many times.
    if matches!(operation, ArchivedOperation::KvGetMany(_))
        && FRAME_LEN_BYTES_MAX as usize <= copied_len_bytes(&open.context, operation)
    {
        out.refuse_as_too_large();
        return Ok(Verdict::Replied);
    }
    let response = if operation.kind().is_write() {
        write(open, operation)?
    } else {
        read(open, operation)?
    };
    out.reply(&response);
    Ok(Verdict::Replied)
}

/// Bytes of values that an operation on single keys copies out of the store.
pub(super) fn copied_len_bytes(
    context: &TransactionContext,
    operation: &ArchivedOperation<'_>,
) -> usize {
    use ArchivedOperation as Op;
    let key = match operation {
        Op::KvGet(get) | Op::KvGetVersioned(get) | Op::KvExpiresAt(get) => &get.key,
        Op::KvGetMany(many) => {
            let lens = many.keys.iter().map(|key| context.value_len_bytes(key));
            return lens.fold(0, usize::saturating_add);
        }
        Op::KvIncr(incr) => &incr.key,
        Op::KvCasValue(cas) => &cas.key,
        Op::KvPutIfAbsent(put) => &put.key,
        Op::KvGetAndSet(put) => &put.key,
        Op::KvGetAndDelete(delete) => &delete.key,
        _ => return 0,
    };
    context.value_len_bytes(key)
}

fn read(
    open: &mut OpenTransaction,
    operation: &ArchivedOperation<'_>,
) -> Result<Response<'static>, Error> {
    use ArchivedOperation as Op;
    let context = &mut open.context;
    let failed = |error: ReadError| errors::of_read(&error);
    Ok(match operation {
        Op::KvGet(get) => match context.get(&get.key).map_err(failed)? {
            Some(found) => Response::Value(found.value.into()),
            None => Response::Missing,
        },
        Op::KvGetVersioned(get) => match context.get(&get.key).map_err(failed)? {
            Some(found) => Response::Versioned(versioned(found)),
            None => Response::Missing,
        },
        Op::KvGetMany(many) => {
            let keys: Vec<&[u8]> = many.keys.iter().map(|key| key.as_slice()).collect();
            let found = context.get_many(&keys).map_err(failed)?;
            let slot = |found: Option<Found>| match found {
                Some(found) => Slot::Present(found.value.into()),
                None => Slot::Absent,
            };
            Response::Values(found.into_iter().map(slot).collect())
        }
        Op::KvExpiresAt(asked) => match context.get(&asked.key).map_err(failed)? {
            Some(found) => Response::Count(found.expires_at_us.unwrap_or(0)),
            None => Response::Missing,
        },
        Op::KvExists(exists) => Response::Flag(context.contains(&exists.key).map_err(failed)?),
        Op::KvExistsMany(many) => {
            let keys: Vec<&[u8]> = many.keys.iter().map(|key| key.as_slice()).collect();
            Response::Count(context.exists_many(&keys).map_err(failed)? as u64)
        }
        Op::KvLatestVersion(latest) => {
            match context.latest_version(&latest.key).map_err(failed)? {
                Some(version) => Response::Version(version.into()),
                None => Response::Missing,
            }
        }
        Op::KvGetAt(at) => {
            let version = at.version.to_native().into();
            match context.get_at(&at.key, version).map_err(failed)? {
                Some(found) => Response::Versioned(kv_read::versioned_entry(found)),
                None => Response::Missing,
            }
        }
        Op::KvHistory(history) => {
            let limit = bounded(history.limit.to_native(), HISTORY_COUNT_MAX);
            let before = history.before.as_ref().map(|before| before.to_native());
            let page = context.history_page(&history.key, limit, before, PAGE_LEN_BYTES_MAX);
            kv_read::history(page.map_err(failed)?)
        }
        _ => {
            let step = |request: &in_mem_engine::ListRequest<'_>| {
                context
                    .list_step(request)
                    .map_err(|error| errors::of_read(&error))
            };
            kv_read::listing(operation, step)?
        }
    })
}

fn write(
    open: &mut OpenTransaction,
    operation: &ArchivedOperation<'_>,
) -> Result<Response<'static>, Error> {
    use ArchivedOperation as Op;
    let context = &mut open.context;
    let failed = |error: CommitError| errors::of_commit(&error);
    let deleted = |count: usize| {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Response::Deleted(Deleted {
            count,
            receipt: Receipt::NOTHING,
        })
    };
    let replaced = |previous: Option<Vec<u8>>| {
        let previous = previous.map(Bytes::from);
        Response::Replaced(Replaced {
            previous,
            receipt: Receipt::NOTHING,
        })
    };
    Ok(match operation {
        Op::KvPut(put) => {
            context
                .put(&put.key, ValueRef::new(&put.value)?)
                .map_err(failed)?;
            Response::Written(Receipt::NOTHING)
        }
        Op::KvPutWithTtl(put) => {
            let lifetime = lifetime(put.ttl_us.to_native())?;
            context
                .put_expiring(&put.key, ValueRef::new(&put.value)?, lifetime)
                .map_err(failed)?;
            Response::Written(Receipt::NOTHING)
        }
        Op::KvPutMany(many) => {
            let mut entries = Vec::with_capacity(many.entries.len());
            for entry in many.entries.iter() {
                entries.push((entry.key.as_slice(), ValueRef::new(&entry.value)?));
            }
            context.put_many(&entries).map_err(failed)?;
            Response::Written(Receipt::NOTHING)
        }
        Op::KvDelete(delete) => deleted(usize::from(context.delete(&delete.key).map_err(failed)?)),
        Op::KvDeleteMany(many) => {
            let keys: Vec<&[u8]> = many.keys.iter().map(|key| key.as_slice()).collect();
            deleted(context.delete_many(&keys).map_err(failed)?)
        }
        Op::KvIncr(incr) => {
            let value = context
                .increment(&incr.key, incr.delta.to_native())
                .map_err(failed)?;
            Response::Incremented(Incremented {
                value,
                receipt: Receipt::NOTHING,
            })
        }
        Op::KvCasVersion(_) | Op::KvCasValue(_) | Op::KvPutIfAbsent(_) => {
            write_conditional(context, operation)?
        }
        Op::KvGetAndSet(put) => {
            let value = ValueRef::new(&put.value)?;
            replaced(context.get_and_set(&put.key, value).map_err(failed)?)
        }
        Op::KvGetAndDelete(delete) => {
            replaced(context.get_and_delete(&delete.key).map_err(failed)?)
        }
        _ => {
            let message = format!("{} does not join a transaction", operation.kind().name());
            return Err(Error::of_class(ErrorClass::InternalError, message));
        }
    })
}

fn write_conditional(
    context: &mut TransactionContext,
    operation: &ArchivedOperation<'_>,
) -> Result<Response<'static>, Error> {
    use ArchivedOperation as Op;
    let failed = |error: CommitError| errors::of_commit(&error);
    Ok(match operation {
        Op::KvCasVersion(cas) => {
            let value = ValueRef::new(&cas.value)?;
            let expected = expected(cas.expected.to_native());
            context
                .cas_version(&cas.key, expected, value)
                .map_err(failed)?;
            Response::Written(Receipt::NOTHING)
        }
        Op::KvCasValue(cas) => {
            let expected = match cas.expected.as_ref() {
                Some(expected) => Some(ValueRef::new(expected)?),
                None => None,
            };
            let value = ValueRef::new(&cas.value)?;
            conditional(
                context
                    .cas_value(&cas.key, expected, value)
                    .map_err(failed)?,
            )
        }
        Op::KvPutIfAbsent(put) => {
            let value = ValueRef::new(&put.value)?;
            conditional(context.cas_value(&put.key, None, value).map_err(failed)?)
        }
        _ => {
            let message = format!("{} has no condition", operation.kind().name());
            return Err(Error::of_class(ErrorClass::InternalError, message));
        }
    })
}

fn conditional(done: Result<(), Actual>) -> Response<'static> {
    match done {
        Ok(()) => Response::Written(Receipt::NOTHING),
        Err(actual) => Response::Mismatch(Mismatch {
            actual: TaggedVersion::Txn(actual.version),
            is_tombstone: actual.is_absent && actual.version != 0,
        }),
    }
}

fn versioned(found: Found) -> Versioned<'static> {
    Versioned {
        value: Some(found.value.into()),
        version: TaggedVersion::Txn(found.version),
        timestamp_us: found.timestamp_us,
    }
}
