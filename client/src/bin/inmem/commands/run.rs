//! Commands on runs.

use in_mem_client::model::{RunInfo, RunStatus, SubCode, Value};
use in_mem_client::{Cursor, Receipt, Run, RunListOptions, RunOptions};

use crate::cli::arguments::Options;
use crate::cli::arguments::run::{
    RunBeginArgs, RunCommand, RunListArgs, RunMetadataArgs, RunReasonArgs, RunTagsArgs,
};
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;
use crate::cli::{json, literal};

/// Runs asked for at once where all are wanted.
const PAGE_COUNT: u32 = 500;

pub(super) fn execute(
    session: &mut Session,
    options: &Options,
    command: RunCommand,
) -> Result<Outcome, Failure> {
    match command {
        RunCommand::Begin(args) => begin(session, options, &args),
        RunCommand::List(args) => list(session, &args),
        RunCommand::Orphaned => {
            session.refuse_in_transaction("run orphaned")?;
            Ok(run_lines(&session.client()?.runs().orphaned()?))
        }
        RunCommand::Status(args) => {
            let run = target(session, options, args.target)?;
            let status = run.status()?.ok_or_else(|| missing(&run))?;
            Ok(Outcome::line(
                json::string(status.name()),
                status.name().to_owned(),
            ))
        }
        RunCommand::Exists(args) => exists(session, options, args.target),
        RunCommand::Show(args) => {
            let run = target(session, options, args.target)?;
            let info = run.info()?.ok_or_else(|| missing(&run))?;
            Ok(Outcome::lines(
                json::value(&info.to_value()),
                info_lines(&info),
            ))
        }
        RunCommand::End(args) => change(session, options, args.target, Run::end),
        RunCommand::Cancel(args) => change(session, options, args.target, Run::cancel),
        RunCommand::Pause(args) => change(session, options, args.target, Run::pause),
        RunCommand::Resume(args) => change(session, options, args.target, Run::resume),
        RunCommand::Archive(args) => change(session, options, args.target, Run::archive),
        RunCommand::Fail(args) => {
            let (name, message) = reason(args)?;
            change(session, options, name, |run| run.fail(&message))
        }
        RunCommand::Abort(args) => {
            let (name, message) = reason(args)?;
            change(session, options, name, |run| run.abort(&message))
        }
        RunCommand::Tag(RunTagsArgs { target, tags }) => {
            change(session, options, Some(target), |run| {
                run.add_tags(&borrowed(&tags))
            })
        }
        RunCommand::Untag(RunTagsArgs { target, tags }) => {
            change(session, options, Some(target), |run| {
                run.remove_tags(&borrowed(&tags))
            })
        }
        RunCommand::Retention(command) => super::retention::execute(session, options, command),
        RunCommand::Metadata(RunMetadataArgs { target, metadata }) => {
            let metadata = parse_metadata(&metadata)?;
            change(session, options, Some(target), |run| {
                run.update_metadata(&metadata)
            })
        }
    }
}

fn begin(
    session: &mut Session,
    options: &Options,
    args: &RunBeginArgs,
) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("run begin")?;
    let metadata = args.metadata.as_deref().map(parse_metadata).transpose()?;
    let parent = args
        .parent
        .as_deref()
        .map(|name| session.find_run_id(name))
        .transpose()?;
    let mut runs = session.client()?.runs();
    if let Some(durability) = options.durability {
        runs = runs.with_durability(durability.into());
    }
    let begun = runs.begin(&RunOptions {
        name: args.name.as_deref(),
        parent,
        tags: &borrowed(&args.tags),
        metadata: metadata.as_ref(),
        description: args.description.as_deref(),
        if_missing: args.if_missing,
    })?;
    let result = json::value(&begun.info.to_value());
    Ok(Outcome::line(result, begun.info.id.to_string()).with_receipt(begun.receipt))
}

/// A name or an id that no run has is the answer no; an id may be that of a run deleted since.
fn exists(
    session: &mut Session,
    options: &Options,
    name: Option<String>,
) -> Result<Outcome, Failure> {
    match target(session, options, name) {
        Ok(run) => Ok(Outcome::flag(run.exists()?)),
        Err(Failure::Client(error)) if error.sub() == Some(SubCode::RunNotFound) => {
            Ok(Outcome::flag(false))
        }
        Err(failure) => Err(failure),
    }
}

/// Runs up to a limit, page by page.
fn list(session: &mut Session, args: &RunListArgs) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("run list")?;
    let runs = session.client()?.runs();
    let mut left = args.limit.unwrap_or(u32::MAX);
    let mut found = Vec::new();
    let mut cursor: Option<Cursor> = None;
    while 0 < left {
        let page = runs.list(RunListOptions {
            status: args.status.map(RunStatus::from),
            include_archived: args.all,
            limit: left.min(PAGE_COUNT),
            cursor: cursor.as_ref(),
        })?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        found.extend(page.entries);
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(run_lines(&found))
}

fn run_lines(runs: &[RunInfo]) -> Outcome {
    let line = |run: &RunInfo| {
        format!(
            "{}  {:<9}  {}",
            run.id,
            run.status.name(),
            run.name.as_deref().unwrap_or("-")
        )
    };
    let result = json::array(runs.iter().map(|run| json::value(&run.to_value())));
    Outcome::lines(result, runs.iter().map(line).collect())
}

/// The run a command is about: the named one, else that of the options or transaction.
pub(super) fn target(
    session: &mut Session,
    options: &Options,
    name: Option<String>,
) -> Result<Run, Failure> {
    match name {
        Some(name) => session.run(&Options {
            run: Some(name),
            ..options.clone()
        }),
        None => session.run(options),
    }
}

fn change(
    session: &mut Session,
    options: &Options,
    name: Option<String>,
    change: impl FnOnce(&Run) -> Result<Receipt, in_mem_client::ClientError>,
) -> Result<Outcome, Failure> {
    let run = target(session, options, name)?;
    Ok(Outcome::done("OK").with_receipt(change(&run)?))
}

/// The run named before a reason, and the reason.
fn reason(args: RunReasonArgs) -> Result<(Option<String>, String), Failure> {
    let mut words = args.words.into_iter();
    match (words.next(), words.next()) {
        (Some(name), Some(reason)) => Ok((Some(name), reason)),
        (Some(reason), None) => Ok((None, reason)),
        (None, _) => Err(Failure::usage("a reason is missing")),
    }
}

fn parse_metadata(text: &str) -> Result<Value, Failure> {
    literal::parse_json(text, || format!("{text:?} is no JSON object"))
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn missing(run: &Run) -> Failure {
    Failure::refused(SubCode::RunNotFound, &format!("no run {}", run.id()))
}

fn info_lines(info: &RunInfo) -> Vec<String> {
    let Value::Object(fields) = info.to_value() else {
        return Vec::new();
    };
    fields
        .iter()
        .map(|(name, value)| format!("{name:<12} {}", json::value(value)))
        .collect()
}
