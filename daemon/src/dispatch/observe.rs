//! The operations that look inside: `system.health`, `system.metrics` and `system.describe`.
//!
//! All of them ask the kernel or walk the runs, so they are handled by a worker, one that nothing
//! else holds up.

use in_mem_engine::RunFilter;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::response::Response;
use in_mem_ipc::response::observe::{Description, RunSummary, Setting};

use super::{Call, Handled, Out, Verdict, system};
use crate::health;
use crate::metrics;
use crate::store::Store;

/// Runs that a description lists: each costs a walk over its keys.
const RUN_COUNT_MAX: usize = 100;

/// Whether it is one of these operations.
pub(super) fn is_observation(kind: OperationKind) -> bool {
    use OperationKind as Kind;
    matches!(
        kind,
        Kind::SystemHealth | Kind::SystemMetrics | Kind::SystemDescribe
    )
}

/// Handles one of them.
pub(super) fn route(call: &Call<'_>, kind: OperationKind, out: &mut Out<'_>) -> Handled {
    let store = call.store;
    match kind {
        OperationKind::SystemHealth => out.reply(&Response::Health(health::look(store))),
        OperationKind::SystemMetrics => {
            out.reply(&Response::Metrics(metrics::render(store).into()));
        }
        _ => out.reply(&Response::Description(Box::new(describe(store)))),
    }
    Ok(Verdict::Replied)
}

fn describe(store: &Store) -> Description<'static> {
    let filter = RunFilter {
        limit: RUN_COUNT_MAX,
        ..RunFilter::default()
    };
    let page = store.database.runs().list_runs(&filter);
    let runs = page.runs.into_iter().map(|run| RunSummary {
        id: run.id.0,
        name: run.name.map(Into::into),
        status: run.status.name().into(),
        key_count: store.database.store().count(run.id) as u64,
    });
    let settings = store.described().into_iter().map(|setting| Setting {
        name: setting.name.into(),
        value: setting.value.map(Into::into),
        origin: setting.origin.into(),
    });
    Description {
        info: system::info(store),
        health: health::look(store),
        capabilities: system::capabilities(store),
        settings: settings.collect(),
        runs: runs.collect(),
        has_more_runs: page.has_more,
    }
}
