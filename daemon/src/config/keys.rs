//! The table of settings: name, how a value is read into the settings, how it is shown.

use std::path::PathBuf;

use in_mem_model::Durability;
use toml::Value;

use super::{IoChoice, LogTo, OnPoison, Settings, codec, exports, observe, retention, snapshot};

/// Smallest reply queue, bytes: the largest frame cannot be required to fit, but a page must.
const REPLY_LEN_BYTES_MIN: u64 = 64 << 10;

/// Largest value of any time or count setting; keeps sums of them far from overflow.
const NUMBER_MAX: u64 = 1 << 40;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its name, with its section.
    pub(crate) name: &'static str,
    /// Reads a value into the settings.
    pub(crate) set: fn(&mut Settings, &Value) -> Result<(), ValueError>,
    /// The value as TOML; none if it is unset.
    pub(crate) show: fn(&Settings) -> Option<Value>,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    /// Another type.
    #[error("must be {expected}, but is {found}")]
    Type {
        /// What it must be.
        expected: &'static str,
        /// The type it has.
        found: &'static str,
    },
    /// A number outside the range.
    #[error("must be from {min} to {max}, but is {value}")]
    Range {
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
        /// The value.
        value: i64,
    },
    /// Not one of the words.
    #[error("must be one of {allowed}, but is `{value}`")]
    Word {
        /// The words, as text.
        allowed: &'static str,
        /// The value.
        value: String,
    },
    /// Not octal permission bits.
    #[error("must be octal permission bits such as \"0600\", but is `{value}`")]
    Mode {
        /// The value.
        value: String,
    },
    /// A relative path.
    #[error("must be an absolute path, but is `{value}`")]
    RelativePath {
        /// The value.
        value: String,
    },
    /// Not the text of a retention policy.
    #[error(
        "must be a retention policy such as \"keep-all\", \"keep-last 10\", \"keep-for 7d\" or \
         \"union(keep-last 10, keep-for 7d)\", but is `{value}`"
    )]
    Policy {
        /// The value.
        value: String,
    },
    /// Two settings that must differ do not.
    #[error("must differ from `{other}`")]
    SameAs {
        /// The other setting.
        other: &'static str,
    },
    /// A key for what is not encrypted.
    #[error("is named, and `codec` is \"{codec}\", which encrypts nothing")]
    NotEncrypting {
        /// The codec.
        codec: String,
    },
    /// A directory that must lie outside another does not.
    #[error("must lie outside `{other}`")]
    Inside {
        /// The other setting.
        other: &'static str,
    },
    /// Two settings contradict each other.
    #[error("must be at least `{other}`, {value}")]
    BelowOther {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: u64,
    },
}

macro_rules! number {
    ($name:literal, $($field:ident).+, $min:expr, $max:expr) => {
        Key {
            name: $name,
            set: |settings, value| {
                settings.$($field).+ = number(value, $min, $max)?;
                Ok(())
            },
            show: |settings| show_number(settings.$($field).+),
        }
    };
}

macro_rules! data_limit {
    ($name:literal, $field:ident) => {
        Key {
            name: $name,
            set: |settings, value| {
                let max = in_mem_model::Limits::DEFAULT.$field;
                let limit = number(value, 1, max as u64)?;
                settings.data_limits.$field = usize::try_from(limit).unwrap_or(max);
                Ok(())
            },
            show: |settings| {
                let limit = i64::try_from(settings.data_limits.$field);
                Some(Value::Integer(limit.unwrap_or(i64::MAX)))
            },
        }
    };
}

/// All settings, in the order they are printed.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        set: |settings, value| path(value).map(|path| settings.data_dir = path),
        show: |settings| Some(Value::String(settings.data_dir.display().to_string())),
    },
    exports::EXPORT_DIR,
    Key {
        name: "socket",
        set: |settings, value| path(value).map(|path| settings.socket = path),
        show: |settings| Some(Value::String(settings.socket.display().to_string())),
    },
    Key {
        name: "socket_mode",
        set: |settings, value| mode(value).map(|mode| settings.socket_mode = mode),
        show: |settings| Some(Value::String(format!("{:04o}", settings.socket_mode))),
    },
    Key {
        name: "socket_group",
        set: |settings, value| text(value).map(|group| settings.socket_group = Some(group)),
        show: |settings| settings.socket_group.clone().map(Value::String),
    },
    Key {
        name: "durability",
        set: |settings, value| durability(value).map(|mode| settings.durability = mode),
        show: |settings| {
            Some(Value::String(
                durability_name(settings.durability).to_owned(),
            ))
        },
    },
    codec::CODEC,
    codec::KEY_FILE,
    Key {
        name: "on_poison",
        set: |settings, value| on_poison(value).map(|choice| settings.on_poison = choice),
        show: |settings| {
            let word = match settings.on_poison {
                OnPoison::Serve => "serve",
                OnPoison::Exit => "exit",
            };
            Some(Value::String(word.to_owned()))
        },
    },
    Key {
        name: "io",
        set: |settings, value| io_choice(value).map(|choice| settings.io = choice),
        show: |settings| {
            let word = match settings.io {
                IoChoice::Auto => "auto",
                IoChoice::IoUring => "io_uring",
                IoChoice::Readiness => "readiness",
            };
            Some(Value::String(word.to_owned()))
        },
    },
    Key {
        name: "refuse_volatile_storage",
        set: |settings, value| flag(value).map(|flag| settings.refuse_volatile_storage = flag),
        show: |settings| Some(Value::Boolean(settings.refuse_volatile_storage)),
    },
    Key {
        name: "orphan_on_recovery",
        set: |settings, value| flag(value).map(|flag| settings.orphan_on_recovery = flag),
        show: |settings| Some(Value::Boolean(settings.orphan_on_recovery)),
    },
    Key {
        name: "log",
        set: |settings, value| text(value).map(|filter| settings.log = filter),
        show: |settings| Some(Value::String(settings.log.clone())),
    },
    observe::METRICS_SOCKET,
    observe::METRICS_SOCKET_MODE,
    observe::METRICS_SOCKET_GROUP,
    number!("slow_request_us", observe.slow_request_us, 0, NUMBER_MAX),
    Key {
        name: "log_to",
        set: |settings, value| log_to(value).map(|choice| settings.log_to = choice),
        show: |settings| {
            let word = match settings.log_to {
                LogTo::Auto => "auto",
                LogTo::Stderr => "stderr",
                LogTo::Journal => "journal",
            };
            Some(Value::String(word.to_owned()))
        },
    },
    number!(
        "buffered.flush_interval_ms",
        buffered.flush_interval_ms,
        1,
        3_600_000
    ),
    number!(
        "buffered.max_pending_writes",
        buffered.max_pending_writes,
        1,
        NUMBER_MAX
    ),
    number!(
        "wal.segment_len_bytes",
        wal.segment_len_bytes,
        64 << 10,
        (4 << 30) - 4096
    ),
    number!(
        "wal.buffered_sync_bytes",
        wal.buffered_sync_bytes,
        4096,
        NUMBER_MAX
    ),
    snapshot::AUTOMATIC,
    snapshot::LOG_LEN_BYTES_MIN,
    snapshot::LOG_FACTOR,
    snapshot::INTERVAL_MS,
    snapshot::POLL_MS,
    retention::DEFAULT,
    number!(
        "limits.connection_count_max",
        limits.connection_count_max,
        1,
        1 << 20
    ),
    number!(
        "limits.connection_count_per_user_max",
        limits.connection_count_per_user_max,
        1,
        1 << 20
    ),
    number!(
        "limits.in_flight_count_max",
        limits.in_flight_count_max,
        1,
        1 << 20
    ),
    number!(
        "limits.in_flight_len_bytes_max",
        limits.in_flight_len_bytes_max,
        4096,
        NUMBER_MAX
    ),
    number!(
        "limits.reply_len_bytes_max",
        limits.reply_len_bytes_max,
        REPLY_LEN_BYTES_MIN,
        NUMBER_MAX
    ),
    number!(
        "limits.reply_len_bytes_per_user_max",
        limits.reply_len_bytes_per_user_max,
        REPLY_LEN_BYTES_MIN,
        NUMBER_MAX
    ),
    number!(
        "limits.reply_total_len_bytes_max",
        limits.reply_total_len_bytes_max,
        REPLY_LEN_BYTES_MIN,
        NUMBER_MAX
    ),
    number!(
        "limits.gather_len_bytes_max",
        limits.gather_len_bytes_max,
        1 << 20,
        NUMBER_MAX
    ),
    number!(
        "limits.gather_len_bytes_per_user_max",
        limits.gather_len_bytes_per_user_max,
        1 << 20,
        NUMBER_MAX
    ),
    number!("limits.memory_max", limits.memory_max, 0, NUMBER_MAX),
    number!(
        "limits.disk_free_len_bytes_min",
        limits.disk_free_len_bytes_min,
        0,
        NUMBER_MAX
    ),
    number!(
        "limits.open_transaction_count_max",
        limits.open_transaction_count_max,
        1,
        1 << 16
    ),
    number!(
        "limits.open_transaction_count_per_user_max",
        limits.open_transaction_count_per_user_max,
        1,
        1 << 20
    ),
    number!(
        "limits.durable_wait_count_max",
        limits.durable_wait_count_max,
        0,
        1 << 20
    ),
    number!(
        "limits.durable_wait_count_per_user_max",
        limits.durable_wait_count_per_user_max,
        0,
        1 << 20
    ),
    number!(
        "limits.transaction_idle_ms",
        limits.transaction_idle_ms,
        1,
        NUMBER_MAX
    ),
    number!(
        "limits.transaction_total_ms",
        limits.transaction_total_ms,
        1,
        NUMBER_MAX
    ),
    number!(
        "limits.idle_timeout_ms",
        limits.idle_timeout_ms,
        0,
        NUMBER_MAX
    ),
    number!(
        "limits.frame_timeout_ms",
        limits.frame_timeout_ms,
        1,
        NUMBER_MAX
    ),
    number!(
        "limits.shutdown_timeout_ms",
        limits.shutdown_timeout_ms,
        1,
        NUMBER_MAX
    ),
    data_limit!("limits.key_len_bytes_max", key_len_bytes_max),
    data_limit!("limits.string_len_bytes_max", string_len_bytes_max),
    data_limit!("limits.bytes_len_bytes_max", bytes_len_bytes_max),
    data_limit!("limits.value_len_bytes_max", value_len_bytes_max),
    data_limit!("limits.array_count_max", array_count_max),
    data_limit!("limits.object_count_max", object_count_max),
    data_limit!("limits.node_count_max", node_count_max),
    data_limit!("limits.depth_max", depth_max),
    data_limit!("limits.run_name_len_bytes_max", run_name_len_bytes_max),
    data_limit!(
        "limits.transaction_mutation_count_max",
        transaction_mutation_count_max
    ),
    data_limit!(
        "limits.transaction_len_bytes_max",
        transaction_len_bytes_max
    ),
    Key {
        name: "access.users",
        set: |settings, value| texts(value).map(|users| settings.access.users = users),
        show: |settings| Some(list(&settings.access.users)),
    },
    Key {
        name: "access.groups",
        set: |settings, value| texts(value).map(|groups| settings.access.groups = groups),
        show: |settings| Some(list(&settings.access.groups)),
    },
];

/// Whether a table of this name holds settings.
pub(super) fn is_section(name: &str) -> bool {
    let section = |key: &Key| {
        key.name
            .split_once('.')
            .is_some_and(|(first, _)| first == name)
    };
    KEYS.iter().any(section)
}

/// Relations between settings.
pub(super) fn check_relations(settings: &Settings) -> Result<(), (&'static str, ValueError)> {
    if settings.observe.metrics_socket.as_ref() == Some(&settings.socket) {
        return Err(("metrics_socket", ValueError::SameAs { other: "socket" }));
    }
    exports::check(settings)?;
    if settings.wal.segment_len_bytes < settings.wal.buffered_sync_bytes {
        let other = "wal.buffered_sync_bytes";
        let value = settings.wal.buffered_sync_bytes;
        return Err((
            "wal.segment_len_bytes",
            ValueError::BelowOther { other, value },
        ));
    }
    Ok(())
}

/// The word of a durability in the configuration.
#[must_use]
pub(crate) fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::InMemory => "in_memory",
        Durability::Buffered => "buffered",
        Durability::Strict => "strict",
    }
}

fn durability(value: &Value) -> Result<Durability, ValueError> {
    match text(value)?.as_str() {
        "in_memory" => Ok(Durability::InMemory),
        "buffered" => Ok(Durability::Buffered),
        "strict" => Ok(Durability::Strict),
        other => Err(ValueError::Word {
            allowed: "\"strict\", \"buffered\", \"in_memory\"",
            value: other.to_owned(),
        }),
    }
}

fn on_poison(value: &Value) -> Result<OnPoison, ValueError> {
    match text(value)?.as_str() {
        "serve" => Ok(OnPoison::Serve),
        "exit" => Ok(OnPoison::Exit),
        other => Err(ValueError::Word {
            allowed: "\"serve\", \"exit\"",
            value: other.to_owned(),
        }),
    }
}

fn log_to(value: &Value) -> Result<LogTo, ValueError> {
    match text(value)?.as_str() {
        "auto" => Ok(LogTo::Auto),
        "stderr" => Ok(LogTo::Stderr),
        "journal" => Ok(LogTo::Journal),
        other => Err(ValueError::Word {
            allowed: "\"auto\", \"stderr\", \"journal\"",
            value: other.to_owned(),
        }),
    }
}

fn io_choice(value: &Value) -> Result<IoChoice, ValueError> {
    match text(value)?.as_str() {
        "auto" => Ok(IoChoice::Auto),
        "io_uring" => Ok(IoChoice::IoUring),
        "readiness" => Ok(IoChoice::Readiness),
        other => Err(ValueError::Word {
            allowed: "\"auto\", \"io_uring\", \"readiness\"",
            value: other.to_owned(),
        }),
    }
}

pub(super) fn flag(value: &Value) -> Result<bool, ValueError> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        other => Err(ValueError::Type {
            expected: "true or false",
            found: other.type_str(),
        }),
    }
}

pub(super) fn text(value: &Value) -> Result<String, ValueError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(ValueError::Type {
            expected: "a string",
            found: other.type_str(),
        }),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, ValueError> {
    let wrong = |found| ValueError::Type {
        expected: "a list of strings",
        found,
    };
    let Value::Array(items) = value else {
        return Err(wrong(value.type_str()));
    };
    items
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(text.clone()),
            // A bare number is a user or group id.
            Value::Integer(id) => Ok(id.to_string()),
            other => Err(wrong(other.type_str())),
        })
        .collect()
}

/// A number as it is written in the file.
pub(super) fn show_number(number: u64) -> Option<Value> {
    Some(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn list(items: &[String]) -> Value {
    Value::Array(items.iter().cloned().map(Value::String).collect())
}

pub(super) fn path(value: &Value) -> Result<PathBuf, ValueError> {
    let text = text(value)?;
    let path = PathBuf::from(&text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(ValueError::RelativePath { value: text })
    }
}

pub(super) fn mode(value: &Value) -> Result<u32, ValueError> {
    let text = text(value)?;
    match u32::from_str_radix(&text, 8) {
        // Never open to everyone, never without the owner: group access is the widest there is.
        Ok(mode) if mode & !0o770 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err(ValueError::Mode { value: text }),
    }
}

pub(super) fn number(value: &Value, min: u64, max: u64) -> Result<u64, ValueError> {
    let Value::Integer(value) = value else {
        return Err(ValueError::Type {
            expected: "a number",
            found: value.type_str(),
        });
    };
    match u64::try_from(*value) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(ValueError::Range {
            min,
            max,
            value: *value,
        }),
    }
}
