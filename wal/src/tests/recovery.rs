//! The rows of the tail decision and of the recovery table that concern the log.

use crate::codec::IdentityCodec;
use crate::disk::{Fault, FaultRule, OpKind, SimOptions, SimWorld};
use crate::format::mark::{MARK_LEN_BYTES, Mark, MarkKind};
use crate::harness::{
    Harness, Issued, OpenError, UUID, World, check, promised, read_only, recover, sound,
};
use crate::lsn::Lsn;
use crate::recover::{
    Damage, DamageKind, Scan, ScanError, ScanOptions, SettleError, SettleOptions, Tail, scan,
    settle,
};
use crate::sink::Need;

pub(super) const FIRST: &str = "WAL/wal-000001.seg";
pub(super) const SECOND: &str = "WAL/wal-000002.seg";

fn new_world() -> SimWorld {
    SimWorld::new(SimOptions::new(42))
}

fn open<W: World>(world: &W) -> Harness<W> {
    let mut harness = Harness::create(world, &sound()).unwrap();
    harness.prepare();
    harness
}

/// A log of `count` batches of one record each, in a simulated world.
pub(super) fn log_of(count: usize, len: usize) -> Harness {
    log_on(&new_world(), count, len)
}

/// A log of `count` batches of one record each.
pub(super) fn log_on<W: World>(world: &W, count: usize, len: usize) -> Harness<W> {
    let mut harness = open(world);
    for _ in 0..count {
        harness.prepare();
        harness.append(len, Need::Synced).unwrap();
        harness.settle_down();
    }
    harness
}

pub(super) fn options() -> ScanOptions {
    ScanOptions {
        database_uuid: UUID,
        record_len_bytes_max: sound().record_len_bytes_max,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: 1,
        is_permissive: false,
        planted: sound().planted,
    }
}

pub(super) fn scan_with<W: World>(world: &W, options: &ScanOptions) -> Result<Scan, ScanError<()>> {
    scan(
        &mut *world.open_disk().unwrap(),
        options,
        &IdentityCodec,
        |_| Ok(()),
    )
}

pub(super) fn damage<W: World>(world: &W) -> Damage {
    match scan_with(world, &options()) {
        Err(ScanError::Damage(damage)) => damage,
        other => panic!("no damage: {other:?}"),
    }
}

pub(super) fn end_of<W: World>(harness: &Harness<W>, index: usize) -> Lsn {
    harness.history.lock().promises[index].end_lsn
}

#[test]
fn recovery_invariant_rs5_every_truncation_of_the_last_record_recovers_to_the_record_before_it() {
    let mut harness = open(&new_world());
    for _ in 0..3 {
        harness.append(100, Need::Synced).unwrap();
    }
    harness.settle_down();
    let whole = harness.world.read_file(FIRST).unwrap();
    let (start, end) = (end_of(&harness, 1).offset(), end_of(&harness, 2).offset());
    for cut in start..end {
        let world = harness.world.kill(0);
        let mut bytes = whole.clone();
        bytes[cut as usize..].fill(0);
        world.write_file(FIRST, &bytes);
        let records = recover(&world, &sound()).unwrap().0.records;
        assert_eq!(records.len(), 2, "zeros from {cut}");
        world.truncate(FIRST, u64::from(cut));
        let after = harness.world.kill(0);
        after.truncate(FIRST, u64::from(cut));
        assert_eq!(
            recover(&after, &sound()).unwrap().0.records.len(),
            2,
            "cut at {cut}"
        );
        // The batch was shortened: reading it again finds no damage.
        assert_eq!(
            recover(&after, &sound()).unwrap().0.records.len(),
            2,
            "cut at {cut}, again"
        );
    }
}

#[test]
fn every_flipped_byte_is_refused_or_loses_nothing_but_the_last_batch() {
    let harness = log_of(8, 900);
    let history = harness.history.lock().clone();
    let last = promised(&history, Need::Synced, u64::MAX);
    let (mut refused, mut torn, mut harmless) = (0, 0, 0);
    for path in [FIRST, SECOND] {
        let Some(bytes) = harness.world.read_file(path) else {
            continue;
        };
        for at in 0..bytes.len() {
            let mask = [0x01, 0x80, 0xFF][at % 3];
            let world = harness.world.kill(0);
            assert!(world.flip_byte(path, at as u64, mask));
            match read_only(&world, &sound()) {
                Ok(recovered) => {
                    check(&history, &recovered, last - 1)
                        .unwrap_or_else(|why| panic!("{path} byte {at}: {why}"));
                    if recovered.records.len() == history.issued.len() {
                        harmless += 1;
                    } else {
                        torn += 1;
                    }
                }
                Err(ScanError::Damage(_) | ScanError::UnknownFormat { .. }) => refused += 1,
                Err(other) => panic!("{path} byte {at}: {other:?}"),
            }
        }
    }
    println!("{refused} refused, {torn} torn, {harmless} harmless");
    assert!(refused > 5000, "{refused}");
    assert!(torn < 1500, "{torn}");
}

#[test]
fn a_closed_segment_must_parse_to_exactly_the_end_the_next_one_states() {
    let harness = log_of(8, 3000);
    let bytes = harness.world.read_file(FIRST).unwrap();
    let in_first = harness
        .history
        .lock()
        .promises
        .iter()
        .filter(|promise| promise.end_lsn.segment() == 1)
        .count();
    assert!(in_first < 8);
    // The last batch of the closed segment vanishes whole.
    let previous_end = end_of(&harness, in_first - 2)
        .offset()
        .next_multiple_of(512) as usize;
    let mut cut = bytes.clone();
    cut[previous_end..].fill(0);
    let world = harness.world.kill(0);
    world.write_file(FIRST, &cut);
    assert!(matches!(damage(&world).kind, DamageKind::StatedEnd { .. }));
    // All of it does.
    let mut empty = bytes.clone();
    empty[4096..].fill(0);
    world.write_file(FIRST, &empty);
    assert!(matches!(damage(&world).kind, DamageKind::StatedEnd { .. }));
    // A record of it changes.
    let mut flipped = bytes.clone();
    flipped[previous_end + 200] ^= 1;
    world.write_file(FIRST, &flipped);
    let found = damage(&world);
    assert_eq!((found.segment, found.kind), (1, DamageKind::ClosedSegment));
    world.truncate(FIRST, previous_end as u64 + 300);
    assert_eq!(damage(&world).segment, 1);
}

#[test]
fn headers_bind_a_segment_to_its_number_and_its_database() {
    let harness = log_of(8, 3000);
    let first = harness.world.read_file(FIRST).unwrap();
    let with = |change: fn(&mut Vec<u8>)| {
        let world = harness.world.kill(0);
        let mut bytes = first.clone();
        change(&mut bytes);
        world.write_file(FIRST, &bytes);
        scan_with(&world, &options())
    };
    let kind = |result: Result<Scan, ScanError<()>>| match result {
        Err(ScanError::Damage(damage)) => damage.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(with(|bytes| bytes[..32].fill(0))), DamageKind::Header);
    assert_eq!(kind(with(|bytes| bytes.truncate(20))), DamageKind::Header);
    assert_eq!(kind(with(|bytes| bytes[0] = b'X')), DamageKind::Header);
    assert_eq!(
        kind(with(|bytes| bytes[8] = 9)),
        DamageKind::SegmentNumber { found: 9 }
    );
    assert_eq!(kind(with(|bytes| bytes[16] = 0)), DamageKind::DatabaseUuid);
    assert!(matches!(
        with(|bytes| bytes[4] = 2),
        Err(ScanError::UnknownFormat {
            segment: 1,
            version: 2,
            ..
        })
    ));
}

#[test]
fn missing_segments_and_a_hint_above_the_log_are_errors() {
    let harness = log_of(12, 3000);
    let world = harness.world.kill(0);
    world.remove_file(SECOND);
    assert!(matches!(
        scan_with(&world, &options()),
        Err(ScanError::MissingSegment { number: 2 })
    ));
    world.remove_file(FIRST);
    assert!(matches!(
        scan_with(&world, &options()),
        Err(ScanError::MissingSegment { number: 1 })
    ));
    // Below the snapshot nothing needs to be there.
    let snapshot = ScanOptions {
        snapshot_end: Lsn::new(3, 4096),
        ..options()
    };
    assert!(scan_with(&world, &snapshot).is_ok());
    let hint = ScanOptions {
        manifest_active_segment: 99,
        ..options()
    };
    assert!(matches!(
        scan_with(&harness.world, &hint),
        Err(ScanError::HintAboveLog { hint: 99, .. })
    ));
}

#[test]
fn a_repeated_or_falling_version_is_damage() {
    let harness = log_of(2, 50);
    let mut bytes = harness.world.read_file(FIRST).unwrap();
    let record = |index: usize| {
        let end = end_of(&harness, index).offset() as usize;
        end - 41 - 50..end
    };
    let first: Vec<u8> = bytes[record(0)].to_vec();
    bytes[record(1)].copy_from_slice(&first);
    harness.world.write_file(FIRST, &bytes);
    assert!(matches!(
        damage(&harness.world).kind,
        DamageKind::VersionOrder { .. }
    ));
}

#[test]
fn an_unknown_record_version_is_an_error_and_drops_nothing() {
    let harness = log_of(2, 50);
    let mut bytes = harness.world.read_file(FIRST).unwrap();
    let end = end_of(&harness, 1).offset() as usize;
    let start = end - 41 - 50;
    bytes[start + 4] = 7;
    let crc = crc32fast::hash(&bytes[start + 4..end - 4]).to_le_bytes();
    bytes[end - 4..end].copy_from_slice(&crc);
    harness.world.write_file(FIRST, &bytes);
    assert!(matches!(
        recover(&harness.world, &sound()),
        Err(OpenError::Scan(ScanError::UnknownFormat {
            segment: 1,
            version: 7,
            ..
        }))
    ));
}

/// What was lost: behind a position that did not read, a mark of a newer format counted as no mark, and
/// all that followed was dropped as a torn tail.
#[test]
fn a_mark_of_an_unknown_version_behind_the_end_is_an_error_and_drops_nothing() {
    let harness = log_of(2, 50);
    let mut bytes = harness.world.read_file(FIRST).unwrap();
    let at = end_of(&harness, 1).offset().next_multiple_of(512) + 2048;
    let own_lsn = Lsn::new(1, at);
    let mark = Mark {
        kind: MarkKind::Batch,
        log_block_len_bytes: 512,
        batch_len_bytes: MARK_LEN_BYTES,
        own_lsn,
        durable_lsn: own_lsn,
        version_floor: 1,
    };
    let mut mark = mark.encode(UUID);
    let crc_at = mark.len() - 4;
    mark[4] = 9;
    let crc = crc32fast::hash(&mark[4..crc_at]).to_le_bytes();
    mark[crc_at..].copy_from_slice(&crc);
    let at = at as usize;
    bytes[at..at + mark.len()].copy_from_slice(&mark);
    harness.world.write_file(FIRST, &bytes);
    assert!(matches!(
        recover(&harness.world, &sound()),
        Err(OpenError::Scan(ScanError::UnknownFormat {
            segment: 1,
            version: 9,
            ..
        }))
    ));
    assert_eq!(harness.world.read_file(FIRST).unwrap(), bytes);
}

#[test]
fn client_bytes_that_look_like_a_mark_are_never_taken_for_one() {
    let mut harness = open(&new_world());
    let own_lsn = Lsn::new(1, 4096 + 1024);
    let forged = Mark {
        kind: crate::format::mark::MarkKind::Batch,
        log_block_len_bytes: 512,
        batch_len_bytes: 72,
        own_lsn,
        durable_lsn: own_lsn,
        version_floor: u64::MAX,
    };
    // The forger knows everything but the uuid.
    let mark = forged.encode([0; 16]);
    harness.append(2000, Need::Synced).unwrap();
    harness.settle_down();
    let mut bytes = harness.world.read_file(FIRST).unwrap();
    let at = own_lsn.offset() as usize;
    bytes[at..at + mark.len()].copy_from_slice(&mark);
    harness.world.write_file(FIRST, &bytes);
    // The record is torn by that, and nothing behind it vouches for anything.
    let found = scan_with(&harness.world, &options()).unwrap();
    assert_eq!(found.record_count, 0);
    assert!(matches!(found.tail, Tail::Torn { .. }));
}

#[test]
fn a_permissive_scan_stops_at_damage_and_refuses_to_settle() {
    let harness = log_of(3, 100);
    let at = u64::from(end_of(&harness, 1).offset()) - 3;
    harness.world.flip_byte(FIRST, at, 4);
    let permissive = ScanOptions {
        is_permissive: true,
        ..options()
    };
    let found = scan_with(&harness.world, &permissive).unwrap();
    assert_eq!(found.record_count, 1);
    assert!(found.damage.is_some());
    let settle_options = SettleOptions {
        config: sound(),
        database_uuid: UUID,
        version_floor: 1,
        now_us: 1,
    };
    let result = settle(
        &mut harness.world.disk(),
        found,
        &settle_options,
        &mut |_, _| Ok(()),
    );
    assert!(matches!(result, Err(SettleError::Damaged)));
}

#[test]
fn every_error_branch_of_settling_is_reported_and_repeatable() {
    let harness = log_of(3, 100);
    harness.world.write_file(SECOND, &[0; 4096]);
    let mut bytes = harness.world.read_file(FIRST).unwrap();
    bytes[12_000] = 1;
    harness.world.write_file(FIRST, &bytes);
    let kinds = [
        OpKind::List,
        OpKind::Unlink,
        OpKind::Create,
        OpKind::Write,
        OpKind::Sync,
        OpKind::SyncDir,
        OpKind::CreateDir,
        OpKind::Allocate,
        OpKind::Rename,
    ];
    for kind in kinds {
        let world = harness.world.kill(0);
        world.add_rule(FaultRule::new(Fault::Io).on(kind).times(1));
        let result = recover(&world, &sound());
        assert!(result.is_err(), "{kind:?}");
        println!("{kind:?}: {:?}", result.err());
        world.clear_faults();
        let records: Vec<Issued> = recover(&world, &sound()).unwrap().0.records;
        assert_eq!(records.len(), 3, "{kind:?}");
    }
}
