//! The bytes of a writeset: what is written reads back, and nothing else is believed.

use in_mem_model::RunId;

use crate::registry::PrimitiveRegistry;
use crate::writeset::{EntityRef, MutationKind, WritesetWriter, entry_type};
use crate::writeset_reader::{RecordHead, WritesetError, read_writeset};

const RUN: RunId = RunId([7; 16]);
const HEAD: RecordHead = RecordHead {
    run_id: RUN,
    commit_version: 300,
    timestamp_us: 5,
};

fn registry() -> PrimitiveRegistry {
    let mut registry = PrimitiveRegistry::new();
    registry
        .register(std::sync::Arc::new(crate::kv_storage::KvStorage))
        .unwrap();
    let runs = crate::run_storage::RunStorage::new(false);
    registry.register(std::sync::Arc::new(runs)).unwrap();
    registry
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
