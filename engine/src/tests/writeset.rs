//! The bytes of a writeset: what is written reads back, and nothing else is believed.

use in_mem_model::RunId;

use crate::registry::PrimitiveRegistry;
use crate::writeset::{EntityRef, MutationKind, WritesetWriter, entry_type};
use crate::writeset_reader::{Mutations, RecordHead, Unknown, WritesetError};

const RUN: RunId = RunId([7; 16]);
const HEAD: RecordHead = RecordHead {
    run_id: RUN,
    commit_version: 300,
    timestamp_us: 5,
};

pub(super) fn registry() -> PrimitiveRegistry {
    let mut registry = PrimitiveRegistry::new();
    registry
        .register(std::sync::Arc::new(crate::kv_storage::KvStorage))
        .unwrap();
    let runs = crate::run_storage::RunStorage::new(false);
    registry.register(std::sync::Arc::new(runs)).unwrap();
    registry
}

fn read_writeset<'a>(
    bytes: &'a [u8],
    head: RecordHead,
    registry: &PrimitiveRegistry,
) -> Result<Vec<crate::WalEntry<'a>>, WritesetError> {
    read(bytes, head, registry, Unknown::Refused).map(|mutations| mutations.entries)
}

fn read<'a>(
    bytes: &'a [u8],
    head: RecordHead,
    registry: &PrimitiveRegistry,
    unknown: Unknown,
) -> Result<Mutations<'a>, WritesetError> {
    crate::writeset_reader::read_writeset(bytes, head, registry, unknown)
}

fn written(stays: [bool; 4]) -> Vec<u8> {
    let mut writer = WritesetWriter::begin(vec![9; 10], RUN);
    let put = |writer: &mut WritesetWriter, key: &[u8], value: &[u8]| {
        writer.push(
            MutationKind::Put,
            entry_type::KV_PUT,
            EntityRef::Kv(key),
            value,
        )
    };
    let first = put(&mut writer, b"first", b"one");
    let third = put(&mut writer, b"third", b"three");
    writer.static_entries_end();
    let late = put(&mut writer, b"late", b"two");
    let run = writer.push(
        MutationKind::Put,
        entry_type::RUN_UPDATE,
        EntityRef::Run,
        b"info",
    );
    let spans = [
        (first, stays[0]),
        (late, stays[1]),
        (third, stays[2]),
        (run, stays[3]),
    ];
    writer.finish(300, spans.into_iter())
}

#[test]
fn entries_that_do_not_write_are_closed_up_and_the_others_read_back() {
    for mask in 0..16_u8 {
        let stays = [mask & 1 != 0, mask & 2 != 0, mask & 4 != 0, mask & 8 != 0];
        let bytes = written(stays);
        let entries = read_writeset(&bytes, HEAD, &registry()).unwrap();
        let bodies: Vec<&[u8]> = entries.iter().map(|entry| entry.body).collect();
        let all: [(&[u8], bool); 4] = [
            (b"first", stays[0]),
            (b"third", stays[2]),
            (b"late", stays[1]),
            (b"", stays[3]),
        ];
        let expected: Vec<&[u8]> = all
            .iter()
            .filter(|(_, s)| *s)
            .map(|(key, _)| *key)
            .collect();
        assert_eq!(bodies, expected);
        assert!(
            entries
                .iter()
                .all(|entry| entry.version == 300 && entry.timestamp_us == 5)
        );
    }
}

#[test]
fn the_bytes_of_one_put_are_the_published_ones() {
    let mut writer = WritesetWriter::begin(Vec::new(), RUN);
    let span = writer.push(
        MutationKind::Put,
        entry_type::KV_PUT,
        EntityRef::Kv(b"k"),
        b"v",
    );
    let bytes = writer.finish(300, [(span, true)].into_iter());
    let mut expected = vec![2, 0, 0, 0, 1, 0x10, 1, 1];
    expected.extend_from_slice(&[7; 16]);
    expected.extend_from_slice(&[
        1, 0, 0, 0, b'k', 0x2c, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'v',
    ]);
    expected.extend_from_slice(&[0, 0, 1, 0x2c, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes, expected);
}

#[test]
fn every_truncation_is_refused_and_no_changed_byte_panics() {
    let bytes = written([true; 4]);
    for len in 0..bytes.len() {
        assert!(
            read_writeset(&bytes[..len], HEAD, &registry()).is_err(),
            "{len} bytes"
        );
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = read_writeset(&changed, HEAD, &registry());
        }
    }
}

#[test]
fn each_flaw_has_its_own_error() {
    let good = written([true; 4]);
    let check = |bytes: &[u8], head: RecordHead, expected: fn(&WritesetError) -> bool| {
        let error = read_writeset(bytes, head, &registry()).unwrap_err();
        assert!(expected(&error), "{error:?}");
    };
    let mut trailing = good.clone();
    trailing.push(0);
    check(&trailing, HEAD, |error| {
        matches!(error, WritesetError::TrailingBytes { count: 1 })
    });
    let other = RecordHead {
        commit_version: 301,
        ..HEAD
    };
    check(&good, other, |error| {
        matches!(error, WritesetError::MissingCommit)
    });
    let elsewhere = RecordHead {
        run_id: RunId([8; 16]),
        ..HEAD
    };
    check(&good, elsewhere, |error| {
        matches!(error, WritesetError::InvalidEntityRef { .. })
    });
    let mut kind = good.clone();
    kind[4] = 4;
    check(&kind, HEAD, |error| {
        matches!(error, WritesetError::InvalidTag { tag: 4, .. })
    });
    let mut unknown = good.clone();
    unknown[5] = 0x20;
    check(&unknown, HEAD, |error| {
        matches!(error, WritesetError::UnknownEntryType { entry_type: 0x20 })
    });
    let mut fewer = good;
    fewer[0] -= 1;
    check(&fewer, HEAD, |error| {
        matches!(error, WritesetError::MissingCommit)
    });
}

/// A control entry.
fn control(entry_type: u8, version: u64, value: &[u8]) -> Vec<u8> {
    let mut entry = vec![0, entry_type, 1];
    entry.extend_from_slice(&version.to_le_bytes());
    entry.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
    entry.extend_from_slice(value);
    entry
}

/// A writeset of these entries and the marker.
fn committed(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = u32::try_from(entries.len() + 1)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    entries
        .iter()
        .for_each(|entry| bytes.extend_from_slice(entry));
    bytes.extend_from_slice(&control(
        entry_type::TRANSACTION_COMMIT,
        HEAD.commit_version,
        &[],
    ));
    bytes
}

fn attributes(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut value = vec![1];
    for (id, bytes) in fields {
        value.push(*id);
        value.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_le_bytes());
        value.extend_from_slice(bytes);
    }
    control(entry_type::COMMIT_ATTRIBUTES, 0, &value)
}

#[test]
fn commit_attributes_stand_once_before_the_marker_and_their_fields_are_checked() {
    let good: [&[(u8, &[u8])]; 4] = [
        &[],
        &[(1, &[7; 16]), (2, &[0; 8]), (3, &[0; 4096]), (4, &[1; 8])],
        &[(16, "agent".as_bytes()), (17, &[0; 8]), (18, &[0; 16])],
        // Of a later version, without effect on what is stored.
        &[(19, &[0; 8]), (20, &[]), (200, &[1, 2, 3])],
    ];
    for fields in good {
        let bytes = committed(&[attributes(fields)]);
        assert!(
            read_writeset(&bytes, HEAD, &registry()).is_ok(),
            "{fields:?}"
        );
    }
    let bad: [&[(u8, &[u8])]; 8] = [
        &[(0, &[])],
        &[(1, &[7; 15])],
        &[(2, &[0; 9])],
        &[(3, &[0; 4097])],
        &[(16, &[0xFF])],
        &[(17, &[0; 4])],
        &[(2, &[0; 8]), (1, &[7; 16])],
        &[(20, &[]), (20, &[])],
    ];
    for fields in bad {
        let bytes = committed(&[attributes(fields)]);
        let error = read_writeset(&bytes, HEAD, &registry()).unwrap_err();
        assert!(
            matches!(error, WritesetError::InvalidTag { .. }),
            "{fields:?} {error:?}"
        );
    }
    for (value, is_cut) in [
        (&[][..], true),
        (&[2], false),
        (&[1, 1], true),
        (&[1, 20, 1, 0], true),
    ] {
        let entry = control(entry_type::COMMIT_ATTRIBUTES, 0, value);
        let error = read_writeset(&committed(&[entry]), HEAD, &registry()).unwrap_err();
        let is_insufficient = matches!(error, WritesetError::InsufficientData { .. });
        assert_eq!(is_insufficient, is_cut, "{value:?} {error:?}");
    }
    let abort = control(entry_type::TRANSACTION_ABORT, 0, &[]);
    for follows in [attributes(&[]), abort] {
        let bytes = committed(&[attributes(&[]), follows]);
        let error = read_writeset(&bytes, HEAD, &registry()).unwrap_err();
        let tag = entry_type::COMMIT_ATTRIBUTES;
        assert!(matches!(error, WritesetError::InvalidTag { tag: got, .. } if got == tag));
    }
}

#[test]
fn mutations_of_unknown_types_are_passed_over_only_when_asked() {
    let mut bytes = written([true; 4]);
    bytes[5] = 0x20;
    // A payload of a later version, too.
    bytes[6] = 2;
    assert_eq!(
        read_writeset(&bytes, HEAD, &registry()).unwrap_err(),
        WritesetError::InvalidTag { tag: 2, offset: 4 }
    );
    let mutations = read(&bytes, HEAD, &registry(), Unknown::Skipped).unwrap();
    assert_eq!(mutations.skipped_count, 1);
    assert_eq!(mutations.entries.len(), 3);
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len], HEAD, &registry(), Unknown::Skipped).is_err());
    }
}
