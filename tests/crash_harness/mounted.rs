//! A file system of its own for a test: ext4 in a file, on a loop device.
//!
//! It is mounted in a mount namespace of its own, by a thread that unmounts it however the test
//! ends. If the whole process is killed, the namespace goes with it and the daemons, and the
//! kernel unmounts the file system and frees the loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};

use crate::kill::daemon::DEADLINE;

/// A mounted file system. Unmounted when dropped; the loop device goes with the mount.
pub struct Mounted {
    /// Where it is mounted: `disk` in a directory for the test alone.
    pub disk: PathBuf,
    image: PathBuf,
}

impl Mounted {
    /// Makes a file system of so many bytes and calls `test` with it, on a thread of its own; says
    /// SKIPPED where that cannot be. A loop device that is left is a failure.
    pub fn with(len_bytes: u64, test: impl FnOnce(&Self) + Send + 'static) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let on_it = std::thread::spawn(move || match Self::new(&path, len_bytes) {
            Ok(mounted) => test(&mounted),
            Err(why) => println!("SKIPPED: needs {why}"),
        });
        let result = on_it.join();
        let left = devices_left(&dir.path().join("image"));
        if let Err(panic) = result {
            if !left.is_empty() {
                eprintln!("loop device left: {left}");
            }
            std::panic::resume_unwind(panic);
        }
        assert!(left.is_empty(), "loop device left: {left}");
    }

    /// Makes the file system and mounts it where only this thread and its children see it.
    fn new(dir: &Path, len_bytes: u64) -> Result<Self, &'static str> {
        let (image, disk) = (dir.join("image"), dir.join("disk"));
        let file = File::create_new(&image).expect("an image file");
        file.set_len(len_bytes).expect("a sparse file");
        std::fs::create_dir(&disk).expect("a mount point");
        unshare(CloneFlags::CLONE_NEWNS).map_err(|_| "the right to make a mount namespace")?;
        if !is_done(Command::new("mount").args(["--make-rprivate", "/"])) {
            return Err("the right to mount");
        }
        if !is_done(
            Command::new("mkfs.ext4")
                .args(["-q", "-m", "0"])
                .arg(&image),
        ) {
            return Err("mkfs.ext4");
        }
        let mounted = Self { disk, image };
        if mounted.mount() {
            Ok(mounted)
        } else {
            Err("the right to mount a loop device")
        }
    }

    /// Mounts it; false where that is refused. After an error it can only be read.
    fn mount(&self) -> bool {
        let mut command = Command::new("mount");
        command.args(["-o", "loop,errors=remount-ro"]);
        is_done(command.arg(&self.image).arg(&self.disk))
    }

    /// Unmounts it and mounts it again, which recovers its journal: what a machine does that starts
    /// again.
    pub fn mount_again(&self) {
        assert!(self.unmount(), "{} stays in use", self.disk.display());
        assert!(self.mount(), "it can be mounted again");
    }

    /// Unmounts it once nothing has a file of it open; false when the time is over.
    fn unmount(&self) -> bool {
        // The kernel takes the rings of a killed process apart after the process is gone, and
        // their files with them.
        let deadline = Instant::now() + DEADLINE;
        while !is_done(Command::new("umount").arg(&self.disk)) {
            if deadline < Instant::now() {
                return false;
            }
        }
        true
    }

    /// The name of its loop device, such as `loop0`.
    pub fn device(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("the mounts");
        let point = format!(" {} ", self.disk.display());
        let line = mounts.lines().rfind(|line| line.contains(&point));
        let device = line.and_then(|line| line.split(" /dev/").nth(1)?.split(' ').next());
        device.expect("it is mounted").to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.unmount() {
            eprintln!("{} goes with its namespace", self.disk.display());
        }
    }
}

fn is_done(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The loop devices of an image, if they do not go: the kernel may free one a little after its file
/// system was unmounted, when whoever looks at new devices has closed it.
fn devices_left(image: &Path) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let devices = Command::new("losetup").arg("-j").arg(image).output();
        let left = devices.map(|devices| devices.stdout).unwrap_or_default();
        if left.is_empty() || deadline < Instant::now() {
            return String::from_utf8_lossy(&left).into_owned();
        }
    }
}
