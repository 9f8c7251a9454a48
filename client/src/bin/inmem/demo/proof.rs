//! The proof: what the workers recorded, held against what was recovered.
//!
//! The checker of the library judges both epochs, the same one the tests use. What it proves in
//! general is then said once more in plain sums: counters against acknowledged increments,
//! transfers against the sum of the accounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use in_mem_client::check::{
    Call, Checker, Datum, Dump, End, History, Mode, Outcome, Record, Run, Summary, Survival,
};

use crate::cli::demo::worker::{ACCOUNT_PREFIX, COUNTER_PREFIX};
use crate::cli::failure::Failure;

/// What stood between two kills, and what was recovered after the second.
pub(super) struct Ends {
    /// The dump after the kill under load.
    pub(super) first: Dump,
    /// When that kill was over.
    pub(super) first_at_ns: u64,
    /// The dump after the database was killed and recovered once more.
    pub(super) first_again: Dump,
    /// The dump after the kill at the end.
    pub(super) last: Dump,
    /// How long the workers could work.
    pub(super) worked: Duration,
}

/// The file a worker records in.
pub(super) fn record_path(dir: &Path, worker: u32) -> PathBuf {
    dir.join(format!("worker-{worker}.record"))
}

/// Everything all workers recorded.
pub(super) fn read_history(dir: &Path, worker_count: u32) -> Result<History, Failure> {
    let mut history = History::default();
    for worker in 0..worker_count {
        let path = record_path(dir, worker);
        let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, error))?;
        let records = Record::parse_all(&text)
            .map_err(|error| Failure::Disproved(format!("{}: {error}", path.display())))?;
        history.add_worker(worker, records);
    }
    Ok(history)
}

/// Takes one acknowledged Strict commit out of what was recovered; which one.
pub(super) fn plant_loss(history: &History, dump: &mut Dump) -> Option<String> {
    let is_strict = |call: &Call| {
        matches!(
            call,
            Call::Write {
                mode: Mode::Strict,
                ..
            }
        )
    };
    let (run, key) = history.operations.iter().rev().find_map(|operation| {
        let (Call::Write { run, writes, .. }, Some(version)) =
            (&operation.call, operation.version())
        else {
            return None;
        };
        let write = writes.first()?;
        let shows = dump
            .entry(run, write.key())
            .is_some_and(|entry| entry.version == version);
        (is_strict(&operation.call) && shows).then(|| (*run, write.key().to_owned()))
    })?;
    dump.runs.get_mut(&run)?.remove(&key)?;
    Some(key)
}

/// Checks everything and says what was proven, one line each.
pub(super) fn check(mut history: History, ends: &Ends) -> Result<Vec<String>, Failure> {
    let disproved = |report: in_mem_client::check::Report| Failure::Disproved(report.to_string());
    let mut lines = measure(&history, ends.worked);
    let whole_history = history.clone();
    let first_history = history.take_before(ends.first_at_ns);
    let survival = Survival::Restart {
        buffered_acked_before_ns: u64::MAX,
    };
    let mut checker = Checker::new();
    let first_end = End {
        survival,
        dump: ends.first.clone(),
    };
    let first = checker
        .check(&first_history, &first_end)
        .map_err(disproved)?;
    checker.check_again(&ends.first_again).map_err(disproved)?;
    let last_end = End {
        survival,
        dump: ends.last.clone(),
    };
    let last = checker.check(&history, &last_end).map_err(disproved)?;

    lines.push(recovered_line("first kill", &first));
    lines.push("recovery     killed and recovered again: the same state, digest for digest".into());
    lines.push(recovered_line("second kill", &last));
    lines.push(check_counters(&whole_history, &ends.last)?);
    lines.push(check_transfers(&whole_history, &[&ends.first, &ends.last])?);
    Ok(lines)
}

fn recovered_line(what: &str, summary: &Summary) -> String {
    format!(
        "{what:<12} {} acknowledged commits, all {} that had to survive are there; {} requests \
         in flight, {} of them committed, whole",
        summary.acked_count,
        summary.required_count,
        summary.unknown_count,
        summary.unknown_found_count
    )
}

/// Throughput and latency, from the times in the records.
fn measure(history: &History, worked: Duration) -> Vec<String> {
    let kinds = ["strict writes", "buffered writes", "reads"];
    let mut lines = vec![format!(
        "throughput   {:.0} requests/s over {:.1} s of service",
        per_second(history.operations.len(), worked),
        worked.as_secs_f64()
    )];
    for kind in kinds {
        let Ok(mut latencies) = Histogram::<u64>::new_with_bounds(1, 600_000_000_000, 3) else {
            continue;
        };
        for operation in &history.operations {
            let is_kind = match &operation.call {
                Call::Write {
                    mode: Mode::Strict, ..
                } => kind == "strict writes",
                Call::Write { .. } => kind == "buffered writes",
                Call::Read { .. } | Call::Flush => kind == "reads",
            };
            let is_answered = matches!(
                operation.outcome,
                Outcome::Committed { .. } | Outcome::Saw { .. }
            );
            if let (true, true, Some(done_at_ns)) = (is_kind, is_answered, operation.done_at_ns) {
                latencies.saturating_record(done_at_ns.saturating_sub(operation.sent_at_ns).max(1));
            }
        }
        lines.push(format!(
            "{kind:<16} {:>8} answered   p50 {:>6} us   p99 {:>7} us",
            latencies.len(),
            latencies.value_at_quantile(0.5) / 1000,
            latencies.value_at_quantile(0.99) / 1000
        ));
    }
    lines
}

fn per_second(count: usize, time: Duration) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    f64::from(count) / time.as_secs_f64().max(0.001)
}

/// What increments of one counter came to.
#[derive(Default)]
struct Increments {
    acked_count: i64,
    unknown_count: i64,
}

/// No counter lost an acknowledged increment, and none counts more than was asked for.
fn check_counters(history: &History, dump: &Dump) -> Result<String, Failure> {
    let mut counters: BTreeMap<(Run, &str), Increments> = BTreeMap::new();
    for operation in &history.operations {
        let Call::Write { run, writes, .. } = &operation.call else {
            continue;
        };
        for write in writes
            .iter()
            .filter(|write| write.key().starts_with(COUNTER_PREFIX))
        {
            let increments = counters.entry((*run, write.key())).or_default();
            match operation.outcome {
                Outcome::Committed { .. } => increments.acked_count += 1,
                Outcome::Unknown => increments.unknown_count += 1,
                Outcome::Saw { .. } | Outcome::Refused => {}
            }
        }
    }
    let mut acked_count = 0;
    for ((run, key), increments) in &counters {
        let shown = match dump.entry(run, key).map(|entry| &entry.datum) {
            Some(Some(Datum::Int(number))) => *number,
            _ => 0,
        };
        let (least, most) = (
            increments.acked_count,
            increments.acked_count + increments.unknown_count,
        );
        if shown < least || most < shown {
            return Err(Failure::Disproved(format!(
                "{key} shows {shown}, but {least} increments were acknowledged and {} are unknown",
                increments.unknown_count
            )));
        }
        acked_count += increments.acked_count;
    }
    Ok(format!(
        "counters     {acked_count} acknowledged increments of {} counters, none lost",
        counters.len()
    ))
}

/// No transfer is half there: the accounts of each run still sum up to nothing.
fn check_transfers(history: &History, dumps: &[&Dump]) -> Result<String, Failure> {
    for dump in dumps {
        for (run, entries) in &dump.runs {
            let accounts = entries
                .iter()
                .filter(|(key, _)| key.starts_with(ACCOUNT_PREFIX));
            let sum: i64 = accounts
                .map(|(_, entry)| match &entry.datum {
                    Some(Datum::Int(balance)) => *balance,
                    _ => 0,
                })
                .sum();
            if sum != 0 {
                let run = in_mem_client::model::RunId(*run);
                return Err(Failure::Disproved(format!(
                    "half a transfer in {run}: the sum is {sum}"
                )));
            }
        }
    }
    let is_transfer = |call: &Call| matches!(call, Call::Write { writes, .. } if 1 < writes.len());
    let acked_count = history
        .operations
        .iter()
        .filter(|operation| is_transfer(&operation.call) && operation.version().is_some())
        .count();
    Ok(format!(
        "transfers    {acked_count} acknowledged transactions, each whole: every sum is 0"
    ))
}
