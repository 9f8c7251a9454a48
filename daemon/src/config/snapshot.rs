//! The settings of snapshots: when the daemon takes one by itself.

use toml::Value;

use super::keys::{Key, flag, number, show_number};

/// Largest size, bytes.
const LEN_BYTES_MAX: u64 = 1 << 40;

/// Largest time, milliseconds.
const MS_MAX: u64 = 1 << 40;

/// `[checkpoint]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Take checkpoints by itself, each followed by a compaction of the log.
    pub(crate) automatic: bool,
    /// No checkpoint for a shorter log behind the newest snapshot, bytes.
    pub(crate) log_len_bytes_min: u64,
    /// The log has to be longer than so many times the newest snapshot.
    pub(crate) log_factor: u64,
    /// A checkpoint also when the newest snapshot is older, milliseconds; 0 for never.
    pub(crate) interval_ms: u64,
    /// Between two looks while commits are logged, milliseconds.
    pub(crate) poll_ms: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            automatic: true,
            log_len_bytes_min: 256 << 20,
            log_factor: 4,
            interval_ms: 0,
            poll_ms: 60_000,
        }
    }
}

pub(super) const AUTOMATIC: Key = Key {
    name: "checkpoint.automatic",
    set: |settings, value| flag(value).map(|flag| settings.snapshot.automatic = flag),
    show: |settings| Some(Value::Boolean(settings.snapshot.automatic)),
};

pub(super) const LOG_LEN_BYTES_MIN: Key = Key {
    name: "checkpoint.log_len_bytes_min",
    set: |settings, value| {
        settings.snapshot.log_len_bytes_min = number(value, 0, LEN_BYTES_MAX)?;
        Ok(())
    },
    show: |settings| show_number(settings.snapshot.log_len_bytes_min),
};

pub(super) const LOG_FACTOR: Key = Key {
    name: "checkpoint.log_factor",
    set: |settings, value| {
        settings.snapshot.log_factor = number(value, 1, 1_000_000)?;
        Ok(())
    },
    show: |settings| show_number(settings.snapshot.log_factor),
};

pub(super) const INTERVAL_MS: Key = Key {
    name: "checkpoint.interval_ms",
    set: |settings, value| {
        settings.snapshot.interval_ms = number(value, 0, MS_MAX)?;
        Ok(())
    },
    show: |settings| show_number(settings.snapshot.interval_ms),
};

pub(super) const POLL_MS: Key = Key {
    name: "checkpoint.poll_ms",
    set: |settings, value| {
        settings.snapshot.poll_ms = number(value, 1, MS_MAX)?;
        Ok(())
    },
    show: |settings| show_number(settings.snapshot.poll_ms),
};
