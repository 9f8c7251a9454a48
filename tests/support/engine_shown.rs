//! What an engine shows, in the words of the checker, and crash images held against a history.

use std::collections::BTreeMap;

use in_mem_client::check::{
    Call, Checker, Datum, Dump, End, Entry, Found, History, Sight, Survival,
};
use in_mem_engine::model::{RunId, TypeTag};
use in_mem_engine::{CommitError, Database, KeyRef, ListRequest, Outcome, ReadView, StepOutcome};
use in_mem_wal::disk::SimWorld;

use super::{EngineOptions, KEYS, Noted, Recorded, STATUS_KEY, open_to_look};

/// What a view shows of a key.
pub(super) fn see(view: &ReadView, key: &str) -> Sight {
    let key_ref = KeyRef::kv(key.as_bytes());
    let version = view.version_of(key_ref);
    let found = view.get(key_ref).map_or(Found::Absent, |versioned| {
        Found::Value(Datum::from_encoded(&versioned.value))
    });
    Sight {
        key: key.to_owned(),
        version: Some(version),
        found,
    }
}

/// The answer of the engine in the words of the checker.
pub(super) fn recorded(call: &Call, result: Result<Outcome, CommitError>) -> Recorded {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) if error.is_outcome_unknown() => return Recorded::Unknown,
        Err(_) => return Recorded::Refused,
    };
    let Call::Write { writes, .. } = call else {
        return Recorded::Refused;
    };
    let version = outcome.version;
    let (mut before, mut after, mut sights) = (Vec::new(), Vec::new(), Vec::new());
    for (write, step) in writes.iter().zip(outcome.steps.as_slice()) {
        let key = write.key();
        match step {
            StepOutcome::Written => {}
            StepOutcome::Deleted(false) => sights.push(Sight::absent(key)),
            StepOutcome::Deleted(true) => {}
            StepOutcome::Incremented(sum) => {
                after.push(Sight::value(key, version, Datum::Int(*sum)));
            }
            StepOutcome::Previous(previous) => {
                let found = previous.as_deref().map(Datum::from_encoded);
                let found = found.map_or(Found::Absent, Found::Value);
                before.push(Sight {
                    key: key.to_owned(),
                    version: None,
                    found,
                });
            }
            StepOutcome::Mismatch(actual) => {
                let found = if actual.is_absent {
                    Found::Absent
                } else {
                    Found::Anything
                };
                sights.push(Sight {
                    key: key.to_owned(),
                    version: Some(actual.version),
                    found,
                });
            }
        }
    }
    if version == 0 {
        return Recorded::Saw {
            at: None,
            sights,
            listed: None,
        };
    }
    Recorded::Committed {
        version,
        before,
        after,
    }
}

/// All live entries a view shows.
pub(super) fn entries(view: &ReadView) -> Vec<(String, Entry)> {
    let mut entries = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let request = ListRequest {
            prefix: b"",
            after: after.as_deref(),
            start: b"",
            limit: 1_000,
            with_values: true,
        };
        let step = view
            .list_step(TypeTag::Kv, &request)
            .expect("the limit is not 0");
        for item in step.items {
            let key = String::from_utf8(item.key).expect("keys are UTF-8");
            let datum = item.value.as_deref().map(Datum::from_encoded);
            entries.push((
                key,
                Entry {
                    version: item.version,
                    datum,
                },
            ));
        }
        if step.is_complete {
            return entries;
        }
        after = step.after;
    }
}

/// Everything a database shows: each run with its status and its keys.
#[must_use]
pub(crate) fn dump(database: &Database) -> Dump {
    let mut dump = Dump::default();
    for id in database.store().run_ids() {
        let Ok(run) = database.run(id) else { continue };
        let view = run.read_view();
        let mut keys: BTreeMap<_, _> = entries(&view).into_iter().collect();
        for key in KEYS {
            // Clients record the versions of tombstones, which no listing shows.
            let version = view.version_of(KeyRef::kv(key.as_bytes()));
            if version != 0 && !keys.contains_key(key) {
                keys.insert(
                    key.to_owned(),
                    Entry {
                        version,
                        datum: None,
                    },
                );
            }
        }
        if id != RunId::DEFAULT
            && let Some(info) = database.runs().get(id)
        {
            let datum = Some(Datum::Bytes(info.status.name().as_bytes().to_vec()));
            keys.insert(
                STATUS_KEY.to_owned(),
                Entry {
                    version: info.version,
                    datum,
                },
            );
        }
        if !keys.is_empty() {
            dump.runs.insert(*id.as_bytes(), keys);
        }
    }
    dump
}

/// The history as of the moment at which the operation with this number was submitted.
#[must_use]
pub(crate) fn history_at(notes: &[Noted], op_index: u64) -> History {
    let sent = notes.iter().filter(|noted| noted.sent_ops <= op_index);
    let operations = sent.map(|noted| {
        let mut operation = noted.operation.clone();
        if noted.done_ops.is_none_or(|done_ops| op_index < done_ops) {
            operation.done_at_ns = None;
            operation.outcome = Recorded::Unknown;
        }
        operation
    });
    History {
        operations: operations.collect(),
    }
}

/// As [`judge_image`]; a failure is a panic that begins with `line`.
pub(crate) fn check_image(
    image: &SimWorld,
    options: &EngineOptions,
    checker: &Checker,
    history: &History,
    survival: Survival,
    line: &dyn Fn() -> String,
) -> (Checker, Dump) {
    judge_image(image, options, checker, history, survival)
        .unwrap_or_else(|why| panic!("{}: {why}", line()))
}

/// Opens an image, holds what it shows against a history, opens it again and expects the same.
/// Gives the checker as it stands afterwards.
///
/// # Errors
/// What is wrong with the image; a report of the checker names its rules.
pub(crate) fn judge_image(
    image: &SimWorld,
    options: &EngineOptions,
    checker: &Checker,
    history: &History,
    survival: Survival,
) -> Result<(Checker, Dump), String> {
    let database = open_to_look(image, options).map_err(|why| format!("not opened: {why:?}"))?;
    judge_opened(&database, image, options, checker, history, survival)
}

/// As [`judge_image`], of an image that was opened once.
///
/// # Errors
/// Those of [`judge_image`].
pub(crate) fn judge_opened(
    database: &Database,
    image: &SimWorld,
    options: &EngineOptions,
    checker: &Checker,
    history: &History,
    survival: Survival,
) -> Result<(Checker, Dump), String> {
    let digest = database.state_digest();
    let mut checker = checker.clone();
    let end = End {
        survival,
        dump: dump(database),
    };
    let result = checker.check(history, &end);
    result.map_err(|report| report.to_string())?;
    let again = open_to_look(image, options);
    let again = again.map_err(|why| format!("not opened again: {why:?}"))?;
    let result = checker.check_again(&dump(&again));
    result.map_err(|report| report.to_string())?;
    if digest != again.state_digest() {
        return Err("recovered twice, two states".to_owned());
    }
    if !image.paths().iter().any(|path| path == "MANIFEST") {
        // No file was ever made, so nothing outlives the process: not even the numbering.
        if end.dump != Dump::default() {
            return Err(format!("shown without a file: {:?}", end.dump));
        }
        checker = Checker::new();
    }
    Ok((checker, end.dump))
}
