//! The settings of what shows the inside: the metrics socket and the log of slow requests.

use std::path::PathBuf;

use toml::Value;

use super::keys::{KEYS, Key, mode, path, text};
use super::{ConfigError, Configuration, Origin};

/// Top-level settings about looking inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observe {
    /// Path of a second socket that gives the metrics to whoever connects.
    pub(crate) metrics_socket: Option<PathBuf>,
    /// Permission bits of that socket.
    pub(crate) metrics_socket_mode: u32,
    /// Group that socket is given to, by name or number.
    pub(crate) metrics_socket_group: Option<String>,
    /// Requests that take longer are written to the log, microseconds; 0 for none.
    pub(crate) slow_request_us: u64,
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            metrics_socket: None,
            metrics_socket_mode: 0o600,
            metrics_socket_group: None,
            slow_request_us: 0,
        }
    }
}

impl Observe {
    /// The number of the group of the metrics socket.
    ///
    /// # Errors
    /// A group that does not exist.
    pub(crate) fn group_id(&self) -> Result<Option<u32>, ConfigError> {
        let group = self.metrics_socket_group.as_deref();
        group
            .map(|group| super::group_id("metrics_socket_group", group))
            .transpose()
    }
}

/// One setting as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedSetting {
    /// Its name, with its section.
    pub(crate) name: &'static str,
    /// Its value as TOML; none if it is unset.
    pub(crate) value: Option<String>,
    /// Where it came from.
    pub(crate) origin: String,
}

impl Configuration {
    /// Every setting, in the order in which they are printed.
    pub(crate) fn described(&self) -> Vec<DescribedSetting> {
        let described = |key: &Key| DescribedSetting {
            name: key.name,
            value: (key.show)(&self.settings).map(|value| value.to_string()),
            origin: self
                .origins
                .get(key.name)
                .unwrap_or(&Origin::Default)
                .to_string(),
        };
        KEYS.iter().map(described).collect()
    }
}

pub(super) const METRICS_SOCKET: Key = Key {
    name: "metrics_socket",
    set: |settings, value| path(value).map(|path| settings.observe.metrics_socket = Some(path)),
    show: |settings| {
        let path = settings.observe.metrics_socket.as_ref()?;
        Some(Value::String(path.display().to_string()))
    },
};

pub(super) const METRICS_SOCKET_MODE: Key = Key {
    name: "metrics_socket_mode",
    set: |settings, value| mode(value).map(|mode| settings.observe.metrics_socket_mode = mode),
    show: |settings| {
        let mode = settings.observe.metrics_socket_mode;
        Some(Value::String(format!("{mode:04o}")))
    },
};

pub(super) const METRICS_SOCKET_GROUP: Key = Key {
    name: "metrics_socket_group",
    set: |settings, value| {
        text(value).map(|group| settings.observe.metrics_socket_group = Some(group))
    },
    show: |settings| {
        let group = settings.observe.metrics_socket_group.clone();
        group.map(Value::String)
    },
};
