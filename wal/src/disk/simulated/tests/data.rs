//! What a power loss does to the bytes and the length of a file.

use super::*;

#[test]
fn synced_bytes_survive_every_power_loss() {
    let forms: [(WriteSync, bool); 3] = [
        (WriteSync::None, true),
        (WriteSync::Data, false),
        (WriteSync::LinkedSync, false),
    ];
    for (form, needs_sync) in forms {
        let world = world();
        let (mut disk, file) = with_file(&world, 4096, 1);
        assert_eq!(
            written(&mut disk, file, 1000, &[2; 2000], form).expect("writes"),
            2000
        );
        if needs_sync {
            sync(&mut disk, file).expect("syncs");
        }
        assert!(world.unsynced_is_empty());
        let images = contents(&world, 200);
        assert_eq!(images.len(), 1, "{form:?}");
        assert_eq!(
            images.first().cloned().flatten(),
            world.read_file("file"),
            "{form:?}"
        );
    }
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_at_sectors_and_at_bytes() {
    let world = world();
    let (mut disk, file) = with_file(&world, 4096, 1);
    written(&mut disk, file, 512, &[2; 2048], WriteSync::None).expect("writes");
    assert!(!world.unsynced_is_empty());
    let images = contents(&world, 2000);
    let of = |content: &Option<Vec<u8>>| content.clone().expect("the file stays");
    let (mut kept, mut lost, mut at_sector, mut at_byte, mut holes) = (0, 0, 0, 0, 0);
    for content in images.iter().map(of) {
        assert_eq!(content.len(), 4096);
        assert!(
            content[..512]
                .iter()
                .chain(&content[2560..])
                .all(|byte| *byte == 1)
        );
        let changes: Vec<usize> = (513..2560)
            .filter(|at| content[*at] != content[*at - 1])
            .collect();
        match (&changes[..], content[512]) {
            ([], 2) => kept += 1,
            ([], _) => lost += 1,
            (cuts, _) if cuts.iter().any(|cut| cut % 512 != 0) => at_byte += 1,
            ([_], _) => at_sector += 1,
            _ => holes += 1,
        }
    }
    let seen = (kept, lost, at_sector > 3, at_byte > 100, holes > 3);
    assert_eq!(
        seen,
        (1, 1, true, true, true),
        "{at_sector} {at_byte} {holes}"
    );
}

#[test]
fn a_later_write_may_be_kept_while_an_earlier_one_is_lost() {
    let world = world();
    let (mut disk, file) = with_file(&world, 1024, 1);
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    written(&mut disk, file, 512, &[3; 512], WriteSync::None).expect("writes");
    let images = contents(&world, 300);
    for (first, second) in [(1, 1), (1, 3), (2, 1), (2, 3)] {
        let content = [[first; 512], [second; 512]].concat();
        assert!(images.contains(&Some(content)), "{first} {second}");
    }
}

#[test]
fn a_data_write_covers_its_own_bytes_and_nothing_before_it() {
    let world = world();
    let (mut disk, file) = with_file(&world, 1024, 1);
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    written(&mut disk, file, 256, &[3; 512], WriteSync::Data).expect("writes");
    let mut first_bytes = BTreeSet::new();
    for content in contents(&world, 300).into_iter().flatten() {
        assert_eq!(content[256..768], [3; 512]);
        first_bytes.insert(content[0]);
    }
    assert_eq!(first_bytes, BTreeSet::from([1, 2]));
    // A linked one covers both.
    written(&mut disk, file, 768, &[4; 256], WriteSync::LinkedSync).expect("writes");
    assert_eq!(contents(&world, 100).len(), 1);
}

#[test]
fn the_length_is_independent_of_the_bytes_and_new_bytes_are_zero_or_stale() {
    let world = world();
    world.write_file("old", &[7; 4096]);
    let (mut disk, file) = with_file(&world, 0, 0);
    run(&mut disk, Op::Unlink { path: "old".into() }).expect("removes");
    sync_dir(&mut disk, "");
    written(&mut disk, file, 0, &[2; 1024], WriteSync::None).expect("writes");
    let images = contents(&world, 2000);
    // All bytes lost, and yet the length is there; all there; and everything lost.
    let expected = [vec![0; 1024], vec![7; 1024], vec![2; 1024], Vec::new()];
    for content in expected {
        assert!(
            images.contains(&Some(content.clone())),
            "{:?} of {}",
            content[..].first(),
            content.len()
        );
    }
}

#[test]
fn a_length_covered_by_a_durable_write_is_never_cut() {
    let world = world();
    let (mut disk, file) = with_file(&world, 0, 0);
    written(&mut disk, file, 0, &[1; 512], WriteSync::None).expect("writes");
    written(&mut disk, file, 512, &[2; 512], WriteSync::Data).expect("writes");
    written(&mut disk, file, 1024, &[3; 512], WriteSync::None).expect("writes");
    for content in contents(&world, 300).into_iter().flatten() {
        assert!(1024 <= content.len(), "{}", content.len());
        assert_eq!(content[512..1024], [2; 512]);
    }
}

#[test]
fn a_cut_or_a_reservation_is_kept_or_lost() {
    let world = world();
    let (mut disk, file) = with_file(&world, 1000, 1);
    run(
        &mut disk,
        Op::SetLen {
            file,
            len_bytes: 100,
        },
    )
    .expect("cuts");
    run(
        &mut disk,
        Op::Allocate {
            file,
            len_bytes: 8192,
        },
    )
    .expect("reserves");
    let lens: BTreeSet<usize> = contents(&world, 300)
        .into_iter()
        .flatten()
        .map(|content| content.len())
        .collect();
    assert!(
        lens.is_superset(&BTreeSet::from([100, 1000, 8192])),
        "{lens:?}"
    );
    sync(&mut disk, file).expect("syncs");
    assert_eq!(contents(&world, 50).len(), 1);
}

#[test]
fn the_fate_of_each_write_can_be_chosen() {
    let world = world();
    let (mut disk, file) = with_file(&world, 2048, 1);
    written(&mut disk, file, 100, &[2; 1500], WriteSync::None).expect("writes");
    let made = |fate: WriteFate| {
        let image = world.crash_choosing(true, |write| {
            assert_eq!(
                (write.path, write.offset, write.bytes.len()),
                ("file", 100, 1500)
            );
            fate.clone()
        });
        let content = image.read_file("file").expect("exists");
        (0..2048)
            .filter(|at| content[*at] == 2)
            .collect::<Vec<usize>>()
    };
    assert_eq!(made(WriteFate::Kept), (100..1600).collect::<Vec<_>>());
    assert!(made(WriteFate::Lost).is_empty());
    assert_eq!(
        made(WriteFate::Prefix { len_bytes: 7 }),
        (100..107).collect::<Vec<_>>()
    );
    assert_eq!(
        made(WriteFate::Suffix { from_bytes: 1490 }),
        (1590..1600).collect::<Vec<_>>()
    );
    // Sectors are those of the file: 100..512, 512..1024, 1024..1536, 1536..1600.
    let kept = vec![true, false, false, true];
    let expected: Vec<usize> = (100..512).chain(1536..1600).collect();
    assert_eq!(made(WriteFate::Sectors { kept }), expected);
}
