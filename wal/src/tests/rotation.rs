//! Segments: spares, rotation, records larger than a segment, and a full disk.

use crate::config::LogConfig;
use crate::disk::{Fault, FaultRule, OpKind, SimOptions, SimWorld};
use crate::handle::ReserveError;
use crate::harness::{Harness, World, recover, sound};
use crate::limits::SPARE_OPEN_RETRY_DELAY_US;
use crate::sink::Need;
use crate::spares::{Prepared, prepare_spare};
use crate::writer::Turn;

use super::every_disk::every_disk;

fn open<W: World>(world: &W) -> Harness<W> {
    let mut harness = Harness::create(world, &sound()).unwrap();
    harness.prepare();
    harness
}

fn fill<W: World>(harness: &mut Harness<W>, count: usize) {
    for _ in 0..count {
        harness.prepare();
        harness.append(3000, Need::Synced).unwrap();
        harness.settle_down();
    }
}

#[test]
fn segments_follow_each_other_and_every_record_survives() {
    for disk in every_disk() {
        let mut harness = open(&disk);
        fill(&mut harness, 40);
        assert!(harness.handle.metrics().rotation_count >= 10);
        assert!(harness.history.lock().violations.is_empty());
        let (recovered, settled) = recover(&harness.world, &sound()).unwrap();
        assert_eq!(recovered.records.len(), 40);
        assert_eq!(
            settled.active_segment,
            harness.handle.metrics().rotation_count + 1
        );
    }
}

#[test]
fn storage_invariant_s2_closed_segments_never_change_their_bytes_or_their_size() {
    for disk in every_disk() {
        let mut harness = open(&disk);
        fill(&mut harness, 10);
        let first = harness.world.read_file("WAL/wal-000001.seg").unwrap();
        assert_eq!(first.len(), sound().segment_len_bytes as usize);
        fill(&mut harness, 20);
        harness.close();
        recover(&harness.world, &sound()).unwrap();
        assert_eq!(
            harness.world.read_file("WAL/wal-000001.seg").unwrap(),
            first
        );
    }
}

#[test]
fn without_a_spare_a_record_that_does_not_fit_is_refused_before_it_has_a_version() {
    for disk in every_disk() {
        let mut harness = Harness::create(&disk, &sound()).unwrap();
        let mut admitted = 0;
        while harness.append(3000, Need::Synced).is_ok() {
            harness.settle_down();
            admitted += 1;
        }
        assert!(admitted >= 2);
        assert_eq!(harness.refused, (1, 0));
        assert!(!harness.is_poisoned());
        harness.prepare();
        harness.append(3000, Need::Synced).unwrap();
        harness.settle_down();
        assert_eq!(harness.handle.metrics().rotation_count, 1);
    }
}

#[test]
fn what_was_admitted_together_fits_whatever_the_order() {
    // As many reservations as are given out, then all appends, for every mix of sizes.
    for size in [0, 100, 400, 1000, 3000, 7000] {
        for disk in every_disk() {
            let mut harness = open(&disk);
            for round in 0..30 {
                while harness.append(size + round, Need::Synced).is_ok() {}
                harness.settle_down();
                assert!(!harness.is_poisoned(), "size {size}, round {round}");
                harness.prepare();
            }
            assert!(harness.handle.metrics().rotation_count > 3, "size {size}");
        }
    }
}

#[test]
fn a_record_larger_than_a_segment_waits_for_an_enlarged_one() {
    for disk in every_disk() {
        let mut harness = open(&disk);
        harness.append(100, Need::Synced).unwrap();
        let len = 3 * sound().segment_len_bytes as usize;
        assert_eq!(harness.append(len, Need::Synced), Err(ReserveError::Busy));
        assert!(matches!(harness.prepare(), Prepared::Ready { segment: 2 }));
        harness.append(200, Need::Synced).unwrap();
        let large = harness.append(len, Need::Synced).unwrap();
        harness.append(300, Need::Synced).unwrap();
        harness.settle_down();
        assert!(!harness.is_poisoned());
        harness.prepare();
        fill(&mut harness, 10);
        let (recovered, _) = recover(&harness.world, &sound()).unwrap();
        assert_eq!(recovered.records.len(), 14);
        let found = recovered
            .records
            .iter()
            .find(|record| record.txn_id == large)
            .unwrap();
        assert_eq!(found.writeset.len(), len);
    }
}

#[test]
fn exactly_the_cap_is_admitted_and_one_byte_more_is_not() {
    for disk in every_disk() {
        let mut harness = open(&disk);
        let cap = sound().record_len_bytes_max as usize - 41;
        assert!(matches!(
            harness.append(cap + 1, Need::Synced),
            Err(ReserveError::TooLarge { len_bytes, .. }) if len_bytes == 64 * 1024 + 1
        ));
        assert_eq!(harness.append(cap, Need::Synced), Err(ReserveError::Busy));
        harness.prepare();
        harness.append(cap, Need::Synced).unwrap();
        harness.settle_down();
        assert_eq!(harness.history.lock().promises.len(), 1);
    }
}

#[test]
fn a_full_disk_refuses_never_poisons_and_works_again_with_room() {
    let mut harness = open(&SimWorld::new(SimOptions::new(42)));
    harness.world.set_capacity(Some(harness.world.used_bytes()));
    let mut acked = 0;
    let refusal = loop {
        match harness.append(3000, Need::Synced) {
            Ok(_) => acked += 1,
            Err(ReserveError::Busy) => {
                assert!(matches!(harness.prepare(), Prepared::NoSpace));
            }
            Err(other) => break other,
        }
        harness.settle_down();
    };
    assert_eq!(refusal, ReserveError::NoSpace);
    assert!(acked >= 4, "{acked}");
    assert!(!harness.is_poisoned());
    assert!(harness.handle.spares().last_error().is_some());
    assert_eq!(
        harness.handle.reserve_wait(3000).err(),
        Some(ReserveError::NoSpace)
    );
    assert!(matches!(harness.prepare(), Prepared::NoSpace));
    harness.world.set_capacity(None);
    assert_eq!(
        harness.append(3000, Need::Synced),
        Err(ReserveError::NoSpace)
    );
    assert!(matches!(harness.prepare(), Prepared::Ready { .. }));
    harness.append(3000, Need::Synced).unwrap();
    harness.settle_down();
    assert!(harness.handle.spares().last_error().is_none());
    assert_eq!(
        recover(&harness.world, &sound()).unwrap().0.records.len(),
        acked + 1
    );
}

#[test]
fn a_close_fits_a_segment_that_is_full() {
    for disk in every_disk() {
        let mut harness = Harness::create(&disk, &sound()).unwrap();
        while harness.append(0, Need::Synced).is_ok() {
            harness.settle_down();
        }
        harness.close();
        assert!(!harness.is_poisoned());
        let (recovered, settled) = recover(&harness.world, &sound()).unwrap();
        assert_eq!(
            recovered.records.last().unwrap().txn_id,
            recovered.version_floor
        );
        assert!(settled.active_len_bytes <= u64::from(sound().segment_len_bytes) + 4096);
    }
}

#[test]
fn every_failing_step_of_a_preparation_is_retried_when_asked() {
    for kind in [
        OpKind::Create,
        OpKind::Allocate,
        OpKind::Write,
        OpKind::Sync,
    ] {
        let mut harness = Harness::create(&SimWorld::new(SimOptions::new(1)), &sound()).unwrap();
        let rule = FaultRule::new(Fault::Io)
            .on(kind)
            .under("WAL/spare-")
            .times(1);
        harness.world.add_rule(rule);
        assert!(matches!(harness.prepare(), Prepared::Failed(_)), "{kind:?}");
        assert!(
            matches!(harness.prepare(), Prepared::Nothing),
            "not before it is asked for"
        );
        while harness.append(3000, Need::Synced).is_ok() {
            harness.settle_down();
        }
        assert!(
            matches!(harness.prepare(), Prepared::Ready { segment: 2 }),
            "{kind:?}"
        );
        harness.append(3000, Need::Synced).unwrap();
        harness.settle_down();
        assert!(!harness.is_poisoned());
    }
}

fn spare_count(world: &SimWorld) -> usize {
    let paths = world.paths();
    paths.iter().filter(|path| path.contains("spare")).count()
}

/// What was lost: each failure to open a spare zeroed a whole segment again, at once, without end.
#[test]
fn a_spare_that_cannot_be_opened_is_opened_later_and_not_made_anew() {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(1)), &sound()).unwrap();
    let rule = FaultRule::new(Fault::Io)
        .on(OpKind::Open)
        .under("WAL/spare-")
        .times(3);
    harness.world.add_rule(rule);
    assert!(matches!(harness.prepare(), Prepared::Ready { .. }));
    while harness.append(3000, Need::Synced).is_ok() {
        harness.settle_down();
    }
    for fired_count in 1..=3 {
        for _ in 0..5 {
            assert_eq!(
                harness.append(3000, Need::Synced),
                Err(ReserveError::NoSpace),
                "refused, not left waiting"
            );
            assert!(matches!(harness.prepare(), Prepared::Nothing));
        }
        assert_eq!(harness.world.fired().len(), fired_count);
        assert!(harness.handle.spares().last_error().is_some());
        match harness.settle_down() {
            Turn::Idle { wake_at_us } => {
                let wake_at_us = wake_at_us.expect("it wakes to try again");
                assert!(harness.now_us < wake_at_us);
                harness.now_us = wake_at_us;
            }
            other => panic!("{other:?}"),
        }
        harness.settle_down();
    }
    assert!(harness.handle.spares().last_error().is_none());
    fill(&mut harness, 8);
    assert!(harness.handle.metrics().rotation_count >= 1);
    assert!(spare_count(&harness.world) <= 2);
    harness.close();
    assert!(
        spare_count(&harness.world) <= 1,
        "one that nobody had taken"
    );
}

#[test]
fn a_spare_that_was_taken_away_is_made_anew() {
    for disk in every_disk() {
        let mut harness = Harness::create(&disk, &sound()).unwrap();
        prepare_spare(&mut *harness.world.disk(), harness.handle.spares());
        let names = harness.world.names();
        let spare = names.iter().find(|name| name.contains("spare")).unwrap();
        harness.world.remove_file(&format!("WAL/{spare}"));
        harness.settle_down();
        assert!(matches!(harness.prepare(), Prepared::Nothing));
        harness.now_us += SPARE_OPEN_RETRY_DELAY_US;
        harness.settle_down();
        assert!(matches!(harness.prepare(), Prepared::Ready { segment: 2 }));
        fill(&mut harness, 8);
        assert!(harness.handle.metrics().rotation_count >= 1);
    }
}

#[test]
fn a_spare_that_was_never_opened_is_gone_after_a_close() {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(1)), &sound()).unwrap();
    let rule = FaultRule::new(Fault::Io)
        .on(OpKind::Open)
        .under("WAL/spare-");
    harness.world.add_rule(rule);
    harness.prepare();
    assert_eq!(spare_count(&harness.world), 1);
    harness.close();
    assert_eq!(spare_count(&harness.world), 0);
}

#[test]
fn a_larger_log_block_aligns_batches_to_it_and_reads_a_log_of_smaller_ones() {
    for disk in every_disk() {
        let wide = LogConfig {
            log_block_len_bytes: 4096,
            segment_len_bytes: 64 << 10,
            ..sound()
        };
        let mut harness = open(&disk);
        fill(&mut harness, 3);
        harness.close();
        let history = harness.history.lock().clone();
        let (mut second, recovered) = Harness::open(&harness.world, &wide, history).unwrap();
        assert_eq!(recovered.records.len(), 3);
        second.prepare();
        for _ in 0..3 {
            second.append(10, Need::Synced).unwrap();
            second.settle_down();
            let offset = second.handle.written_lsn().offset();
            assert_eq!(offset % 4096, 72 + 41 + 10);
        }
        second.close();
        let (recovered, settled) = recover(&second.world, &sound()).unwrap();
        assert_eq!(recovered.records.len(), 6);
        assert_eq!(settled.next_offset % 512, 0);
        assert_eq!(recover(&second.world, &sound()).unwrap().0.records.len(), 6);
    }
}
