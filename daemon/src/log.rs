//! The log on standard error: what is written, set up once per process.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The filter of the configuration is not one.
#[derive(Debug, thiserror::Error)]
#[error("`log` is not a filter: {reason}")]
pub(crate) struct FilterError {
    reason: String,
}

/// Sends what passes the filter to standard error. A subscriber that is set already stays: the
/// embedding process decides.
pub(crate) fn init(filter: &str) -> Result<(), FilterError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| FilterError {
        reason: error.to_string(),
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
