//! The `kv.*` operations that read.

use in_mem_engine::{HistoryEntry, HistoryPage, KeyRef, ListRequest, ListStep, ReadView};
use in_mem_ipc::Bytes;
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::request::version::TaggedVersion;
use in_mem_ipc::response::Response;
use in_mem_ipc::response::kv::{Entry, History, Page, Slot, Versioned};
use in_mem_model::{
    Error, ErrorClass, TypeTag, Version, keys::validate_prefix, keys::validate_user_key,
};

use super::{Call, Handled, LARGE_LEN_BYTES, Out, Verdict};
use crate::errors;

/// Entries of one page, at most.
const PAGE_COUNT_MAX: usize = 10_000;

/// Keys and values of one page, bytes. One entry may exceed it alone.
pub(super) const PAGE_LEN_BYTES_MAX: usize = 1 << 20;

/// Versions of one page of a history, at most.
pub(super) const HISTORY_COUNT_MAX: usize = 1_000;

/// Handles a read outside a transaction.
pub(super) fn route(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    if let ArchivedOperation::KvGetAt(at) = operation {
        get_at(call, &at.key, at.version.to_native().into(), out)?;
        return Ok(Verdict::Replied);
    }
    let view = call.take_view()?;
    let is_worker = call.is_worker;
    answer(&view, operation, is_worker, out)
}

/// Answers a read from a view.
fn answer(
    view: &ReadView,
    operation: &ArchivedOperation<'_>,
    is_worker: bool,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    match operation {
        Op::KvGet(get) => return value(view, &get.key, is_worker, out),
        Op::KvGetVersioned(get) => return versioned(view, &get.key, is_worker, out),
        Op::KvGetMany(many) => {
            let keys: Vec<&[u8]> = many.keys.iter().map(|key| key.as_slice()).collect();
            return get_many(view, &keys, is_worker, out);
        }
        Op::KvExists(exists) => {
            out.reply(&Response::Flag(view.contains(checked(&exists.key)?)));
        }
        Op::KvExpiresAt(asked) => {
            let expiry = view.get_with(checked(&asked.key)?, |found| {
                found.map(|found| found.expires_at_us.unwrap_or(0))
            });
            out.reply(&expiry.map_or(Response::Missing, Response::Count));
        }
        Op::KvExistsMany(many) => {
            let mut count = 0;
            for key in many.keys.iter() {
                count += u64::from(view.contains(checked(key)?));
            }
            out.reply(&Response::Count(count));
        }
        Op::KvLatestVersion(latest) => match view.version_of(checked(&latest.key)?) {
            0 => out.reply(&Response::Missing),
            version => out.reply(&Response::Version(TaggedVersion::Txn(version))),
        },
        Op::KvHistory(history) => {
            let limit = bounded(history.limit.to_native(), HISTORY_COUNT_MAX);
            let before = history.before.as_ref().map(|before| before.to_native());
            let key = checked(&history.key)?;
            let page = view
                .history_page(key, limit, before, PAGE_LEN_BYTES_MAX)
                .map_err(|error| errors::of_read(&error))?;
            out.reply(&self::history(page));
        }
        // The first listing of a run puts all its keys in order: as long as the run is large.
        _ if !is_worker && !view.is_ordered() => return Ok(Verdict::Offload),
        _ => {
            let step = |request: &ListRequest<'_>| {
                let step = view.list_step(TypeTag::Kv, request);
                step.map_err(|error| errors::of_read(&error))
            };
            out.reply(&listing(operation, step)?);
        }
    }
    Ok(Verdict::Replied)
}

/// A user key, validated.
fn checked(key: &[u8]) -> Result<KeyRef<'_>, Error> {
    validate_user_key(key)?;
    Ok(KeyRef::kv(key))
}

fn value(view: &ReadView, key: &[u8], is_worker: bool, out: &mut Out<'_>) -> Handled {
    let key = checked(key)?;
    Ok(view.get_with(key, |found| match found {
        Some(found) if LARGE_LEN_BYTES < found.value.len() && !is_worker => Verdict::Offload,
        Some(found) => {
            out.reply(&Response::Value(found.value.into()));
            Verdict::Replied
        }
        None => {
            out.reply(&Response::Missing);
            Verdict::Replied
        }
    }))
}

fn versioned(view: &ReadView, key: &[u8], is_worker: bool, out: &mut Out<'_>) -> Handled {
    let key = checked(key)?;
    Ok(view.get_with(key, |found| match found {
        Some(found) if LARGE_LEN_BYTES < found.value.len() && !is_worker => Verdict::Offload,
        Some(found) => {
            out.reply(&Response::Versioned(Versioned {
                value: Some(found.value.into()),
                version: TaggedVersion::Txn(found.commit_version),
                timestamp_us: found.timestamp_us,
            }));
            Verdict::Replied
        }
        None => {
            out.reply(&Response::Missing);
            Verdict::Replied
        }
    }))
}

fn get_many(view: &ReadView, keys: &[&[u8]], is_worker: bool, out: &mut Out<'_>) -> Handled {
    let mut slots = Vec::with_capacity(keys.len());
    let mut len_bytes = 0;
    let frame_len_bytes_max = in_mem_ipc::frame::FRAME_LEN_BYTES_MAX as usize;
    for key in keys {
        // Past a frame the answer is refused as a whole: collecting more would only cost memory.
        if frame_len_bytes_max < len_bytes {
            break;
        }
        slots.push(view.get_with(checked(key)?, |found| match found {
            Some(found) => {
                len_bytes += found.value.len();
                Slot::Present(Bytes::from(found.value.to_vec()))
            }
            None => Slot::Absent,
        }));
        if LARGE_LEN_BYTES < len_bytes && !is_worker {
            return Ok(Verdict::Offload);
        }
    }
    out.reply(&Response::Values(slots));
    Ok(Verdict::Replied)
}

/// Answers with what a key was at an earlier version.
fn get_at(call: &mut Call<'_>, key: &[u8], at: Version, out: &mut Out<'_>) -> Result<(), Error> {
    let found = call
        .run()?
        .kv()
        .get_at(key, at)
        .map_err(|error| errors::of_read(&error))?;
    match found {
        Some(found) => out.reply(&Response::Versioned(versioned_entry(found))),
        None => out.reply(&Response::Missing),
    }
    Ok(())
}

/// One version of a history, in its wire form.
pub(super) fn versioned_entry(entry: HistoryEntry) -> Versioned<'static> {
    Versioned {
        value: entry.value.map(Bytes::from),
        version: TaggedVersion::Txn(entry.version),
        timestamp_us: entry.timestamp_us,
    }
}

/// A page of a history, in its wire form.
pub(super) fn history(page: HistoryPage) -> Response<'static> {
    let versions = page.entries.into_iter().map(versioned_entry).collect();
    Response::History(History {
        versions,
        has_more: page.has_more,
    })
}

/// Answers `kv.list`, `kv.scan` or `kv.count` by steps, each bounded.
pub(super) fn listing(
    operation: &ArchivedOperation<'_>,
    step: impl FnMut(&ListRequest<'_>) -> Result<ListStep, Error>,
) -> Result<Response<'static>, Error> {
    use ArchivedOperation as Op;
    let wanted = match operation {
        Op::KvList(list) => Wanted {
            prefix: &list.prefix,
            start: &[],
            cursor: &list.cursor,
            limit: bounded(list.limit.to_native(), PAGE_COUNT_MAX),
            with_values: list.with_values,
        },
        Op::KvScan(scan) => Wanted {
            prefix: &scan.prefix,
            start: &scan.start,
            cursor: &scan.cursor,
            limit: bounded(scan.limit.to_native(), PAGE_COUNT_MAX),
            with_values: true,
        },
        Op::KvCount(count) => return Ok(Response::Count(self::count(&count.prefix, step)?)),
        _ => {
            let message = format!("{} is not a read", operation.kind().name());
            return Err(Error::of_class(ErrorClass::InternalError, message));
        }
    };
    Ok(Response::Page(page(&wanted, step)?))
}

/// What a page is asked for.
struct Wanted<'a> {
    prefix: &'a [u8],
    start: &'a [u8],
    cursor: &'a [u8],
    limit: usize,
    with_values: bool,
}

/// Collects one page, step by step. The cursor is the last key of the page before.
fn page(
    wanted: &Wanted<'_>,
    mut next: impl FnMut(&ListRequest<'_>) -> Result<ListStep, Error>,
) -> Result<Page<'static>, Error> {
    validate_prefix(wanted.prefix)?;
    let mut after = (!wanted.cursor.is_empty()).then(|| wanted.cursor.to_vec());
    let mut entries: Vec<Entry<'static>> = Vec::new();
    let mut len_bytes = 0;
    loop {
        let request = ListRequest {
            prefix: wanted.prefix,
            after: after.as_deref(),
            start: wanted.start,
            limit: (wanted.limit - entries.len()).min(STEP_COUNT),
            with_values: wanted.with_values,
        };
        let step = next(&request)?;
        for item in step.items {
            len_bytes += item.key.len() + item.value.as_ref().map_or(0, Vec::len);
            entries.push(Entry {
                key: item.key.into(),
                value: item.value.map(Bytes::from),
                version: item.version,
            });
        }
        let is_full = entries.len() == wanted.limit || PAGE_LEN_BYTES_MAX <= len_bytes;
        if step.is_complete || is_full {
            let has_more = !step.is_complete;
            let cursor = step.after.filter(|_| has_more).unwrap_or_default().into();
            return Ok(Page {
                entries,
                cursor,
                has_more,
            });
        }
        after = step.after.or(after);
    }
}

/// Items of one step of a page. What a step may add to a page that is nearly full is bounded by the
/// bytes of a step, too.
const STEP_COUNT: usize = 16;

fn count(
    prefix: &[u8],
    mut next: impl FnMut(&ListRequest<'_>) -> Result<ListStep, Error>,
) -> Result<u64, Error> {
    validate_prefix(prefix)?;
    let mut after: Option<Vec<u8>> = None;
    let mut count = 0;
    loop {
        let request = ListRequest {
            prefix,
            after: after.as_deref(),
            start: &[],
            limit: PAGE_COUNT_MAX,
            with_values: false,
        };
        let step = next(&request)?;
        count += step.items.len() as u64;
        if step.is_complete {
            return Ok(count);
        }
        after = step.after.or(after);
    }
}

/// A limit as asked for; 0 and anything above the most is the most.
pub(super) fn bounded(limit: u32, max: usize) -> usize {
    match usize::try_from(limit) {
        Ok(limit @ 1..) => limit.min(max),
        _ => max,
    }
}
