"""The retention policy of a run, blocking and awaited."""

from __future__ import annotations

import asyncio

import pytest

import inmem
from inmem import AsyncClient, Client
from inmem.testing import Daemon


def test_a_policy_is_set_previewed_and_taken_away(inmem_daemon: Daemon) -> None:
    with Client(inmem_daemon.socket) as client:
        run = client.runs.open(client.runs.begin("kept-python").info.id)
        assert run.retention() == inmem.Retention(None, "keep-all")
        for value in range(4):
            run.kv.put("key", value)
        receipt = run.set_retention("keep-last  2")
        found = run.retention()
        assert found.own is not None
        assert (found.own.policy, found.effective) == ("keep-last 2", "keep-last 2")
        assert found.own.version == receipt.commit_version
        stats = run.retention_stats()
        assert (stats.policy, stats.removable_count) == ("keep-last 2", 2)
        assert run.retention_preview("keep-last 1").removable_count == 3
        assert run.kv.count() == 1
        with pytest.raises(inmem.InvalidArgument, match="keep-last"):
            run.set_retention("keep-some")
        run.clear_retention()
        assert run.retention().own is None
        run.end()
        with pytest.raises(inmem.Constraint):
            run.set_retention("keep-all")


def test_the_same_awaited(inmem_daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(inmem_daemon.socket) as client:
            begun = await client.runs.begin("kept-awaited")
            run = await client.runs.open(begun.info.id)
            await run.set_retention("union(keep-last 3, keep-for 7d)")
            found = await run.retention()
            assert found.effective == "union(keep-last 3, keep-for 7d)"
            assert (await run.retention_stats()).removable_count == 0
            assert (await run.retention_preview("keep-last 1")).version_count == 0
            await run.clear_retention()
            assert (await run.retention()).own is None

    asyncio.run(main())


def test_an_entry_expires_in_both_clients(inmem_daemon: Daemon) -> None:
    with Client(inmem_daemon.socket) as client:
        kv = client.runs.open(client.runs.begin("expiring-python").info.id).kv
        kv.put_with_ttl("soon", 1, 0.000_001)
        receipt = kv.put_with_ttl("later", 2, 3600)
        assert kv.get("soon") is inmem.MISSING
        assert kv.expires_at("soon") is None
        expires_at_us = kv.expires_at("later")
        assert expires_at_us is not None
        found = kv.get_versioned("later")
        assert found is not None
        assert found.version.value == receipt.commit_version
        assert expires_at_us == found.timestamp_us + 3_600_000_000
        assert kv.incr("later", 1).value == 3
        assert kv.expires_at("later") == expires_at_us
        with pytest.raises(inmem.InvalidArgument):
            kv.put_with_ttl("never", 1, 0)

    async def main() -> None:
        async with AsyncClient(inmem_daemon.socket) as client:
            await client.kv.put_with_ttl("soon-awaited", 1, 0.000_001)
            assert await client.kv.get("soon-awaited") is inmem.MISSING
            assert await client.kv.expires_at("soon-awaited") is None

    asyncio.run(main())
