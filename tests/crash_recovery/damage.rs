//! Every byte changed, every length cut, blocks zeroed, doubled and exchanged, files missing,
//! added and taken from another database.

use in_mem_engine::OpenError;
use in_mem_wal::disk::SimWorld;
use in_mem_wal::format::record::Record;

use super::data_set::{DataSet, MANIFEST, Opened};
use super::scale::{for_each_seed, scaled, start_seed};

/// Blocks that are zeroed, doubled and exchanged, bytes.
pub(crate) const BLOCK_LEN_BYTES: usize = 512;

/// Where batches begin in a segment file, bytes.
const DATA_OFFSET: usize = 4096;

/// Places visited of all: one, or one in so many when time is short.
pub(crate) fn stride() -> usize {
    usize::try_from(scaled(61, 1, 1)).expect("small")
}

/// The bytes a byte is changed to: one bit flipped, all zeros, all ones.
pub(crate) fn changes(byte: u8, place: usize) -> impl Iterator<Item = u8> {
    [byte ^ (1 << (place % 8)), 0x00, 0xFF]
        .into_iter()
        .filter(move |changed| *changed != byte)
}

pub(crate) fn write_byte(copy: &SimWorld, path: &str, place: usize, old: u8, new: u8) {
    assert!(copy.flip_byte(path, place as u64, old ^ new));
}

#[test]
fn storage_invariant_every_changed_byte_of_the_log_is_refused_or_changes_nothing() {
    let set = DataSet::new(start_seed(), true);
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (index, segment) in set.segments.iter().enumerate() {
        // Some of the zeros behind the end as well.
        let end = (set.end_of(segment) + 600).min(set.read_file(segment).len());
        places.extend((0..end).step_by(stride()).map(|place| (index, place)));
    }
    let chunks: Vec<_> = places.chunks(512).collect();
    let first = start_seed();
    let is_wanted = |index| index < chunks.len() as u64;
    let results = for_each_seed(
        "storage_invariant_every_changed_byte_of_the_log",
        is_wanted,
        |seed| {
            let chunk = chunks[usize::try_from(seed - first).expect("small")];
            let (mut opened_count, mut refused_count) = (0, 0);
            for (index, place) in chunk {
                let segment = &set.segments[*index];
                let old = set.read_file(segment)[*place];
                for new in changes(old, *place) {
                    let copy = set.copy();
                    write_byte(&copy, segment, *place, old, new);
                    let line = || format!("{segment} byte {place}: {old:#04x} became {new:#04x}");
                    match set.open(&copy, &line) {
                        // Padding, and zeros behind the end, carry nothing.
                        Opened::State(count) => {
                            assert_eq!(count, set.commit_count, "{}", line());
                            opened_count += 1;
                        }
                        Opened::Refused(error) => {
                            assert_names_the_place(&error, &line());
                            refused_count += 1;
                        }
                    }
                }
            }
            (opened_count, refused_count)
        },
    );
    let opened: u64 = results.iter().map(|(opened, _)| opened).sum();
    let refused: u64 = results.iter().map(|(_, refused)| refused).sum();
    println!(
        "{opened} changes were harmless, {refused} refused, of {} places",
        places.len()
    );
    assert!(opened < refused);
}

/// Damage is refused with the file and the offset.
fn assert_names_the_place(error: &OpenError, line: &str) {
    assert!(
        matches!(error, OpenError::Scan(_) | OpenError::Manifest(_)),
        "{line}: {error:?}"
    );
    let text = format!("{error:?}");
    assert!(
        text.contains("offset") || text.contains("segment"),
        "{line}: {text}"
    );
}

#[test]
fn storage_invariant_every_changed_byte_of_the_manifest_is_refused() {
    let set = DataSet::new(start_seed(), true);
    let bytes = set.read_file(MANIFEST);
    for (place, old) in bytes.iter().enumerate() {
        for new in (0..8).map(|bit| old ^ (1 << bit)).chain([0x00, 0xFF]) {
            if new == *old {
                continue;
            }
            let copy = set.copy();
            write_byte(&copy, MANIFEST, place, *old, new);
            let line = || format!("MANIFEST byte {place}: {old:#04x} became {new:#04x}");
            let opened = set.open(&copy, &line);
            assert!(
                matches!(opened, Opened::Refused(_)),
                "{}: {opened:?}",
                line()
            );
        }
    }
    for len in 0..bytes.len() {
        let copy = set.copy();
        assert!(copy.truncate(MANIFEST, len as u64));
        let opened = set.open(&copy, &|| format!("MANIFEST cut to {len}"));
        assert!(
            matches!(opened, Opened::Refused(_)),
            "cut to {len}: {opened:?}"
        );
    }
}

#[test]
fn recovery_invariant_r3_every_cut_of_the_last_segment_leaves_a_prefix_and_of_others_is_refused() {
    let set = DataSet::new(start_seed(), false);
    let mut seen = Vec::new();
    for segment in &set.segments {
        let is_last = set.segments.last() == Some(segment);
        let len_bytes = set.read_file(segment).len();
        // A checksum may end with zeros.
        let end = set.end_of(segment) - 4;
        let mut before = 0;
        for len in (0..len_bytes).step_by(stride()).chain([len_bytes - 1]) {
            let copy = set.copy();
            assert!(copy.truncate(segment, len as u64));
            let line = || format!("{segment} of {end} bytes cut to {len}");
            match set.open(&copy, &line) {
                Opened::State(count) if is_last => {
                    assert!(before <= count, "{}: {count} after {before}", line());
                    before = count;
                    seen.push(count);
                }
                Opened::State(count) => {
                    assert_eq!(count, set.commit_count, "{}", line());
                    assert!(end <= len, "{}: a closed segment lost bytes", line());
                }
                Opened::Refused(_) => assert!(!is_last, "{}: refused a torn tail", line()),
            }
        }
    }
    seen.dedup();
    println!("{} different prefixes", seen.len());
    assert!(1 < seen.len());
}

#[test]
fn recovery_invariant_zeroed_doubled_and_exchanged_blocks_never_show_wrong_data() {
    let set = DataSet::new(start_seed(), true);
    let last = set.segments.last();
    let mut refused_count = 0;
    for segment in &set.segments {
        let bytes = set.read_file(segment);
        let block_count = set.end_of(segment).div_ceil(BLOCK_LEN_BYTES);
        for block in 0..block_count {
            for (name, altered) in altered_blocks(&bytes, block) {
                if altered == bytes {
                    continue;
                }
                let copy = set.copy();
                copy.write_file(segment, &altered);
                let line = || format!("{segment} block {block} {name}");
                // With the close mark gone, nothing vouches for the batch before it.
                let may_lose = usize::from(Some(segment) == last && block_count <= block + 3);
                match set.open(&copy, &line) {
                    Opened::State(count) => {
                        assert!(set.commit_count <= count + may_lose, "{}: {count}", line());
                    }
                    Opened::Refused(_) => refused_count += 1,
                }
            }
        }
    }
    println!("{refused_count} refused");
    assert!(100 < refused_count);
}

pub(crate) fn altered_blocks(bytes: &[u8], block: usize) -> Vec<(&'static str, Vec<u8>)> {
    let range = |block: usize| block * BLOCK_LEN_BYTES..(block + 1) * BLOCK_LEN_BYTES;
    let mut zeroed = bytes.to_vec();
    zeroed[range(block)].fill(0);
    let mut altered = vec![("zeroed", zeroed)];
    if let Some(next) = bytes.get(range(block + 1)) {
        let mut doubled = bytes.to_vec();
        doubled.copy_within(range(block), range(block + 1).start);
        let mut exchanged = bytes.to_vec();
        exchanged.copy_within(range(block), range(block + 1).start);
        exchanged[range(block)].copy_from_slice(next);
        altered.extend([
            ("doubled over the next", doubled),
            ("exchanged with the next", exchanged),
        ]);
    }
    altered
}

#[test]
fn recovery_invariant_a_missing_segment_is_refused() {
    let set = DataSet::new(start_seed(), true);
    assert!(3 <= set.segments.len());
    for segment in &set.segments {
        let copy = set.copy();
        copy.remove_file(segment);
        let opened = set.open(&copy, &|| format!("{segment} removed"));
        assert!(
            matches!(opened, Opened::Refused(_)),
            "{segment} removed: {opened:?}"
        );
    }
}

#[test]
fn recovery_invariant_an_extra_segment_is_refused_or_ignored() {
    let set = DataSet::new(start_seed(), true);
    let other = DataSet::new(start_seed() + 1, true);
    let last = set.segments.last().expect("segments");
    let next = format!("WAL/wal-{:06}.seg", set.segments.len() + 1);
    let after_a_gap = format!("WAL/wal-{:06}.seg", set.segments.len() + 2);
    let mut cases = vec![
        (next.clone(), set.read_file(last)),
        (next.clone(), other.read_file(&other.segments[0])),
        (next.clone(), vec![0xA5; 16 << 10]),
        (next.clone(), vec![0; 16 << 10]),
        (next, Vec::new()),
        (after_a_gap, set.read_file(last)),
    ];
    for segment in &set.segments {
        cases.push((segment.clone(), other.read_file(&other.segments[0])));
    }
    for (path, bytes) in cases {
        let copy = set.copy();
        copy.write_file(&path, &bytes);
        let line = || format!("{path} of {} bytes put there", bytes.len());
        if let Opened::State(count) = set.open(&copy, &line) {
            assert_eq!(count, set.commit_count, "{}", line());
        }
    }
}

#[test]
fn recovery_invariant_the_manifest_of_another_database_or_of_another_time_is_refused() {
    let set = DataSet::new(start_seed(), true);
    let other = DataSet::new(start_seed() + 1, true);
    let copy = set.copy();
    copy.write_file(MANIFEST, &other.read_file(MANIFEST));
    let opened = set.open(&copy, &|| "another database's MANIFEST".to_owned());
    assert!(matches!(opened, Opened::Refused(_)), "{opened:?}");

    let copy = set.copy();
    copy.remove_file(MANIFEST);
    let opened = set.open(&copy, &|| "no MANIFEST".to_owned());
    assert!(
        matches!(opened, Opened::Refused(OpenError::MissingManifest)),
        "{opened:?}"
    );
}

#[test]
fn storage_invariant_s3_each_record_parses_alone_and_every_flipped_bit_of_it_is_detected() {
    let set = DataSet::new(start_seed(), false);
    let bytes = set.read_file(&set.segments[0]);
    let parse = |bytes| Record::parse(bytes, u32::MAX);
    let batches = (DATA_OFFSET..bytes.len())
        .step_by(BLOCK_LEN_BYTES)
        .map(|at| &bytes[at..]);
    let (record, len) = batches
        .filter_map(|batch| {
            let (mark, mark_len) = parse(batch).ok()?;
            let (record, len) = parse(&batch[mark_len..]).ok()?;
            let is_mark = mark.head.txn_id == 0 && record.head.txn_id != 0;
            is_mark.then(|| (&batch[mark_len..mark_len + len], len))
        })
        .next()
        .expect("a batch with a record");
    for bit in 0..len * 8 {
        let mut flipped = record.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let parsed = Record::parse(&flipped, u32::MAX);
        assert!(parsed.is_err(), "bit {bit} of a record of {len} bytes");
    }
}
