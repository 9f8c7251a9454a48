//! What opening a log again finds and leaves, on every disk.

use crate::config::LogConfig;
use crate::disk::OpenDisk;
use crate::files;
use crate::format::header::SegmentHeader;
use crate::harness::{Harness, UUID, check, promised, recover, sound};
use crate::lsn::Lsn;
use crate::recover::{
    DamageKind, ScanError, ScanOptions, SettleError, SettleOptions, Tail, create_log, settle,
};
use crate::sink::Need;

use super::every_disk::every_disk;
use super::recovery::{FIRST, SECOND, damage, end_of, log_on, options, scan_with};

fn settle_options() -> SettleOptions {
    SettleOptions {
        config: sound(),
        database_uuid: UUID,
        version_floor: 1 << 40,
        now_us: 1,
    }
}

#[test]
fn an_empty_log_is_an_empty_database_and_nothing_is_invented() {
    for disk in every_disk() {
        create_log(&mut *disk.disk(), UUID).unwrap();
        let found = scan_with(&disk, &options()).unwrap();
        assert_eq!(
            (found.record_count, found.last_txn_id, found.version_floor),
            (0, 0, 0)
        );
        assert_eq!(found.tail, Tail::PlainEnd);
        assert!(recover(&disk, &sound()).unwrap().0.records.is_empty());
    }
}

#[test]
fn a_clean_log_ends_plainly_and_opening_it_again_and_again_does_not_grow_it() {
    for disk in every_disk() {
        log_on(&disk, 3, 100).close();
        let first = recover(&disk, &sound()).unwrap();
        assert_eq!(first.0.quarantined_len_bytes, 0);
        let size = disk.read_file(FIRST).unwrap().len();
        for _ in 0..50 {
            let again = recover(&disk, &sound()).unwrap();
            assert_eq!(again.0.records, first.0.records);
            assert_eq!(again.1.next_offset, first.1.next_offset);
        }
        assert_eq!(disk.read_file(FIRST).unwrap().len(), size);
        let names = disk.names();
        let segments = names.iter().filter(|name| name.contains("wal-")).count();
        assert_eq!(segments, 1, "no segment per open");
    }
}

#[test]
fn a_log_goes_on_where_it_ended_after_a_close_and_after_none() {
    for disk in every_disk() {
        let mut expected = Vec::new();
        let mut harness = Harness::create(&disk, &sound()).unwrap();
        let mut floor = 0;
        for round in 0..6 {
            for _ in 0..3 {
                harness.prepare();
                harness.append(2500, Need::Synced).unwrap();
                harness.settle_down();
            }
            if round % 2 == 0 {
                harness.close();
            }
            let history = harness.history.lock().clone();
            expected.extend(history.issued.iter().skip(expected.len()).cloned());
            drop(harness);
            let (again, recovered) = Harness::open(&disk, &sound(), history.clone()).unwrap();
            check(
                &history,
                &recovered,
                promised(&history, Need::Synced, u64::MAX),
            )
            .unwrap();
            assert_eq!(recovered.records, expected, "round {round}");
            assert_eq!(recovered.quarantined_len_bytes, 0);
            assert!(floor < recovered.version_floor, "round {round}");
            floor = recovered.version_floor;
            harness = again;
        }
        assert_eq!(expected.len(), 18);
        let names = disk.names();
        let segments = names.iter().filter(|name| name.contains("wal-")).count();
        assert!(segments >= 4, "{names:?}");
    }
}

#[test]
fn a_record_that_was_cut_short_is_dropped_with_its_batch_rewritten_once() {
    for disk in every_disk() {
        let mut harness = log_on(&disk, 1, 100);
        for _ in 0..3 {
            harness.append(100, Need::Synced).unwrap();
        }
        harness.settle_down();
        let (start, end) = (end_of(&harness, 2).offset(), end_of(&harness, 3).offset());
        drop(harness);
        let whole = disk.read_file(FIRST).unwrap();
        for cut in (start..end).step_by(20) {
            let mut zeroed = whole.clone();
            zeroed[cut as usize..].fill(0);
            for bytes in [&zeroed[..], &whole[..cut as usize]] {
                disk.write_file(FIRST, bytes);
                let (first, _) = recover(&disk, &sound()).unwrap();
                assert_eq!(first.records.len(), 3, "cut at {cut}");
                let rewritten = disk.read_file(FIRST).unwrap();
                // The batch was shortened: reading it again finds no damage.
                let (again, _) = recover(&disk, &sound()).unwrap();
                assert_eq!(again.records, first.records, "cut at {cut}, again");
                assert_eq!(again.quarantined_len_bytes, 0, "cut at {cut}, again");
                assert_eq!(disk.read_file(FIRST).unwrap().len(), rewritten.len());
            }
        }
    }
}

#[test]
fn garbage_behind_the_end_goes_to_quarantine_and_is_dropped() {
    for disk in every_disk() {
        drop(log_on(&disk, 2, 100));
        let mut bytes = disk.read_file(FIRST).unwrap();
        let at = bytes.len() - 5000;
        bytes[at..at + 50].fill(0x5A);
        disk.write_file(FIRST, &bytes);
        let found = scan_with(&disk, &options()).unwrap();
        let Tail::Torn {
            at: torn_at,
            dropped_len_bytes,
        } = found.tail
        else {
            panic!("{:?}", found.tail)
        };
        let (recovered, _) = recover(&disk, &sound()).unwrap();
        assert_eq!(recovered.records.len(), 2);
        assert_eq!(recovered.quarantined_len_bytes, dropped_len_bytes);
        let names = files::list(&mut *disk.disk(), "QUARANTINE").unwrap();
        assert_eq!(names, [format!("1-{}-1.bin", torn_at.offset())]);
        let kept = disk.read_file(&format!("QUARANTINE/{}", names[0])).unwrap();
        assert_eq!(kept, bytes[torn_at.offset() as usize..at + 50]);
        let again = recover(&disk, &sound()).unwrap().0;
        assert_eq!(again.quarantined_len_bytes, 0);
    }
}

#[test]
fn a_position_that_a_later_mark_covers_is_damage() {
    for disk in every_disk() {
        let harness = log_on(&disk, 3, 100);
        let at = u64::from(end_of(&harness, 1).offset()) - 3;
        drop(harness);
        disk.flip_byte(FIRST, at, 4);
        let found = damage(&disk);
        assert_eq!(found.segment, 1);
        assert!(u64::from(found.offset) <= at);
        assert!(matches!(found.kind, DamageKind::DurablePerLaterMark { .. }));
    }
}

#[test]
fn a_position_below_the_snapshot_is_damage() {
    for disk in every_disk() {
        let end = end_of(&log_on(&disk, 2, 100), 1);
        let snapshot = ScanOptions {
            snapshot_end: end,
            ..options()
        };
        assert!(scan_with(&disk, &snapshot).is_ok());
        disk.flip_byte(FIRST, u64::from(end.offset()) - 3, 4);
        assert!(matches!(
            scan_with(&disk, &options()).unwrap().tail,
            Tail::Torn { .. }
        ));
        let Err(ScanError::Damage(found)) = scan_with(&disk, &snapshot) else {
            panic!()
        };
        assert_eq!(found.kind, DamageKind::BelowSnapshot);
    }
}

#[test]
fn a_missing_segment_is_an_error_unless_a_snapshot_covers_it() {
    for disk in every_disk() {
        drop(log_on(&disk, 12, 3000));
        disk.remove_file(SECOND);
        assert!(matches!(
            scan_with(&disk, &options()),
            Err(ScanError::MissingSegment { number: 2 })
        ));
        let snapshot = ScanOptions {
            snapshot_end: Lsn::new(3, 4096),
            ..options()
        };
        assert!(scan_with(&disk, &snapshot).is_ok());
    }
}

#[test]
fn an_empty_newest_segment_is_removed_after_the_hint_was_lowered() {
    let header = SegmentHeader {
        segment: 2,
        database_uuid: UUID,
    };
    let header = header.encode();
    for content in [&header[..], &[0; 8192], &[], &[0x77; 9000]] {
        for disk in every_disk() {
            drop(log_on(&disk, 2, 100));
            disk.write_file(SECOND, content);
            let found = scan_with(&disk, &options()).unwrap();
            assert_eq!(found.empty_newest_segment, Some(2));
            let mut lowered = None;
            let lower = &mut |disk: &mut dyn crate::disk::Disk, segment| {
                lowered = Some(segment);
                assert!(files::list(disk, "WAL")?.contains(&"wal-000002.seg".to_owned()));
                Ok(())
            };
            settle(&mut *disk.disk(), found, &settle_options(), lower).unwrap();
            assert_eq!(lowered, Some(1));
            assert!(disk.read_file(SECOND).is_none());
            assert_eq!(recover(&disk, &sound()).unwrap().0.records.len(), 2);
            let kept = files::list(&mut *disk.disk(), "QUARANTINE").map_or(0, |names| names.len());
            assert_eq!(kept, usize::from(content.contains(&0x77)));
        }
    }
}

#[test]
fn a_failure_to_lower_the_hint_keeps_the_segment() {
    for disk in every_disk() {
        drop(log_on(&disk, 2, 100));
        disk.write_file(SECOND, &[0; 4096]);
        let found = scan_with(&disk, &options()).unwrap();
        let mut refuse = |_: &mut dyn crate::disk::Disk, _| Err(std::io::ErrorKind::Other.into());
        let result = settle(&mut *disk.disk(), found, &settle_options(), &mut refuse);
        assert!(matches!(result, Err(SettleError::Hint { segment: 1, .. })));
        assert!(disk.read_file(SECOND).is_some());
    }
}

/// What was lost: a lower cap than the one a record was written under made it look torn, and the
/// acknowledged commit was dropped.
#[test]
fn a_record_above_a_cap_that_was_lowered_since_is_read() {
    let config = LogConfig {
        record_len_bytes_max: 1000,
        ..sound()
    };
    for disk in every_disk() {
        drop(log_on(&disk, 3, 3000));
        for _ in 0..2 {
            let (recovered, _) = recover(&disk, &config).unwrap();
            assert_eq!(recovered.records.len(), 3);
            assert_eq!(recovered.quarantined_len_bytes, 0);
        }
    }
}

#[test]
fn left_over_temporary_files_are_deleted_and_change_nothing() {
    for disk in every_disk() {
        drop(log_on(&disk, 3, 100));
        for path in ["WAL/rewrite-1.tmp", "WAL/spare-9.tmp", "WAL/other.tmp"] {
            disk.write_file(path, &[0xEE; 5000]);
        }
        assert_eq!(recover(&disk, &sound()).unwrap().0.records.len(), 3);
        let names = disk.names();
        assert!(
            names.iter().all(|name| !name.ends_with(".tmp")),
            "{names:?} on {}",
            disk.kind()
        );
    }
}
