//! The settings of retention: what holds for runs without a policy of their own.

use in_mem_model::RetentionPolicy;
use toml::Value;

use super::keys::{Key, ValueError, text};

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Retention {
    /// What holds for runs without a policy of their own.
    pub(crate) default: RetentionPolicy,
}

pub(super) const DEFAULT: Key = Key {
    name: "retention.default",
    set: |settings, value| {
        let text = text(value)?;
        let policy = text.parse();
        settings.retention.default = policy.map_err(|_| ValueError::Policy { value: text })?;
        Ok(())
    },
    show: |settings| Some(Value::String(settings.retention.default.to_string())),
};
