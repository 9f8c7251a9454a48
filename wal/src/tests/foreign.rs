//! A newest segment that no crash of this build leaves is refused, and nothing of it is dropped.

use crate::disk::{SimOptions, SimWorld};
use crate::format::header::SegmentHeader;
use crate::format::mark::{Mark, MarkKind};
use crate::harness::{Harness, OpenError, UUID, recover, sound};
use crate::lsn::Lsn;
use crate::recover::{Damage, DamageKind, ScanError, SettleError};
use crate::sink::Need;

const SECOND: &str = "WAL/wal-000002.seg";

fn header(segment: u64, database_uuid: [u8; 16]) -> Vec<u8> {
    let header = SegmentHeader {
        segment,
        database_uuid,
    };
    let mut bytes = header.encode().to_vec();
    bytes.resize(16 << 10, 0);
    bytes
}

/// Opens a log of two records whose newest segment is `second`; it must be refused and kept.
fn refused(second: &[u8]) -> ScanError<std::convert::Infallible> {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(42)), &sound()).unwrap();
    for _ in 0..2 {
        harness.append(100, Need::Synced).unwrap();
        harness.settle_down();
    }
    harness.world.write_file(SECOND, second);
    let result = recover(&harness.world, &sound());
    assert_eq!(harness.world.read_file(SECOND).as_deref(), Some(second));
    match result {
        Err(OpenError::Scan(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_newest_segment_of_a_later_format_is_refused_and_not_taken_for_an_empty_one() {
    let mut bytes = header(2, UUID);
    bytes[4] = 2;
    bytes[4096..5000].fill(0x5A);
    assert!(matches!(
        refused(&bytes),
        ScanError::UnknownFormat {
            segment: 2,
            offset: 0,
            version: 2
        }
    ));
}

#[test]
fn a_newest_segment_that_begins_with_a_mark_of_a_later_format_is_refused() {
    let mark = Mark {
        kind: MarkKind::Batch,
        log_block_len_bytes: 512,
        batch_len_bytes: 72,
        own_lsn: Lsn::new(2, 4096),
        durable_lsn: Lsn::new(1, 4096),
        version_floor: 0,
    };
    let mut bytes = header(2, UUID);
    let mut encoded = mark.encode(UUID);
    encoded[4] = 2;
    let crc = crc32fast::hash(&encoded[4..68]).to_le_bytes();
    encoded[68..].copy_from_slice(&crc);
    bytes[4096..4096 + 72].copy_from_slice(&encoded);
    assert!(matches!(
        refused(&bytes),
        ScanError::UnknownFormat {
            segment: 2,
            offset: 4096,
            version: 2
        }
    ));
}

#[test]
fn a_newest_segment_of_another_database_or_number_is_damage() {
    let kind = |bytes: &[u8]| match refused(bytes) {
        ScanError::Damage(Damage {
            segment: 2,
            offset: 0,
            kind,
        }) => kind,
        other => panic!("no damage: {other:?}"),
    };
    assert_eq!(kind(&header(2, [9; 16])), DamageKind::DatabaseUuid);
    assert_eq!(
        kind(&header(7, UUID)),
        DamageKind::SegmentNumber { found: 7 }
    );
}

/// What was lost: each attempt to open a full disk left one more copy of the same torn tail.
#[test]
fn opening_a_full_disk_again_and_again_leaves_no_copies_of_its_torn_tail() {
    const FIRST: &str = "WAL/wal-000001.seg";
    let world = SimWorld::new(SimOptions::new(42));
    let mut harness = Harness::create(&world, &sound()).unwrap();
    harness.append(100, Need::Synced).unwrap();
    harness.settle_down();
    let mut bytes = world.read_file(FIRST).unwrap();
    bytes[6000..6100].fill(0x5A);
    world.write_file(FIRST, &bytes);
    for path in world.paths().iter().filter(|path| path.ends_with(".tmp")) {
        world.remove_file(path);
    }
    // Room for the copy, none for the rewrite.
    world.set_capacity(Some(world.used_bytes() + (8 << 10)));
    for _ in 0..3 {
        let result = recover(&world, &sound());
        assert!(
            matches!(result, Err(OpenError::Settle(SettleError::NoSpace(_)))),
            "{result:?}"
        );
        assert_eq!(world.read_file(FIRST).as_ref(), Some(&bytes));
        let copies = world
            .paths()
            .iter()
            .filter(|path| path.starts_with("QUARANTINE/"))
            .count();
        assert_eq!(copies, 0);
    }
    world.set_capacity(None);
    let (recovered, _) = recover(&world, &sound()).unwrap();
    assert_eq!(recovered.records.len(), 1);
    assert!(0 < recovered.quarantined_len_bytes);
}
