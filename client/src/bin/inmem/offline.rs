//! `inmem check`, `inmem repair` and `inmem digest`: a directory that no daemon has open.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use in_mem_client::model::SubCode;
use in_mem_engine::{
    CheckReport, CheckedState, Database, DatabaseBuilder, ExportError, Finding, OpenError,
    RepairError, StateCounts, StateDigest,
};

use crate::cli::arguments::Options;
use crate::cli::arguments::offline::{DirectoryArgs, RepairArgs, StoredArgs};
use crate::cli::failure::{EXIT_NEGATIVE, Failure};
use crate::cli::json;
use crate::cli::outcome::Outcome;

/// Examines a directory; exit code 1 if something is damaged.
pub(super) fn check(options: &Options, args: &DirectoryArgs) -> Result<ExitCode, Failure> {
    let report = at(&args.dir, &args.stored)?
        .check()
        .map_err(|error| unreadable(&args.dir, &error))?;
    let mut lines = findings(&report);
    lines.extend(report.state.iter().flat_map(state_lines));
    lines.extend(loss_line(&report, "a repair would lose"));
    lines.push(match report.is_sound() {
        true => "sound: nothing is damaged".to_owned(),
        false => format!("damaged: {} faults", report.faults.len()),
    });
    say(options, Outcome::lines(report_json(&report), lines))?;
    Ok(match report.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_NEGATIVE),
    })
}

/// Writes what can be read of a directory into another one.
pub(super) fn repair(options: &Options, args: &RepairArgs) -> Result<ExitCode, Failure> {
    let info = at(&args.dir, &args.stored)?
        .repair(&args.output)
        .map_err(|error| unrepaired(args, &error))?;
    let report = &info.report;
    let mut lines = findings(report);
    lines.extend(report.state.iter().flat_map(state_lines));
    lines.push(match loss_line(report, "lost") {
        Some(line) => line,
        None => "nothing is known to be lost".to_owned(),
    });
    lines.push(format!("written to {}", info.path.display()));
    let result = json::object([
        ("path", json::string(&info.path.to_string_lossy())),
        ("digest", json::string(&info.digest.to_hex())),
        ("size_bytes", info.size_bytes.to_string()),
        ("check", report_json(report)),
    ]);
    say(options, Outcome::lines(result, lines))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the digest of a directory.
pub(super) fn digest(options: &Options, args: &DirectoryArgs) -> Result<ExitCode, Failure> {
    let database = at(&args.dir, &args.stored)?
        .read_only()
        .open_existing()
        .map_err(|error| unreadable(&args.dir, &error))?;
    let digest = database
        .digest()
        .map_err(|error| Failure::file(&args.dir, io::Error::other(error)))?;
    let result = digest_json(&digest, &database.state_counts());
    say(options, Outcome::line(result, digest.to_hex()))?;
    Ok(ExitCode::SUCCESS)
}

/// A directory with the codec it was made with.
fn at(dir: &Path, stored: &StoredArgs) -> Result<DatabaseBuilder, Failure> {
    let mut builder = Database::builder().path(dir).stored_codec();
    if let Some(codec) = &stored.codec {
        builder = builder.codec(codec);
    }
    match &stored.key_file {
        None => Ok(builder),
        Some(path) => builder
            .key_file(path)
            .map_err(|error| Failure::file(path, io::Error::other(error))),
    }
}

fn say(options: &Options, outcome: Outcome) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = outcome.print(options, &mut out).and_then(|()| out.flush());
    printed.map_err(|source| Failure::Unsaid { source })
}

/// Why a directory cannot be looked at, with all that the error brings along.
fn unreadable(dir: &Path, error: &OpenError) -> Failure {
    match error {
        OpenError::NotFound => Failure::file(dir, io::Error::other("no database is there")),
        OpenError::DatabaseLocked => Failure::refused(
            SubCode::DatabaseLocked,
            &format!(
                "{}: a daemon, or another process, has it open: stop it first",
                dir.display()
            ),
        ),
        error if error.is_of_key() => Failure::file(
            dir,
            io::Error::other(format!("{}; name its file with --key-file", chain(error))),
        ),
        error if error.needs_newer_build() => Failure::file(
            dir,
            io::Error::other(format!("written by a newer build: {}", chain(error))),
        ),
        error => Failure::file(dir, io::Error::other(chain(error))),
    }
}

fn unrepaired(args: &RepairArgs, error: &RepairError) -> Failure {
    let output = &args.output;
    match error {
        RepairError::Open(error) => unreadable(&args.dir, error),
        RepairError::Write(ExportError::Exists { path }) => Failure::refused(
            SubCode::AlreadyExists,
            &format!(
                "{}: it exists; nothing is ever repaired in place",
                path.display()
            ),
        ),
        RepairError::Nothing { .. } => {
            Failure::refused(SubCode::SnapshotUnrecoverable, &error.to_string())
        }
        RepairError::Write(error) => Failure::file(output, io::Error::other(chain(error))),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn findings(report: &CheckReport) -> Vec<String> {
    let line = |grade: &str, finding: &Finding| {
        let at = finding.offset.map(|offset| format!(" at offset {offset}"));
        let (path, what) = (&finding.path, &finding.what);
        format!("{grade} {path}{}: {what}", at.unwrap_or_default())
    };
    let faults = report.faults.iter().map(|it| line("fault", it));
    let notes = report.notes.iter().map(|it| line("note ", it));
    let mut lines: Vec<String> = faults.chain(notes).collect();
    let records: u64 = report.segments.iter().map(|it| it.record_count).sum();
    lines.push(format!(
        "{} whole snapshots; {} segments of the log with {records} records",
        report.snapshots.len(),
        report.segments.len()
    ));
    lines
}

fn state_lines(state: &CheckedState) -> Vec<String> {
    let counts = &state.counts;
    vec![
        format!(
            "state up to version {}: {} runs, {} live entities, {} versions, {} tombstones",
            state.digest.watermark,
            counts.runs,
            counts.entities,
            counts.versions,
            counts.tombstones
        ),
        format!("digest {}", state.digest.to_hex()),
    ]
}

fn loss_line(report: &CheckReport, verb: &str) -> Option<String> {
    let loss = report.loss.as_ref()?;
    let runs: Vec<String> = loss.runs.iter().map(ToString::to_string).collect();
    Some(format!(
        "{verb}: commits above version {} up to {} at least, {} records of which can still be seen, \
         of {} runs: {}",
        loss.after_version,
        loss.last_version,
        loss.record_count,
        runs.len(),
        runs.join(" ")
    ))
}

fn digest_json(digest: &StateDigest, counts: &StateCounts) -> String {
    json::object([
        ("digest", json::string(&digest.to_hex())),
        ("version", digest.watermark.to_string()),
        ("runs", counts.runs.to_string()),
        ("entities", counts.entities.to_string()),
        ("versions", counts.versions.to_string()),
        ("tombstones", counts.tombstones.to_string()),
    ])
}

fn report_json(report: &CheckReport) -> String {
    let optional = |number: Option<u64>| number.map_or_else(json::null, |it| it.to_string());
    let finding = |finding: &Finding| {
        json::object([
            ("path", json::string(&finding.path)),
            ("offset", optional(finding.offset)),
            ("what", json::string(&finding.what)),
        ])
    };
    let snapshots = report.snapshots.iter().map(|it| {
        json::object([
            ("id", it.snapshot_id.to_string()),
            ("watermark", it.watermark_txn.to_string()),
            ("timestamp_us", it.timestamp_us.to_string()),
            ("is_named", it.is_named.to_string()),
        ])
    });
    let segments = report.segments.iter().map(|it| {
        json::object([
            ("number", it.number.to_string()),
            ("len_bytes", it.len_bytes.to_string()),
            ("records", it.record_count.to_string()),
            ("first_version", optional(it.versions.map(|it| it.0))),
            ("last_version", optional(it.versions.map(|it| it.1))),
        ])
    });
    let loss = report.loss.as_ref().map(|loss| {
        let runs = loss.runs.iter().map(|run| json::string(&run.to_string()));
        json::object([
            ("records", loss.record_count.to_string()),
            ("after_version", loss.after_version.to_string()),
            ("last_version", loss.last_version.to_string()),
            ("runs", json::array(runs)),
        ])
    });
    let state = report.state.as_ref();
    let state = state.map(|state| digest_json(&state.digest, &state.counts));
    json::object([
        ("sound", report.is_sound().to_string()),
        ("faults", json::array(report.faults.iter().map(finding))),
        ("notes", json::array(report.notes.iter().map(finding))),
        ("snapshots", json::array(snapshots)),
        ("segments", json::array(segments)),
        ("state", state.unwrap_or_else(json::null)),
        ("loss", loss.unwrap_or_else(json::null)),
    ])
}
