"""Frames and greetings: bytes in, bytes out, no sockets.

A frame is a 32-byte header, a body, and zeros up to the next multiple of 16. Greetings (hello, hello
reply, close) are tagged fields: id u16, length u16, content. All little-endian. Requests and
answers are MessagePack maps. The server's `ipc/src/frame.rs`, `hello.rs` and `message_pack/` draw
all of it.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field
from typing import Any, Iterator

import msgpack

from . import errors
from .types import Durability

PROTOCOL_VERSION = 1
ENCODING_MESSAGE_PACK = 1
FRAME_LEN_BYTES_MAX = 65 << 20
"""Largest frame, bytes."""

HELLO, HELLO_REPLY, REQUEST, RESPONSE, PUSH, CLOSE = range(1, 7)

_HEADER = struct.Struct("<4sHBBIIQQ")
_MAGIC = b"IMFR"
_FIELD = struct.Struct("<HH")
_DURABILITIES: dict[str | None, int] = {"in_memory": 0, "buffered": 1, "strict": 2, None: 255}
REFUSED = 6
"""The reason of a close that answers a hello which asked for what cannot be had."""

_CLOSE_REASONS: dict[int, tuple[type[errors.InmemError], str]] = {
    0: (errors.Unavailable, "unavailable"),
    1: (errors.Unavailable, "unavailable"),
    2: (errors.ProtocolError, "protocol_mismatch"),
    3: (errors.ProtocolError, "protocol_violation"),
    4: (errors.AccessDenied, "permission_denied"),
    5: (errors.Unavailable, "resource_exhausted"),
    REFUSED: (errors.InvalidArgument, "invalid_argument"),
}


def protocol_violation(message: str) -> errors.ProtocolError:
    """The other side sent what has no meaning here."""
    return errors.ProtocolError(message, code="protocol_violation")


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame."""

    kind: int
    request_id: int
    subscription_id: int
    body: bytes


def encode_frame(kind: int, body: bytes, request_id: int = 0) -> bytes:
    """The bytes of a frame."""
    padding = -len(body) % 16
    if FRAME_LEN_BYTES_MAX < _HEADER.size + len(body) + padding:
        message = f"a request of {len(body)} bytes exceeds the largest frame"
        raise errors.InvalidValue(message, code="value_too_large", outcome=errors.NOT_COMMITTED)
    header = _HEADER.pack(_MAGIC, PROTOCOL_VERSION, kind, 0, len(body), 0, request_id, 0)
    return header + body + bytes(padding)


class FrameReader:
    """Cuts frames from the bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes bytes; gives the frames that are whole now."""
        self._buffer += data
        while True:
            frame = self._next()
            if frame is None:
                return
            yield frame

    def _next(self) -> Frame | None:
        if len(self._buffer) < _HEADER.size:
            return None
        header = _HEADER.unpack_from(self._buffer)
        magic, _version, kind, _flags, body_len, _checksum, request_id, subscription_id = header
        if magic != _MAGIC:
            raise protocol_violation("the server sent a bad frame")
        if FRAME_LEN_BYTES_MAX < body_len:
            raise protocol_violation(f"the server sent a frame of {body_len} bytes")
        body_end = _HEADER.size + body_len
        frame_end = body_end + -body_len % 16
        if len(self._buffer) < frame_end:
            return None
        body = bytes(self._buffer[_HEADER.size : body_end])
        del self._buffer[:frame_end]
        return Frame(kind, request_id, subscription_id, body)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a client."""

    run: str | uuid.UUID | None = None
    durability: Durability | None = None
    client_id: bytes | None = None
    registered_at: int | None = None
    name: str = ""

    def encode(self) -> bytes:
        """The frame."""
        version = struct.pack("<H", PROTOCOL_VERSION)
        fields = [(1, version), (2, version), (3, bytes([ENCODING_MESSAGE_PACK]))]
        if isinstance(self.run, uuid.UUID):
            fields.append((5, self.run.bytes))
        elif self.run is not None:
            fields.append((6, self.run.encode()))
        fields.append((7, bytes([_DURABILITIES[self.durability]])))
        if self.client_id is not None:
            fields.append((8, self.client_id))
        if self.registered_at is not None:
            fields.append((9, struct.pack("<Q", self.registered_at)))
        fields.append((10, self.name.encode()))
        fields.append((11, b"python 0.1.0"))
        body = b"".join(_FIELD.pack(id, len(content)) + content for id, content in fields)
        return encode_frame(HELLO, body)


@dataclass(slots=True)
class Greeting:
    """What the server said first."""

    server_version: str = ""
    run_id: uuid.UUID = uuid.UUID(int=0)
    operations: frozenset[str] = frozenset()
    limits: dict[str, int] = field(default_factory=dict)
    registered_at: int | None = None
    """For a client id: since when the server keeps its results; None if it does not."""

    @classmethod
    def decode(cls, body: bytes) -> Greeting:
        """Reads a hello reply."""
        greeting = cls()
        operations = set()
        for id, content in _fields(body):
            if id == 2 and content != bytes([ENCODING_MESSAGE_PACK]):
                raise protocol_violation("the server chose an encoding nobody offered")
            if id == 3:
                greeting.server_version = content.decode()
            elif id == 5:
                greeting.run_id = uuid.UUID(bytes=content)
            elif id == 8:
                operations.add(content.decode())
            elif id == 9:
                greeting.limits[content[8:].decode()] = int.from_bytes(content[:8], "little")
            elif id == 10:
                greeting.registered_at = int.from_bytes(content, "little")
        greeting.operations = frozenset(operations)
        return greeting


@dataclass(frozen=True, slots=True)
class Close:
    """The last frame of the server."""

    reason: int
    message: str

    @classmethod
    def decode(cls, body: bytes) -> Close:
        """Reads a close."""
        found = dict(_fields(body))
        return cls(found[1][0], found[4].decode())

    def error(self) -> errors.InmemError:
        """Why there is no session."""
        unknown = (errors.Unavailable, "unavailable")
        kind, code = _CLOSE_REASONS.get(self.reason, unknown)
        return kind(self.message, code=code, outcome=errors.NOT_COMMITTED)


def _fields(body: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(body):
        if len(body) < offset + _FIELD.size:
            raise protocol_violation("the server sent a bad greeting")
        id, length = _FIELD.unpack_from(body, offset)
        offset += _FIELD.size
        content = body[offset : offset + length]
        if len(content) < length:
            raise protocol_violation("the server sent a bad greeting")
        yield id, content
        offset += length


def pack(message: dict[str, Any]) -> bytes:
    """A map as MessagePack; a value nobody can store is refused here."""
    try:
        packed: bytes = msgpack.packb(message, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise errors.InvalidValue(
            f"the value cannot be stored: {error}",
            code="serialization_error",
            outcome=errors.NOT_COMMITTED,
        ) from error
    return packed


def unpack(body: bytes) -> dict[str, Any]:
    """The map an answer is."""
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises many types
        raise protocol_violation("the server sent a bad answer") from error
    if not isinstance(message, dict):
        raise protocol_violation("the server sent a bad answer")
    return message
