//! The metrics of a daemon as text for scrapers, and the few that `system.info` carries.
//!
//! Everything here is bounded by the number of operations and buckets, except the count of runs,
//! which walks the runs; live keys are not counted here, because that walks all keys. Not for the
//! reactor.

use in_mem_engine::RecoveryResult;
use in_mem_ipc::frame::PROTOCOL_VERSION;
use in_mem_ipc::operation::OPERATIONS;
use in_mem_wal::clock::{Clock, SystemClock};
use in_mem_wal::{LogMetrics, LogObserved};

use super::exposition::{Exposition, Kind, Unit, seconds};
use super::{Abort, LEVELS, Metrics, limits, load, process, snapshots};
use crate::health::{self, state_name};
use crate::store::{SERVER_VERSION, Store};

use Kind::{Counter, Gauge, Histogram};

/// Everything, in the Prometheus text format, version 0.0.4.
pub(crate) fn render(store: &Store) -> String {
    let mut text = Exposition::default();
    server(&mut text, store);
    requests(&mut text, store);
    commits(&mut text, &store.metrics);
    views(&mut text, &store.metrics);
    limits::expose(&mut text, store);
    let database = &store.database;
    if let (Some(log), Some(observed)) = (database.log_metrics(), database.log_observed()) {
        self::log(&mut text, &log);
        log_positions(&mut text, store, observed);
        log_times(&mut text, observed);
        snapshots::expose(&mut text, store);
    }
    if let Some(result) = database.last_recovery_result() {
        recovery(&mut text, result);
    }
    text.finish()
}

/// What `system.info` adds to its measures.
pub(crate) fn measures(store: &Store) -> Vec<(String, u64)> {
    let metrics = &store.metrics;
    let mut measures = vec![
        ("in_flight_count".to_owned(), load(&metrics.in_flight_count)),
        ("reply_len_bytes".to_owned(), load(&metrics.reply_len_bytes)),
        ("read_view_count".to_owned(), metrics.views.count()),
        (
            "open_transaction_count".to_owned(),
            metrics.views.transaction_count(),
        ),
        (
            "commit_count".to_owned(),
            metrics.commits.iter().map(load).sum(),
        ),
        (
            "conflict_count".to_owned(),
            load(&metrics.read_conflicts) + load(&metrics.cas_conflicts),
        ),
        (
            "slow_request_count".to_owned(),
            load(&metrics.slow_requests),
        ),
        ("started_at_us".to_owned(), store.started_at_us()),
    ];
    if let Some((written_lsn, durable_lsn)) = store.database.log_positions() {
        measures.push(("log_written_lsn".to_owned(), written_lsn.to_u64()));
        measures.push(("log_durable_lsn".to_owned(), durable_lsn.to_u64()));
    }
    measures
}

fn server(text: &mut Exposition, store: &Store) {
    let name = "inmem_build_info";
    text.family(
        name,
        Gauge,
        "Version of the server and of its protocol; always 1.",
    );
    let protocol = PROTOCOL_VERSION.to_string();
    let labels = [("version", SERVER_VERSION), ("protocol", &protocol)];
    text.sample(name, &labels, 1);
    let started = seconds(store.started_at_us());
    let help = "When the process was ready, seconds since the Unix epoch.";
    text.single("process_start_time_seconds", Gauge, help, started);
    if let Some(len_bytes) = process::resident_len_bytes() {
        let help = "Memory of the process that is in use.";
        text.single("process_resident_memory_bytes", Gauge, help, len_bytes);
    }
    let name = "inmem_backend_info";
    text.family(
        name,
        Gauge,
        "How the log is written and how sockets are served; always 1.",
    );
    let log = store.place.disk.name();
    text.sample(name, &[("part", "log"), ("backend", log)], 1);
    let socket = store.place.reactor;
    text.sample(name, &[("part", "socket"), ("backend", socket)], 1);
    let report = health::look(store);
    let name = "inmem_health_state";
    text.family(
        name,
        Gauge,
        "1 for the state the server is in, 0 for others.",
    );
    for state in health::STATES {
        let is_now = u8::from(state == report.state);
        text.sample(name, &[("state", state_name(state))], is_now);
    }
    let poisoned = u8::from(store.is_poisoned());
    let help = "1 after a write or sync of the log has failed: no writes until a restart.";
    text.single("inmem_poisoned", Gauge, help, poisoned);
    if let Some(free) = report.free_len_bytes {
        let help = "Bytes free for the server below its data directory.";
        text.single("inmem_disk_free_bytes", Gauge, help, free);
    }
    let help = "Runs there are, the default run included.";
    let runs = store.database.store().run_ids().len();
    text.single("inmem_runs", Gauge, help, runs);
    let help = "The last commit version issued.";
    text.single(
        "inmem_commit_version",
        Gauge,
        help,
        store.database.version(),
    );
}

fn requests(text: &mut Exposition, store: &Store) {
    let metrics = &store.metrics;
    let name = "inmem_requests_total";
    text.family(name, Counter, "Requests received, by operation.");
    for (row, count) in OPERATIONS.iter().zip(&metrics.requests) {
        text.sample(name, &[("operation", row.name)], load(count));
    }
    let help = "Sessions open now.";
    text.single("inmem_sessions", Gauge, help, store.connection_count());
    let help = "Connections accepted.";
    let begun = load(&metrics.sessions_begun);
    text.single("inmem_sessions_total", Counter, help, begun);
    let help = "Requests started and not answered.";
    let in_flight = load(&metrics.in_flight_count);
    text.single("inmem_requests_in_flight", Gauge, help, in_flight);
    let help = "Replies that clients have not taken.";
    let reply = load(&metrics.reply_len_bytes);
    text.single("inmem_reply_queue_bytes", Gauge, help, reply);
    let help = "Requests that took longer than slow_request_us; 0 while that is off.";
    let slow = load(&metrics.slow_requests);
    text.single("inmem_slow_requests_total", Counter, help, slow);
    let help = "Slow requests that were not written to the log because there were too many.";
    let unsaid = load(&metrics.slow_requests_unsaid);
    let name = "inmem_slow_requests_suppressed_total";
    text.single(name, Counter, help, unsaid);
}

fn commits(text: &mut Exposition, metrics: &Metrics) {
    let name = "inmem_commits_total";
    text.family(
        name,
        Counter,
        "Commits, by the level of durability reached.",
    );
    for (level, count) in LEVELS.iter().zip(&metrics.commits) {
        text.sample(name, &[("level", level.name())], load(count));
    }
    let help = "Commits that had nothing to write.";
    let empty = load(&metrics.empty_commits);
    text.single("inmem_empty_commits_total", Counter, help, empty);
    let name = "inmem_conflicts_total";
    let help = "Expectations that did not hold: of what was read, or of a compare-and-swap.";
    text.family(name, Counter, help);
    text.sample(name, &[("kind", "read")], load(&metrics.read_conflicts));
    text.sample(name, &[("kind", "cas")], load(&metrics.cas_conflicts));
    let name = "inmem_aborts_total";
    let help = "Commits refused and transactions that ended without one, by cause.";
    text.family(name, Counter, help);
    for (cause, count) in Abort::ALL.iter().zip(&metrics.aborts) {
        text.sample(name, &[("cause", cause.name())], load(count));
    }
    let name = "inmem_commit_latency_seconds";
    let help = "From the turn a logged commit came in to the turn it was answered.";
    text.family(name, Histogram, help);
    for (level, histogram) in LEVELS.iter().zip(&metrics.commit_us).skip(1) {
        let labels = [("level", level.name())];
        text.histogram(name, &labels, Unit::Time, &histogram.read());
    }
}

fn views(text: &mut Exposition, metrics: &Metrics) {
    let views = &metrics.views;
    let help = "Read views held by clients, open transactions included.";
    text.single("inmem_read_views", Gauge, help, views.count());
    let help = "Transactions open now.";
    let open = views.transaction_count();
    text.single("inmem_transactions_open", Gauge, help, open);
    let help = "Age of the oldest read view; 0 when there is none.";
    let now_us = SystemClock.monotonic_us();
    let age_us = views
        .oldest_us()
        .map_or(0, |taken_us| now_us.saturating_sub(taken_us));
    let name = "inmem_read_view_age_max_seconds";
    text.single(name, Gauge, help, seconds(age_us));
}

fn log(text: &mut Exposition, log: &LogMetrics) {
    let mut counter = |name: &str, help: &str, value: u64| text.single(name, Counter, help, value);
    let help = "Batches written, marks without records included.";
    counter("inmem_wal_batches_total", help, log.batch_count);
    let help = "Commit records written.";
    counter("inmem_wal_records_total", help, log.record_count);
    let help = "Bytes given to the kernel, marks and padding included.";
    counter("inmem_wal_written_bytes_total", help, log.written_len_bytes);
    let help = "Syncs that returned success.";
    counter("inmem_wal_syncs_total", help, log.sync_count);
    let help = "Segments begun.";
    counter("inmem_wal_rotations_total", help, log.rotation_count);
    let help = "Writes that were continued after a short one.";
    counter("inmem_wal_short_writes_total", help, log.short_write_count);
    let mut gauge = |name: &str, help: &str, value: u64| text.single(name, Gauge, help, value);
    let help = "Commit records handed to the log and not durable.";
    gauge("inmem_wal_pending_commits", help, log.pending_count);
    let help = "Commit records the log thread has not taken.";
    gauge("inmem_wal_queued_commits", help, log.queued_count);
    let help = "Reservations and queued records, at their worst-case size.";
    gauge(
        "inmem_wal_outstanding_bytes",
        help,
        log.outstanding_len_bytes,
    );
    let help = "Prepared log that commits can still reserve.";
    gauge("inmem_wal_available_bytes", help, log.available_len_bytes);
}

fn log_positions(text: &mut Exposition, store: &Store, observed: &LogObserved) {
    if let Some((written_lsn, durable_lsn)) = store.database.log_positions() {
        let help = "First position of the log the kernel has not been given.";
        let written = written_lsn.to_u64();
        text.single("inmem_wal_written_lsn", Gauge, help, written);
        let help = "First position of the log that is not durable.";
        let durable = durable_lsn.to_u64();
        text.single("inmem_wal_durable_lsn", Gauge, help, durable);
    }
    let help = "Age of the oldest written record that no sync covers; 0 when there is none.";
    let now_us = SystemClock.monotonic_us();
    let lag_us = observed
        .unsynced_since_us()
        .map_or(0, |since_us| now_us.saturating_sub(since_us));
    let name = "inmem_wal_durability_lag_seconds";
    text.single(name, Gauge, help, seconds(lag_us));
}

fn log_times(text: &mut Exposition, observed: &LogObserved) {
    let name = "inmem_wal_sync_latency_seconds";
    let help = "Time of each sync; of one that is part of a write, the write included.";
    text.family(name, Histogram, help);
    text.histogram(name, &[], Unit::Time, &observed.sync_us());
    let name = "inmem_wal_write_latency_seconds";
    text.family(name, Histogram, "Time of each write without a sync.");
    text.histogram(name, &[], Unit::Time, &observed.write_us());
    let name = "inmem_wal_batch_records";
    text.family(name, Histogram, "Commit records in one batch.");
    text.histogram(name, &[], Unit::Count, &observed.batch_record_count());
}

fn recovery(text: &mut Exposition, result: &RecoveryResult) {
    let mut gauge = |name: &str, help: &str, value: u64| text.single(name, Gauge, help, value);
    let help = "Transactions recovered by the last start.";
    gauge("inmem_recovery_records", help, result.records_applied);
    let help = "Records without a commit marker that the last start discarded.";
    gauge(
        "inmem_recovery_discarded_records",
        help,
        result.records_skipped,
    );
    let help = "The snapshot the last start began with; 0 for none.";
    gauge("inmem_recovery_snapshot_id", help, result.snapshot_used);
    let help = "Segments the last start read.";
    gauge("inmem_recovery_segments", help, result.segments_read);
    let help = "Bytes behind the end of the log that the last start put in quarantine.";
    gauge(
        "inmem_recovery_truncated_bytes",
        help,
        result.truncated_bytes,
    );
    let help = "Runs recovered as Active that nobody owned.";
    gauge("inmem_recovery_orphaned_runs", help, result.orphaned_runs);
    let help = "1 when the last start could not make the log writable.";
    gauge("inmem_recovery_read_only", help, result.is_read_only.into());
    let help = "Time the last start took to recover.";
    let took = seconds(result.recovery_time_us);
    text.single("inmem_recovery_duration_seconds", Gauge, help, took);
}
