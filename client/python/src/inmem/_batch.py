"""The changes of a batch, gathered; how they are sent is the client's."""

from __future__ import annotations

from typing import Any, TypeVar

from . import calls
from .calls import ExpectedVersion
from .types import MISSING, BatchResult, Key, Missing, Value

B = TypeVar("B", bound="BatchChanges")


class BatchChanges:
    """Changes that happen together or not at all. Each method gives the batch back."""

    def __init__(self) -> None:
        self._operations: list[dict[str, Any]] = []
        self._reads: list[dict[str, Any]] = []
        self._start_version: int | None = None

    def __len__(self) -> int:
        return len(self._operations)

    def read(self: B, key: Key, version: int) -> B:
        """Refuses the batch unless this is still the version of the key; 0: it never existed."""
        self._reads.append({"key": key, "version": int(version)})
        return self

    def unchanged_since(self: B, key: Key, start_version: int) -> B:
        """Refuses the batch if the key changed after this commit version. One batch has one."""
        self._start_version = int(start_version)
        self._reads.append({"key": key})
        return self

    def put(self: B, key: Key, value: Value) -> B:
        """Puts a value."""
        return self._add("put", key=key, value=value)

    def delete(self: B, key: Key) -> B:
        """Deletes a key."""
        return self._add("delete", key=key)

    def put_if_absent(self: B, key: Key, value: Value) -> B:
        """Puts a value; refuses the batch if the key exists."""
        return self._add("put_if_absent", key=key, value=value)

    def cas_version(self: B, key: Key, expected: ExpectedVersion, value: Value) -> B:
        """Puts a value; refuses the batch if the key is at another version."""
        if expected is MISSING:
            return self._add("cas_version", key=key, value=value)
        return self._add("cas_version", key=key, value=value, expected=int(expected))

    def cas_value(self: B, key: Key, expected: Value | Missing, value: Value) -> B:
        """Puts a value; refuses the batch if the key has another one."""
        if expected is MISSING:
            return self._add("cas_value", key=key, value=value)
        return self._add("cas_value", key=key, value=value, expected=expected)

    def incr(self: B, key: Key, delta: int = 1) -> B:
        """Adds to an integer."""
        return self._add("incr", key=key, delta=delta)

    def _add(self: B, change: str, **params: Any) -> B:
        self._operations.append({change: params})
        return self

    def _call(self) -> calls.Call[BatchResult]:
        return calls.commit_batch(self._operations, self._reads, self._start_version)
