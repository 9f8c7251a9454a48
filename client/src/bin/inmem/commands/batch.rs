//! The one-shot transaction from lines of JSON.

use in_mem_client::model::Value;
use in_mem_client::{Batch, Effect, Expected};

use crate::cli::arguments::{BatchArgs, Options};
use crate::cli::commands::Source;
use crate::cli::commands::kv::read_file;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;
use crate::cli::{json, literal};

/// The fields of a line.
const FIELDS: [&str; 9] = [
    "put",
    "delete",
    "incr",
    "put_if_absent",
    "cas",
    "read",
    "value",
    "version",
    "expected",
];

pub(super) fn execute(
    session: &mut Session,
    options: &Options,
    args: &BatchArgs,
    source: Source,
) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("batch")?;
    let bytes = read_file(&args.file, source, session)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8", args.file.display())))?;
    let mut batch = session.run(options)?.batch();
    for (line_number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            batch = add_line(batch, line).map_err(|failure| failure.at_line(line_number))?;
        }
    }
    let committed = batch.commit()?;
    let effects: Vec<_> = committed.effects.iter().map(effect_json).collect();
    let lines = committed.effects.iter().map(effect_line).collect();
    Ok(Outcome::lines(json::array(effects), lines).with_receipt(committed.receipt))
}

fn effect_json(effect: &Effect) -> String {
    match effect {
        Effect::Put => json::null(),
        Effect::Deleted(flag) | Effect::PutIfAbsent(flag) => flag.to_string(),
        Effect::Incremented(value) => value.to_string(),
    }
}

fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Put => "OK".to_owned(),
        Effect::Deleted(flag) | Effect::PutIfAbsent(flag) => {
            format!("(integer) {}", u8::from(*flag))
        }
        Effect::Incremented(value) => format!("(integer) {value}"),
    }
}

/// Adds what one line says.
fn add_line(batch: Batch, line: &str) -> Result<Batch, Failure> {
    let Value::Object(entries) = literal::parse_json(line, || "not valid JSON".to_owned())? else {
        return Err(Failure::usage("not a JSON object"));
    };
    let known = |name: &str| FIELDS.contains(&name) || name == "delta";
    if let Some((name, _)) = entries.iter().find(|(name, _)| !known(name)) {
        return Err(Failure::usage(format!("unknown field {name:?}")));
    }
    let line = Line { entries };
    let (verb, key) = line.verb()?;
    Ok(match verb {
        "put" => batch.put(key, line.value()?)?,
        "delete" => batch.delete(key),
        "incr" => batch.incr(key, line.delta()?),
        "put_if_absent" => batch.put_if_absent(key, line.value()?)?,
        "read" => batch.read(key, line.version()?.ok_or_else(|| missing("version"))?),
        _ => match (line.version()?, line.find("expected")) {
            (Some(version), None) => {
                batch.cas_version(key, Expected::Version(version), line.value()?)?
            }
            (None, Some(expected)) => batch.cas_value(key, Some(expected), line.value()?)?,
            (None, None) => batch.cas_version(key, Expected::Absent, line.value()?)?,
            (Some(_), Some(_)) => {
                return Err(Failure::usage("version and expected exclude each other"));
            }
        },
    })
}

struct Line {
    entries: Vec<(String, Value)>,
}

impl Line {
    fn find(&self, name: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// What to do, and with which key.
    fn verb(&self) -> Result<(&'static str, &str), Failure> {
        let verbs = ["put", "delete", "incr", "put_if_absent", "cas", "read"];
        let mut found = verbs
            .into_iter()
            .filter_map(|verb| Some((verb, self.find(verb)?)));
        match (found.next(), found.next()) {
            (Some((verb, Value::String(key))), None) => Ok((verb, key)),
            (Some((verb, _)), None) => {
                Err(Failure::usage(format!("the key of {verb} is no string")))
            }
            (None, _) => Err(Failure::usage(format!("none of {}", verbs.join(", ")))),
            (Some((one, _)), Some((other, _))) => {
                Err(Failure::usage(format!("{one} and {other} on one line")))
            }
        }
    }

    fn value(&self) -> Result<&Value, Failure> {
        self.find("value").ok_or_else(|| missing("value"))
    }

    fn version(&self) -> Result<Option<u64>, Failure> {
        match self.find("version") {
            None => Ok(None),
            Some(Value::Int(version)) => u64::try_from(*version)
                .map(Some)
                .map_err(|_| Failure::usage("version is negative")),
            Some(_) => Err(Failure::usage("version is no integer")),
        }
    }

    fn delta(&self) -> Result<i64, Failure> {
        match self.find("delta") {
            None => Ok(1),
            Some(Value::Int(delta)) => Ok(*delta),
            Some(_) => Err(Failure::usage("delta is no integer")),
        }
    }
}

fn missing(field: &str) -> Failure {
    Failure::usage(format!("{field} is missing"))
}
