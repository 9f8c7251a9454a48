//! The operations on the retention policy of a run. Policies travel in their text form and are
//! checked here.

use in_mem_engine::{PolicyError, RetentionStats, Step, TransactionContext, policy_value};
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::request::retention::ArchivedPolicy;
use in_mem_ipc::response::retention::{OwnPolicy, Retention, RetentionStats as StatsReply};
use in_mem_ipc::response::{Receipt, Response};
use in_mem_model::{Error, ErrorClass, RetentionPolicy, SubCode, Version, Versioned};

use super::run::named;
use super::{Call, Handled, Out, Verdict};
use crate::errors;

/// Whether it is one of these operations.
pub(super) fn is_about(kind: OperationKind) -> bool {
    use OperationKind as Kind;
    matches!(
        kind,
        Kind::RunSetRetention
            | Kind::RunGetRetention
            | Kind::RunClearRetention
            | Kind::RunRetentionStats
            | Kind::RunRetentionPreview
    )
}

/// Handles one of them outside a transaction.
pub(super) fn route(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    let preview = match operation {
        Op::RunSetRetention(set) => {
            let value = policy_value(&parse(set)?).map_err(|error| errors::of_commit(&error))?;
            return call.commit_step(Step::SetRetention(value.as_ref()), out);
        }
        Op::RunClearRetention => return call.commit_step(Step::ClearRetention, out),
        Op::RunRetentionPreview(preview) => Some(parse(preview)?),
        _ => None,
    };
    let run = named(call);
    let database = &call.store.database;
    if let Op::RunGetRetention = operation {
        let own = database.runs().get_retention_policy(run).map_err(refused)?;
        out.reply(&told(own, &database.default_retention_policy()));
    } else {
        let stats = database.runs().retention_preview(run, preview);
        out.reply(&counted(&stats.map_err(refused)?));
    }
    Ok(Verdict::Replied)
}

/// Handles one of them inside a transaction.
pub(super) fn join(
    context: &mut TransactionContext,
    default: &RetentionPolicy,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    match operation {
        Op::RunSetRetention(set) => {
            let policy = parse(set)?;
            let set = context.set_retention_policy(&policy);
            set.map_err(|error| errors::of_commit(&error))?;
            out.reply(&Response::Written(Receipt::NOTHING));
        }
        Op::RunClearRetention => {
            let cleared = context.delete_retention_policy();
            cleared.map_err(|error| errors::of_commit(&error))?;
            out.reply(&Response::Written(Receipt::NOTHING));
        }
        _ => out.reply(&told(context.retention_policy().map_err(refused)?, default)),
    }
    Ok(Verdict::Replied)
}

fn parse(policy: &ArchivedPolicy<'_>) -> Result<RetentionPolicy, Error> {
    let text = policy.policy.as_str();
    text.parse().map_err(|error| {
        let mut message = format!("{error}");
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        Error::new(SubCode::InvalidArgument, message).with_detail("parameter", "policy")
    })
}

fn told(own: Option<Versioned<RetentionPolicy>>, default: &RetentionPolicy) -> Response<'static> {
    let effective = own.as_ref().map_or(default, |own| &own.value).to_string();
    Response::Retention(Retention {
        own: own.map(|own| OwnPolicy {
            policy: own.value.to_string().into(),
            version: own.version.number(),
            timestamp_us: own.timestamp_us,
        }),
        effective: effective.into(),
    })
}

fn counted(stats: &RetentionStats) -> Response<'static> {
    Response::RetentionStats(StatsReply {
        policy: stats.policy.to_string().into(),
        watermark: stats.watermark,
        now_us: stats.now_us,
        entity_count: stats.entity_count,
        version_count: stats.version_count,
        tombstone_count: stats.tombstone_count,
        value_len_bytes: stats.value_len_bytes,
        removable_count: stats.removable_count,
        removable_len_bytes: stats.removable_len_bytes,
    })
}

fn refused(error: PolicyError) -> Error {
    match error {
        PolicyError::RunNotFound { run } => {
            Error::new(SubCode::RunNotFound, error.to_string()).with_detail("run", run.to_string())
        }
        PolicyError::HistoryTrimmed {
            requested,
            earliest_retained,
        } => Error::of_class(ErrorClass::HistoryTrimmed, error.to_string())
            .with_detail("requested", Version::Txn(requested))
            .with_detail("earliest_retained", Version::Txn(earliest_retained)),
        PolicyError::Unreadable { source, .. } => {
            Error::of_class(ErrorClass::SerializationError, format!("{error}: {source}"))
        }
    }
}
