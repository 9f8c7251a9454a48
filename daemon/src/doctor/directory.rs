//! Checks of the data directory and of what it lies on.

use std::path::{Path, PathBuf};

use in_mem_model::Durability;
use in_mem_wal::disk::{FileSystem, RealRoot, RootError};
use rustix::fs::{Access, AtFlags, CWD, Stat, accessat, statat};

use super::Check;
use crate::config::Settings;
use crate::metrics::read_small;

/// Free space below which somebody should look, bytes.
const FREE_LEN_BYTES_WARN: u64 = 1 << 30;

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let data_dir = &settings.data_dir;
    // What does not exist yet is made by the daemon, in what does.
    let existing = existing_part_of(data_dir);
    let mut checks = vec![ownership(data_dir, &existing)];
    let Ok(found) = statat(CWD, &existing, AtFlags::empty()) else {
        return checks;
    };
    checks.extend(parents(&existing));
    let magic = rustix::fs::statfs(&existing).map(|stat| stat.f_type.cast_unsigned());
    if let Ok(magic) = magic {
        let file_system = FileSystem::from_magic(magic);
        checks.push(self::file_system(file_system, settings.durability));
    }
    if let Ok(stat) = rustix::fs::statvfs(&existing) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        checks.push(space(free, settings.wal.segment_len_bytes));
    }
    checks.extend(device(&found));
    checks
}

/// The path, or the nearest directory above it that exists.
fn existing_part_of(path: &Path) -> PathBuf {
    let exists = |path: &&Path| statat(CWD, *path, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let found = path.ancestors().find(exists);
    found.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn ownership(data_dir: &Path, existing: &Path) -> Check {
    let name = "data_directory";
    if existing != data_dir {
        return match accessat(
            CWD,
            existing,
            Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::EACCESS,
        ) {
            Ok(()) => Check::ok(name, format!("{} will be created", data_dir.display())),
            Err(errno) => Check::fail(
                name,
                format!("{} cannot be created: {errno}", data_dir.display()),
                format!("let this user write to {}", existing.display()),
            ),
        };
    }
    let advice = |error: &RootError| match error {
        RootError::NotOurs { owner, .. } => {
            format!("run as user {owner}, or chown the directory to the user of the daemon")
        }
        RootError::WritableByOthers { path, .. } => {
            format!("chmod 0700 {}", path.display())
        }
        RootError::NotADirectory { .. } => "name a directory, not a link to one".to_owned(),
        _ => "let this user read and enter the directory".to_owned(),
    };
    match RealRoot::open(data_dir) {
        Ok(_) => Check::ok(
            name,
            format!("{} is ours alone to write", data_dir.display()),
        ),
        Err(error) => Check::fail(name, error.to_string(), advice(&error)),
    }
}

/// Whoever may rename what lies above may put another directory in its place.
fn parents(existing: &Path) -> Option<Check> {
    let name = "parents";
    let open = existing.ancestors().skip(1).find(|parent| {
        statat(CWD, *parent, AtFlags::empty()).is_ok_and(|stat| {
            let is_sticky = stat.st_mode & 0o1000 != 0;
            stat.st_mode & 0o002 != 0 && !is_sticky
        })
    });
    Some(match open {
        None => Check::ok(name, "no directory above it is open to everyone"),
        Some(parent) => Check::fail(
            name,
            format!("everyone may rename what lies in {}", parent.display()),
            format!("chmod o-w {}", parent.display()),
        ),
    })
}

pub(super) fn file_system(file_system: FileSystem, durability: Durability) -> Check {
    let name = "filesystem";
    let found = file_system.name();
    match file_system {
        volatile if volatile.is_volatile() && durability != Durability::InMemory => Check::fail(
            name,
            format!("{found}: gone with the next restart of the machine or container"),
            "put the data directory on a disk, or a volume of the container",
        ),
        FileSystem::Nfs | FileSystem::Fuse => Check::warn(
            name,
            format!("{found}: a sync is as good as what lies behind it"),
            "use a file system of this machine (ext4, xfs)",
        ),
        FileSystem::Other(magic) => Check::warn(
            name,
            format!("of an unknown kind (magic {magic:#x})"),
            "make sure that it keeps what was synced; ext4 and xfs are known to",
        ),
        _ => Check::ok(name, found),
    }
}

pub(super) fn space(free_len_bytes: u64, segment_len_bytes: u64) -> Check {
    let name = "space";
    let found = format!("{} MiB are free", free_len_bytes >> 20);
    // The active segment, the prepared one and the reserve.
    let needed = segment_len_bytes.saturating_mul(3);
    if free_len_bytes < needed {
        let advice = format!("free {} MiB: the log takes as much", needed >> 20);
        return Check::fail(name, found, advice);
    }
    if free_len_bytes < FREE_LEN_BYTES_WARN.max(needed) {
        return Check::warn(name, found, "make room: history and log grow");
    }
    Check::ok(name, found)
}

/// The write cache of the device and the options of its mount, where the kernel tells.
fn device(stat: &Stat) -> Vec<Check> {
    let device = stat.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let base = format!("/sys/dev/block/{major}:{minor}");
    let read = |below: &str| read_small(Path::new(&format!("{base}/{below}")));
    let cache = read("queue/write_cache").or_else(|| read("../queue/write_cache"));
    let mut checks = Vec::new();
    if let Some(cache) = cache {
        let found = format!("{}: a sync is passed on to the device", cache.trim());
        checks.push(Check::ok("write_cache", found));
    }
    let mounts = read_small(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    checks.extend(barriers(&mounts, &format!("{major}:{minor}")));
    checks
}

/// A mount that does not pass syncs on keeps nothing through a power loss.
pub(super) fn barriers(mounts: &str, device: &str) -> Option<Check> {
    let name = "barriers";
    let line = mounts
        .lines()
        .find(|line| line.split_whitespace().nth(2) == Some(device))?;
    let is_off = line
        .split([' ', ','])
        .any(|option| matches!(option, "nobarrier" | "barrier=0"));
    Some(if is_off {
        Check::fail(
            name,
            "the file system is mounted without barriers",
            "mount it without `nobarrier`: a sync that the device does not hear of keeps nothing",
        )
    } else {
        Check::ok(name, "on")
    })
}
