"""Reads a closed database directory without in-mem: every version of every key, one line each.

Written from the drawings at the head of the files that write the formats (`snapshot/src/manifest.rs`,
`snapshot/src/image/format.rs` and `meta.rs`, `engine/src/once_image.rs`, `engine/src/snapshot_view.rs`,
`wal/src/format/`, `engine/src/writeset.rs`), and from nothing else; the standard library is enough.
Every checksum is compared. Usage: reader.py DIRECTORY

A line: run, key as text, commit version, microseconds since the epoch, the encoded value in hex or
"deleted". Sorted by run, key and falling version.
"""

import os
import re
import struct
import sys
import zlib

KV = 1


class Damaged(Exception):
    """A file is not as drawn."""


class OtherCodec(Exception):
    """Whole, as far as one can see, and not for this reader."""


def need(holds, what):
    if not holds:
        raise Damaged(what)


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


class Cursor:
    """Takes one field after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "a field is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def is_at_end(self):
        return self.at == len(self.data)


def read_manifest(directory):
    with open(os.path.join(directory, "MANIFEST"), "rb") as file:
        data = file.read()
    need(zlib.crc32(data[:-4]) == u32(data, len(data) - 4), "MANIFEST: checksum")
    fields = Cursor(data)
    need(fields.take(4) == b"IMMF" and fields.u32() == 1, "MANIFEST: magic and version")
    uuid = fields.take(16)
    codec = fields.take(fields.u32())
    if codec != b"identity":
        name = codec.decode("utf-8", "replace")
        raise OtherCodec(f"the data is stored with the codec {name}; this reader knows identity alone")
    fields.u64()  # a hint
    watermark, snapshot = fields.u64(), fields.u64()
    need(len(data) == 56 + len(codec), "MANIFEST: length")
    return uuid, watermark, snapshot


def sections(data):
    """The plain bytes of each section of a snapshot, by type."""
    need(data[:10] == b"INMEM_SNAP" and u32(data, 10) == 1, "snapshot: magic and version")
    end = len(data) - 4
    need(zlib.crc32(data[:end]) == u32(data, end), "snapshot: checksum")
    found, at = {}, 39
    for _ in range(data[38]):
        kind, data_len = data[at], u64(data, at + 1)
        at += 9
        stop, plain = at + data_len, b""
        while True:
            plain_len, stored_len, crc = struct.unpack_from("<III", data, at)
            at += 12
            if plain_len == 0:
                break
            stored = data[at : at + stored_len]
            need(zlib.crc32(stored) == crc and plain_len == stored_len, "snapshot: block")
            plain += stored
            at += stored_len
        need(at == stop, "snapshot: length of a section")
        found[kind] = plain
    need(at == end, "snapshot: length")
    return found


def read_snapshot(directory, uuid, watermark, number):
    with open(os.path.join(directory, "SNAPSHOTS", f"snap-{number:06}.chk"), "rb") as file:
        data = file.read()
    found = sections(data)
    meta = Cursor(found[0])
    need(meta.u64() == number and meta.u64() == watermark, "snapshot: not the named one")
    need(meta.take(16) == uuid, "snapshot: another database's")
    versions = {}
    entities = Cursor(found[KV])
    while not entities.is_at_end():
        run, key = entities.take(16), entities.take(entities.u32())
        entities.u64()  # trim floor
        chain = versions.setdefault((run, key), {})
        for _ in range(entities.u32()):
            _, commit, timestamp, flags, _ = (
                entities.u64(), entities.u64(), entities.u64(), entities.u8(), entities.u64(),
            )
            value = entities.take(entities.u32())
            chain[commit] = (timestamp, None if flags & 1 else value)
    return versions, u64(data, 22) >> 32


def apply_writeset(versions, run, commit, timestamp, data):
    entries = Cursor(data)
    for _ in range(entries.u32()):
        kind, entry_type, payload_version = entries.u8(), entries.u8(), entries.u8()
        need(payload_version == 1, "writeset: version of a payload")
        primitive, body = None, b""
        if kind != 0:
            primitive = entries.u8()
            need(entries.take(16) == run, "writeset: another run's entry")
            if primitive == KV:
                body = entries.take(entries.u32())
        entries.u64()
        value = entries.take(entries.u32())
        if primitive == KV:
            chain = versions.setdefault((run, body), {})
            # An entry that expires: 0xC1, the moment, the value.
            value = value[9:] if value[:1] == b"\xc1" else value
            chain[commit] = (timestamp, value if kind == 1 else None)
    need(entry_type == 0 and entries.is_at_end(), "writeset: no commit marker at its end")


def record(data, at):
    length = u32(data, at)
    need(37 <= length and at + 4 + length <= len(data), f"record at {at}: length")
    body = data[at + 4 : at + length]
    need(zlib.crc32(body) == u32(data, at + length), f"record at {at}: checksum")
    return at + 4 + length, u64(body, 1), body[9:25], u64(body, 25), body[33:]


def read_segment(path, number, uuid, watermark, versions):
    with open(path, "rb") as file:
        data = file.read()
    need(data[:4] == b"IMWL" and u32(data, 4) == 1, f"{path}: magic and version")
    need(u64(data, 8) == number and data[16:32] == uuid, f"{path}: number and database")
    at = 4096
    while at < len(data) and u32(data, at) != 0:
        start = at
        at, commit, owner, _, mark = record(data, at)
        need(commit == 0 and owner == uuid, f"{path}: no mark at {start}")
        log_block, batch_len = struct.unpack_from("<HI", mark, 1)
        need(u64(mark, 7) == number << 32 | start, f"{path}: a mark of elsewhere at {start}")
        while at < start + batch_len:
            at, commit, run, timestamp, writeset = record(data, at)
            if watermark < commit:
                apply_writeset(versions, run, commit, timestamp, writeset)
        at = -(-(start + batch_len) // log_block) * log_block


def main(directory):
    uuid, watermark, snapshot = read_manifest(directory)
    versions, first = {}, 1
    if snapshot != 0:
        versions, first = read_snapshot(directory, uuid, watermark, snapshot)
    names = os.listdir(os.path.join(directory, "WAL"))
    numbers = sorted(int(n[1]) for n in (re.fullmatch(r"wal-(\d{6,})\.seg", n) for n in names) if n)
    numbers = [number for number in numbers if first <= number]
    need(numbers == list(range(first, first + len(numbers))), "the log has a hole")
    for number in numbers:
        path = os.path.join(directory, "WAL", f"wal-{number:06}.seg")
        read_segment(path, number, uuid, watermark, versions)
    for (run, key), chain in sorted(versions.items()):
        run = run.hex()
        run = "-".join((run[:8], run[8:12], run[12:16], run[16:20], run[20:]))
        for commit, (timestamp, value) in sorted(chain.items(), reverse=True):
            shown = "deleted" if value is None else value.hex()
            print(run, key.decode(), commit, timestamp, shown)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OtherCodec as refusal:
        sys.exit(f"reader.py: {refusal}")
