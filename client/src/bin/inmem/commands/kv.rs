//! Commands on keys and values.

use std::time::Duration;

use in_mem_client::model::retention::age_us;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use in_mem_client::model::{Value, Version};
use in_mem_client::{Conditional, Cursor, Entry, Expected, Kv, ListOptions, Replaced, Versioned};

use crate::cli::arguments::Options;
use crate::cli::arguments::kv::{
    CasArgs, FileContent, GetArgs, HistoryArgs, KeysArgs, KvCommand, ListArgs, PairsArgs, PutArgs,
    ScanArgs,
};
use crate::cli::commands::Source;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;
use crate::cli::{json, literal};

/// Entries asked for at once where all are wanted.
const PAGE_COUNT: u32 = 1000;

pub(super) fn execute(
    session: &mut Session,
    options: &Options,
    command: KvCommand,
    source: Source,
) -> Result<Outcome, Failure> {
    let kv = session.run(options)?.kv();
    match command {
        KvCommand::Put(args) => {
            let value = content(&args.put, source, session)?;
            let receipt = match args.ttl.as_deref().map(time_to_live).transpose()? {
                Some(ttl) => kv.put_with_ttl(&args.put.key, &value, ttl)?,
                None => kv.put(&args.put.key, &value)?,
            };
            Ok(Outcome::done("OK").with_receipt(receipt))
        }
        KvCommand::Get(args) => get(&kv, &args),
        KvCommand::Del(args) => {
            let deleted = match args.keys.as_slice() {
                [key] => kv.delete(key)?,
                keys => kv.delete_many(keys.iter().map(String::as_str))?,
            };
            Ok(Outcome::count(deleted.count.into()).with_receipt(deleted.receipt))
        }
        KvCommand::Exists(args) => match args.keys.as_slice() {
            [key] => Ok(Outcome::flag(kv.exists(key)?)),
            keys => Ok(Outcome::count(
                kv.exists_many(keys.iter().map(String::as_str))?,
            )),
        },
        KvCommand::Mget(args) => get_many(&kv, &args),
        KvCommand::Mset(args) => put_many(&kv, &args),
        KvCommand::Incr(args) => {
            let incremented = kv.incr(&args.key, args.delta)?;
            Ok(Outcome::integer(incremented.value).with_receipt(incremented.receipt))
        }
        KvCommand::Decr(args) => {
            let decremented = kv.decr(&args.key, args.delta)?;
            Ok(Outcome::integer(decremented.value).with_receipt(decremented.receipt))
        }
        KvCommand::Cas(args) => cas(&kv, &args),
        KvCommand::PutIfAbsent(args) => {
            let value = content(&args, source, session)?;
            Ok(conditional(&kv.put_if_absent(&args.key, &value)?))
        }
        KvCommand::GetAndSet(args) => {
            let value = content(&args, source, session)?;
            Ok(replaced(kv.get_and_set(&args.key, &value)?))
        }
        KvCommand::GetAndDelete(args) => Ok(replaced(kv.get_and_delete(&args.key)?)),
        KvCommand::List(args) => list(&kv, &args),
        KvCommand::Scan(args) => scan(&kv, &args),
        KvCommand::Count(args) => Ok(Outcome::count(
            kv.count(args.prefix_option.as_ref().unwrap_or(&args.prefix))?,
        )),
        KvCommand::History(args) => history(&kv, &args),
        KvCommand::ExpiresAt(args) => {
            let at_us = kv.expires_at(&args.key)?;
            let line = at_us.map_or_else(|| "(nil)".to_owned(), |it| format!("(integer) {it}"));
            let result = at_us.map_or_else(json::null, |it| it.to_string());
            Ok(Outcome::line(result, line))
        }
        KvCommand::LatestVersion(args) => {
            let version = kv.latest_version(&args.key)?;
            let number = version.map(Version::number);
            let line = number.map_or_else(|| "(nil)".to_owned(), |it| format!("(integer) {it}"));
            let result = version.map_or_else(json::null, json::version);
            Ok(Outcome::line(result, line).at_version(version))
        }
    }
}

/// The value of a put: a word, or a file.
/// A duration as it is typed.
fn time_to_live(text: &str) -> Result<Duration, Failure> {
    let age_us = age_us(text).and_then(|age_us| u64::try_from(age_us).ok());
    let wrong = || Failure::usage(format!("{text:?} is no duration such as 90s, 12h or 7d"));
    age_us.map(Duration::from_micros).ok_or_else(wrong)
}

fn content(args: &PutArgs, source: Source, session: &Session) -> Result<Value, Failure> {
    let Some(path) = &args.file.file else {
        return literal::parse(args.value.as_deref().unwrap_or_default());
    };
    let bytes = read_file(path, source, session)?;
    if args.file.content == FileContent::Bytes {
        return Ok(Value::Bytes(bytes));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!(
            "{} is not UTF-8; store it with `--as bytes`",
            path.display()
        ))
    })?;
    match args.file.content {
        FileContent::Json => {
            literal::parse_json(text.trim(), || format!("{} is not valid", path.display()))
        }
        FileContent::Text | FileContent::Bytes => Ok(Value::String(text)),
    }
}

/// Everything in a file; `-` is standard input, which in the pipe is taken.
pub(super) fn read_file(
    path: &Path,
    source: Source,
    session: &Session,
) -> Result<Vec<u8>, Failure> {
    if path != Path::new("-") {
        return fs::read(path).map_err(|error| Failure::file(path, error));
    }
    if source != Source::Shell {
        return Err(Failure::usage(
            "in the pipe and the shell, standard input carries the commands",
        ));
    }
    let mut bytes = Vec::new();
    let read = session.at_rest(|| io::stdin().lock().read_to_end(&mut bytes));
    read.map_err(|error| Failure::file("standard input", error))?;
    Ok(bytes)
}

fn get(kv: &Kv, args: &GetArgs) -> Result<Outcome, Failure> {
    let found = match args.at {
        Some(version) => kv.get_at(&args.key, Version::Txn(version))?,
        None => kv.get_versioned(&args.key)?,
    };
    let version = found.as_ref().map(|found| found.version);
    Ok(Outcome::value(found.map(|found| found.value)).at_version(version))
}

fn get_many(kv: &Kv, args: &KeysArgs) -> Result<Outcome, Failure> {
    let values: Vec<Option<Value>> = kv.get_many(args.keys.iter().map(String::as_str))?;
    let lines = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let value = value
                .as_ref()
                .map_or_else(|| "(nil)".to_owned(), json::value);
            format!("{}) {value}", index + 1)
        })
        .collect();
    let result = json::array(
        values
            .iter()
            .map(|value| json::value_or_absent(value.as_ref())),
    );
    Ok(Outcome::lines(result, lines))
}

fn put_many(kv: &Kv, args: &PairsArgs) -> Result<Outcome, Failure> {
    let (pairs, rest) = args.pairs.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Failure::usage(
            "mset takes keys and values in turn; the last key has no value",
        ));
    }
    let entries = pairs
        .iter()
        .map(|[key, word]| Ok((key.as_str(), literal::parse(word)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let receipt = kv.put_many(entries.iter().map(|(key, value)| (*key, value)))?;
    Ok(Outcome::done("OK").with_receipt(receipt))
}

fn cas(kv: &Kv, args: &CasArgs) -> Result<Outcome, Failure> {
    let has_option = args.absent || args.version.is_some() || args.expect.is_some();
    let (expected, word) = match (args.values.as_slice(), has_option) {
        ([word], true) => (args.expect.as_ref(), word),
        ([expected, word], false) => (Some(expected), word),
        ([_], _) => {
            return Err(Failure::usage(
                "cas needs what is expected: a value before the new one, or --expect, --version \
                 or --absent",
            ));
        }
        _ => return Err(Failure::usage("cas takes what is expected once, not twice")),
    };
    let value = literal::parse(word)?;
    let swapped = match (expected, args.version) {
        (Some(expected), _) => kv.cas_value(&args.key, Some(&literal::parse(expected)?), &value)?,
        (None, Some(version)) => kv.cas_version(&args.key, Expected::Version(version), &value)?,
        (None, None) => kv.cas_version(&args.key, Expected::Absent, &value)?,
    };
    Ok(conditional(&swapped))
}

fn conditional(swapped: &Conditional) -> Outcome {
    match swapped {
        Conditional::Written(receipt) => {
            let version = if receipt.is_committed() {
                json::version(receipt.version)
            } else {
                json::null()
            };
            let result = json::object([("ok", "true".to_owned()), ("version", version)]);
            Outcome::line(result, "(integer) 1".to_owned()).with_receipt(*receipt)
        }
        Conditional::Mismatch(mismatch) => {
            let number = mismatch.actual.number();
            let line = match (number, mismatch.is_tombstone) {
                (0, _) => "(integer) 0: the key never existed".to_owned(),
                (_, true) => format!("(integer) 0: deleted at version {number}"),
                (_, false) => format!("(integer) 0: the version is {number}"),
            };
            let result = json::object([
                ("ok", "false".to_owned()),
                ("actual", json::version(mismatch.actual)),
                ("is_tombstone", mismatch.is_tombstone.to_string()),
            ]);
            Outcome::line(result, line).negative()
        }
    }
}

fn replaced(replaced: Replaced<Value>) -> Outcome {
    Outcome::value(replaced.previous).with_receipt(replaced.receipt)
}

/// Keys up to a limit, page by page.
fn list(kv: &Kv, args: &ListArgs) -> Result<Outcome, Failure> {
    let prefix = args.prefix_option.as_ref().unwrap_or(&args.prefix);
    let mut left = args.limit.unwrap_or(u32::MAX);
    let (mut items, mut lines) = (Vec::new(), Vec::new());
    let mut cursor: Option<Cursor> = None;
    while 0 < left {
        let limit = left.min(PAGE_COUNT);
        let options = ListOptions {
            prefix,
            limit,
            cursor: cursor.as_ref(),
            ..Default::default()
        };
        let next = if args.values {
            let page = kv.list_with_values::<Value>(options)?;
            left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
            lines.extend(page.entries.iter().map(entry_line));
            items.extend(page.entries.iter().map(entry_json));
            page.cursor
        } else {
            let page = kv.list(options)?;
            left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
            lines.extend(page.entries.iter().map(|key| json::string(key)));
            items.extend(page.entries.iter().map(|key| json::string(key)));
            page.cursor
        };
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(Outcome::lines(json::array(items), lines))
}

fn scan(kv: &Kv, args: &ScanArgs) -> Result<Outcome, Failure> {
    let cursor = args.cursor.as_deref().map(parse_cursor).transpose()?;
    let page = kv.scan::<Value>(ListOptions {
        prefix: args.prefix_option.as_ref().unwrap_or(&args.prefix),
        start: &args.start,
        limit: args.limit,
        cursor: cursor.as_ref(),
    })?;
    let cursor = page.cursor.as_ref().map(format_cursor);
    let mut lines: Vec<_> = page.entries.iter().map(entry_line).collect();
    lines.extend(
        cursor
            .as_ref()
            .map(|cursor| format!("(more: --cursor {cursor})")),
    );
    let result = json::object([
        ("items", json::array(page.entries.iter().map(entry_json))),
        ("cursor", json::optional_string(cursor.as_deref())),
        ("has_more", cursor.is_some().to_string()),
    ]);
    Ok(Outcome::lines(result, lines))
}

fn entry_line(entry: &Entry<Value>) -> String {
    format!(
        "{}  {}",
        json::string(&entry.key),
        json::value(&entry.value)
    )
}

fn entry_json(entry: &Entry<Value>) -> String {
    json::object([
        ("key", json::string(&entry.key)),
        ("value", json::value(&entry.value)),
        ("version", json::version(Version::Txn(entry.version))),
    ])
}

/// Versions up to a limit, page by page.
fn history(kv: &Kv, args: &HistoryArgs) -> Result<Outcome, Failure> {
    let mut left = args.limit.unwrap_or(u32::MAX);
    let mut before = args.before;
    let mut versions: Vec<Versioned<Option<Value>>> = Vec::new();
    while 0 < left {
        let page = kv.history(&args.key, left.min(PAGE_COUNT), before)?;
        left = left.saturating_sub(u32::try_from(page.versions.len()).unwrap_or(u32::MAX));
        before = page.versions.last().map(|oldest| oldest.version.number());
        let is_last = !page.has_more || page.versions.is_empty();
        versions.extend(page.versions);
        if is_last {
            break;
        }
    }
    let lines = versions
        .iter()
        .map(|version| {
            let number = version.version.number();
            let value = version
                .value
                .as_ref()
                .map_or_else(|| "(deleted)".to_owned(), json::value);
            format!("{number}  {}  {value}", version.timestamp_us)
        })
        .collect();
    let items = versions.iter().map(|version| {
        json::object([
            ("value", json::value_or_absent(version.value.as_ref())),
            ("version", json::version(version.version)),
            ("timestamp", version.timestamp_us.to_string()),
        ])
    });
    Ok(Outcome::lines(json::array(items), lines))
}

/// A cursor as hexadecimal digits.
fn format_cursor(cursor: &Cursor) -> String {
    cursor
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn parse_cursor(text: &str) -> Result<Cursor, Failure> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect();
    match bytes {
        Some(bytes) if rest.is_empty() => Ok(Cursor::from_bytes(bytes)),
        _ => Err(Failure::usage(format!("{text:?} is no cursor"))),
    }
}
