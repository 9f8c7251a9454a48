//! The files recovery set aside: listed for people, never read.

use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, open, statat};

/// Files listed at most.
const FILE_COUNT_MAX: usize = 100;

/// One file that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuarantinedFile {
    /// Its name, which says segment, offset and time.
    pub(crate) name: String,
    /// Its length, bytes.
    pub(crate) len_bytes: u64,
}

/// What lies in the quarantine of a data directory; empty if there is none.
pub(crate) fn files(data_dir: &Path) -> Vec<QuarantinedFile> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = open(data_dir.join("QUARANTINE"), flags, Mode::empty()) else {
        return Vec::new();
    };
    let Ok(entries) = Dir::read_from(&directory) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_bytes().starts_with(b"."));
    let mut files: Vec<QuarantinedFile> = names
        .take(FILE_COUNT_MAX)
        .filter_map(|entry| {
            let found = statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Some(QuarantinedFile {
                name,
                len_bytes: u64::try_from(found.st_size).ok()?,
            })
        })
        .collect();
    files.sort_by(|left, right| left.name.cmp(&right.name));
    files
}
