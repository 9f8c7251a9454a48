//! What makes a command fail, how it is said, and the exit code that says it.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use in_mem_client::ClientError;
use in_mem_client::model::error::{DetailValue, Error, ErrorClass, Outcome, SubCode};

use crate::cli::json;

/// Exit code of a negative answer, or of a fault found.
pub(crate) const EXIT_NEGATIVE: u8 = 1;
/// Exit code of a command that cannot be understood.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code of an error is this and the number of its class.
pub(crate) const EXIT_CLASS_BASE: u8 = 10;
/// Exit code when there is no daemon.
const EXIT_NO_DAEMON: u8 = 30;
/// Exit code when nobody knows whether a write happened.
const EXIT_OUTCOME_UNKNOWN: u8 = 31;
/// Exit code when the daemon speaks another protocol.
const EXIT_PROTOCOL: u8 = 32;
/// Exit code when nobody reads the output any more: what a shell shows for SIGPIPE.
const EXIT_HUNG_UP: u8 = 141;
/// Exit code when a human or supervisor ended the command.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Longest message about a command that cannot be understood, characters.
const USAGE_CHAR_COUNT_MAX: usize = 1_000;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// The server refused it, or was lost.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It is refused before the server is asked.
    #[error("{0}")]
    Refused(Box<Error>),
    /// A line of a file cannot be understood or was refused.
    #[error("line {line_number}: {cause}")]
    Line {
        /// The number of the line, from 1.
        line_number: u64,
        /// Why.
        cause: Box<Failure>,
    },
    /// One of several lines was refused.
    #[error("lines {line_first} to {line_last}: {cause}")]
    Lines {
        /// The number of the first, from 1.
        line_first: u64,
        /// The number of the last.
        line_last: u64,
        /// Why.
        cause: Box<Failure>,
    },
    /// An import ended early.
    #[error("{cause}; the lines up to {acked_line} are imported")]
    Import {
        /// The last line that was acknowledged with all before it; 0 for none.
        acked_line: u64,
        /// Why.
        cause: Box<Failure>,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command was carried out, but its answer could not be written.
    #[error("the command was carried out, but its answer could not be written: {source}")]
    Unsaid {
        /// Why.
        source: io::Error,
    },
    /// What was to be proven is not so.
    #[error("{0}")]
    Disproved(String),
    /// Somebody ended it.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// Not understood. What was given may be part of the message, and be of any length.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(USAGE_CHAR_COUNT_MAX) {
            message.truncate(end);
            message.push_str(" ...");
        }
        Self::Usage(message)
    }

    pub(crate) fn file(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::File {
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// Refused here, with the error the server would have given.
    pub(crate) fn refused(sub: SubCode, message: &str) -> Self {
        let body = Error::new(sub, message).with_outcome(Outcome::NotCommitted);
        Self::Refused(Box::new(body))
    }

    pub(crate) fn at_line(self, line_number: u64) -> Self {
        Self::Line {
            line_number,
            cause: Box::new(self),
        }
    }

    /// Nobody reads what is written, as behind `| head`: there is nobody to tell.
    pub(crate) fn is_hung_up(&self) -> bool {
        matches!(self, Self::Unsaid { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code that says it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Client(error) => match error {
                _ if error.outcome() == Some(Outcome::OutcomeUnknown) => EXIT_OUTCOME_UNKNOWN,
                _ if error.sub() == Some(SubCode::Cancelled) => EXIT_INTERRUPTED,
                ClientError::Unreachable { body, .. }
                    if body.sub == Some(SubCode::ConnectionRefused) =>
                {
                    EXIT_NO_DAEMON
                }
                ClientError::Protocol { .. } => EXIT_PROTOCOL,
                _ => class_exit_code(error.body()),
            },
            Self::Refused(body) => class_exit_code(body),
            Self::Line { cause, .. } | Self::Lines { cause, .. } | Self::Import { cause, .. } => {
                cause.exit_code()
            }
            Self::File { .. } => EXIT_CLASS_BASE + ErrorClass::StorageError.number(),
            Self::Unsaid { .. } if self.is_hung_up() => EXIT_HUNG_UP,
            Self::Unsaid { .. } => EXIT_OUTCOME_UNKNOWN,
            Self::Disproved(_) => EXIT_NEGATIVE,
            Self::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// The line of the pipe that says it.
    pub(crate) fn to_json(&self) -> String {
        let body = self.body();
        let details = body
            .details
            .iter()
            .map(|(name, value)| (name.as_str(), detail_json(value)));
        let error = json::object([
            ("code", json::string(body.class.name())),
            ("number", body.class.number().to_string()),
            ("sub", json::optional_string(body.sub.map(SubCode::name))),
            (
                "outcome",
                json::optional_string(body.outcome.map(Outcome::name)),
            ),
            ("retry", json::string(body.retry.name())),
            ("message", json::string(&self.message())),
            ("details", json::object(details)),
        ]);
        json::object([("ok", "false".to_owned()), ("error", error)])
    }

    /// The line of the interactive shell that says it.
    pub(crate) fn to_text(&self) -> String {
        if let Self::Usage(message) = self {
            return format!("(error) {message}");
        }
        let body = self.body();
        let sub = body.sub.map(|sub| format!(", {}", sub.name()));
        let outcome = body.outcome.map(|it| format!(" (outcome: {})", it.name()));
        format!(
            "(error) {}{}: {}{}",
            body.class.name(),
            sub.unwrap_or_default(),
            self.message(),
            outcome.unwrap_or_default()
        )
    }

    /// What went wrong, in one line.
    fn message(&self) -> String {
        match self {
            Self::Unsaid { .. } => self.to_string(),
            Self::Client(error) => error.body().message.clone(),
            Self::Refused(body) => body.message.clone(),
            Self::Line { line_number, cause } => format!("line {line_number}: {}", cause.message()),
            Self::Lines {
                line_first,
                line_last,
                cause,
            } => {
                format!("lines {line_first} to {line_last}: {}", cause.message())
            }
            Self::Import { acked_line, cause } => {
                format!(
                    "{}; the lines up to {acked_line} are imported",
                    cause.message()
                )
            }
            Self::Usage(_) | Self::File { .. } | Self::Disproved(_) | Self::Interrupted => {
                self.to_string()
            }
        }
    }

    /// The error as the model has it.
    fn body(&self) -> Cow<'_, Error> {
        let made = |sub| Cow::Owned(Error::new(sub, "").with_outcome(Outcome::NotCommitted));
        match self {
            Self::Client(error) => Cow::Borrowed(error.body()),
            Self::Refused(body) => Cow::Borrowed(body),
            Self::Line { line_number, cause } => Cow::Owned(
                cause
                    .body()
                    .into_owned()
                    .with_detail("line_number", *line_number),
            ),
            Self::Lines {
                line_first, cause, ..
            } => Cow::Owned(
                cause
                    .body()
                    .into_owned()
                    .with_detail("line_number", *line_first),
            ),
            Self::Import { acked_line, cause } => Cow::Owned(
                cause
                    .body()
                    .into_owned()
                    .with_detail("acked_line", *acked_line),
            ),
            Self::Usage(_) => made(SubCode::InvalidArgument),
            Self::Interrupted => made(SubCode::Cancelled),
            Self::File { .. } => Cow::Owned(
                Error::of_class(ErrorClass::StorageError, "").with_outcome(Outcome::NotCommitted),
            ),
            Self::Unsaid { .. } => Cow::Owned(
                Error::of_class(ErrorClass::StorageError, "").with_outcome(Outcome::OutcomeUnknown),
            ),
            Self::Disproved(_) => Cow::Owned(Error::of_class(ErrorClass::InternalError, "")),
        }
    }
}

fn class_exit_code(body: &Error) -> u8 {
    EXIT_CLASS_BASE + body.class.number()
}

fn detail_json(value: &DetailValue) -> String {
    match value {
        DetailValue::Text(text) => json::string(text),
        DetailValue::Number(number) => number.to_string(),
        DetailValue::Version(version) => json::version(*version),
        DetailValue::Flag(flag) => flag.to_string(),
    }
}
