//! Reading answers where they lie.
//!
//! One function for each shape of answer. Each takes the error out first; a shape that does not
//! belong to the request is a protocol error, never a default.

use in_mem_ipc::request::version::ArchivedTaggedVersion;
use in_mem_ipc::response::kv::{ArchivedEntry, ArchivedSlot, ArchivedVersioned};
use in_mem_ipc::response::{ArchivedReceipt, ArchivedResponse};
use in_mem_model::{RunId, RunInfo, RunStatus, Version};
use serde::de::DeserializeOwned;

use crate::error::{self, ClientError};
use crate::results::{
    Conditional, Cursor, Deleted, Entry, History, Incremented, Mismatch, Page, Receipt, Replaced,
    Versioned,
};
use crate::value;

/// An answer, as the functions here take it.
pub(crate) type Answer = ArchivedResponse<'static>;

/// The error an answer is when it is not the one asked for.
pub(crate) fn other(answer: &Answer) -> ClientError {
    match answer {
        ArchivedResponse::Error(_) => error::from_server(answer),
        _ => error::wrong_shape(),
    }
}

/// The error that the receipt alone is, where more was asked for.
pub(crate) fn not_kept(receipt: &ArchivedReceipt) -> ClientError {
    error::answer_not_kept(receipt.commit_version.to_native())
}

pub(crate) fn done(answer: &Answer) -> Result<(), ClientError> {
    match answer {
        ArchivedResponse::Done => Ok(()),
        _ => Err(other(answer)),
    }
}

pub(crate) fn written(answer: &Answer) -> Result<Receipt, ClientError> {
    match answer {
        ArchivedResponse::Written(receipt) => Ok(receipt_of(receipt)),
        _ => Err(other(answer)),
    }
}

/// What a batch made, also where its effects were not kept.
pub(crate) fn batch_written(answer: &Answer) -> Result<Receipt, ClientError> {
    match answer {
        ArchivedResponse::Batch(result) => Ok(receipt_of(&result.receipt)),
        other => written(other),
    }
}

pub(crate) fn value<T: DeserializeOwned>(answer: &Answer) -> Result<Option<T>, ClientError> {
    match answer {
        ArchivedResponse::Value(bytes) => value::decode(bytes).map(Some),
        ArchivedResponse::Missing => Ok(None),
        _ => Err(other(answer)),
    }
}

pub(crate) fn versioned<T: DeserializeOwned>(
    answer: &Answer,
) -> Result<Option<Versioned<T>>, ClientError> {
    match answer {
        ArchivedResponse::Versioned(found) => {
            let Versioned {
                value,
                version,
                timestamp_us,
            } = versioned_of(found)?;
            Ok(value.map(|value| Versioned {
                value,
                version,
                timestamp_us,
            }))
        }
        ArchivedResponse::Missing => Ok(None),
        _ => Err(other(answer)),
    }
}

pub(crate) fn values<T: DeserializeOwned>(answer: &Answer) -> Result<Vec<Option<T>>, ClientError> {
    let ArchivedResponse::Values(slots) = answer else {
        return Err(other(answer));
    };
    let slot = |slot: &ArchivedSlot<'static>| match slot {
        ArchivedSlot::Absent => Ok(None),
        ArchivedSlot::Present(bytes) => value::decode(bytes).map(Some),
    };
    slots.iter().map(slot).collect()
}

pub(crate) fn flag(answer: &Answer) -> Result<bool, ClientError> {
    match answer {
        ArchivedResponse::Flag(flag) => Ok(*flag),
        _ => Err(other(answer)),
    }
}

pub(crate) fn count(answer: &Answer) -> Result<u64, ClientError> {
    match answer {
        ArchivedResponse::Count(count) => Ok(count.to_native()),
        _ => Err(other(answer)),
    }
}

pub(crate) fn expiry(answer: &Answer) -> Result<Option<u64>, ClientError> {
    match answer {
        ArchivedResponse::Missing => Ok(None),
        other => count(other).map(|at_us| Some(at_us).filter(|at_us| *at_us != 0)),
    }
}

pub(crate) fn deleted(answer: &Answer) -> Result<Deleted, ClientError> {
    match answer {
        ArchivedResponse::Deleted(deleted) => Ok(Deleted {
            count: deleted.count.to_native(),
            receipt: receipt_of(&deleted.receipt),
        }),
        _ => Err(other(answer)),
    }
}

pub(crate) fn incremented(answer: &Answer) -> Result<Incremented, ClientError> {
    match answer {
        ArchivedResponse::Incremented(incremented) => Ok(Incremented {
            value: incremented.value.to_native(),
            receipt: receipt_of(&incremented.receipt),
        }),
        _ => Err(other(answer)),
    }
}

pub(crate) fn conditional(answer: &Answer) -> Result<Conditional, ClientError> {
    match answer {
        ArchivedResponse::Written(receipt) => Ok(Conditional::Written(receipt_of(receipt))),
        ArchivedResponse::Mismatch(mismatch) => Ok(Conditional::Mismatch(Mismatch {
            actual: version_of(&mismatch.actual),
            is_tombstone: mismatch.is_tombstone,
        })),
        _ => Err(other(answer)),
    }
}

pub(crate) fn replaced<T: DeserializeOwned>(answer: &Answer) -> Result<Replaced<T>, ClientError> {
    match answer {
        ArchivedResponse::Replaced(replaced) => Ok(Replaced {
            previous: replaced
                .previous
                .as_ref()
                .map(|bytes| value::decode(bytes))
                .transpose()?,
            receipt: receipt_of(&replaced.receipt),
        }),
        ArchivedResponse::Written(receipt) => Err(not_kept(receipt)),
        _ => Err(other(answer)),
    }
}

/// A page of keys; `entry` makes of each what is wanted.
pub(crate) fn page<T>(
    answer: &Answer,
    entry: impl Fn(&ArchivedEntry<'static>) -> Result<T, ClientError>,
) -> Result<Page<T>, ClientError> {
    let ArchivedResponse::Page(page) = answer else {
        return Err(other(answer));
    };
    let entries = page.entries.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Page {
        entries,
        cursor: cursor_of(page.has_more, &page.cursor),
    })
}

pub(crate) fn entry_key(entry: &ArchivedEntry<'static>) -> Result<String, ClientError> {
    let key = std::str::from_utf8(&entry.key).map_err(|_| error::wrong_shape())?;
    Ok(key.to_owned())
}

pub(crate) fn entry_with_value<T: DeserializeOwned>(
    entry: &ArchivedEntry<'static>,
) -> Result<Entry<T>, ClientError> {
    let value = entry.value.as_ref().ok_or_else(error::wrong_shape)?;
    Ok(Entry {
        key: entry_key(entry)?,
        value: value::decode(value)?,
        version: entry.version.to_native(),
    })
}

pub(crate) fn history<T: DeserializeOwned>(answer: &Answer) -> Result<History<T>, ClientError> {
    let ArchivedResponse::History(history) = answer else {
        return Err(other(answer));
    };
    let versions = history
        .versions
        .iter()
        .map(versioned_of)
        .collect::<Result<_, _>>()?;
    Ok(History {
        versions,
        has_more: history.has_more,
    })
}

pub(crate) fn version(answer: &Answer) -> Result<Option<Version>, ClientError> {
    match answer {
        ArchivedResponse::Version(version) => Ok(Some(version_of(version))),
        ArchivedResponse::Missing => Ok(None),
        _ => Err(other(answer)),
    }
}

pub(crate) fn run_begun(answer: &Answer) -> Result<(RunInfo, Receipt), ClientError> {
    match answer {
        ArchivedResponse::RunBegun(begun) => {
            Ok((value::decode_run(&begun.run)?, receipt_of(&begun.receipt)))
        }
        _ => Err(other(answer)),
    }
}

pub(crate) fn run_status(answer: &Answer) -> Result<Option<RunStatus>, ClientError> {
    match answer {
        ArchivedResponse::RunStatus(reply) => Ok(reply.status.status()),
        _ => Err(other(answer)),
    }
}

pub(crate) fn run(answer: &Answer) -> Result<Option<RunInfo>, ClientError> {
    match answer {
        ArchivedResponse::Run(bytes) => value::decode_run(bytes).map(Some),
        ArchivedResponse::Missing => Ok(None),
        _ => Err(other(answer)),
    }
}

pub(crate) fn runs(answer: &Answer) -> Result<Page<RunInfo>, ClientError> {
    let ArchivedResponse::Runs(page) = answer else {
        return Err(other(answer));
    };
    let entries = page
        .runs
        .iter()
        .map(|run| value::decode_run(run))
        .collect::<Result<_, _>>()?;
    Ok(Page {
        entries,
        cursor: cursor_of(page.has_more, &page.cursor),
    })
}

pub(crate) fn run_id(answer: &Answer) -> Result<Option<RunId>, ClientError> {
    match answer {
        ArchivedResponse::RunId(id) => Ok(Some(RunId(*id))),
        ArchivedResponse::Missing => Ok(None),
        _ => Err(other(answer)),
    }
}

pub(crate) fn receipt_of(receipt: &ArchivedReceipt) -> Receipt {
    let receipt = receipt.to_native();
    Receipt {
        version: receipt.tagged_version().into(),
        commit_version: receipt.commit_version,
        level: receipt.level.level(),
    }
}

pub(crate) fn version_of(version: &ArchivedTaggedVersion) -> Version {
    version.to_native().into()
}

/// One version of a key; a deletion has no value.
fn versioned_of<T: DeserializeOwned>(
    found: &ArchivedVersioned<'static>,
) -> Result<Versioned<Option<T>>, ClientError> {
    Ok(Versioned {
        value: found
            .value
            .as_ref()
            .map(|bytes| value::decode(bytes))
            .transpose()?,
        version: version_of(&found.version),
        timestamp_us: found.timestamp_us.to_native(),
    })
}

fn cursor_of(has_more: bool, cursor: &[u8]) -> Option<Cursor> {
    has_more.then(|| Cursor(cursor.to_vec()))
}
