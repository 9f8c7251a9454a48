//! Recovering on a disk that is full: what is given up for room, and what never is.

use super::recovery::{FIRST, SECOND, log_of, options, scan_with};
use crate::disk::{Disk, SimWorld};
use crate::harness::{OpenError, UUID, read_only, recover, sound};
use crate::recover::{SettleError, SettleOptions, ensure_reserve, settle};

#[test]
fn without_room_for_the_rewrite_the_reserve_is_given_up_or_nothing_is_changed() {
    let harness = log_of(3, 100);
    let reserve = 2 * u64::from(sound().segment_len_bytes);
    let with_reserve = harness.world.kill(0);
    assert!(ensure_reserve(&mut with_reserve.disk(), reserve).unwrap());
    assert!(!ensure_reserve(&mut with_reserve.disk(), reserve).unwrap());
    // Left-over spares are deleted first; count the space without them.
    for world in [&harness.world, &with_reserve] {
        for path in world.paths().iter().filter(|path| path.ends_with(".tmp")) {
            world.remove_file(path);
        }
        world.set_capacity(Some(world.used_bytes()));
    }
    let before = harness.world.read_file(FIRST);
    let result = recover(&harness.world, &sound());
    assert!(
        matches!(result, Err(OpenError::Settle(SettleError::NoSpace(_)))),
        "{result:?}"
    );
    assert_eq!(harness.world.read_file(FIRST), before);
    assert_eq!(
        read_only(&harness.world, &sound()).unwrap().records.len(),
        3
    );
    let (recovered, settled) = recover(&with_reserve, &sound()).unwrap();
    assert_eq!(recovered.records.len(), 3);
    assert!(settled.reserve_is_spent);
    assert!(with_reserve.read_file("RESERVE").is_none());
}

/// What was lost: lowering the hint needs a block, and on a full disk the open failed for it, with a
/// whole empty segment lying there.
#[test]
fn an_empty_newest_segment_gives_its_room_to_the_hint_that_lets_it_go() {
    let harness = log_of(2, 100);
    let header = crate::format::header::SegmentHeader {
        segment: 2,
        database_uuid: UUID,
    };
    let mut content = header.encode().to_vec();
    content.resize(sound().segment_len_bytes as usize, 0);
    harness.world.write_file(SECOND, &content);
    for path in harness.world.paths() {
        if path.ends_with(".tmp") {
            harness.world.remove_file(&path);
        }
    }
    harness.world.write_file("HINT", &[2; 100]);
    let options_of = |world: &SimWorld| {
        world.set_capacity(Some(world.used_bytes()));
        SettleOptions {
            config: sound(),
            database_uuid: UUID,
            version_floor: 1 << 40,
            now_us: 1,
        }
    };
    let mut lower = |disk: &mut dyn Disk, _| {
        crate::files::write_new_file(disk, "HINT.new", &[1; 100])?;
        crate::files::rename(disk, "HINT.new", "HINT")
    };
    let world = harness.world.kill(0);
    let settle_options = options_of(&world);
    let found = scan_with(&world, &options()).unwrap();
    settle(&mut world.disk(), found, &settle_options, &mut lower).unwrap();
    assert_eq!(world.read_file("HINT").unwrap(), [1; 100]);
    assert!(world.read_file(SECOND).is_none());
    assert_eq!(recover(&world, &sound()).unwrap().0.records.len(), 2);
    // A hint that never finds room: the log opens for reading, and settles once there is room.
    let world = harness.world.kill(0);
    let settle_options = options_of(&world);
    let found = scan_with(&world, &options()).unwrap();
    let mut never = |_: &mut dyn Disk, _| Err(std::io::ErrorKind::StorageFull.into());
    let result = settle(&mut world.disk(), found, &settle_options, &mut never);
    assert!(matches!(result, Err(SettleError::NoSpace(_))), "{result:?}");
    assert_eq!(read_only(&world, &sound()).unwrap().records.len(), 2);
    world.set_capacity(None);
    assert_eq!(recover(&world, &sound()).unwrap().0.records.len(), 2);
}
