//! The names of the log's files, relative to the database directory.
//!
//! ```text
//! WAL/wal-NNNNNN.seg                        a segment; decimal, at least six digits, from 1
//! WAL/spare-N.tmp                           a prepared segment, not part of the log
//! WAL/rewrite-N.tmp                         the surviving prefix of segment N, during recovery
//! QUARANTINE/<segment>-<offset>-<us>.bin    what followed the end of the log
//! RESERVE                                   preallocated room, given up when a disk is full
//! ```
//!
//! Every name in `WAL/` that ends in `.tmp` is a left-over after a crash and is deleted at open.

/// The directory of the log.
pub const WAL_DIR: &str = "WAL";
/// The directory of bytes that followed the end of a log.
pub const QUARANTINE_DIR: &str = "QUARANTINE";
/// The reserve file.
pub const RESERVE_FILE: &str = "RESERVE";

const SEGMENT_PREFIX: &str = "wal-";
const SEGMENT_SUFFIX: &str = ".seg";
const TEMP_SUFFIX: &str = ".tmp";

/// The path of segment `number`.
#[must_use]
pub fn segment_path(number: u64) -> String {
    format!("{WAL_DIR}/{SEGMENT_PREFIX}{number:06}{SEGMENT_SUFFIX}")
}

/// The path of the `serial`-th spare of this process.
#[must_use]
pub(crate) fn spare_path(serial: u64) -> String {
    format!("{WAL_DIR}/spare-{serial}{TEMP_SUFFIX}")
}

#[must_use]
pub(crate) fn rewrite_path(number: u64) -> String {
    format!("{WAL_DIR}/rewrite-{number}{TEMP_SUFFIX}")
}

#[must_use]
pub(crate) fn quarantine_path(segment: u64, offset: u32, now_us: u64) -> String {
    format!("{QUARANTINE_DIR}/{segment}-{offset}-{now_us}.bin")
}

/// The number in a file name of `WAL/`, if it is the one name of a segment.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name
        .strip_prefix(SEGMENT_PREFIX)?
        .strip_suffix(SEGMENT_SUFFIX)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u64>().ok().filter(|number| *number != 0)?;
    // One number has one name: "wal-0000001.seg" beside "wal-000001.seg" would be two.
    (format!("{number:06}") == digits && number <= u64::from(u32::MAX)).then_some(number)
}

/// True for a left-over temporary file.
#[must_use]
pub fn is_temp_name(name: &str) -> bool {
    name.ends_with(TEMP_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_to_six_digits_and_parsed_at_any_width() {
        assert_eq!(segment_path(1), "WAL/wal-000001.seg");
        assert_eq!(segment_path(1_234_567), "WAL/wal-1234567.seg");
        for number in [1, 999_999, 1_000_000, u64::from(u32::MAX)] {
            let path = segment_path(number);
            let name = path.strip_prefix("WAL/").unwrap();
            assert_eq!(parse_segment_name(name), Some(number));
        }
    }

    #[test]
    fn other_names_are_no_segments() {
        let others = [
            "wal-.seg",
            "wal-000000.seg",
            "wal-1.seg",
            "wal-0000001.seg",
            "wal-00000a.seg",
            "wal-+00001.seg",
            "wal-000001.seg.tmp",
            "spare-1.tmp",
            "wal-99999999999999999999999.seg",
            "wal-4294967296.seg",
        ];
        for name in others {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
        assert!(is_temp_name("spare-1.tmp"));
    }
}
