//! Commands that look inside the daemon: health, metrics, and everything at once.

use in_mem_client::{HealthReport, ServerState};

use crate::cli::exposition::samples;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

use super::server;

/// Whether the daemon is fit: a fault found is a negative answer.
pub(super) fn health(session: &mut Session) -> Result<Outcome, Failure> {
    let report = session.client()?.health()?;
    let outcome = Outcome::lines(health_json(&report), health_lines(&report));
    Ok(match report.state {
        ServerState::Ok => outcome,
        _ => outcome.negative(),
    })
}

/// The metrics: as they are for a human or a scraper, as numbers by name for a program.
pub(super) fn metrics(session: &mut Session) -> Result<Outcome, Failure> {
    let text = session.client()?.metrics()?;
    let numbers = samples(&text).map(|(name, value)| (name, value.to_owned()));
    let numbers = numbers.map(|(name, value)| match value.parse::<f64>() {
        // JSON has no other numbers.
        Ok(number) if number.is_finite() => (name, value),
        _ => (name, json::string(&value)),
    });
    let lines = text.lines().map(str::to_owned).collect();
    Ok(Outcome::lines(json::object(numbers), lines))
}

/// Everything at once.
pub(super) fn describe(session: &mut Session) -> Result<Outcome, Failure> {
    let found = session.client()?.describe()?;
    let mut lines = server::info_lines(&found.info);
    lines.push(String::new());
    lines.extend(health_lines(&found.health));
    lines.push(String::new());
    lines.extend(found.settings.iter().map(|setting| {
        let value = setting.value.as_deref().unwrap_or("(unset)");
        format!("{} = {value}  # {}", setting.name, setting.origin)
    }));
    lines.push(String::new());
    lines.extend(found.runs.iter().map(|run| {
        let name = run.name.as_deref().unwrap_or("-");
        format!(
            "run {}  {name}  {}  {} keys",
            run.id, run.status, run.key_count
        )
    }));
    if found.has_more_runs {
        lines.push("more runs: inmem run list".to_owned());
    }
    lines.push(String::new());
    lines.extend(server::capability_lines(&found.capabilities));
    let settings = found.settings.iter().map(|setting| {
        json::object([
            ("name", json::string(&setting.name)),
            ("value", json::optional_string(setting.value.as_deref())),
            ("origin", json::string(&setting.origin)),
        ])
    });
    let runs = found.runs.iter().map(|run| {
        json::object([
            ("id", json::string(&run.id.to_string())),
            ("name", json::optional_string(run.name.as_deref())),
            ("status", json::string(&run.status)),
            ("key_count", run.key_count.to_string()),
        ])
    });
    let result = json::object([
        ("info", server::info_json(&found.info)),
        ("health", health_json(&found.health)),
        (
            "capabilities",
            server::capabilities_json(&found.capabilities),
        ),
        ("settings", json::array(settings)),
        ("runs", json::array(runs)),
        ("has_more_runs", found.has_more_runs.to_string()),
    ]);
    Ok(Outcome::lines(result, lines))
}

fn health_lines(report: &HealthReport) -> Vec<String> {
    let mut lines = vec![format!("state       {}", report.state.name())];
    let faults = report.faults.iter();
    lines.extend(faults.map(|fault| format!("{:<10}  {}", fault.name, fault.reason)));
    lines.push(format!("log         {}", report.log_backend));
    lines.push(format!("sockets     {}", report.socket_backend));
    if let Some(free) = report.free_len_bytes {
        lines.push(format!("disk free   {} MiB", free >> 20));
    }
    lines
}

fn health_json(report: &HealthReport) -> String {
    let faults = report.faults.iter().map(|fault| {
        json::object([
            ("name", json::string(&fault.name)),
            ("reason", json::string(&fault.reason)),
        ])
    });
    let free = report
        .free_len_bytes
        .map_or_else(json::null, |bytes| bytes.to_string());
    json::object([
        ("state", json::string(report.state.name())),
        ("faults", json::array(faults)),
        ("log_backend", json::string(&report.log_backend)),
        ("socket_backend", json::string(&report.socket_backend)),
        ("free_len_bytes", free),
    ])
}
