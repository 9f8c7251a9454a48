//! Positions in the log.
//!
//! An [`Lsn`] is `(segment_number << 32) + byte_offset` and only grows. Positions of one log are
//! ordered `durable_lsn <= written_lsn <= appended`; a record is durable iff
//! `end_lsn <= durable_lsn`.

use std::fmt;

/// A position in the log: a segment number and a byte offset inside that segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before every record: nothing is durable below it.
    pub const ZERO: Self = Self(0);

    /// The position `offset` bytes into segment `segment`.
    ///
    /// # Panics
    /// When `segment` does not fit 32 bits: at one segment a second that takes 136 years.
    #[must_use]
    pub fn new(segment: u64, offset: u32) -> Self {
        assert!(
            segment <= u64::from(u32::MAX),
            "segment numbers fit 32 bits"
        );
        Self((segment << 32) | u64::from(offset))
    }

    /// The position a stored or transmitted number stands for.
    #[must_use]
    pub const fn from_u64(position: u64) -> Self {
        Self(position)
    }

    /// The number to store or transmit.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The segment it lies in.
    #[must_use]
    pub const fn segment(self) -> u64 {
        self.0 >> 32
    }

    /// Bytes from the start of the segment's file.
    #[must_use]
    pub fn offset(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_segment_first_then_offset() {
        assert!(Lsn::new(1, u32::MAX) < Lsn::new(2, 0));
        assert!(Lsn::new(2, 4096) < Lsn::new(2, 4097));
        assert!(Lsn::ZERO < Lsn::new(1, 0));
    }

    #[test]
    fn parts_survive_the_number() {
        let lsn = Lsn::from_u64(Lsn::new(7, 4096).to_u64());
        assert_eq!((lsn.segment(), lsn.offset()), (7, 4096));
        assert_eq!(lsn.to_string(), "7:4096");
    }
}
