"""Checkpoints, compaction and the list of snapshots, blocking and awaited."""

from __future__ import annotations

import asyncio
from typing import Iterator

import pytest

import inmem
from inmem import AsyncClient, Client, calls
from inmem.testing import Daemon


@pytest.fixture
def daemon(inmem_daemon: Daemon) -> Iterator[Daemon]:
    """One of its own: snapshots are of the whole database."""
    with Daemon() as own:
        yield own


def test_a_killed_daemon_starts_with_the_snapshot_that_was_asked_for(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        with pytest.raises(inmem.Io) as refused:
            client.compact()
        assert refused.value.code == "no_snapshot"
        last = client.kv.put("key", 1).commit_version
        taken = client.checkpoint()
        assert (taken.snapshot_id, taken.watermark_txn) == (1, last)
        client.kv.put("behind", 2)
    daemon.kill()
    daemon.start()
    with Client(daemon.socket) as client:
        assert client.info().measures["recovery_snapshot_id"] == 1
        assert client.info().measures["recovery_record_count"] == 1
        assert client.kv.get_many(["key", "behind"]) == [1, 2]
        second = client.checkpoint()
        compacted = client.compact("wal_only")
        assert compacted.mode == "wal_only"
        assert compacted.snapshot_watermark == second.watermark_txn
        listed = client.list_snapshots()
        assert [info.snapshot_id for info in listed] == [1, 2]
        assert listed[1].size_bytes == second.size_bytes
        assert listed[1].created_at_us == second.timestamp_us
        with pytest.raises(inmem.InvalidArgument):
            client.delete_snapshot(2)
        assert client.delete_snapshot(1)
        assert not client.delete_snapshot(1)
        unknown = calls.Call("db.compact", {"mode": "all"}, calls.compact().read)
        with pytest.raises(inmem.InvalidArgument, match="wal_only"):
            client.execute(unknown)
        with client.transaction() as transaction:
            scope = transaction._open()
            with pytest.raises(inmem.State) as inside:
                scope.run(calls.checkpoint())
            assert inside.value.code == "not_in_transaction"


def test_the_same_awaited(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            last = (await client.kv.put("key", 1)).commit_version
            writes = (client.kv.put(f"k/{number}", number) for number in range(50))
            taken, *_ = await asyncio.gather(client.checkpoint(), *writes)
            assert last <= taken.watermark_txn
            assert (await client.compact()).wal_segments_removed == 0
            assert [info.snapshot_id for info in await client.list_snapshots()] == [1]
            assert await client.delete_snapshot(7) is False
            assert await client.kv.count("k/") == 50

    asyncio.run(main())
