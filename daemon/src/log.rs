//! The log: where it goes and what is written, set up once per process; the filter can change.
//!
//! Under a service manager that connected standard error to the journal, events go to the journal
//! with their fields (`INMEM_` before each name, `TARGET` for the subsystem); otherwise as text to
//! standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::LogTo;

/// What the journal calls us.
const SYSLOG_IDENTIFIER: &str = "inmemd";

/// What stands before the name of an event's field in the journal.
const FIELD_PREFIX: &str = "INMEM";

/// Where systemd names the device and inode of the stream it connected to the journal.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The filter of the configuration is not one.
    #[error("`log` is not a filter: {reason}")]
    Filter {
        /// What the parser says.
        reason: String,
    },
    /// The journal was asked for and is not there.
    #[error("`log_to` is journal, but the journal cannot be reached: {source}")]
    Journal {
        /// What the kernel answered.
        source: io::Error,
    },
}

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    /// None where another subscriber was set before: the embedding process decides.
    filter: Option<reload::Handle<EnvFilter, Registry>>,
}

impl Log {
    /// Writes what passes from now on.
    pub(crate) fn set_filter(&self, filter: Filter) {
        if let Some(handle) = &self.filter {
            // Fails only when the subscriber is gone, and it lives as long as the process.
            let _ = handle.reload(filter.0);
        }
    }
}

/// A filter that was understood.
#[derive(Debug)]
pub(crate) struct Filter(EnvFilter);

impl Filter {
    /// Reads a filter such as `info` or `warn,wal=debug`.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, LogError> {
        let filter = EnvFilter::try_new(text).map_err(|error| LogError::Filter {
            reason: error.to_string(),
        })?;
        Ok(Self(filter))
    }
}

/// Sends what passes the filter where it belongs. A subscriber that is set already stays.
///
/// # Errors
/// When the filter is not one, or the journal was asked for by name and is not there.
pub(crate) fn init(filter: &str, log_to: LogTo) -> Result<Log, LogError> {
    let (filter, handle) = reload::Layer::new(Filter::parse(filter)?.0);
    let is_wanted = match log_to {
        LogTo::Stderr => false,
        LogTo::Journal => true,
        LogTo::Auto => is_connected_to_journal(),
    };
    let mut missed = None;
    let journal = match is_wanted.then(tracing_journald::layer) {
        Some(Err(source)) if log_to == LogTo::Journal => return Err(LogError::Journal { source }),
        Some(Err(error)) => {
            missed = Some(error);
            None
        }
        Some(Ok(layer)) => Some(
            layer
                .with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned())
                .with_field_prefix(Some(FIELD_PREFIX.to_owned())),
        ),
        None => None,
    };
    let layer: Box<dyn Layer<_> + Send + Sync> = match journal {
        Some(journal) => journal.boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    let is_ours = tracing::subscriber::set_global_default(subscriber).is_ok();
    if let Some(error) = missed {
        tracing::warn!(target: "db", %error, "the journal cannot be reached: the log is text");
    }
    Ok(Log {
        filter: is_ours.then_some(handle),
    })
}

/// Whether standard error is the stream that systemd connected to the journal; a process that was
/// started with another one inherits the variable all the same.
fn is_connected_to_journal() -> bool {
    let Some(named) = std::env::var(JOURNAL_STREAM).ok() else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}
