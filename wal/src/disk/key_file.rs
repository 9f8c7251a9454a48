//! The file a key comes from: opened once, checked by its descriptor, read into memory that is
//! wiped. It is no file of a database, and lies elsewhere.
//!
//! It must be a regular file of this user or of root that others can neither read nor write. Where a
//! service manager hands a credential over by an access list, its mode shows a group that may read:
//! that is let pass where both the owner and that group are root's.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::{Errno, read, retry_on_intr};
use zeroize::Zeroizing;

use crate::codec::{CodecKey, KeyFormatError};

/// One byte more than the longest key with its line end: whatever is longer is no key.
const CONTENT_LEN_BYTES_MAX: usize = 64 + 2 + 1;

/// What nobody but the owner may have of a key file: all of its group's and everybody's bits.
const FORBIDDEN_BITS: u32 = 0o077;

/// Reading by the group.
const GROUP_READ_BIT: u32 = 0o040;

/// Why no key was read. None of its texts shows a byte of the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It could not be opened or read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("the key file {} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to somebody else than this process's user and root.
    #[error(
        "the key file {} belongs to user {owner}, and this process is user {user}: give it to that \
         user",
        path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our effective user.
        user: u32,
    },
    /// Others may read or write it.
    #[error(
        "the key file {} is open to others (mode {mode:04o}): chmod 0400 it, and think of the key \
         as known",
        path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its bytes are no key.
    #[error("the key file {} holds no key: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: KeyFormatError,
    },
}

/// Reads a key: 32 bytes, or 64 hexadecimal digits and at most one line end. A link is followed: it
/// is the caller who names the file, and what it leads to is checked.
///
/// # Errors
/// See [`KeyFileError`].
pub fn read_key_file(path: &Path) -> Result<CodecKey, KeyFileError> {
    let failed = |errno: Errno| KeyFileError::Io {
        path: path.to_owned(),
        source: errno.into(),
    };
    // A pipe without a writer must not hold anybody up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = retry_on_intr(|| openat(CWD, path, flags, Mode::empty())).map_err(failed)?;
    check(path, &fstat(&fd).map_err(failed)?)?;
    let mut content = Zeroizing::new([0; CONTENT_LEN_BYTES_MAX]);
    let mut len_bytes = 0;
    while let Some(room) = content.get_mut(len_bytes..).filter(|room| !room.is_empty()) {
        match retry_on_intr(|| read(&fd, &mut *room)).map_err(failed)? {
            0 => break,
            count => len_bytes += count,
        }
    }
    let content = content.get(..len_bytes).unwrap_or_default();
    CodecKey::parse(content).map_err(|source| KeyFileError::Format {
        path: path.to_owned(),
        source,
    })
}

fn check(path: &Path, stat: &Stat) -> Result<(), KeyFileError> {
    let path = path.to_owned();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(KeyFileError::NotAFile { path });
    }
    let user = rustix::process::geteuid().as_raw();
    let owner = stat.st_uid;
    if owner != user && owner != 0 {
        return Err(KeyFileError::NotOurs { path, owner, user });
    }
    let mode = stat.st_mode & 0o7777;
    let is_roots = owner == 0 && stat.st_gid == 0;
    let allowed = if is_roots { GROUP_READ_BIT } else { 0 };
    match mode & FORBIDDEN_BITS & !allowed {
        0 => Ok(()),
        _ => Err(KeyFileError::OpenToOthers { path, mode }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("key");
        std::fs::write(&path, content).expect("writes");
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("sets");
        (scratch, path)
    }

    #[test]
    fn a_key_is_read_from_a_file_of_its_owner_alone() {
        let bytes = [0x11; 32];
        for mode in [0o400, 0o600, 0o700] {
            let (_scratch, path) = file(&bytes, mode);
            assert_eq!(read_key_file(&path).unwrap(), CodecKey::from_bytes(&bytes));
        }
        let (_scratch, path) = file("11".repeat(32).as_bytes(), 0o600);
        assert_eq!(read_key_file(&path).unwrap(), CodecKey::from_bytes(&bytes));
    }

    #[test]
    fn a_key_file_open_to_others_is_refused_whoever_owns_it() {
        for mode in [0o604, 0o602, 0o601, 0o620, 0o610, 0o644, 0o666] {
            let (_scratch, path) = file(&[1; 32], mode);
            let error = read_key_file(&path).unwrap_err();
            assert!(
                matches!(error, KeyFileError::OpenToOthers { mode: found, .. } if found == mode),
                "{mode:o}: {error}"
            );
        }
        // By its group: only root's, of a file of root's.
        let (_scratch, path) = file(&[1; 32], 0o440);
        let stat = rustix::fs::stat(&path).unwrap();
        let is_roots = stat.st_uid == 0 && stat.st_gid == 0;
        assert_eq!(read_key_file(&path).is_ok(), is_roots);
    }

    #[test]
    fn a_key_file_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (_scratch, path) = file(&[1; 32], 0o600);
        std::os::unix::fs::chown(&path, Some(12_345), None).expect("gives away");
        let error = read_key_file(&path).unwrap_err();
        assert!(
            matches!(error, KeyFileError::NotOurs { owner: 12_345, .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for content in [
            b"SECRETSE".repeat(3),
            b"SECRETSE".repeat(8),
            b"SECRETSE".repeat(999),
        ] {
            let (_scratch, path) = file(&content, 0o600);
            let error = read_key_file(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Format { .. }), "{error}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("SECRET"), "{shown}");
        }
        let scratch = tempfile::tempdir().expect("a directory");
        let error = read_key_file(scratch.path()).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAFile { .. }), "{error}");
        let error = read_key_file(&scratch.path().join("none")).unwrap_err();
        assert!(matches!(error, KeyFileError::Io { .. }), "{error}");
    }
}
