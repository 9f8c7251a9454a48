"""The client for asyncio: the same, awaited."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Callable

import pytest

import inmem
from inmem import MISSING, AsyncClient, Client, aio, client


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    for blocking, awaited in [
        (client.Kv, aio.AsyncKv),
        (client.Run, aio.AsyncRun),
        (client.Runs, aio.AsyncRuns),
        (client.Batch, aio.AsyncBatch),
        (client.Transaction, aio.AsyncTransaction),
        (client.Client, aio.AsyncClient),
    ]:
        names = {name for name in dir(blocking) if not name.startswith("_")}
        missing = names - {name for name in dir(awaited)} - {"pipeline"}
        assert not missing, (blocking, missing)
        for name in names - {"pipeline"}:
            one, other = getattr(blocking, name), getattr(awaited, name)
            if callable(one):
                ours = list(inspect.signature(one).parameters)
                assert ours == list(inspect.signature(other).parameters), name


def test_every_operation_works_awaited(run_async: Callable[..., Any]) -> None:
    async def body(client: AsyncClient) -> None:
        kv = client.kv
        await client.ping()
        receipt = await kv.put("key", 1)
        assert await kv.get("key") == 1
        assert await kv.get("no") is MISSING
        assert await kv.get("no", 7) == 7
        assert (await kv.incr("key", 2)).value == 3
        assert await kv.get_many(["key", "no"]) == [3, MISSING]
        past = await kv.get_at("key", receipt.commit_version)
        assert past is not None and past.value == 1
        assert await kv.cas_value("key", 3, "x")
        assert len((await kv.history("key")).versions) == 3
        await kv.put_many({f"k/{n}": n for n in range(10)})
        assert [entry.value async for entry in kv.scan_all("k/")] == list(range(10))
        assert (await kv.delete_many(["k/1", "k/2"])).count == 2
        assert (await client.info()).health == "ok"
        assert "message_pack" in (await client.capabilities()).encodings
        done = await client.batch().put("b", 1).incr("n").commit()
        assert [effect.kind for effect in done.effects] == ["put", "incremented"]
        begun = await client.runs.begin()
        run = await client.run(begun.info.id)
        await run.kv.put("key", "other")
        await run.end()
        assert await run.status() == "completed"
        with pytest.raises(inmem.State):
            await run.kv.put("key", 1)
        await client.flush()

    run_async(body)


def test_tasks_share_a_connection_and_do_not_wait_for_each_other(
    run_async: Callable[..., Any],
) -> None:
    async def body(client: AsyncClient) -> None:
        receipts = await asyncio.gather(*(client.kv.put(f"k/{n}", n) for n in range(500)))
        assert len({receipt.commit_version for receipt in receipts}) == 500
        results = await asyncio.gather(
            client.kv.get("k/3"), client.kv.put("", 1), client.kv.get("k/4"), return_exceptions=True
        )
        assert (results[0], results[2]) == (3, 4)
        assert isinstance(results[1], inmem.InvalidKey)
        assert client.connection_number == 1

    run_async(body)


def test_transactions_commit_roll_back_and_try_again(run_async: Callable[..., Any]) -> None:
    async def body(client: AsyncClient) -> None:
        async with client.transaction() as txn:
            await txn.kv.put("key", 1)
            assert await client.kv.get("key") is MISSING
        assert txn.receipt is not None and txn.receipt.is_committed
        with pytest.raises(RuntimeError):
            async with client.transaction() as txn:
                await txn.kv.put("key", 2)
                raise RuntimeError
        assert await client.kv.get("key") == 1

        async def add(txn: aio.AsyncTransaction) -> int:
            value: int = await txn.kv.get("key") + 1
            await txn.kv.put("key", value)
            return value

        sums = await asyncio.gather(
            *(client.transact(add, retry_count_max=1000) for _ in range(20))
        )
        assert sorted(sums) == list(range(2, 22))
        assert await client.kv.get("key") == 21

    run_async(body)


def test_a_cancelled_call_leaves_the_others_alone(run_async: Callable[..., Any]) -> None:
    async def body(client: AsyncClient) -> None:
        call = asyncio.ensure_future(client.kv.put("key", 1))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.kv.put("key", 2)
        assert await client.kv.get("key") == 2

    run_async(body)


def test_the_durable_version_is_told_as_it_moves(run_async: Callable[..., Any]) -> None:
    async def body(client: AsyncClient) -> None:
        if "db.subscribe_durable" not in (await client.greeting()).operations:
            pytest.skip("needs a server with db.subscribe_durable")
        versions = client.durable_versions()
        before = await anext(versions)
        receipt = await client.kv.with_durability("strict").put("key", 1)
        assert before < receipt.commit_version
        async for version in versions:
            if receipt.commit_version <= version:
                break
        other = client.durable_versions()
        assert receipt.commit_version <= await anext(other)
        await versions.aclose()
        second = await client.kv.with_durability("strict").put("key", 2)
        async for version in other:
            if second.commit_version <= version:
                break
        await other.aclose()
        assert await client.kv.get("key") == 2

    run_async(body)


def test_a_closed_client_refuses(run_async: Callable[..., Any]) -> None:
    async def body(client: AsyncClient) -> None:
        await client.close()
        with pytest.raises(inmem.Unavailable):
            await client.kv.get("key")

    run_async(body)


def test_nobody_listens(tmp_path: Any) -> None:
    async def connect() -> None:
        async with AsyncClient(tmp_path / "none.sock"):
            pass

    with pytest.raises(inmem.Unavailable) as refused:
        asyncio.run(connect())
    assert refused.value.code == "connection_refused"
    with pytest.raises(inmem.Unavailable):
        Client(tmp_path / "none.sock")
