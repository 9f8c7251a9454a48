//! The `system.*` operations: what the server is, can do and is doing.

use in_mem_ipc::frame::PROTOCOL_VERSION;
use in_mem_ipc::operation::{OPERATIONS, OperationKind};
use in_mem_ipc::response::Response;
use in_mem_ipc::response::system::{Capabilities, Info, Measure};
use in_mem_ipc::{Encoding, Text};
use in_mem_model::{Error, ErrorClass};

use super::{Call, Handled, Out, Verdict};
use crate::config::durability_name;
use crate::health;
use crate::quarantine;
use crate::store::{SERVER_VERSION, Store};

/// Handles an operation on the server itself.
pub(super) fn route(call: &Call<'_>, kind: OperationKind, out: &mut Out<'_>) -> Handled {
    match kind {
        OperationKind::SystemPing => out.reply(&Response::Done),
        OperationKind::SystemInfo => out.reply(&Response::Info(info(call.store))),
        OperationKind::SystemCapabilities => {
            out.reply(&Response::Capabilities(capabilities(call.store)));
        }
        _ => {
            let message = format!("{} is not about the server", kind.name());
            return Err(Error::of_class(ErrorClass::InternalError, message));
        }
    }
    Ok(Verdict::Replied)
}

pub(super) fn info(store: &Store) -> Info<'static> {
    let database = &store.database;
    let report = health::look(store);
    Info {
        server_version: SERVER_VERSION.into(),
        uptime_us: store.uptime_us(),
        run_count: database.store().run_ids().len() as u64,
        key_count: database.store().total_count() as u64,
        durability: durability_name(store.settings.durability).into(),
        health: health::in_info(report.state),
        health_reason: health::reason(store, &report).into(),
        measures: measures(store),
    }
}

/// Counters and facts. A fact that is a word stands in the name, with the value 1.
fn measures(store: &Store) -> Vec<Measure<'static>> {
    let database = &store.database;
    let mut measures: Vec<(String, u64)> = vec![
        ("connection_count".to_owned(), store.connection_count()),
        ("commit_version".to_owned(), database.version()),
        ("durable_version".to_owned(), database.durable_version()),
        ("memory_len_bytes".to_owned(), database.memory_len_bytes()),
        ("durable_wait_count".to_owned(), store.durable_wait_count()),
        (format!("disk_{}", store.place.disk.name()), 1),
        (format!("reactor_{}", store.place.reactor), 1),
        (format!("filesystem_{}", store.place.file_system.name()), 1),
        (
            "filesystem_is_volatile".to_owned(),
            store.place.file_system.is_volatile().into(),
        ),
    ];
    measures.extend(crate::metrics::measures(store));
    measures.extend(crate::metrics::limit_measures(store));
    if database.log_metrics().is_some() {
        measures.extend(crate::metrics::snapshot_measures(store));
    }
    if let Some(recovery) = database.last_recovery_result() {
        measures.extend([
            ("recovery_record_count".to_owned(), recovery.records_applied),
            ("recovery_segment_count".to_owned(), recovery.segments_read),
            (
                "recovery_truncated_len_bytes".to_owned(),
                recovery.truncated_bytes,
            ),
            (
                "recovery_orphaned_run_count".to_owned(),
                recovery.orphaned_runs,
            ),
            ("recovery_time_us".to_owned(), recovery.recovery_time_us),
            ("recovery_snapshot_id".to_owned(), recovery.snapshot_used),
            (
                "recovery_snapshot_watermark".to_owned(),
                recovery.snapshot_watermark,
            ),
        ]);
    }
    if let Some(log) = database.log_metrics() {
        measures.extend([
            ("log_batch_count".to_owned(), log.batch_count),
            ("log_record_count".to_owned(), log.record_count),
            ("log_written_len_bytes".to_owned(), log.written_len_bytes),
            ("log_sync_count".to_owned(), log.sync_count),
            ("log_rotation_count".to_owned(), log.rotation_count),
            ("log_pending_count".to_owned(), log.pending_count),
        ]);
    }
    for file in quarantine::files(&store.settings.data_dir) {
        measures.push((format!("quarantine_file {}", file.name), file.len_bytes));
    }
    let measure = |(name, value): (String, u64)| Measure {
        name: name.into(),
        value,
    };
    measures.into_iter().map(measure).collect()
}

pub(super) fn capabilities(store: &Store) -> Capabilities<'static> {
    let limit = |(name, value): (&'static str, u64)| Measure {
        name: name.into(),
        value,
    };
    let texts = |names: &[&'static str]| -> Vec<Text<'static>> {
        names.iter().map(|name| (*name).into()).collect()
    };
    Capabilities {
        server_version: SERVER_VERSION.into(),
        protocol_version: PROTOCOL_VERSION,
        operations: OPERATIONS.iter().map(|row| row.name.into()).collect(),
        limits: store.limits().into_iter().map(limit).collect(),
        encodings: texts(&Encoding::ALL.map(Encoding::name)),
        features: Vec::new(),
        durability_modes: texts(&["in_memory", "buffered", "strict"]),
        transports: texts(&["unix"]),
        analyser: None,
    }
}
