//! A database that is being made beside the name it will have.
//!
//! ```text
//! 1  the name must be free; make the directory .NAME.<microseconds>.partial beside it
//! 2  the owner fills it, syncs files and directories, and reads back what it wrote
//! 3  rename it to a name that must still be free; sync the directory above
//! ```
//!
//! So under its name there is all of it or nothing, whenever the power is lost. After an error what
//! was made is removed, as far as that can be done.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use in_mem_snapshot::SNAPSHOTS_DIR;
use in_mem_wal::disk::{Beneath, Disk, DiskPreference, Op, OpenDisk, RealDisk, RealRoot};
use in_mem_wal::{files, names};

use crate::export::ExportError;

/// Names tried for the temporary directory, count.
const ATTEMPT_COUNT_MAX: u64 = 16;

/// Where a database is to be made.
pub(crate) struct Target {
    /// Over the directory above.
    opener: Arc<dyn OpenDisk>,
    name: String,
    pub(crate) path: PathBuf,
}

impl Target {
    /// At a path in a directory that exists.
    pub(crate) fn at_path(path: &Path) -> Result<Self, ExportError> {
        let refuse = |what| ExportError::Destination {
            path: path.to_owned(),
            what,
        };
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(refuse("the path ends with no name"));
        };
        let name = name.to_str().ok_or_else(|| refuse("the name is no text"))?;
        let above = match path.parent() {
            Some(above) if above != Path::new("") => above,
            _ => Path::new("."),
        };
        let root = RealRoot::open_above(above).map_err(ExportError::Directory)?;
        Ok(Self {
            // Its transfers are large, and a ring for one export is not worth its set-up.
            opener: Arc::new(RealDisk::probe(root, DiskPreference::Thread)),
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    /// As a directory of the root of a disk.
    pub(crate) fn on_disk(opener: Arc<dyn OpenDisk>, name: &str) -> Result<Self, ExportError> {
        let path = PathBuf::from(name);
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            let what = "it is no name of one directory";
            return Err(ExportError::Destination { path, what });
        }
        Ok(Self {
            opener,
            name: name.to_owned(),
            path,
        })
    }
}

/// A directory that is being filled.
pub(crate) struct Staging<'a> {
    target: &'a Target,
    disk: Box<dyn Disk>,
    temp: String,
}

impl<'a> Staging<'a> {
    /// Step 1; with the directories of a database, both empty.
    pub(crate) fn begin(target: &'a Target, now_us: u64) -> Result<Self, ExportError> {
        let name = &target.name;
        let io = |source| ExportError::io(name, source);
        let mut disk = target.opener.open_disk().map_err(io)?;
        if files::list(&mut *disk, "").map_err(io)?.contains(name) {
            let path = target.path.clone();
            return Err(ExportError::Exists { path });
        }
        for attempt in 0..ATTEMPT_COUNT_MAX {
            let temp = format!(".{name}.{}.partial", now_us.saturating_add(attempt));
            let path = temp.clone();
            match files::run(&mut *disk, Op::CreateDir { path }) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ExportError::io(&temp, error)),
                Ok(_) => {
                    let mut staging = Self { target, disk, temp };
                    return match staging.make_directories() {
                        Ok(()) => Ok(staging),
                        Err(error) => {
                            staging.abandon();
                            Err(error)
                        }
                    };
                }
            }
        }
        let source = std::io::ErrorKind::AlreadyExists.into();
        Err(ExportError::io(name, source))
    }

    fn make_directories(&mut self) -> Result<(), ExportError> {
        for directory in [names::WAL_DIR, SNAPSHOTS_DIR] {
            files::create_dir_if_absent(&mut self.disk(), directory)
                .map_err(|source| ExportError::io(directory, source))?;
        }
        Ok(())
    }

    /// The directory, as the root of a disk.
    pub(crate) fn disk(&mut self) -> Beneath<'_> {
        Beneath::new(&mut *self.disk, &self.temp)
    }

    /// Step 3; everything inside is durable.
    pub(crate) fn publish(mut self) -> Result<(), ExportError> {
        let name = &self.target.name;
        if let Err(error) = files::rename_dir(&mut *self.disk, &self.temp, name) {
            let path = self.target.path.clone();
            let error = match error.kind() {
                std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::DirectoryNotEmpty => {
                    ExportError::Exists { path }
                }
                _ => ExportError::io(name, error),
            };
            self.abandon();
            return Err(error);
        }
        files::sync_dir(&mut *self.disk, "").map_err(|source| ExportError::Unsynced {
            path: self.target.path.clone(),
            source,
        })
    }

    /// Removes what was made.
    pub(crate) fn abandon(mut self) {
        if let Err(error) = self.remove() {
            let path = self.target.path.with_file_name(&self.temp);
            tracing::warn!(target: "db", %error, path = %path.display(), "a partial copy stays");
        }
    }

    fn remove(&mut self) -> std::io::Result<()> {
        let disk = &mut Beneath::new(&mut *self.disk, &self.temp);
        let mut found = files::list(disk, "")?;
        for directory in [names::WAL_DIR, SNAPSHOTS_DIR, names::QUARANTINE_DIR] {
            let Some(at) = found.iter().position(|name| name == directory) else {
                continue;
            };
            found.swap_remove(at);
            for name in files::list(disk, directory)? {
                files::unlink(disk, &format!("{directory}/{name}"))?;
            }
            files::remove_dir(disk, directory)?;
        }
        for name in found {
            files::unlink(disk, &name)?;
        }
        files::remove_dir(&mut *self.disk, &self.temp)
    }
}
