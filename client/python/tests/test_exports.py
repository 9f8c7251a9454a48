"""Exports, blocking and awaited."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Iterator

import pytest

import inmem
from inmem import AsyncClient, Client, calls
from inmem.testing import Daemon


@pytest.fixture
def daemon(inmem_daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """One of its own, which exports to a directory of the test."""
    (tmp_path / "exports").mkdir(mode=0o700)
    with Daemon(arguments=["--export-dir", str(tmp_path / "exports")]) as own:
        yield own


def test_a_daemon_started_on_an_export_has_what_was_in_it(daemon: Daemon, tmp_path: Path) -> None:
    with Client(daemon.socket) as client:
        last = client.kv.put("key", 1).commit_version
        made = client.export("data.inmem")
        client.kv.put("key", 2)
        assert made.path == str(tmp_path / "exports" / "data.inmem")
        assert (made.watermark_txn, made.checkpoint_watermark) == (last, 0)
        assert len(made.digest) == 64 and 0 < made.size_bytes
        with pytest.raises(inmem.Constraint) as exists:
            client.export("data.inmem")
        assert exists.value.code == "already_exists"
        for name in ("", "..", "a/b", ".hidden"):
            with pytest.raises(inmem.InvalidArgument):
                client.export(name)
        with client.transaction() as transaction:
            with pytest.raises(inmem.State) as inside:
                transaction._open().run(calls.export("inside"))
            assert inside.value.code == "not_in_transaction"
    with Daemon(tmp_path / "exports") as clone, Client(clone.socket) as client:
        assert client.kv.get("key") == 1


def test_without_a_directory_to_export_to_the_setting_is_named(inmem_daemon: Daemon) -> None:
    with Client(inmem_daemon.socket) as client:
        with pytest.raises(inmem.Unavailable, match="export_dir"):
            client.export("data.inmem")


def test_the_same_awaited(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            writes = (client.kv.put(f"k/{number}", number) for number in range(50))
            made, *_ = await asyncio.gather(client.export("one"), *writes)
            again = await client.export("two")
            assert made.watermark_txn <= again.watermark_txn
            assert await client.kv.count("k/") == 50

    asyncio.run(main())
