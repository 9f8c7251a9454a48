//! The reserve file: room that is given up when a full disk would keep a log from opening.
//!
//! Recovery needs room for one segment before it can take the first record. The file holds at
//! least two segments; the engine makes it again when there is room.

use std::io;

use crate::disk::{Disk, Op, OpenMode};
use crate::files;
use crate::names::RESERVE_FILE;

/// Makes the reserve file `len_bytes` long if it is shorter or absent. True when it had to be
/// made.
///
/// # Errors
/// What the kernel said; a full disk leaves no partial reserve behind.
pub fn ensure_reserve(disk: &mut dyn Disk, len_bytes: u64) -> io::Result<bool> {
    if let Ok(file) = files::open(disk, RESERVE_FILE, OpenMode::Read) {
        let there = files::len(disk, file);
        files::close(disk, file);
        if len_bytes <= there? {
            return Ok(false);
        }
    }
    let file = files::open(disk, RESERVE_FILE, OpenMode::CreateTruncate)?;
    let made = files::run(disk, Op::Allocate { file, len_bytes })
        .and_then(|_| files::sync(disk, file))
        .and_then(|()| files::sync_dir(disk, ""));
    files::close(disk, file);
    if made.is_err() {
        files::remove_leftover(disk, RESERVE_FILE);
    }
    made.map(|()| true)
}

/// Gives up the reserve file. False when there is none.
///
/// # Errors
/// What the kernel said.
pub fn release_reserve(disk: &mut dyn Disk) -> io::Result<bool> {
    let was_there = files::unlink_if_there(disk, RESERVE_FILE)?;
    if was_there {
        files::sync_dir(disk, "")?;
    }
    Ok(was_there)
}
