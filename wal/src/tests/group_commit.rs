//! Batches, syncs and what committers are told.

use crate::config::{LogConfig, WriteForm};
use crate::disk::{Fault, FaultRule, OpKind, SimOptions, SimWorld};
use crate::handle::ReserveError;
use crate::harness::{Harness, World, recover, sound};
use crate::sink::Need;
use crate::writer::Turn;

use super::every_disk::every_disk;

fn open<W: World>(world: &W, config: &LogConfig) -> Harness<W> {
    let mut harness = Harness::create(world, config).unwrap();
    harness.prepare();
    harness
}

fn new_world() -> SimWorld {
    SimWorld::new(SimOptions::new(42))
}

#[test]
fn records_appended_together_share_one_write_and_one_sync() {
    for disk in every_disk() {
        let mut harness = open(&disk, &sound());
        let before = harness.handle.metrics();
        for _ in 0..10 {
            harness.append(50, Need::Synced).unwrap();
        }
        harness.settle_down();
        let after = harness.handle.metrics();
        assert_eq!(after.batch_count - before.batch_count, 1);
        assert_eq!(after.sync_count - before.sync_count, 1);
        assert_eq!(after.record_count - before.record_count, 10);
        assert_eq!(harness.history.lock().promises.len(), 10);
    }
}

#[test]
fn correctness_tx4_a_strict_record_is_told_only_when_durable_lsn_covers_it() {
    for disk in every_disk() {
        let mut harness = open(&disk, &sound());
        let mut before = harness.handle.durable_lsn();
        for _ in 0..20 {
            harness.append(300, Need::Synced).unwrap();
            harness.settle_down();
            let durable_lsn = harness.handle.durable_lsn();
            assert!(before <= durable_lsn, "durable_lsn went back");
            before = durable_lsn;
            let last = *harness.history.lock().promises.last().unwrap();
            assert!(last.end_lsn <= durable_lsn);
            assert!(durable_lsn <= harness.handle.written_lsn());
        }
    }
}

#[test]
fn the_sink_is_told_of_a_batch_before_the_next_one_is_built() {
    for disk in every_disk() {
        let mut harness = open(&disk, &sound());
        harness.append(50, Need::Synced).unwrap();
        assert_eq!(harness.writer.turn(0), Turn::Worked);
        assert!(harness.history.lock().promises.is_empty());
        harness.append(50, Need::Synced).unwrap();
        assert_eq!(harness.writer.turn(0), Turn::Worked);
        assert_eq!(harness.history.lock().promises.len(), 1);
        harness.settle_down();
        assert_eq!(harness.history.lock().promises.len(), 2);
    }
}

#[test]
fn a_buffered_record_is_written_at_once_and_synced_by_the_interval() {
    for disk in every_disk() {
        let config = sound();
        let mut harness = open(&disk, &config);
        harness.append(50, Need::Written).unwrap();
        let Turn::Idle {
            wake_at_us: Some(wake_at_us),
        } = harness.settle_down()
        else {
            panic!("a sync is due later")
        };
        assert_eq!(harness.history.lock().promises.len(), 1);
        assert_eq!(wake_at_us, config.buffered_sync_interval_us);
        assert!(harness.handle.durable_lsn() < harness.handle.written_lsn());
        harness.now_us = wake_at_us - 1;
        harness.settle_down();
        assert_eq!(harness.handle.metrics().pending_count, 1);
        harness.now_us = wake_at_us;
        harness.settle_down();
        assert_eq!(harness.handle.metrics().pending_count, 0);
        assert_eq!(harness.handle.durable_lsn(), harness.handle.written_lsn());
    }
}

#[test]
fn buffered_records_are_synced_by_count_and_by_bytes() {
    let config = sound();
    for disk in every_disk() {
        let mut harness = open(&disk, &config);
        for _ in 0..config.buffered_sync_count {
            harness.append(10, Need::Written).unwrap();
        }
        harness.settle_down();
        assert_eq!(harness.handle.metrics().pending_count, 0, "count");
    }
    for disk in every_disk() {
        let mut harness = open(&disk, &config);
        let half = config.buffered_sync_len_bytes as usize / 2;
        harness.append(half, Need::Written).unwrap();
        harness.settle_down();
        assert_eq!(harness.handle.metrics().pending_count, 1);
        harness.append(half, Need::Written).unwrap();
        harness.settle_down();
        assert_eq!(harness.handle.metrics().pending_count, 0, "bytes");
    }
}

#[test]
fn twice_the_pending_limit_pushes_back_and_a_sync_lets_in_again() {
    for disk in every_disk() {
        let config = LogConfig {
            batch_len_bytes_max: 512,
            ..sound()
        };
        let mut harness = open(&disk, &config);
        let mut admitted = 0;
        while harness.append(10, Need::Written).is_ok() {
            admitted += 1;
        }
        assert_eq!(admitted, 2 * config.buffered_sync_count);
        assert_eq!(harness.refused, (1, 0));
        harness.settle_down();
        assert!(harness.append(10, Need::Written).is_ok());
    }
}

#[test]
fn a_strict_record_behind_buffered_ones_makes_them_durable_too() {
    for write_form in WriteForm::ALL {
        let config = LogConfig {
            write_form,
            ..sound()
        };
        for disk in every_disk() {
            let mut harness = open(&disk, &config);
            harness.append(700, Need::Written).unwrap();
            harness.settle_down();
            let strict = harness.append(50, Need::Synced).unwrap();
            harness.settle_down();
            assert_eq!(harness.handle.metrics().pending_count, 0, "{write_form:?}");
            let (recovered, _) = recover(&disk.after_power_loss(), &sound()).unwrap();
            assert_eq!(
                recovered.records.last().unwrap().txn_id,
                strict,
                "{write_form:?}"
            );
            assert_eq!(recovered.records.len(), 2, "{write_form:?}");
        }
    }
}

#[test]
fn an_explicit_flush_covers_what_was_appended_and_an_idle_log_syncs_nothing() {
    for disk in every_disk() {
        let mut harness = open(&disk, &sound());
        harness.append(10, Need::Queued).unwrap();
        let ticket = harness.handle.flush_start();
        assert!(!harness.handle.flush_poll(ticket).unwrap());
        harness.settle_down();
        assert!(harness.handle.flush_poll(ticket).unwrap());
        assert_eq!(
            harness.handle.flush().unwrap(),
            harness.handle.durable_lsn()
        );
        let syncs = harness.handle.metrics().sync_count;
        for _ in 0..10 {
            let _ = harness.handle.flush_start();
            harness.settle_down();
        }
        assert_eq!(harness.handle.metrics().sync_count, syncs);
    }
}

#[test]
fn an_idle_log_writes_one_mark_after_a_second_and_then_nothing() {
    for disk in every_disk() {
        let config = sound();
        let mut harness = open(&disk, &config);
        harness.append(10, Need::Synced).unwrap();
        let Turn::Idle {
            wake_at_us: Some(at_us),
        } = harness.settle_down()
        else {
            panic!("an idle mark is due later")
        };
        assert_eq!(at_us, config.idle_mark_delay_us);
        harness.now_us = at_us;
        assert_eq!(harness.settle_down(), Turn::Idle { wake_at_us: None });
        assert_eq!(harness.handle.metrics().empty_batch_count, 1);
        harness.now_us += 100 * at_us;
        harness.settle_down();
        assert_eq!(harness.handle.metrics().empty_batch_count, 1);
        // The mark covers the last record: damage to it is damage now, and refused.
        let last = harness.history.lock().promises[0];
        let at = u64::from(last.end_lsn.offset()) - 5;
        harness.world.flip_byte("WAL/wal-000001.seg", at, 1);
        let error = recover(&harness.world, &config).unwrap_err();
        assert!(
            format!("{error:?}").contains("DurablePerLaterMark"),
            "{error:?}"
        );
    }
}

#[test]
fn a_floor_is_told_once_a_mark_that_states_it_is_durable() {
    for disk in every_disk() {
        let mut harness = open(&disk, &sound());
        let floor = harness.history.lock().floors[0].0 + 1000;
        harness.handle.set_version_floor(floor);
        assert_eq!(harness.history.lock().floors.len(), 1);
        harness.settle_down();
        assert_eq!(harness.history.lock().floors.last().unwrap().0, floor);
        harness.handle.set_version_floor(floor - 1);
        harness.settle_down();
        assert_eq!(harness.history.lock().floors.len(), 2);
        let (recovered, _) = recover(&disk.after_power_loss(), &sound()).unwrap();
        assert_eq!(recovered.version_floor, floor);
    }
}

#[test]
fn a_close_drains_the_queue_and_states_the_highest_version() {
    for disk in every_disk() {
        let mut harness = open(&disk, &sound());
        let last = harness.append(10, Need::Written).unwrap();
        assert_eq!(harness.close(), Turn::Closed);
        assert_eq!(harness.handle.reserve(1).err(), Some(ReserveError::Closed));
        assert_eq!(harness.append(1, Need::Synced), Err(ReserveError::Closed));
        assert!(
            disk.simulated().is_none_or(SimWorld::unsynced_is_empty),
            "a plain copy is a valid clone"
        );
        assert!(disk.names().iter().all(|name| !name.ends_with(".tmp")));
        let (recovered, _) = recover(&harness.world, &sound()).unwrap();
        assert_eq!(recovered.version_floor, last);
        assert_eq!(recovered.records.len(), 1);
    }
}

#[test]
fn short_writes_that_make_progress_are_continued() {
    for (need, write_form) in [
        (Need::Synced, WriteForm::BufferedDsync),
        (Need::Synced, WriteForm::DirectLinked),
        (Need::Written, WriteForm::DirectDsync),
    ] {
        let mut harness = open(
            &new_world(),
            &LogConfig {
                write_form,
                ..sound()
            },
        );
        harness
            .world
            .add_rule(FaultRule::new(Fault::ShortWrite).under("WAL/wal-").times(1));
        harness.append(3000, need).unwrap();
        harness.settle_down();
        let metrics = harness.handle.metrics();
        if harness.is_poisoned() {
            // The disk drew a short write of nothing, which is a full disk.
            continue;
        }
        assert_eq!(metrics.short_write_count, 1);
        assert_eq!(harness.handle.flush_start(), harness.handle.flush_start());
        harness.settle_down();
        let image = harness
            .world
            .crash_choosing(true, |_| crate::disk::WriteFate::Lost);
        assert_eq!(recover(&image, &sound()).unwrap().0.records.len(), 1);
    }
}

#[test]
fn the_steps_between_syncs_are_as_few_as_the_form_allows() {
    // One Strict commit at a time: one write with its sync, and no operation beside it.
    let mut harness = open(&new_world(), &sound());
    let before = harness.world.op_count();
    for _ in 0..5 {
        harness.append(50, Need::Synced).unwrap();
        harness.settle_down();
    }
    assert_eq!(harness.world.op_count() - before, 5);
    harness
        .world
        .add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
    harness.append(50, Need::Synced).unwrap();
    harness.settle_down();
    assert!(!harness.is_poisoned(), "no separate sync was made");
}
