"""Runs: their life, their metadata, and that they do not see each other."""

from __future__ import annotations

import uuid

import pytest

import inmem
from inmem import Client


def test_a_run_has_the_life_its_methods_say(inmem_client: Client) -> None:
    name = f"planner-{uuid.uuid4()}"
    begun = inmem_client.runs.begin(
        name, tags=["a", "b"], metadata={"model": None}, description="a test"
    )
    assert begun.receipt.is_committed
    assert (begun.info.name, begun.info.tags, begun.info.status) == (name, ["a", "b"], "active")
    assert begun.info.metadata == {"model": None}
    again = inmem_client.runs.begin(name, if_missing=True)
    assert again.info.id == begun.info.id and not again.receipt.is_committed
    with pytest.raises(inmem.Constraint) as taken:
        inmem_client.runs.begin(name)
    assert taken.value.code == "already_exists"
    run = inmem_client.run(name)
    assert run.id == begun.info.id == inmem_client.runs.resolve(name)
    assert inmem_client.run(str(run.id)).id == run.id
    run.add_tags(["c"])
    run.remove_tags(["a"])
    run.update_metadata({"n": 1})
    info = run.info()
    assert info is not None
    assert (info.tags, info.metadata) == (["b", "c"], {"n": 1})
    run.pause()
    assert run.status() == "paused"
    with pytest.raises(inmem.State):
        run.kv.put("key", 1)
    run.resume()
    run.fail("it broke")
    with pytest.raises(inmem.State) as closed:
        run.kv.put("key", 1)
    assert closed.value.code == "run_closed"
    with pytest.raises(inmem.State):
        run.end()
    info = run.info()
    assert info is not None
    assert (info.status, info.error) == ("failed", "it broke")
    run.archive()
    assert run.exists()


def test_each_end_of_a_run_has_its_status(inmem_client: Client) -> None:
    begin = inmem_client.runs.begin
    ended = inmem_client.run(begin().info.id)
    ended.end()
    assert ended.status() == "completed"
    cancelled = inmem_client.run(begin().info.id)
    cancelled.cancel()
    assert cancelled.status() == "cancelled"
    aborted = inmem_client.run(begin(parent=ended.id).info.id)
    aborted.abort("no use")
    assert aborted.status() in ("failed", "cancelled")
    info = aborted.info()
    assert info is not None and info.parent == ended.id


def test_runs_are_listed_by_status(inmem_client: Client) -> None:
    id = inmem_client.runs.begin().info.id
    seen: set[uuid.UUID] = set()
    cursor = None
    while True:
        page = inmem_client.runs.list("active", limit=2, cursor=cursor)
        seen.update(info.id for info in page.entries)
        cursor = page.cursor
        if cursor is None:
            break
    assert id in seen
    assert all(info.status == "orphaned" for info in inmem_client.runs.orphaned().entries)


def test_runs_do_not_see_each_other(inmem_client: Client) -> None:
    one = inmem_client.run(inmem_client.runs.begin().info.id)
    two = inmem_client.run(inmem_client.runs.begin().info.id)
    one.kv.put("key", 1)
    assert two.kv.get("key") is inmem.MISSING
    assert inmem_client.kv.get("key") is inmem.MISSING


def test_what_is_not_there_is_not_found(inmem_client: Client) -> None:
    nobody = uuid.uuid4()
    names: list[str | uuid.UUID] = ["nobody", nobody, str(nobody)]
    for name in names:
        with pytest.raises(inmem.NotFound) as missing:
            inmem_client.run(name)
        assert missing.value.code == "run_not_found"
    assert inmem_client.runs.resolve("nobody") is None
    with pytest.raises(inmem.NotFound):
        Client(inmem_client._link.options.socket, run="nobody")
