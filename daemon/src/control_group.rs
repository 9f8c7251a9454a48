//! How much memory the control group of this process allows (cgroups(7)), and what that means
//! for `limits.memory_max`.
//!
//! Reads what the kernel tells; owns no setting and changes nothing. A limit nobody set is not one.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::metrics::read_small;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// From here on a number in a limit of version 1 means that there is none: it shows the largest
/// whole number of pages.
const NO_LIMIT_LEN_BYTES: u64 = 1 << 60;

/// A limit of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// How much all processes of the group may have, bytes.
    pub(crate) len_bytes: u64,
    /// The file that says so.
    pub(crate) path: PathBuf,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len_bytes, path } = self;
        write!(
            f,
            "the control group may have {} MiB ({})",
            len_bytes >> 20,
            path.display()
        )
    }
}

impl MemoryLimit {
    /// What to do when the data may take `memory_max` bytes, 0 for as much as it likes; none when
    /// that is below the limit.
    pub(crate) fn advice(&self, memory_max: u64) -> Option<String> {
        if 0 < memory_max && memory_max < self.len_bytes {
            return None;
        }
        let is = match memory_max {
            0 => "is 0, no limit".to_owned(),
            some => format!("is {} MiB, not below it", some >> 20),
        };
        // Buffers, replies and frames in flight take the rest.
        Some(format!(
            "limits.memory_max {is}: set it to {} (half of it) or less, or the kernel kills the \
             daemon before writes that grow the data are refused",
            self.len_bytes / 2
        ))
    }
}

/// The limit of this process's group and those above it; the smallest counts.
pub(crate) fn memory_limit() -> Option<MemoryLimit> {
    let groups = read_small(Path::new("/proc/self/cgroup"))?;
    memory_limit_of(&groups, Path::new(MOUNT))
}

/// One line for the log when the data may outgrow the control group.
pub(crate) fn warning(memory_max: u64) -> Option<String> {
    let limit = memory_limit()?;
    let advice = limit.advice(memory_max)?;
    Some(format!("{limit}, and {advice}"))
}

/// The same for the lines of `/proc/<pid>/cgroup` and a mount of control groups.
fn memory_limit_of(groups: &str, mount: &Path) -> Option<MemoryLimit> {
    let limits = groups.lines().filter_map(|line| {
        let (_number, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let group = group.trim_start_matches('/');
        if controllers.is_empty() {
            return smallest(mount, group, "memory.max");
        }
        let is_memory = controllers.split(',').any(|name| name == "memory");
        let mount = mount.join("memory");
        is_memory.then(|| smallest(&mount, group, "memory.limit_in_bytes"))?
    });
    limits.min_by_key(|limit| limit.len_bytes)
}

/// The smallest limit from a group up to the mount. In a container the group may be named as its
/// host sees it, and only the mount itself be there.
fn smallest(mount: &Path, group: &str, file: &str) -> Option<MemoryLimit> {
    let below = mount.join(group);
    let groups = below.ancestors().take_while(|at| at.starts_with(mount));
    let limits = groups.filter_map(|at| {
        let path = at.join(file);
        let len_bytes: u64 = read_small(&path)?.trim().parse().ok()?;
        (len_bytes < NO_LIMIT_LEN_BYTES).then_some(MemoryLimit { len_bytes, path })
    });
    limits.min_by_key(|limit| limit.len_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mount: &Path, path: &str, text: &str) {
        let path = mount.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_of_the_group_and_those_above_counts() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path();
        let found = |groups: &str| {
            let limit = memory_limit_of(groups, mount)?;
            let path = limit.path.strip_prefix(mount).unwrap().to_str().unwrap();
            Some((limit.len_bytes, path.to_owned()))
        };
        let ours = "0::/system.slice/inmemd.service\n";
        assert_eq!(found(ours), None, "no file, no limit");
        write(mount, "system.slice/inmemd.service/memory.max", "max\n");
        assert_eq!(found(ours), None);
        write(mount, "system.slice/memory.max", "1000\n");
        let above = Some((1_000, "system.slice/memory.max".to_owned()));
        assert_eq!(found(ours), above);
        write(mount, "system.slice/inmemd.service/memory.max", "2000\n");
        assert_eq!(found(ours), above);
        // A container that is named as its host sees it.
        write(mount, "memory.max", "700\n");
        let top = Some((700, "memory.max".to_owned()));
        assert_eq!(found("0::/docker/0123\n"), top);
        assert_eq!(found("0::/\n"), top);
        // Version 1: a hierarchy for memory, and a number where there is no limit.
        let first = "9:name=systemd:/x\n4:cpu,memory:/jobs/one\n1:cpuset:/y\n";
        assert_eq!(found(first), None);
        let path = "memory/jobs/one/memory.limit_in_bytes";
        write(mount, path, "9223372036854771712\n");
        assert_eq!(found(first), None);
        write(mount, path, "4096\n");
        assert_eq!(found(first), Some((4_096, path.to_owned())));
        for broken in ["", "rubbish", "4:memory", "0::"] {
            assert!(found(broken).is_none_or(|found| Some(found) == top));
        }
    }

    #[test]
    fn data_without_a_limit_below_that_of_the_control_group_is_warned_of_naming_both() {
        let limit = MemoryLimit {
            len_bytes: 512 << 20,
            path: "/sys/fs/cgroup/memory.max".into(),
        };
        assert_eq!(limit.advice(256 << 20), None);
        for memory_max in [0, 512 << 20, 1 << 40] {
            let advice = limit.advice(memory_max).expect("advice");
            for part in ["limits.memory_max is ", "set it to 268435456"] {
                assert!(advice.contains(part), "{part}: {advice}");
            }
        }
        for part in ["512 MiB", "/sys/fs/cgroup/memory.max"] {
            assert!(limit.to_string().contains(part), "{part}: {limit}");
        }
    }
}
