//! What a configuration that is read again changes, and which of it can change without a restart.

use super::keys::KEYS;
use super::{Configuration, Settings};

/// Settings that take effect while requests are served.
const LIVE: [&str; 28] = [
    "log",
    "slow_request_us",
    "checkpoint.automatic",
    "checkpoint.log_len_bytes_min",
    "checkpoint.log_factor",
    "checkpoint.interval_ms",
    "checkpoint.poll_ms",
    "retention.default",
    "limits.connection_count_max",
    "limits.in_flight_count_max",
    "limits.in_flight_len_bytes_max",
    "limits.reply_len_bytes_max",
    "limits.reply_len_bytes_per_user_max",
    "limits.reply_total_len_bytes_max",
    "limits.gather_len_bytes_max",
    "limits.gather_len_bytes_per_user_max",
    "limits.open_transaction_count_max",
    "limits.open_transaction_count_per_user_max",
    "limits.connection_count_per_user_max",
    "limits.durable_wait_count_max",
    "limits.durable_wait_count_per_user_max",
    "limits.idle_timeout_ms",
    "limits.disk_free_len_bytes_min",
    "limits.transaction_idle_ms",
    "limits.transaction_total_ms",
    "limits.frame_timeout_ms",
    "access.users",
    "access.groups",
];

/// The names of settings that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// They take effect at once.
    pub(crate) live: Vec<&'static str>,
    /// They take effect with the next start.
    pub(crate) at_restart: Vec<&'static str>,
}

/// How `new` differs from what is in force.
fn changes(in_force: &Settings, new: &Settings) -> Changes {
    let differing = KEYS
        .iter()
        .filter(|key| (key.show)(in_force) != (key.show)(new))
        .map(|key| key.name);
    let (live, at_restart) = differing.partition(|name| LIVE.contains(name));
    Changes { live, at_restart }
}

impl Configuration {
    /// Takes over what can change while requests are served, with where it came from. The rest
    /// stays as it is in force, and is told again at every reading until it is.
    pub(crate) fn adopt(&mut self, fresh: &Self) -> Changes {
        let changes = changes(&self.settings, &fresh.settings);
        for key in KEYS.iter().filter(|key| LIVE.contains(&key.name)) {
            // What is shown can be read: a printed configuration is one.
            let is_set = (key.show)(&fresh.settings)
                .is_some_and(|value| (key.set)(&mut self.settings, &value).is_ok());
            debug_assert!(is_set, "{} has a value", key.name);
            match fresh.origins.get(key.name) {
                Some(origin) => self.origins.insert(key.name, origin.clone()),
                None => self.origins.remove(key.name),
            };
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_setting_is_one_and_is_told_from_those_that_need_a_restart() {
        for name in LIVE {
            assert!(KEYS.iter().any(|key| key.name == name), "{name}");
        }
        let in_force = Settings::default();
        assert_eq!(changes(&in_force, &in_force), Changes::default());
        let mut new = in_force.clone();
        new.log = "debug".to_owned();
        new.limits.transaction_idle_ms += 1;
        new.limits.shutdown_timeout_ms += 1;
        new.socket = "/elsewhere".into();
        let changes = changes(&in_force, &new);
        assert_eq!(changes.live, ["log", "limits.transaction_idle_ms"]);
        assert_eq!(changes.at_restart, ["socket", "limits.shutdown_timeout_ms"]);
    }
}
