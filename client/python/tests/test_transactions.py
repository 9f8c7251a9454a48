"""Transactions and batches: all or nothing, and what is tried again."""

from __future__ import annotations

import threading

import pytest

import inmem
from inmem import MISSING, Client, Transaction, calls
from inmem.testing import Daemon


def test_a_transaction_sees_its_own_writes_and_commits_at_the_end(inmem_client: Client) -> None:
    with inmem_client.transaction() as txn:
        txn.kv.put("key", 1)
        assert txn.kv.get("key") == 1
        assert inmem_client.kv.get("key") is MISSING
        info = txn.info()
        assert info.state == "active" and not info.read_only
        assert info.start_version == txn.start_version
    assert txn.receipt is not None and txn.receipt.is_committed
    assert inmem_client.kv.get("key") == 1
    with pytest.raises(inmem.State):
        txn.kv.get("key")


def test_an_exception_rolls_back_and_goes_on(inmem_client: Client) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        with inmem_client.transaction() as txn:
            txn.kv.put("key", 1)
            raise RuntimeError("mine")
    assert inmem_client.kv.get("key") is MISSING


def test_a_read_only_transaction_refuses_writes(inmem_client: Client) -> None:
    inmem_client.kv.put("key", 1)
    with inmem_client.transaction(read_only=True) as txn:
        assert txn.kv.get("key") == 1
        with pytest.raises(inmem.InmemError) as refused:
            txn.kv.put("key", 2)
        assert refused.value.outcome == "not_committed"


def test_what_was_read_and_changed_is_a_conflict(inmem_client: Client) -> None:
    inmem_client.kv.put("key", 1)
    with pytest.raises(inmem.Conflict) as conflict:
        with inmem_client.transaction() as txn:
            txn.kv.put("key", txn.kv.get("key") + 1)
            inmem_client.kv.put("key", 10)
    assert conflict.value.outcome == "not_committed"
    assert inmem_client.kv.get("key") == 10


def test_transact_tries_again_and_loses_no_update(inmem_daemon: Daemon, inmem_client: Client) -> None:
    inmem_client.kv.put("n", 0)
    run = inmem_client.greeting.run_id

    def add(txn: Transaction) -> None:
        txn.kv.put("n", txn.kv.get("n") + 1)

    def work() -> None:
        with Client(inmem_daemon.socket, run=run) as client:
            for _ in range(25):
                client.transact(add, retry_count_max=1000)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inmem_client.kv.get("n") == 100


def test_transact_gives_up_after_its_retries(inmem_client: Client) -> None:
    inmem_client.kv.put("key", 0)
    attempts = []

    def lose(txn: Transaction) -> None:
        attempts.append(txn.kv.get("key"))
        inmem_client.kv.incr("key")
        txn.kv.put("key", 0)

    with pytest.raises(inmem.Conflict):
        inmem_client.transact(lose, retry_count_max=3)
    assert attempts == [0, 1, 2, 3]


def test_a_batch_happens_whole_or_not_at_all(inmem_client: Client) -> None:
    kv = inmem_client.kv
    seen = kv.put("seen", 1)
    done = (
        inmem_client.batch()
        .read("seen", int(seen.version))
        .unchanged_since("other", seen.commit_version)
        .put("a", 1)
        .put_if_absent("b", 2)
        .incr("n", 5)
        .cas_version("c", MISSING, 3)
        .cas_value("a", 1, "again")
        .delete("nothing")
        .commit()
    )
    assert done.receipt.is_committed
    assert [effect.kind for effect in done.effects] == [
        "put",
        "put_if_absent",
        "incremented",
        "put",
        "put",
        "deleted",
    ]
    assert done.effects[2].value == 5 and done.effects[5].value is False
    assert kv.get_many(["a", "b", "n", "c"]) == ["again", 2, 5, 3]
    with pytest.raises(inmem.Conflict) as conflict:
        inmem_client.batch().put("a", "no").put_if_absent("b", "no").commit()
    assert conflict.value.outcome == "not_committed"
    kv.put("seen", 2)
    stale = inmem_client.batch(durability="strict").read("seen", int(seen.version)).put("a", "no")
    assert len(stale) == 1
    with pytest.raises(inmem.Conflict):
        stale.commit()
    assert kv.get("a") == "again"


def test_a_pipeline_answers_each_call_for_itself(inmem_client: Client) -> None:
    with inmem_client.pipeline() as pipeline:
        puts = [pipeline.add(calls.put(f"k/{n}", n)) for n in range(500)]
        bad = pipeline.add(calls.put("", 1))
        worse = pipeline.add(calls.put("x", object()))  # type: ignore[arg-type]
        last = pipeline.add(calls.incr("n"))
        with pytest.raises(inmem.InmemError):
            last.result()
    versions = [ticket.result().commit_version for ticket in puts]
    assert versions == sorted(versions) and len(set(versions)) == 500
    with pytest.raises(inmem.InvalidKey):
        bad.result()
    with pytest.raises(inmem.InvalidValue):
        worse.result()
    assert last.result().value == 1
    assert inmem_client.kv.count("k/") == 500


def test_a_pipeline_of_large_values_does_not_block_on_full_buffers(inmem_client: Client) -> None:
    large = b"x" * (1 << 20)
    with inmem_client.pipeline() as pipeline:
        for number in range(8):
            pipeline.add(calls.put(f"k/{number}", large))
            found = pipeline.add(calls.get_and_set(f"k/{number}", large))
    assert found.result().previous == large
