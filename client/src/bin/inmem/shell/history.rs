//! Lines typed before: `inmem/history` below the state directory of the user.
//!
//! The file has mode 0600, because a line is kept as it was typed, values included. A line that
//! begins with a space, and one longer than most that are typed, is not kept. Each line is added
//! when it was typed, so shells that run at the same time add to one file. A file that cannot be
//! used costs the history and nothing else.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Editor;

/// Lines kept at most.
pub(super) const LINE_COUNT_MAX: usize = 1_000;

/// Longest line kept, bytes: beyond this it is data, and not something to be said again.
const LINE_LEN_BYTES_MAX: usize = 4 << 10;

/// The file of the history.
pub(super) struct HistoryFile {
    path: PathBuf,
}

impl HistoryFile {
    /// Opens the file, or says why there is no history.
    pub(super) fn open(editor: &mut Editor) -> Option<Self> {
        let state_home = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = env::home_dir();
        let path = path(state_home, home)?;
        let opened = make_private(&path).and_then(|()| {
            let loaded = editor.load_history(&path);
            loaded.map_err(|error| io::Error::other(error.to_string()))
        });
        if let Err(error) = opened {
            let _ = writeln!(
                io::stderr(),
                "no history is kept: {}: {error}",
                path.display()
            );
            return None;
        }
        Some(Self { path })
    }

    /// Keeps a line.
    pub(super) fn keep(&self, editor: &mut Editor, line: &str) {
        if LINE_LEN_BYTES_MAX < line.len() || line.trim().is_empty() {
            return;
        }
        // A history that cannot be kept any more is no reason to stop.
        if let Ok(true) = editor.add_history_entry(line) {
            let _ = editor.append_history(&self.path);
        }
    }
}

/// Where the history is. A state directory that is not absolute does not count.
fn path(state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let state = state_home
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| home.join(".local/state")))?;
    Some(state.join("inmem/history"))
}

/// Makes the file and the directories above it, for their owner only.
fn make_private(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_in_the_state_directory_of_the_user() {
        let said = |state: Option<&str>, home: Option<&str>| {
            path(state.map(PathBuf::from), home.map(PathBuf::from))
        };
        assert_eq!(
            said(Some("/s"), Some("/h")),
            Some("/s/inmem/history".into())
        );
        for state in [None, Some(""), Some("relative")] {
            let expected = Some("/h/.local/state/inmem/history".into());
            assert_eq!(said(state, Some("/h")), expected, "{state:?}");
        }
        assert_eq!(said(None, None), None);
    }
}
