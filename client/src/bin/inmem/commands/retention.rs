//! Commands on the retention policy of a run.

use in_mem_client::RetentionStats;
use in_mem_client::model::RetentionPolicy;

use super::run::target;
use crate::cli::arguments::Options;
use crate::cli::arguments::retention::{PolicyArgs, RetentionCommand};
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

pub(super) fn execute(
    session: &mut Session,
    options: &Options,
    command: RetentionCommand,
) -> Result<Outcome, Failure> {
    match command {
        RetentionCommand::Set(args) => {
            let (name, policy) = policy(args)?;
            let run = target(session, options, name)?;
            Ok(Outcome::done("OK").with_receipt(run.set_retention(&policy)?))
        }
        RetentionCommand::Clear(args) => {
            let run = target(session, options, args.target)?;
            Ok(Outcome::done("OK").with_receipt(run.clear_retention()?))
        }
        RetentionCommand::Get(args) => get(session, options, args.target),
        RetentionCommand::Stats(args) => {
            session.refuse_in_transaction("run retention stats")?;
            let run = target(session, options, args.target)?;
            Ok(counted(&run.retention_stats()?))
        }
        RetentionCommand::Preview(args) => {
            session.refuse_in_transaction("run retention preview")?;
            let (name, policy) = policy(args)?;
            let run = target(session, options, name)?;
            Ok(counted(&run.retention_preview(&policy)?))
        }
    }
}

fn get(session: &mut Session, options: &Options, name: Option<String>) -> Result<Outcome, Failure> {
    let found = target(session, options, name)?.retention()?;
    let effective = found.effective.to_string();
    let own = found.own.as_ref().map_or_else(json::null, |own| {
        json::object([
            ("policy", json::string(&own.value.to_string())),
            ("version", json::version(own.version)),
            ("timestamp", own.timestamp_us.to_string()),
        ])
    });
    let result = json::object([("own", own), ("effective", json::string(&effective))]);
    let whose = match &found.own {
        Some(own) => format!("its own, since version {}", own.version.number()),
        None => "the default of the daemon".to_owned(),
    };
    let lines = vec![format!("policy  {effective}"), format!("from    {whose}")];
    Ok(Outcome::lines(result, lines))
}

fn counted(stats: &RetentionStats) -> Outcome {
    let number = |number: u64| number.to_string();
    let result = json::object([
        ("policy", json::string(&stats.policy.to_string())),
        ("watermark", number(stats.watermark)),
        ("now_us", number(stats.now_us)),
        ("entity_count", number(stats.entity_count)),
        ("version_count", number(stats.version_count)),
        ("tombstone_count", number(stats.tombstone_count)),
        ("value_len_bytes", number(stats.value_len_bytes)),
        ("removable_count", number(stats.removable_count)),
        ("removable_len_bytes", number(stats.removable_len_bytes)),
    ]);
    let lines = vec![
        format!("policy      {}", stats.policy),
        format!("entities    {}", stats.entity_count),
        format!(
            "versions    {}, {} bytes of values, {} tombstones",
            stats.version_count, stats.value_len_bytes, stats.tombstone_count
        ),
        format!(
            "could go    {}, {} bytes of values",
            stats.removable_count, stats.removable_len_bytes
        ),
    ];
    Outcome::lines(result, lines)
}

/// The run named before a policy, and the policy.
fn policy(args: PolicyArgs) -> Result<(Option<String>, RetentionPolicy), Failure> {
    let mut words = args.words.into_iter();
    let (name, text) = match (words.next(), words.next()) {
        (Some(name), Some(text)) => (Some(name), text),
        (Some(text), None) => (None, text),
        (None, _) => return Err(Failure::usage("a policy is missing")),
    };
    let parsed = text.parse::<RetentionPolicy>();
    let policy = parsed.map_err(|error| {
        let cause = std::error::Error::source(&error);
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        Failure::usage(format!("{error}{cause}: {text:?}"))
    })?;
    Ok((name, policy))
}
