//! Configuration: what the daemon is told, by whom, and what it is then.
//!
//! A setting has one name (`limits.connection_count_max`) in the file, in error messages and in
//! the printed configuration. Its value comes from the first of: a flag, the environment, the
//! configuration file, systemd's directories, the built-in default. An unknown name is refused,
//! naming the nearest known one; nothing is guessed or clamped.

mod changes;
mod codec;
mod exports;
mod file;
mod keys;
mod nearest;
mod observe;
mod places;
mod principals;
mod retention;
mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use in_mem_model::Durability;

pub(crate) use changes::Changes;
pub(crate) use file::FileError;
pub(crate) use keys::ValueError;
pub(crate) use keys::durability_name;
pub(crate) use observe::{DescribedSetting, Observe};
pub(crate) use principals::Principals;
pub(crate) use principals::group_id;
pub(crate) use retention::Retention;
pub(crate) use snapshot::Snapshot;

/// What a write failure of the log does to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnPoison {
    /// Go on answering reads; every write is refused.
    Serve,
    /// Exit, so that a supervisor restarts and recovers.
    Exit,
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogTo {
    /// To the journal when the service manager connected standard error to it, else as text.
    Auto,
    /// To standard error, as text.
    Stderr,
    /// To the journal, with its fields.
    Journal,
}

/// How sockets and the log are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoChoice {
    /// io_uring, and what does without it where the kernel refuses.
    Auto,
    /// io_uring; the daemon does not start without it.
    IoUring,
    /// Readiness for the sockets and plain calls for the log, also where io_uring would do.
    Readiness,
}

/// Every setting, typed and checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Directory of the database.
    pub(crate) data_dir: PathBuf,
    /// Directory that clients may have exports made in, under plain names; none refuses them.
    pub(crate) export_dir: Option<PathBuf>,
    /// Path of the listening socket.
    pub(crate) socket: PathBuf,
    /// Permission bits of the socket.
    pub(crate) socket_mode: u32,
    /// Group the socket is given to, by name or number.
    pub(crate) socket_group: Option<String>,
    /// Durability of a write that asks for none.
    pub(crate) durability: Durability,
    /// What the data is stored with, for life.
    pub(crate) codec: String,
    /// The file of the codec's key.
    pub(crate) key_file: Option<PathBuf>,
    /// What a poisoned log does to the process.
    pub(crate) on_poison: OnPoison,
    /// How sockets and the log are driven.
    pub(crate) io: IoChoice,
    /// A data directory that does not survive a restart of the machine or container (tmpfs,
    /// overlayfs) is refused instead of named, unless nothing is to be durable.
    pub(crate) refuse_volatile_storage: bool,
    /// Every run recovered as Active reports Orphaned, also without a recorded owner.
    pub(crate) orphan_on_recovery: bool,
    /// Filter of the log.
    pub(crate) log: String,
    /// Who may look inside, and how.
    pub(crate) observe: Observe,
    /// Where the log goes.
    pub(crate) log_to: LogTo,
    /// When Buffered commits are synced.
    pub(crate) buffered: Buffered,
    /// The log's files.
    pub(crate) wal: Wal,
    /// When a snapshot is taken without being asked for.
    pub(crate) snapshot: Snapshot,
    /// Which old versions may go.
    pub(crate) retention: Retention,
    /// What a client may use up.
    pub(crate) limits: Limits,
    /// What a key, a value, a run name and a transaction may be, also under `[limits]`.
    pub(crate) data_limits: in_mem_model::Limits,
    /// Who may connect.
    pub(crate) access: Access,
}

/// `[buffered]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buffered {
    /// Longest time a Buffered commit waits for its sync, milliseconds.
    pub(crate) flush_interval_ms: u64,
    /// Unsynced Buffered commits that start a sync.
    pub(crate) max_pending_writes: u64,
}

/// `[wal]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wal {
    /// Size of one segment, bytes.
    pub(crate) segment_len_bytes: u64,
    /// Unsynced bytes that start a sync.
    pub(crate) buffered_sync_bytes: u64,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections at once; beyond, they are closed with the reason. Where descriptors are short,
    /// fewer; then clients wait in the backlog.
    pub(crate) connection_count_max: u64,
    /// Connections of one user at once; beyond, they are closed with the reason.
    pub(crate) connection_count_per_user_max: u64,
    /// Requests of one connection that are not answered yet; beyond, its socket is not read.
    pub(crate) in_flight_count_max: u64,
    /// Bytes of requests of one connection that are not answered yet; beyond, its socket is not
    /// read.
    pub(crate) in_flight_len_bytes_max: u64,
    /// Replies one connection has not read; beyond, its socket is not read.
    pub(crate) reply_len_bytes_max: u64,
    /// Replies of all connections of one user that are not read, or being made, bytes; beyond,
    /// requests for more wait, and are refused in the end. A larger reply is refused.
    pub(crate) reply_len_bytes_per_user_max: u64,
    /// The same of all users together; beyond, it holds back those that have more than an equal
    /// part.
    pub(crate) reply_total_len_bytes_max: u64,
    /// Frames above 32 KiB on their way in or being handled, of all connections together; beyond,
    /// their sockets are not read. One frame of any size of each user always fits.
    pub(crate) gather_len_bytes_max: u64,
    /// The same of one user.
    pub(crate) gather_len_bytes_per_user_max: u64,
    /// Memory the data may take, bytes, by its own account of keys and versions; 0 for no limit.
    /// Beyond, writes that grow it are refused.
    pub(crate) memory_max: u64,
    /// What has to be free on the disk of the data directory, bytes; 0 for nothing. Below it,
    /// logged writes that grow the data are refused.
    pub(crate) disk_free_len_bytes_min: u64,
    /// Open transactions of one connection.
    pub(crate) open_transaction_count_max: u64,
    /// Open transactions of all connections of one user.
    pub(crate) open_transaction_count_per_user_max: u64,
    /// Requests that wait for commits to be durable, of all connections together; beyond, they are
    /// refused.
    pub(crate) durable_wait_count_max: u64,
    /// The same of one user.
    pub(crate) durable_wait_count_per_user_max: u64,
    /// How long an open transaction may rest between requests, milliseconds.
    pub(crate) transaction_idle_ms: u64,
    /// How long a transaction may be open, milliseconds.
    pub(crate) transaction_total_ms: u64,
    /// How long a connection may rest on which nothing is in flight, no transaction is open and
    /// nothing is subscribed, milliseconds; 0 for ever.
    pub(crate) idle_timeout_ms: u64,
    /// How long a frame or the hello may take to arrive, milliseconds.
    pub(crate) frame_timeout_ms: u64,
    /// How long a stop waits for what is in flight, milliseconds.
    pub(crate) shutdown_timeout_ms: u64,
}

/// `[access]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// Users that may connect, by name or number, beside this process's own and root.
    pub(crate) users: Vec<String>,
    /// Groups whose members may connect, by name or number; the peer's primary group counts.
    pub(crate) groups: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: places::default_data_dir(),
            export_dir: None,
            socket: places::default_socket(),
            socket_mode: 0o600,
            socket_group: None,
            durability: Durability::Strict,
            codec: in_mem_wal::IdentityCodec::ID.to_owned(),
            key_file: None,
            on_poison: OnPoison::Serve,
            io: IoChoice::Auto,
            refuse_volatile_storage: false,
            orphan_on_recovery: false,
            log: "info".to_owned(),
            observe: Observe::default(),
            log_to: LogTo::Auto,
            buffered: Buffered {
                flush_interval_ms: 100,
                max_pending_writes: 1_000,
            },
            wal: Wal {
                segment_len_bytes: 64 << 20,
                buffered_sync_bytes: 4 << 20,
            },
            snapshot: Snapshot::default(),
            retention: Retention::default(),
            limits: Limits::default(),
            data_limits: in_mem_model::Limits::DEFAULT,
            access: Access {
                users: Vec::new(),
                groups: Vec::new(),
            },
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection_count_max: 10_000,
            connection_count_per_user_max: 10_000,
            in_flight_count_max: 1_024,
            // One largest batch and as much again behind it.
            in_flight_len_bytes_max: 2 * u64::from(in_mem_ipc::frame::FRAME_LEN_BYTES_MAX),
            reply_len_bytes_max: 1 << 20,
            reply_len_bytes_per_user_max: 256 << 20,
            reply_total_len_bytes_max: 512 << 20,
            gather_len_bytes_max: 512 << 20,
            gather_len_bytes_per_user_max: 256 << 20,
            memory_max: 0,
            // One segment of the log, so that the next one can be made.
            disk_free_len_bytes_min: 64 << 20,
            open_transaction_count_max: 64,
            open_transaction_count_per_user_max: 4_096,
            durable_wait_count_max: 16_384,
            durable_wait_count_per_user_max: 8_192,
            transaction_idle_ms: 30_000,
            transaction_total_ms: 300_000,
            idle_timeout_ms: 0,
            frame_timeout_ms: 30_000,
            shutdown_timeout_ms: 10_000,
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// A directory systemd made for the service.
    Systemd(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Systemd(name) | Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value given outside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// Name of the setting.
    pub(crate) name: &'static str,
    /// Its text.
    pub(crate) text: String,
    /// Who gave it.
    pub(crate) origin: Origin,
}

/// The settings in force and the origin of each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Configuration {
    /// The values.
    pub(crate) settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read or is no TOML.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that is no setting.
    #[error("{origin}: unknown setting `{name}`; the nearest known one is `{nearest}`")]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The name as written.
        name: String,
        /// The known name that is most like it.
        nearest: &'static str,
    },
    /// A value its setting cannot have.
    #[error("{origin}: `{name}` {source}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        source: ValueError,
    },
    /// A user or group that does not exist.
    #[error("`{name}`: there is no {what} `{value}`")]
    UnknownPrincipal {
        /// The setting.
        name: &'static str,
        /// `user` or `group`.
        what: &'static str,
        /// As written.
        value: String,
    },
}

impl Configuration {
    /// Puts a configuration together. `file` is read if given; otherwise the system's, if it
    /// exists. Later entries of `given` win over earlier ones, and all over the file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn load(file: Option<PathBuf>, given: &[Given]) -> Result<Self, ConfigError> {
        let mut this = Self {
            settings: Settings::default(),
            origins: BTreeMap::new(),
        };
        let (systemd, given): (Vec<_>, Vec<_>) = given
            .iter()
            .partition(|value| matches!(value.origin, Origin::Systemd(_)));
        for value in systemd {
            this.apply_text(value)?;
        }
        for entry in file::read(file)? {
            this.apply(&entry.name, &entry.value, &entry.origin)?;
        }
        for value in given {
            this.apply_text(value)?;
        }
        let origin_of = |name| this.origins.get(name).cloned().unwrap_or(Origin::Default);
        let key_file = codec::check_key_file(&this.settings, &origin_of("key_file"));
        keys::check_relations(&this.settings)
            .and(key_file.map_err(|source| ("key_file", source)))
            .map_err(|(name, source)| ConfigError::Value {
                origin: origin_of(name),
                name,
                source,
            })?;
        Ok(this)
    }

    /// Whether nobody has named the socket.
    pub(crate) fn is_socket_default(&self) -> bool {
        !self.origins.contains_key("socket")
    }

    /// One line for each setting: name, value, origin. Reads as TOML.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in keys::KEYS {
            let (this_section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if this_section != section {
                text.push_str(&format!("\n[{this_section}]\n"));
                section = this_section;
            }
            let origin = self.origins.get(key.name).unwrap_or(&Origin::Default);
            let value = (key.show)(&self.settings);
            // An unset value cannot be written in TOML: it is shown as a comment.
            let unset = if value.is_some() { "" } else { "# " };
            let value = value.unwrap_or_else(|| toml::Value::String(String::new()));
            text.push_str(&format!("{unset}{name} = {value}  # {origin}\n"));
        }
        text
    }

    fn apply_text(&mut self, given: &Given) -> Result<(), ConfigError> {
        self.apply(
            given.name,
            &toml::Value::String(given.text.clone()),
            &given.origin,
        )
    }

    fn apply(
        &mut self,
        name: &str,
        value: &toml::Value,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        let Some(key) = keys::KEYS.iter().find(|key| key.name == name) else {
            let nearest = nearest::nearest(name, keys::KEYS.iter().map(|key| key.name));
            let name = name.to_owned();
            return Err(ConfigError::UnknownKey {
                origin: origin.clone(),
                name,
                nearest,
            });
        };
        (key.set)(&mut self.settings, value).map_err(|source| ConfigError::Value {
            origin: origin.clone(),
            name: key.name,
            source,
        })?;
        self.origins.insert(key.name, origin.clone());
        Ok(())
    }
}
