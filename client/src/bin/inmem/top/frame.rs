//! One frame as lines of text: rates of an interval on the left, what is now on the right.

use std::time::Duration;

use super::reading::{Reading, quantile};

/// The lines of a frame. `interval` lies between the two readings.
pub(super) fn lines(before: &Reading, now: &Reading, interval: Duration) -> Vec<String> {
    let health = now.word("inmem_health_state");
    let (log, up) = (backend(now), uptime(now));
    let mut lines = vec![
        format!("in-mem {health}  log {log}  up {up}"),
        String::new(),
    ];
    let rows = rates(before, now, interval).into_iter().zip(levels(now));
    lines.extend(rows.map(|((left, value), (right, other))| {
        format!("{left:<12} {value:>12}    {right:<16} {other:>14}")
    }));
    lines
}

/// What happened in the interval.
fn rates(before: &Reading, now: &Reading, interval: Duration) -> [(&'static str, String); 8] {
    let seconds = interval.as_secs_f64().max(0.001);
    let rate = |name: &str| (now.sum(name) - before.sum(name)).max(0.0) / seconds;
    let latency = "inmem_wal_sync_latency_seconds";
    let sync = |part| time(quantile(before, now, latency, part));
    let grew = |name: &str| now.get(name) - before.get(name);
    let batches = grew("inmem_wal_batch_records_count");
    let batch = if batches < 1.0 {
        "-".to_owned()
    } else {
        format!("{:.1}", grew("inmem_wal_batch_records_sum") / batches)
    };
    [
        ("ops/s", count(rate("inmem_requests_total"))),
        ("commits/s", count(rate("inmem_commits_total"))),
        ("conflicts/s", count(rate("inmem_conflicts_total"))),
        ("fsync/s", count(rate("inmem_wal_syncs_total"))),
        ("fsync p50", sync(0.5)),
        ("fsync p99", sync(0.99)),
        ("batch size", batch),
        ("log/s", bytes(rate("inmem_wal_written_bytes_total"))),
    ]
}

/// What is now.
fn levels(now: &Reading) -> [(&'static str, String); 8] {
    let number = |name: &str| count(now.get(name));
    let size = |name: &str| bytes(now.get(name));
    let lag = now.get("inmem_wal_durability_lag_seconds");
    [
        ("sessions", number("inmem_sessions")),
        ("in flight", number("inmem_requests_in_flight")),
        ("transactions", number("inmem_transactions_open")),
        ("pending commits", number("inmem_wal_pending_commits")),
        ("durability lag", time(Some(lag))),
        ("reply queue", size("inmem_reply_queue_bytes")),
        ("memory", size("process_resident_memory_bytes")),
        ("disk free", size("inmem_disk_free_bytes")),
    ]
}

/// How the log is written, which is the first of two samples.
fn backend(now: &Reading) -> &str {
    let known = ["io_uring", "thread", "tokio_uring", "simulated"];
    let is_used = |name: &&&str| {
        let sample = format!("inmem_backend_info{{part=\"log\",backend=\"{name}\"}}");
        now.get(&sample) == 1.0
    };
    known.iter().find(is_used).copied().unwrap_or("-")
}

fn uptime(now: &Reading) -> String {
    let started = now.get("process_start_time_seconds");
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let up = wall.map_or(0.0, |wall| (wall.as_secs_f64() - started).max(0.0));
    format!("{up:.0} s")
}

fn count(number: f64) -> String {
    if number < 100.0 && number.fract() != 0.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

fn bytes(number: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut rest = number;
    for unit in units {
        if rest < 1024.0 || unit == "TiB" {
            let digits = usize::from(unit != "B");
            return format!("{rest:.digits$} {unit}");
        }
        rest /= 1024.0;
    }
    String::new()
}

/// A time in the unit that fits; none is a dash.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(seconds) if seconds.is_infinite() => "> 10 s".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_the_unit_that_fits() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(5e15), "4547.5 TiB");
        assert_eq!(time(None), "-");
        assert_eq!(time(Some(0.0)), "0");
        assert_eq!(time(Some(0.000_05)), "50 us");
        assert_eq!(time(Some(0.003)), "3.0 ms");
        assert_eq!(time(Some(2.5)), "2.5 s");
        assert_eq!(time(Some(f64::INFINITY)), "> 10 s");
        assert_eq!(
            (count(0.5), count(12_345.6)),
            ("0.5".into(), "12346".into())
        );
    }

    #[test]
    fn rates_are_of_the_interval() {
        let before = Reading::of("inmem_requests_total{operation=\"a\"} 10\n");
        let now = Reading::of("inmem_requests_total{operation=\"a\"} 110\ninmem_sessions 3\n");
        let lines = lines(&before, &now, Duration::from_secs(2));
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(words, ["ops/s", "50", "sessions", "3"]);
    }
}
