//! Whether the directory that is open is still the one its path names, whole.
//!
//! A process goes on writing into a directory that was removed or renamed under it, and loses all
//! of it when it ends. Nothing but a look from outside tells.

use std::io;

use rustix::fs::{AtFlags, CWD, fstat, statat};
use rustix::io::Errno;

use super::RealRoot;

/// How a directory is no longer what its path names.
#[derive(Debug, thiserror::Error)]
pub enum Displaced {
    /// Nothing is at the path any more.
    #[error("the directory was removed or renamed")]
    Removed,
    /// Another directory, or something else, is at the path now.
    #[error("another directory is in its place")]
    Replaced,
    /// It is there, but something it holds is not.
    #[error("{name} was removed from the directory")]
    Missing {
        /// What.
        name: &'static str,
    },
    /// The kernel does not say.
    #[error("the directory cannot be looked at: {0}")]
    Unreadable(#[source] io::Error),
}

impl RealRoot {
    /// Compares the open directory with what its path names now, and looks for `names` in it.
    ///
    /// # Errors
    /// See [`Displaced`]; the first that is found.
    pub fn check_in_place(&self, names: &[&'static str]) -> Result<(), Displaced> {
        let unreadable = |errno: Errno| Displaced::Unreadable(errno.into());
        let own = fstat(self.fd()).map_err(unreadable)?;
        let found = match statat(CWD, self.path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(Displaced::Removed),
            Err(errno) => return Err(unreadable(errno)),
        };
        if (own.st_dev, own.st_ino) != (found.st_dev, found.st_ino) {
            return Err(Displaced::Replaced);
        }
        for name in names {
            match statat(self.fd(), *name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => {}
                Err(Errno::NOENT) => return Err(Displaced::Missing { name }),
                Err(errno) => return Err(unreadable(errno)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_removed_replaced_or_emptied_is_told_from_a_whole_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let root = RealRoot::open_or_create(&path).unwrap();
        std::fs::write(path.join("LOCK"), b"").unwrap();
        root.check_in_place(&["LOCK"]).unwrap();
        let missing = root.check_in_place(&["LOCK", "MANIFEST"]).unwrap_err();
        assert!(matches!(missing, Displaced::Missing { name: "MANIFEST" }));
        std::fs::rename(&path, parent.path().join("elsewhere")).unwrap();
        assert!(matches!(
            root.check_in_place(&[]).unwrap_err(),
            Displaced::Removed
        ));
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(
            root.check_in_place(&[]).unwrap_err(),
            Displaced::Replaced
        ));
    }
}
