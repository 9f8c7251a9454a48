"""Entries that expire, as both clients offer them."""

from __future__ import annotations

from typing import Any

from .calls import Answer, Call, _expect, _written
from .types import Key, Receipt, Value


def put_with_ttl(key: Key, value: Value, ttl_s: float) -> Call[Receipt]:
    """Puts a value that expires so many seconds after its commit."""
    params = {"key": key, "value": value, "ttl_us": max(0, round(ttl_s * 1_000_000))}
    return Call("kv.put_with_ttl", params, _written, is_write=True)


def expires_at(key: Key) -> Call[int | None]:
    """When a key expires, microseconds since the epoch, or None."""
    count = _expect("count", lambda found: int(found) or None)

    def read(kind: str, result: Answer) -> int | None:
        return None if kind == "missing" else count(kind, result)

    return Call("kv.expires_at", {"key": key}, read)


class Expiring:
    """What the blocking client adds to keys and values."""

    _scope: Any

    def put_with_ttl(self, key: Key, value: Value, ttl_s: float) -> Receipt:
        """Puts a value that expires `ttl_s` seconds after the timestamp of its commit; then it
        reads as absent. A later put of the key without a time to live makes it stay, `incr` leaves
        the expiry as it is. Raises `InvalidArgument` for less than a microsecond."""
        receipt: Receipt = self._scope.run(put_with_ttl(key, value, ttl_s))
        return receipt

    def expires_at(self, key: Key) -> int | None:
        """When a key expires, microseconds since the epoch; None if it stays or does not exist."""
        found: int | None = self._scope.run(expires_at(key))
        return found


class AsyncExpiring:
    """What the client for asyncio adds to keys and values."""

    _scope: Any

    async def put_with_ttl(self, key: Key, value: Value, ttl_s: float) -> Receipt:
        """Puts a value that expires `ttl_s` seconds after the timestamp of its commit; then it
        reads as absent. A later put of the key without a time to live makes it stay, `incr` leaves
        the expiry as it is. Raises `InvalidArgument` for less than a microsecond."""
        receipt: Receipt = await self._scope.run(put_with_ttl(key, value, ttl_s))
        return receipt

    async def expires_at(self, key: Key) -> int | None:
        """When a key expires, microseconds since the epoch; None if it stays or does not exist."""
        found: int | None = await self._scope.run(expires_at(key))
        return found
