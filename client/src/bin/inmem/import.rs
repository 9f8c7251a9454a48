//! Loading a file of JSON lines into a run.
//!
//! Each line is `{"key": ..., "value": ...}`. Lines are checked here before they are sent, so a
//! bad one is named by its number. Good ones go in batches, each one commit, several on their way
//! at once; the batches of one run commit in the order they were sent, so the last line of a key
//! wins. A failed import leaves a beginning of the file in place and says how far it came; of a
//! regular file, repeating it goes on behind that (`progress.rs`), else it puts the same values
//! again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use in_mem_client::model::keys::validate_user_key;
use in_mem_client::model::limits::FRAME_LEN_BYTES_MAX;
use in_mem_client::model::{Durability, Error, Value};
use in_mem_client::{
    Client, ClientError, PIPELINE_LEN_BYTES_MAX, Pipeline, Receipt, Run, RunOptions, Ticket,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::arguments::{ImportArgs, Options};
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::progress::{Digest, Progress};
use crate::cli::session::Session;
use crate::cli::{json, literal};

/// Batches on their way at once: enough to keep the log busy while the next ones are read.
const BATCH_COUNT: usize = 16;

/// Bytes of lines in one batch, at most, unless one line is larger. Keeps a reactor's step short.
const BATCH_LEN_BYTES_MAX: usize = 1 << 20;

/// Bytes on their way at once, at most, unless one batch is larger: counted in lines while they are
/// read, and as they are encoded when they are sent. A frame of the largest size still fits behind
/// as many in one pipeline.
const SENT_LEN_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(SENT_LEN_BYTES_MAX + FRAME_LEN_BYTES_MAX <= PIPELINE_LEN_BYTES_MAX);

/// Longest line, bytes: a value of the largest size, escaped.
const LINE_LEN_BYTES_MAX: usize = 256 << 20;

/// One line, understood.
struct Entry {
    key: String,
    value: Value,
}

/// Entries of one commit, and where they stand in the file.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    line_first: u64,
    line_last: u64,
    /// Of all lines up to the last.
    digest: Option<Digest>,
}

/// Imports, and says what was imported.
pub(crate) fn run(
    session: &mut Session,
    options: &Options,
    args: &ImportArgs,
) -> Result<Outcome, Failure> {
    let client = session.client()?;
    let run = target(session, &client, options, args)?;
    let bar = progress_bar(&args.jsonl)?;
    let progress = Progress::of(&run, &args.jsonl)?;
    let mut import = Import {
        run,
        args,
        bar,
        progress,
        digest: Digest::EMPTY,
        skipped_count: 0,
        imported_count: 0,
        acked_line: 0,
    };
    let imported = match open(&args.jsonl)? {
        Some(file) => import.read(&mut BufReader::with_capacity(1 << 20, file)),
        None => import.read(&mut io::stdin().lock()),
    };
    import.bar.finish_and_clear();
    imported?;
    if let Some(progress) = &import.progress {
        progress.remove(&import.run).map_err(another_import)?;
    }
    if options.durability != Some(crate::cli::arguments::DurabilityArgument::Memory) {
        client.flush()?;
    }
    let mut line = format!(
        "imported {} entries into run {}",
        import.imported_count,
        import.run.id()
    );
    if 0 < import.skipped_count {
        line += &format!("; {} lines were in already", import.skipped_count);
    }
    let result = json::object([
        ("imported", import.imported_count.to_string()),
        ("skipped_lines", import.skipped_count.to_string()),
        ("run", json::string(&import.run.id().to_string())),
    ]);
    Ok(Outcome::line(result, line))
}

/// The run to load into, begun if there is none and that is wanted. Buffered unless told
/// otherwise: one flush at the end makes all of it durable at once.
fn target(
    session: &mut Session,
    client: &Client,
    options: &Options,
    args: &ImportArgs,
) -> Result<Run, Failure> {
    let run = match (&options.run, args.if_missing) {
        (Some(name), true) if client.run(name).is_err() => {
            let begin = RunOptions {
                name: Some(name),
                if_missing: true,
                ..RunOptions::default()
            };
            client.runs().begin(&begin)?.run
        }
        _ => session.run(options)?,
    };
    let durability = options
        .durability
        .map_or(Durability::Buffered, Durability::from);
    Ok(run.with_durability(durability))
}

/// The file; none is standard input.
fn open(path: &Path) -> Result<Option<File>, Failure> {
    if path == Path::new("-") {
        return Ok(None);
    }
    File::open(path)
        .map(Some)
        .map_err(|error| Failure::file(path, error))
}

/// A bar over the bytes of the file; nothing where there is no terminal to show it.
fn progress_bar(path: &Path) -> Result<ProgressBar, Failure> {
    if path == Path::new("-") {
        return Ok(ProgressBar::new_spinner());
    }
    let len = std::fs::metadata(path)
        .map_err(|error| Failure::file(path, error))?
        .len();
    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let bar = ProgressBar::new(len);
    Ok(match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    })
}

struct Import<'a> {
    run: Run,
    args: &'a ImportArgs,
    bar: ProgressBar,
    progress: Option<Progress>,
    /// Of the lines read so far.
    digest: Digest,
    /// Lines that an import before has imported.
    skipped_count: u64,
    imported_count: u64,
    acked_line: u64,
}

impl Import<'_> {
    /// Reads all lines and sends them in batches.
    fn read(&mut self, input: &mut impl BufRead) -> Result<(), Failure> {
        let mut line = Vec::new();
        let mut batches = vec![Batch::default()];
        let mut keys = HashSet::new();
        let (mut batch_len_bytes, mut read_len_bytes) = (0, 0);
        let mut line_number = self.skip(input, &mut line)?;
        let read = loop {
            line_number += 1;
            let entry = match self.read_entry(input, &mut line, line_number) {
                Ok(Some(Some(entry))) => entry,
                Ok(Some(None)) => continue,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure.at_line(line_number)),
            };
            let is_full = batches.last().is_some_and(|batch| {
                // One commit gives a key one value, so a repeated key begins the next batch.
                self.args.batch as usize <= batch.entries.len()
                    || keys.contains(&entry.key)
                    || BATCH_LEN_BYTES_MAX < batch_len_bytes + line.len()
            });
            if is_full {
                keys.clear();
                batch_len_bytes = 0;
                if BATCH_COUNT <= batches.len() || SENT_LEN_BYTES_MAX < read_len_bytes + line.len()
                {
                    self.send(&std::mem::take(&mut batches))?;
                    read_len_bytes = 0;
                }
                batches.push(Batch::default());
            }
            batch_len_bytes += line.len();
            read_len_bytes += line.len();
            keys.insert(entry.key.clone());
            if let Some(batch) = batches.last_mut() {
                if batch.entries.is_empty() {
                    batch.line_first = line_number;
                }
                batch.line_last = line_number;
                batch.digest = Some(self.digest);
                batch.entries.push(entry);
            }
        };
        // What stands before a bad line is imported all the same, and the message says so.
        self.send(&batches)?;
        read.map_err(|failure| self.explain(failure))
    }

    /// Reads past the lines that are imported already; how many.
    fn skip(&mut self, input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<u64, Failure> {
        let Some(progress) = self.progress.as_ref().filter(|_| !self.args.from_start) else {
            return Ok(0);
        };
        let Some(imported) = progress.imported()? else {
            return Ok(0);
        };
        while self.skipped_count < imported.line_count && self.read_line(input, line)? {
            self.skipped_count += 1;
        }
        if let Some(progress) = &self.progress {
            progress.check(&imported, self.digest)?;
        }
        self.acked_line = self.skipped_count;
        Ok(self.skipped_count)
    }

    /// The next line; false at the end.
    fn read_line(&mut self, input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Failure> {
        line.clear();
        let limit = LINE_LEN_BYTES_MAX as u64 + 1;
        let len = io::Read::take(&mut *input, limit)
            .read_until(b'\n', line)
            .map_err(|error| Failure::file(&self.args.jsonl, error))?;
        if len == 0 {
            return Ok(false);
        }
        self.bar.inc(len as u64);
        if LINE_LEN_BYTES_MAX < len {
            return Err(Failure::usage(format!(
                "longer than {LINE_LEN_BYTES_MAX} bytes"
            )));
        }
        self.digest = self.digest.with_line(line);
        Ok(true)
    }

    /// The next entry; the inner none is a blank line, the outer one the end.
    fn read_entry(
        &mut self,
        input: &mut impl BufRead,
        line: &mut Vec<u8>,
        line_number: u64,
    ) -> Result<Option<Option<Entry>>, Failure> {
        if !self.read_line(input, line)? {
            return Ok(None);
        }
        let text = std::str::from_utf8(line).map_err(|_| Failure::usage("not UTF-8"))?;
        let text = if line_number == 1 {
            text.trim_start_matches('\u{feff}')
        } else {
            text
        };
        if text.trim().is_empty() {
            return Ok(Some(None));
        }
        parse_entry(text.trim()).map(|entry| Some(Some(entry)))
    }

    /// Sends batches, together as far as they fit, and waits for all answers.
    fn send(&mut self, batches: &[Batch]) -> Result<(), Failure> {
        let mut pipeline = self.run.pipeline();
        let mut tickets: Vec<(Ticket<Receipt>, &Batch)> = Vec::new();
        for batch in batches.iter().filter(|batch| !batch.entries.is_empty()) {
            let ticket = match self.queue(&mut pipeline, batch) {
                Ok(ticket) => ticket,
                Err(error) => {
                    // What stands before a batch that cannot be sent is imported all the same.
                    self.exchange(pipeline, tickets)?;
                    return Err(self.explain(at_lines(error.into(), batch)));
                }
            };
            tickets.push((ticket, batch));
            if SENT_LEN_BYTES_MAX < pipeline.len_bytes() {
                let full = std::mem::replace(&mut pipeline, self.run.pipeline());
                self.exchange(full, std::mem::take(&mut tickets))?;
            }
        }
        self.exchange(pipeline, tickets)
    }

    /// Queues a batch: with the progress, if there is one, on the condition that it is the one the
    /// batch before has left.
    fn queue(
        &mut self,
        pipeline: &mut Pipeline,
        batch: &Batch,
    ) -> Result<Ticket<Receipt>, ClientError> {
        let entries = batch
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), &entry.value));
        let (Some(progress), Some(digest)) = (&mut self.progress, batch.digest) else {
            return pipeline.put_many(entries);
        };
        let next = progress.after(batch.line_last, digest);
        let change = self.run.batch();
        let mut change = change.cas_value(progress.key(), progress.current(), &next)?;
        for (key, value) in entries {
            change = change.put(key, value)?;
        }
        let ticket = pipeline.batch(change)?;
        progress.queued(next);
        Ok(ticket)
    }

    /// Sends one pipeline and counts what was acknowledged.
    fn exchange(
        &mut self,
        pipeline: Pipeline,
        tickets: Vec<(Ticket<Receipt>, &Batch)>,
    ) -> Result<(), Failure> {
        if tickets.is_empty() {
            return Ok(());
        }
        let mut answers = pipeline.send()?;
        for (ticket, batch) in tickets {
            let receipt = match answers.take(ticket) {
                Ok(receipt) => receipt,
                Err(error) => {
                    let failure = another_import(error.into());
                    return Err(self.explain(at_lines(failure, batch)));
                }
            };
            if let Some(progress) = &mut self.progress {
                progress.acked(receipt);
            }
            self.imported_count += batch.entries.len() as u64;
            self.acked_line = batch.line_last;
        }
        Ok(())
    }

    /// Says how far the import came.
    fn explain(&self, failure: Failure) -> Failure {
        Failure::Import {
            acked_line: self.acked_line,
            cause: Box::new(failure),
        }
    }
}

/// Says what a conflict means: nothing else has the progress as a condition.
fn another_import(failure: Failure) -> Failure {
    match failure {
        Failure::Client(error) if error.is_conflict() => {
            let mut body = error.into_body();
            body.message = "another import of this file into this run is under way, or was since \
                            this one began; begin it again when no other is"
                .to_owned();
            Failure::Refused(Box::new(body))
        }
        other => other,
    }
}

fn at_lines(failure: Failure, batch: &Batch) -> Failure {
    match batch.entries.len() {
        1 => failure.at_line(batch.line_last),
        _ => Failure::Lines {
            line_first: batch.line_first,
            line_last: batch.line_last,
            cause: Box::new(failure),
        },
    }
}

/// The entry of one line.
fn parse_entry(text: &str) -> Result<Entry, Failure> {
    let parsed = literal::parse_json(text, || "not a valid entry".to_owned())?;
    let Value::Object(fields) = parsed else {
        return Err(Failure::usage("not a JSON object"));
    };
    let (mut key, mut value) = (None, None);
    for (name, content) in fields {
        match (name.as_str(), content) {
            ("key", Value::String(text)) => key = Some(text),
            ("key", _) => return Err(Failure::usage("the key is no string")),
            ("value", content) => value = Some(content),
            _ => return Err(Failure::usage(format!("unknown field {name:?}"))),
        }
    }
    let key = key.ok_or_else(|| Failure::usage("the key is missing"))?;
    validate_user_key(key.as_bytes())
        .map_err(|error| Failure::Refused(Box::new(Error::from(error))))?;
    let value = value.ok_or_else(|| Failure::usage("the value is missing"))?;
    Ok(Entry { key, value })
}
