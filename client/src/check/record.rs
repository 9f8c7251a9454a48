//! The line a worker writes before each request and after each answer.
//!
//! One line is one event, ASCII, fields separated by single spaces, ended by a line feed; a last
//! line without its line feed was cut off by a kill and does not count. A worker appends a line
//! with one write before it goes on, so what it wrote survives its own death in the page cache.
//!
//! ```text
//! S <id> <at_ns> R <run>                                   sent: a read
//! S <id> <at_ns> W <run> <mode> <sights> <writes>          sent: a write
//! S <id> <at_ns> F                                         sent: a flush
//! D <id> <at_ns> C <version> <sights> <sights>             done: committed; before, after
//! D <id> <at_ns> V <at> <listed> <sights>                  done: saw
//! D <id> <at_ns> N                                         done: certainly nothing happened
//! D <id> <at_ns> U                                         done: nobody knows
//!
//! run     32 hexadecimal digits           mode    M (InMemory), B (Buffered), S (Strict)
//! sights  items joined by ',', or '-'     sight   <key>@<version or '?'>=<found>
//! writes  items joined by ','             found   '*' anything, '!' absent, else a datum
//! write   P<key>=<datum>, D<key>, A<key>=<delta>
//! datum   i<decimal>, x<hexadecimal>      at      decimal or '?'
//! listed  '-', or '/' and a prefix        key, prefix: bytes outside [0-9A-Za-z._-] as %XX
//! ```

use std::fmt::Write as _;

use super::history::{Call, Datum, Found, Mode, Outcome, Run, Sight, Write};

/// One line of a worker's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A request is about to be sent.
    Sent {
        /// Its number.
        id: u64,
        /// Now, nanoseconds of a clock all workers share.
        at_ns: u64,
        /// The request.
        call: Call,
    },
    /// Its answer is there.
    Done {
        /// Its number.
        id: u64,
        /// Now, nanoseconds of the same clock.
        at_ns: u64,
        /// The answer.
        outcome: Outcome,
    },
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line_number} of the record is malformed: {line:?}")]
pub struct RecordError {
    /// Its number, from 1.
    pub line_number: usize,
    /// Its text.
    pub line: String,
}

impl Record {
    /// The line, with its line feed.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = String::with_capacity(128);
        match self {
            Self::Sent { id, at_ns, call } => {
                push(&mut line, format_args!("S {id} {at_ns} "));
                push_call(&mut line, call);
            }
            Self::Done { id, at_ns, outcome } => {
                push(&mut line, format_args!("D {id} {at_ns} "));
                push_outcome(&mut line, outcome);
            }
        }
        line.push('\n');
        line
    }

    /// All records of a file or a pipe.
    ///
    /// # Errors
    /// The first line that is ended and malformed.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, RecordError> {
        let ended = text
            .rfind('\n')
            .and_then(|end| text.get(..end))
            .unwrap_or("");
        let lines = ended
            .split('\n')
            .enumerate()
            .filter(|(_, line)| !line.is_empty());
        lines
            .map(|(index, line)| {
                Self::parse(line).ok_or_else(|| RecordError {
                    line_number: index + 1,
                    line: line.to_owned(),
                })
            })
            .collect()
    }

    /// The record of one line, without its line feed.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let kind = fields.next()?;
        let id = fields.next()?.parse().ok()?;
        let at_ns = fields.next()?.parse().ok()?;
        let record = match kind {
            "S" => Self::Sent {
                id,
                at_ns,
                call: parse_call(&mut fields)?,
            },
            "D" => Self::Done {
                id,
                at_ns,
                outcome: parse_outcome(&mut fields)?,
            },
            _ => return None,
        };
        fields.next().is_none().then_some(record)
    }
}

fn push(line: &mut String, arguments: std::fmt::Arguments<'_>) {
    line.write_fmt(arguments)
        .expect("writing to a string does not fail");
}

fn push_call(line: &mut String, call: &Call) {
    match call {
        Call::Read { run } => {
            line.push_str("R ");
            push_hex(line, run);
        }
        Call::Write {
            run,
            mode,
            expects,
            writes,
        } => {
            line.push_str("W ");
            push_hex(line, run);
            line.push_str(match mode {
                Mode::InMemory => " M ",
                Mode::Buffered => " B ",
                Mode::Strict => " S ",
            });
            push_sights(line, expects);
            line.push(' ');
            push_joined(line, writes, push_write);
        }
        Call::Flush => line.push('F'),
    }
}

fn push_outcome(line: &mut String, outcome: &Outcome) {
    match outcome {
        Outcome::Committed {
            version,
            before,
            after,
        } => {
            push(line, format_args!("C {version} "));
            push_sights(line, before);
            line.push(' ');
            push_sights(line, after);
        }
        Outcome::Saw { at, sights, listed } => {
            line.push_str("V ");
            push_number(line, *at);
            line.push(' ');
            match listed {
                None => line.push('-'),
                Some(prefix) => {
                    line.push('/');
                    push_key(line, prefix);
                }
            }
            line.push(' ');
            push_sights(line, sights);
        }
        Outcome::Refused => line.push('N'),
        Outcome::Unknown => line.push('U'),
    }
}

fn push_joined<T>(line: &mut String, items: &[T], push_item: fn(&mut String, &T)) {
    if items.is_empty() {
        line.push('-');
    }
    for (index, item) in items.iter().enumerate() {
        if index != 0 {
            line.push(',');
        }
        push_item(line, item);
    }
}

fn push_sights(line: &mut String, sights: &[Sight]) {
    push_joined(line, sights, |line, sight| {
        push_key(line, &sight.key);
        line.push('@');
        push_number(line, sight.version);
        line.push('=');
        match &sight.found {
            Found::Anything => line.push('*'),
            Found::Absent => line.push('!'),
            Found::Value(datum) => push_datum(line, datum),
        }
    });
}

fn push_write(line: &mut String, write: &Write) {
    line.push(match write {
        Write::Put(..) => 'P',
        Write::Delete(_) => 'D',
        Write::Add(..) => 'A',
    });
    push_key(line, write.key());
    match write {
        Write::Put(_, datum) => {
            line.push('=');
            push_datum(line, datum);
        }
        Write::Delete(_) => {}
        Write::Add(_, delta) => push(line, format_args!("={delta}")),
    }
}

fn push_number(line: &mut String, number: Option<u64>) {
    match number {
        Some(number) => push(line, format_args!("{number}")),
        None => line.push('?'),
    }
}

fn push_key(line: &mut String, key: &str) {
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            line.push(char::from(byte));
        } else {
            push(line, format_args!("%{byte:02X}"));
        }
    }
}

fn push_datum(line: &mut String, datum: &Datum) {
    match datum {
        Datum::Int(number) => push(line, format_args!("i{number}")),
        Datum::Bytes(bytes) => {
            line.push('x');
            push_hex(line, bytes);
        }
    }
}

fn push_hex(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        push(line, format_args!("{byte:02x}"));
    }
}

fn parse_call<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<Call> {
    match fields.next()? {
        "R" => Some(Call::Read {
            run: parse_run(fields.next()?)?,
        }),
        "W" => {
            let run = parse_run(fields.next()?)?;
            let mode = match fields.next()? {
                "M" => Mode::InMemory,
                "B" => Mode::Buffered,
                "S" => Mode::Strict,
                _ => return None,
            };
            let expects = parse_joined(fields.next()?, parse_sight)?;
            let writes = parse_joined(fields.next()?, parse_write)?;
            Some(Call::Write {
                run,
                mode,
                expects,
                writes,
            })
        }
        "F" => Some(Call::Flush),
        _ => None,
    }
}

fn parse_outcome<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<Outcome> {
    match fields.next()? {
        "C" => Some(Outcome::Committed {
            version: fields.next()?.parse().ok()?,
            before: parse_joined(fields.next()?, parse_sight)?,
            after: parse_joined(fields.next()?, parse_sight)?,
        }),
        "V" => {
            let at = parse_number(fields.next()?)?;
            let listed = match fields.next()? {
                "-" => None,
                listed => Some(parse_key(listed.strip_prefix('/')?)?),
            };
            let sights = parse_joined(fields.next()?, parse_sight)?;
            Some(Outcome::Saw { at, sights, listed })
        }
        "N" => Some(Outcome::Refused),
        "U" => Some(Outcome::Unknown),
        _ => None,
    }
}

fn parse_joined<T>(field: &str, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if field == "-" {
        return Some(Vec::new());
    }
    field.split(',').map(parse).collect()
}

fn parse_sight(item: &str) -> Option<Sight> {
    let (key, rest) = item.split_once('@')?;
    let (version, found) = rest.split_once('=')?;
    let found = match found {
        "*" => Found::Anything,
        "!" => Found::Absent,
        datum => Found::Value(parse_datum(datum)?),
    };
    Some(Sight {
        key: parse_key(key)?,
        version: parse_number(version)?,
        found,
    })
}

fn parse_write(item: &str) -> Option<Write> {
    let rest = item.get(1..)?;
    match item.get(..1)? {
        "P" => {
            let (key, datum) = rest.split_once('=')?;
            Some(Write::Put(parse_key(key)?, parse_datum(datum)?))
        }
        "D" => Some(Write::Delete(parse_key(rest)?)),
        "A" => {
            let (key, delta) = rest.split_once('=')?;
            Some(Write::Add(parse_key(key)?, delta.parse().ok()?))
        }
        _ => None,
    }
}

/// The outer option is for malformed text, the inner for a number that is not known.
fn parse_number(field: &str) -> Option<Option<u64>> {
    if field == "?" {
        Some(None)
    } else {
        field.parse().ok().map(Some)
    }
}

fn parse_run(field: &str) -> Option<Run> {
    parse_hex(field)?.try_into().ok()
}

fn parse_datum(field: &str) -> Option<Datum> {
    let rest = field.get(1..)?;
    match field.get(..1)? {
        "i" => Some(Datum::Int(rest.parse().ok()?)),
        "x" => Some(Datum::Bytes(parse_hex(rest)?)),
        _ => None,
    }
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

fn parse_key(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.extend_from_slice(&parse_hex(escaped.get(..2)?)?);
        rest = escaped.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: u64, call: Call) -> Record {
        Record::Sent { id, at_ns: 3, call }
    }

    fn done(id: u64, outcome: Outcome) -> Record {
        Record::Done {
            id,
            at_ns: u64::MAX,
            outcome,
        }
    }

    fn samples() -> Vec<Record> {
        let run = [7; 16];
        let sight = Sight::value("a b%,@=\u{e4}", 9, Datum::Bytes(vec![0, 255]));
        let writes = vec![
            Write::Put("k".into(), Datum::Int(-3)),
            Write::Delete("d/1".into()),
            Write::Add("n".into(), -1),
            Write::Put("empty".into(), Datum::Bytes(Vec::new())),
        ];
        let expects = vec![Sight::absent("-"), Sight::version("v", 0)];
        let committed = Outcome::Committed {
            version: 5,
            before: Vec::new(),
            after: vec![sight.clone()],
        };
        let saw = Outcome::Saw {
            at: None,
            sights: vec![sight],
            listed: Some("-".into()),
        };
        let nothing = Outcome::Saw {
            at: Some(3),
            sights: Vec::new(),
            listed: None,
        };
        let mode = Mode::Strict;
        vec![
            sent(
                1,
                Call::Write {
                    run,
                    mode,
                    expects,
                    writes,
                },
            ),
            sent(2, Call::Read { run }),
            sent(3, Call::Flush),
            done(1, committed),
            done(2, saw),
            done(3, nothing),
            done(4, Outcome::Refused),
            done(5, Outcome::Unknown),
        ]
    }

    #[test]
    fn every_record_survives_its_line() {
        let text: String = samples().iter().map(Record::to_line).collect();
        assert!(text.is_ascii());
        assert_eq!(Record::parse_all(&text), Ok(samples()));
    }

    #[test]
    fn a_last_line_cut_anywhere_does_not_count_and_no_cut_panics() {
        for record in samples() {
            let line = record.to_line();
            for cut in 0..line.len() {
                assert_eq!(Record::parse_all(&line[..cut]), Ok(Vec::new()));
                let _ = Record::parse(&line[..cut]);
            }
        }
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number() {
        let bad = [
            "",
            "S 1",
            "S x 1 F",
            "D 1 1 C",
            "S 1 1 F F",
            "D 1 1 V ? - k",
            "S 1 1 R 00",
            "Q 1 1 F",
        ];
        for line in bad {
            assert_eq!(Record::parse(line), None, "{line}");
        }
        let error = Record::parse_all("S 1 1 F\nS 2 F\n").unwrap_err();
        assert_eq!(error.line_number, 2);
    }
}
