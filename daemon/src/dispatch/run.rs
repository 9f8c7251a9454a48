//! The `run.*` operations. Each change is one ordinary commit of the run it is about.

use in_mem_engine::limits::RUN_PAGE_LEN_BYTES_MAX;
use in_mem_engine::{BeginRun, Program, RunChange, RunFilter, Step};
use in_mem_ipc::Bytes;
use in_mem_ipc::request::run::{ArchivedRunBegin, ArchivedRunList};
use in_mem_ipc::request::{ArchivedOperation, RunChoice};
use in_mem_ipc::response::run::{RunPage, RunStatusReply};
use in_mem_ipc::response::{Receipt, Response};
use in_mem_model::{EncodedValue, Error, ErrorClass, RunId, SubCode};

use super::kv_read::bounded;
use super::{Call, Handled, Out, Verdict};
use crate::answer::{Shape, begun, encoded_run};
use crate::store::Store;

/// Runs of one page, at most.
const PAGE_COUNT_MAX: usize = 1_000;

/// Handles an operation on runs outside a transaction.
pub(super) fn route(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    match operation {
        Op::RunBegin(begin) => return self::begin(call, begin, out),
        // Everything else but these reads the metadata of the run, if only for its status.
        Op::RunExists | Op::RunResolve(_) | Op::RunList(_) | Op::RunOrphaned => {}
        _ if call.has_large_metadata(named(call)) => return Ok(Verdict::Offload),
        _ => {}
    }
    match operation {
        Op::RunStatus => {
            let status = call.store.database.runs().run_status(named(call));
            out.reply(&Response::RunStatus(RunStatusReply {
                status: status.into(),
            }));
        }
        Op::RunGet => match call.store.database.runs().get(named(call)) {
            Some(info) => out.reply(&Response::Run(encoded_run(&info)?)),
            None => out.reply(&Response::Missing),
        },
        Op::RunExists => {
            out.reply(&Response::Flag(
                call.store.database.runs().exists(named(call)),
            ));
        }
        Op::RunList(list) => out.reply(&Response::Runs(self::list(call.store, list)?)),
        Op::RunResolve(resolve) => match call.store.resolve_run(&resolve.name) {
            Some(id) => out.reply(&Response::RunId(id.0)),
            None => out.reply(&Response::Missing),
        },
        Op::RunOrphaned => {
            let page = call.store.database.runs().orphaned_page(None);
            if page.has_more {
                return Err(too_many_orphaned());
            }
            out.reply(&Response::Runs(RunPage {
                runs: page
                    .runs
                    .iter()
                    .map(encoded_run)
                    .collect::<Result<_, _>>()?,
                cursor: Bytes::default(),
                has_more: false,
            }));
        }
        _ => {
            let change = change_of(operation)?;
            let steps = [Step::Run(&change)];
            return call.commit(
                &Program {
                    checks: &[],
                    steps: &steps,
                },
                out,
            );
        }
    }
    Ok(Verdict::Replied)
}

/// The run a request names, existing or not.
pub(super) fn named(call: &Call<'_>) -> RunId {
    match call.header.run {
        RunChoice::Session => call.caller.run.id(),
        RunChoice::Id(id) => RunId(id),
    }
}

/// The change an operation asks for.
pub(super) fn change_of(operation: &ArchivedOperation<'_>) -> Result<RunChange, Error> {
    use ArchivedOperation as Op;
    let tags = |tags: &in_mem_ipc::request::run::ArchivedRunTags<'_>| {
        tags.tags
            .iter()
            .map(|tag| tag.as_str().to_owned())
            .collect()
    };
    Ok(match operation {
        Op::RunEnd => RunChange::End,
        Op::RunFail(failure) | Op::RunAbort(failure) => RunChange::Fail {
            message: failure.message.as_str().to_owned(),
        },
        Op::RunCancel => RunChange::Cancel,
        Op::RunPause => RunChange::Pause,
        Op::RunResume => RunChange::Resume,
        Op::RunArchive => RunChange::Archive,
        Op::RunUpdateMetadata(update) => RunChange::SetMetadata {
            metadata: EncodedValue::new(update.metadata.as_slice())?,
        },
        Op::RunAddTags(added) => RunChange::AddTags { tags: tags(added) },
        Op::RunRemoveTags(removed) => RunChange::RemoveTags {
            tags: tags(removed),
        },
        _ => {
            let message = format!("{} is not a change of a run", operation.kind().name());
            return Err(Error::of_class(ErrorClass::InternalError, message));
        }
    })
}

fn begin(call: &mut Call<'_>, begin: &ArchivedRunBegin<'_>, out: &mut Out<'_>) -> Handled {
    let Shape::RunBegun { run, .. } = call.shape else {
        return Err(Error::of_class(
            ErrorClass::InternalError,
            "run.begin without its shape",
        ));
    };
    let once = call.once()?;
    if let Some(once) = &once
        && let Some(begun) = call.store.open_run(run)
        && let Some(submitted) = begun.submit_repeat(once, call.completion()?)
    {
        return call.settle(submitted, out);
    }
    let name = begin.name.as_ref().map(|name| name.as_str().to_owned());
    if begin.if_missing
        && let Some(id) = name
            .as_deref()
            .and_then(|name| call.store.resolve_run(name))
    {
        if call.has_large_metadata(id) {
            return Ok(Verdict::Offload);
        }
        out.reply(&begun(call.store, id, Receipt::NOTHING)?);
        return Ok(Verdict::Replied);
    }
    let metadata = match begin.metadata.as_ref() {
        Some(metadata) => Some(EncodedValue::new(metadata.as_slice())?),
        None => None,
    };
    let begin = BeginRun {
        name,
        parent: begin.parent.as_ref().map(|parent| RunId(*parent)),
        tags: begin
            .tags
            .iter()
            .map(|tag| tag.as_str().to_owned())
            .collect(),
        metadata,
        description: begin
            .description
            .as_ref()
            .map(|text| text.as_str().to_owned()),
        owner: None,
    };
    let runs = call
        .store
        .database
        .runs()
        .with_durability(call.durability());
    let submitted = runs.submit_begin_as(run, begin, once.as_ref(), call.completion()?);
    call.settle(submitted, out)
}

/// `run.orphaned` has no pages: what does not fit one is refused before it is made.
fn too_many_orphaned() -> Error {
    let message = format!(
        "the orphaned runs carry more than {RUN_PAGE_LEN_BYTES_MAX} bytes of metadata: use pages \
         of run.list"
    );
    Error::new(SubCode::BudgetExceeded, message).with_detail("paged", "run.list")
}

fn list(store: &Store, list: &ArchivedRunList<'_>) -> Result<RunPage<'static>, Error> {
    let after = match list.cursor.as_slice() {
        [] => None,
        cursor => Some(RunId(cursor.try_into().map_err(|_| {
            Error::new(
                SubCode::InvalidArgument,
                "the cursor is not one of run.list",
            )
        })?)),
    };
    let filter = RunFilter {
        status: list.status.as_ref().and_then(|status| status.status()),
        include_archived: list.include_archived,
        limit: bounded(list.limit.to_native(), PAGE_COUNT_MAX),
        after,
    };
    let page = store.database.runs().list_runs(&filter);
    let cursor = page.cursor.filter(|_| page.has_more);
    Ok(RunPage {
        runs: page
            .runs
            .iter()
            .map(encoded_run)
            .collect::<Result<_, _>>()?,
        cursor: cursor.map_or_else(Bytes::default, |run| run.0.to_vec().into()),
        has_more: page.has_more,
    })
}
