//! The configuration file: TOML, flattened into named values.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::Origin;
use super::keys::is_section;
use super::places::SYSTEM_FILE;

/// Largest configuration file, bytes.
const FILE_LEN_BYTES_MAX: usize = 1 << 20;

/// One value of the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: toml::Value,
    pub(super) origin: Origin,
}

/// Why the configuration file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It is larger than a configuration can be.
    #[error("{} is larger than {FILE_LEN_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML.
    #[error("{} is not valid TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
}

/// Reads a named file, or the system's if there is one.
pub(super) fn read(named: Option<PathBuf>) -> Result<Vec<Entry>, FileError> {
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| PathBuf::from(SYSTEM_FILE));
    let text = match read_text(&path) {
        Err(FileError::Read { source, .. })
            if !is_named && source.kind() == io::ErrorKind::NotFound =>
        {
            return Ok(Vec::new());
        }
        text => text?,
    };
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| FileError::Syntax {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    let mut entries = Vec::new();
    flatten("", table, &Origin::File(path), &mut entries);
    Ok(entries)
}

/// Tables become dotted names, the one level the settings have.
fn flatten(prefix: &str, table: toml::Table, origin: &Origin, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(table) if prefix.is_empty() && is_section(&name) => {
                flatten(&format!("{name}."), table, origin, entries);
            }
            value => entries.push(Entry {
                name,
                value,
                origin: origin.clone(),
            }),
        }
    }
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let failed = |source: io::Error| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let descriptor = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    let mut bytes = vec![0; FILE_LEN_BYTES_MAX + 1];
    let mut len_bytes = 0;
    loop {
        let room = bytes.get_mut(len_bytes..).unwrap_or_default();
        if room.is_empty() {
            return Err(FileError::TooLarge {
                path: path.to_owned(),
            });
        }
        match rustix::io::read(&descriptor, room) {
            Ok(0) => break,
            Ok(count) => len_bytes += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    bytes.truncate(len_bytes);
    String::from_utf8(bytes).map_err(|_| FileError::Syntax {
        path: path.to_owned(),
        reason: "it is not UTF-8".to_owned(),
    })
}
