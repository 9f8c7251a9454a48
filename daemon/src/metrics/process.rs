//! What the kernel says about this process and this machine, in small files.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Most that is read of one file, bytes: the kernel's are far shorter.
const READ_LEN_BYTES_MAX: usize = 256 << 10;

/// Memory of this process that is in use, bytes.
pub(super) fn resident_len_bytes() -> Option<u64> {
    let text = read_small(Path::new("/proc/self/statm"))?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// The text of a small file; none where it cannot be read or is none.
pub(crate) fn read_small(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let descriptor = open(path, flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while bytes.len() < READ_LEN_BYTES_MAX {
        match rustix::io::read(&descriptor, &mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(part.get(..count)?),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_a_missing_file_says_nothing() {
        assert!(1 << 20 < resident_len_bytes().unwrap());
        assert_eq!(read_small(Path::new("/nonexistent")), None);
    }
}
