//! What a command came to, and the two ways to say it: for a program and for a human.
//!
//! For a program, one JSON object a line. For a human: missing `(nil)`, counts `(integer) N`,
//! yes and no `(integer) 1` and `(integer) 0`, values in their JSON form, and a string or bytes
//! as they are when asked for `--raw`.

use std::io::{self, Write};

use in_mem_client::Receipt;
use in_mem_client::model::{Level, Value, Version};

use crate::cli::arguments::Options;
use crate::cli::json;

/// What a command came to.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The result as JSON.
    result: String,
    /// The result for a human.
    text: Text,
    /// Of a get: whether there was something.
    found: Option<bool>,
    /// The version written or found.
    version: Option<Version>,
    /// The commit that was made.
    commit_version: Option<u64>,
    /// What the commit survives.
    level: Option<Level>,
    /// Whether a condition did not hold.
    is_negative: bool,
}

/// A result for a human.
#[derive(Debug, Clone)]
enum Text {
    Missing,
    Line(String),
    Lines(Vec<String>),
    Value(Value),
}

impl Outcome {
    fn new(result: String, text: Text) -> Self {
        Self {
            result,
            text,
            found: None,
            version: None,
            commit_version: None,
            level: None,
            is_negative: false,
        }
    }

    /// Done, with nothing to say.
    pub(crate) fn done(word: &str) -> Self {
        Self::new(json::null(), Text::Line(word.to_owned()))
    }

    /// A number of things.
    pub(crate) fn count(count: u64) -> Self {
        Self::new(count.to_string(), Text::Line(format!("(integer) {count}")))
    }

    /// An integer.
    pub(crate) fn integer(value: i64) -> Self {
        Self::new(value.to_string(), Text::Line(format!("(integer) {value}")))
    }

    /// A yes or a no.
    pub(crate) fn flag(flag: bool) -> Self {
        Self::new(
            flag.to_string(),
            Text::Line(format!("(integer) {}", u8::from(flag))),
        )
    }

    /// A value, or that there is none.
    pub(crate) fn value(found: Option<Value>) -> Self {
        let is_found = found.is_some();
        let outcome = match found {
            Some(value) => Self::new(json::value(&value), Text::Value(value)),
            None => Self::new(json::null(), Text::Missing),
        };
        Self {
            found: Some(is_found),
            ..outcome
        }
    }

    /// JSON that a human reads as one line.
    pub(crate) fn json(result: String) -> Self {
        let text = Text::Line(result.clone());
        Self::new(result, text)
    }

    /// JSON that a human reads as several lines.
    pub(crate) fn lines(result: String, lines: Vec<String>) -> Self {
        Self::new(result, Text::Lines(lines))
    }

    /// JSON, and one line for a human.
    pub(crate) fn line(result: String, line: String) -> Self {
        Self::new(result, Text::Line(line))
    }

    /// The same, of something that has this version; what a transaction itself wrote has none
    /// yet.
    pub(crate) fn at_version(mut self, version: Option<Version>) -> Self {
        self.version = version.filter(|version| version.number() != 0);
        self
    }

    /// The same, made by a write.
    pub(crate) fn with_receipt(mut self, receipt: Receipt) -> Self {
        if receipt.is_committed() {
            self.version = Some(receipt.version);
            self.commit_version = Some(receipt.commit_version);
            self.level = receipt.level;
        }
        self
    }

    /// The same, as the answer to a condition that did not hold.
    pub(crate) fn negative(mut self) -> Self {
        self.is_negative = true;
        self
    }

    /// Whether a condition did not hold.
    pub(crate) const fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// The line of the pipe.
    pub(crate) fn to_json(&self) -> String {
        let mut fields = vec![("ok", "true".to_owned()), ("result", self.result.clone())];
        if let Some(found) = self.found {
            fields.push(("found", found.to_string()));
        }
        fields.push((
            "version",
            self.version.map_or_else(json::null, json::version),
        ));
        let commit_version = self
            .commit_version
            .map_or_else(json::null, |it| it.to_string());
        fields.push(("commit_version", commit_version));
        fields.push((
            "durability",
            json::optional_string(self.level.map(Level::name)),
        ));
        json::object(fields)
    }

    /// Writes it as the options want it.
    pub(crate) fn print(&self, options: &Options, out: &mut impl Write) -> io::Result<()> {
        if options.json {
            return writeln!(out, "{}", self.to_json());
        }
        match &self.text {
            Text::Missing => writeln!(out, "(nil)")?,
            Text::Line(line) => writeln!(out, "{line}")?,
            Text::Lines(lines) => lines.iter().try_for_each(|line| writeln!(out, "{line}"))?,
            Text::Value(Value::String(text)) if options.raw => out.write_all(text.as_bytes())?,
            Text::Value(Value::Bytes(bytes)) if options.raw => out.write_all(bytes)?,
            Text::Value(value) => writeln!(out, "{}", json::value(value))?,
        }
        if options.with_version
            && let Some(version) = self.version
        {
            let level = self.level.map(|level| format!(" {level}"));
            let (flavour, number) = (version.flavour(), version.number());
            writeln!(
                out,
                "({flavour} version) {number}{}",
                level.unwrap_or_default()
            )?;
        }
        Ok(())
    }
}
