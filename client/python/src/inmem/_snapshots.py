"""Snapshots of the database, as both clients offer them.

Nobody waits for any of this but who asks: reads and writes of all clients go on. A checkpoint takes
as long as its bytes take to be written and read back; a client that bears no such silence
(`timeout_s`) raises, and the server goes on.
"""

from __future__ import annotations

from typing import Awaitable, Protocol, TypeVar

from . import calls
from .calls import Call
from .types import CheckpointInfo, CompactInfo, CompactMode, SnapshotInfo

R = TypeVar("R")


class _Executes(Protocol):
    def execute(self, call: Call[R]) -> R: ...


class _Awaits(Protocol):
    def execute(self, call: Call[R]) -> Awaitable[R]: ...


class Snapshots:
    """What the blocking client adds."""

    def checkpoint(self: _Executes) -> CheckpointInfo:
        """Takes a snapshot of everything that logged commits have made, those acknowledged before
        the call included. When this returns, it is durable and the next start of the server begins
        with it. Raises `Io` with the code `already_in_progress` while another is under way."""
        return self.execute(calls.checkpoint())

    def compact(self: _Executes, mode: CompactMode = "wal_only") -> CompactInfo:
        """Lets go of the log that the newest snapshot has made superfluous; nothing that can be
        read changes. Raises `Io` with the code `no_snapshot` before the first checkpoint. With
        `full` first of the versions that the retention policy of their run lets go: they are gone
        for good, and reading them raises `HistoryTrimmed`."""
        return self.execute(calls.compact(mode))

    def list_snapshots(self: _Executes) -> list[SnapshotInfo]:
        """The snapshots there are, the oldest first."""
        return self.execute(calls.list_snapshots())

    def delete_snapshot(self: _Executes, snapshot_id: int) -> bool:
        """Removes a snapshot; False if there was none of that number. Raises `InvalidArgument` for
        the newest one, which the next start begins with."""
        return self.execute(calls.delete_snapshot(snapshot_id))


class AsyncSnapshots:
    """What the client for asyncio adds."""

    async def checkpoint(self: _Awaits) -> CheckpointInfo:
        """Takes a snapshot of everything that logged commits have made, those acknowledged before
        the call included. When this returns, it is durable and the next start of the server begins
        with it. Raises `Io` with the code `already_in_progress` while another is under way."""
        return await self.execute(calls.checkpoint())

    async def compact(self: _Awaits, mode: CompactMode = "wal_only") -> CompactInfo:
        """Lets go of the log that the newest snapshot has made superfluous; nothing that can be
        read changes. Raises `Io` with the code `no_snapshot` before the first checkpoint. With
        `full` first of the versions that the retention policy of their run lets go: they are gone
        for good, and reading them raises `HistoryTrimmed`."""
        return await self.execute(calls.compact(mode))

    async def list_snapshots(self: _Awaits) -> list[SnapshotInfo]:
        """The snapshots there are, the oldest first."""
        return await self.execute(calls.list_snapshots())

    async def delete_snapshot(self: _Awaits, snapshot_id: int) -> bool:
        """Removes a snapshot; False if there was none of that number. Raises `InvalidArgument` for
        the newest one, which the next start begins with."""
        return await self.execute(calls.delete_snapshot(snapshot_id))
