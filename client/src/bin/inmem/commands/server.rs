//! Commands about the daemon itself.

use in_mem_client::{Measure, ServerCapabilities, ServerInfo};

use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

pub(super) fn ping(session: &mut Session) -> Result<Outcome, Failure> {
    session.client()?.ping()?;
    Ok(Outcome::line(json::string("PONG"), "PONG".to_owned()))
}

pub(super) fn flush(session: &mut Session) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("flush")?;
    session.client()?.flush()?;
    Ok(Outcome::done("OK"))
}

pub(super) fn info(session: &mut Session) -> Result<Outcome, Failure> {
    let info = session.client()?.info()?;
    Ok(Outcome::lines(info_json(&info), info_lines(&info)))
}

pub(super) fn info_lines(info: &ServerInfo) -> Vec<String> {
    let mut lines = vec![
        format!("version     {}", info.server_version),
        format!("uptime      {} s", info.uptime_us / 1_000_000),
        format!("runs        {}", info.run_count),
        format!("keys        {}", info.key_count),
        format!("durability  {}", info.durability),
        format!("health      {}", info.health.name()),
    ];
    if !info.health_reason.is_empty() {
        lines.push(format!("reason      {}", info.health_reason));
    }
    lines.extend(
        info.measures
            .iter()
            .map(|measure| format!("{}  {}", measure.name, measure.value)),
    );
    lines
}

pub(super) fn info_json(info: &ServerInfo) -> String {
    json::object([
        ("server_version", json::string(&info.server_version)),
        ("uptime_us", info.uptime_us.to_string()),
        ("run_count", info.run_count.to_string()),
        ("key_count", info.key_count.to_string()),
        ("durability", json::string(&info.durability)),
        ("health", json::string(info.health.name())),
        ("health_reason", json::string(&info.health_reason)),
        ("measures", measures(&info.measures)),
    ])
}

pub(super) fn capabilities(session: &mut Session) -> Result<Outcome, Failure> {
    let known = session.client()?.capabilities()?;
    Ok(Outcome::lines(
        capabilities_json(&known),
        capability_lines(&known),
    ))
}

pub(super) fn capability_lines(known: &ServerCapabilities) -> Vec<String> {
    let mut lines = vec![
        format!("version           {}", known.server_version),
        format!("protocol          {}", known.protocol_version),
        format!("encodings         {}", known.encodings.join(" ")),
        format!("features          {}", known.features.join(" ")),
        format!("durability modes  {}", known.durability_modes.join(" ")),
        format!("transports        {}", known.transports.join(" ")),
        format!("operations        {}", known.operations.join(" ")),
    ];
    lines.extend(
        known
            .limits
            .iter()
            .map(|limit| format!("{}  {}", limit.name, limit.value)),
    );
    lines
}

pub(super) fn capabilities_json(known: &ServerCapabilities) -> String {
    json::object([
        ("server_version", json::string(&known.server_version)),
        ("protocol_version", known.protocol_version.to_string()),
        ("operations", strings(&known.operations)),
        ("limits", measures(&known.limits)),
        ("encodings", strings(&known.encodings)),
        ("features", strings(&known.features)),
        ("durability_modes", strings(&known.durability_modes)),
        ("transports", strings(&known.transports)),
        ("analyser", json::optional_string(known.analyser.as_deref())),
    ])
}

fn measures(measures: &[Measure]) -> String {
    json::object(
        measures
            .iter()
            .map(|measure| (measure.name.as_str(), measure.value.to_string())),
    )
}

fn strings(texts: &[String]) -> String {
    json::array(texts.iter().map(|text| json::string(text)))
}
