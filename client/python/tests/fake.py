"""A server of a few lines, to lose connections and answers exactly where a test wants."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from typing import Any, Callable

import msgpack

from inmem import _wire

Script = Callable[["FakeServer", int, dict[str, Any]], Any]
"""Takes the number of the request and the request; gives an answer, `LOSE` or `SILENCE`."""

LOSE = object()
"""End the connection instead of answering."""
SILENCE = object()
"""Say nothing."""

RECEIPT = {
    "version": {"type": "txn", "value": 5},
    "commit_version": 5,
    "level": "logged",
}
WRITTEN = {"ok": True, "kind": "written", "result": RECEIPT}
SEVEN = {"ok": True, "kind": "value", "result": 7}
BEGUN = {"ok": True, "kind": "txn_begun", "result": {"txn_id": 3, "start_version": 1}}


_CLASSES = {"transaction_not_active": 6, "read_conflict": 7, "internal": 10}


def refusal(code: str) -> dict[str, Any]:
    """An error of the store."""
    error = {"class": _CLASSES.get(code, 9), "sub": 0, "code": code, "message": "no", "retry": "later"}
    return {"ok": False, "error": {**error, "outcome": "not_committed"}}


class FakeServer:
    """Answers as its script says, on as many connections as come."""

    def __init__(self, script: Script, *, registered_at: int | None = 42) -> None:
        self._directory = tempfile.mkdtemp(prefix="inmem-")
        self.path = os.path.join(self._directory, "s.sock")
        self._script = script
        self._registered_at = registered_at
        self.requests: list[dict[str, Any]] = []
        self.hellos: list[dict[int, bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_listening()
        for connection in self._connections:
            connection.close()

    def stop_listening(self) -> None:
        """No further connection is made."""
        if 0 <= self._listener.fileno():
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        frames = _wire.FrameReader()
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            for frame in frames.feed(data):
                if frame.kind == _wire.HELLO:
                    self.hellos.append(dict(_wire._fields(frame.body)))
                    connection.sendall(self._greeting())
                    continue
                request = msgpack.unpackb(frame.body)
                self.requests.append(request)
                answer = self._script(self, len(self.requests), request)
                if answer is LOSE:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                if answer is not SILENCE:
                    body = msgpack.packb(answer)
                    connection.sendall(
                        _wire.encode_frame(_wire.RESPONSE, body, frame.request_id)
                    )

    def _greeting(self) -> bytes:
        fields = [(1, b"\1\0"), (2, b"\1"), (3, b"fake"), (5, bytes(16)), (6, b"\1")]
        if self._registered_at is not None:
            fields.append((10, struct.pack("<Q", self._registered_at)))
        body = b"".join(struct.pack("<HH", id, len(content)) + content for id, content in fields)
        return _wire.encode_frame(_wire.HELLO_REPLY, body)
