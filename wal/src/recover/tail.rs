//! The decision where a log ends, as a table.
//!
//! P is the first position of the last segment where the expected mark or record is missing, zero
//! or bad. `-` means the column does not matter; exactly one row matches.
//!
//! ```text
//! P below the     a later mark says      P inside     all zero
//! snapshot        P was durable          a batch      from P on    outcome
//!   yes              -                      -            -         damage
//!   no               yes                    -            -         damage
//!   no               no                     yes          -         torn tail
//!   no               no                     no           no        torn tail
//!   no               no                     no           yes       plain end
//! ```

use super::{Damage, DamageKind};
use crate::lsn::Lsn;

/// How a log that may be opened ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Everything written was read.
    PlainEnd,
    /// An append was cut short by a crash; what follows `at` is dropped.
    Torn {
        /// Where the log ends.
        at: Lsn,
        /// Bytes from there to the last one that is not zero.
        dropped_len_bytes: u64,
    },
}

/// What is known about P.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailFacts {
    pub(super) at: Lsn,
    /// No record at or behind this position may be missing.
    pub(super) snapshot_end: Lsn,
    /// The furthest `durable_lsn` of the valid marks behind P.
    pub(super) later_durable_lsn: Option<Lsn>,
    pub(super) is_inside_batch: bool,
    /// Bytes from P to the last one that is not zero.
    pub(super) nonzero_len_bytes: u64,
}

pub(super) fn decide(facts: TailFacts) -> Result<Tail, Damage> {
    let TailFacts {
        at,
        snapshot_end,
        later_durable_lsn,
        is_inside_batch,
        nonzero_len_bytes,
    } = facts;
    let is_below_snapshot = at < snapshot_end;
    let durable_lsn = later_durable_lsn.filter(|durable_lsn| at < *durable_lsn);
    let is_zero = nonzero_len_bytes == 0;
    let damage = |kind| Damage {
        segment: at.segment(),
        offset: at.offset(),
        kind,
    };
    match (is_below_snapshot, durable_lsn, is_inside_batch, is_zero) {
        (true, _, _, _) => Err(damage(DamageKind::BelowSnapshot)),
        (false, Some(durable_lsn), _, _) => {
            Err(damage(DamageKind::DurablePerLaterMark { durable_lsn }))
        }
        (false, None, true, _) | (false, None, false, false) => Ok(Tail::Torn {
            at,
            dropped_len_bytes: nonzero_len_bytes,
        }),
        (false, None, false, true) => Ok(Tail::PlainEnd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Lsn = Lsn::from_u64((3 << 32) + 8192);

    fn facts(below: bool, later: Option<i64>, inside: bool, nonzero: u64) -> TailFacts {
        TailFacts {
            at: AT,
            snapshot_end: if below {
                Lsn::from_u64(AT.to_u64() + 1)
            } else {
                AT
            },
            later_durable_lsn: later
                .map(|by| Lsn::from_u64(AT.to_u64().checked_add_signed(by).unwrap())),
            is_inside_batch: inside,
            nonzero_len_bytes: nonzero,
        }
    }

    #[test]
    fn every_row_of_the_table_has_its_outcome() {
        for inside in [false, true] {
            for nonzero in [0, 9] {
                for later in [None, Some(-100), Some(0), Some(1)] {
                    let outcome = decide(facts(true, later, inside, nonzero));
                    assert_eq!(outcome.unwrap_err().kind, DamageKind::BelowSnapshot);
                }
                let outcome = decide(facts(false, Some(1), inside, nonzero));
                let kind = outcome.unwrap_err().kind;
                assert!(matches!(kind, DamageKind::DurablePerLaterMark { .. }));
                // A mark that vouches only for what is before P does not make P damage.
                for later in [None, Some(-100), Some(0)] {
                    let tail = decide(facts(false, later, inside, nonzero)).unwrap();
                    let expected = if !inside && nonzero == 0 {
                        Tail::PlainEnd
                    } else {
                        Tail::Torn {
                            at: AT,
                            dropped_len_bytes: nonzero,
                        }
                    };
                    assert_eq!(tail, expected, "{inside} {nonzero} {later:?}");
                }
            }
        }
    }

    #[test]
    fn damage_names_file_and_offset() {
        let text = decide(facts(true, None, false, 0)).unwrap_err().to_string();
        assert!(text.contains("WAL/wal-000003.seg"), "{text}");
        assert!(text.contains("8192"), "{text}");
    }
}
