"""Lost connections: what is asked again, what is not, and what is said about it."""

from __future__ import annotations

import asyncio
import copy
import pickle
import struct
from typing import Any

import pytest

import inmem
from fake import BEGUN, LOSE, RECEIPT, SEVEN, SILENCE, WRITTEN, FakeServer, refusal
from inmem import AsyncClient, Client, calls
from inmem.testing import Daemon

both = pytest.mark.parametrize("kind", ["blocking", "asyncio"])


def ask(kind: str, path: str, asked: list[calls.Call[Any]], **options: Any) -> list[Any]:
    """Executes calls one after the other with a new client; results and errors."""
    outcomes: list[Any] = []
    if kind == "blocking":
        with Client(path, **options) as client:
            for call in asked:
                try:
                    outcomes.append(client.execute(call))
                except inmem.InmemError as error:
                    outcomes.append(error)
        return outcomes

    async def main() -> None:
        async with AsyncClient(path, **options) as client:
            for call in asked:
                try:
                    outcomes.append(await client.execute(call))
                except inmem.InmemError as error:
                    outcomes.append(error)

    asyncio.run(main())
    return outcomes


@both
def test_a_read_whose_answer_was_lost_is_asked_again(kind: str) -> None:
    with FakeServer(lambda _, number, __: LOSE if number == 1 else SEVEN) as server:
        assert ask(kind, server.path, [calls.get("key")]) == [7]
        assert len(server.requests) == len(server.hellos) == 2


@both
def test_a_write_whose_answer_was_lost_is_not_and_its_outcome_is_unknown(kind: str) -> None:
    with FakeServer(lambda _, number, __: LOSE if number == 1 else SEVEN) as server:
        lost, found = ask(kind, server.path, [calls.put("key", 1), calls.get("key")])
        assert isinstance(lost, inmem.ConnectionLost) and isinstance(lost, ConnectionError)
        assert lost.is_outcome_unknown
        assert found == 7
        assert [request["op"] for request in server.requests] == ["kv.put", "kv.get"]


@both
def test_an_exactly_once_write_is_repeated_as_it_was_with_its_sequence(kind: str) -> None:
    with FakeServer(lambda _, number, __: LOSE if number <= 2 else WRITTEN) as server:
        asked = [calls.put("key", 1), calls.put("key", 2)]
        first, second = ask(kind, server.path, asked, exactly_once=True)
        assert first.commit_version == second.commit_version == 5
        assert server.requests[0] == server.requests[1] == server.requests[2]
        assert server.requests[0]["client_sequence"] == 1
        assert server.requests[3]["client_sequence"] == 2
        client_ids = {hello[8] for hello in server.hellos}
        assert len(client_ids) == 1 and len(client_ids.pop()) == 16
        # The first hello asks when the client was registered, the others say it.
        assert 9 not in server.hellos[0]
        assert [hello[9] for hello in server.hellos[1:]] == [struct.pack("<Q", 42)] * 2


@both
def test_a_repeat_gives_up_in_the_end_and_does_not_know(kind: str) -> None:
    with FakeServer(lambda *_: LOSE) as server:
        (lost,) = ask(kind, server.path, [calls.put("key", 1)], exactly_once=True)
        assert lost.is_outcome_unknown
        assert len(server.requests) == 4


@both
def test_a_refusal_of_a_repeat_says_nothing_about_the_first_attempt(kind: str) -> None:
    def script(_: FakeServer, number: int, __: Any) -> Any:
        return LOSE if number == 1 else refusal("unavailable")

    with FakeServer(script) as server:
        once, again = ask(
            kind, server.path, [calls.put("key", 1), calls.put("key", 1)], exactly_once=True
        )
        assert once.is_outcome_unknown
        assert again.outcome == "not_committed"


@both
def test_exactly_once_is_not_pretended(kind: str) -> None:
    with FakeServer(lambda *_: WRITTEN, registered_at=None) as server:
        with pytest.raises(inmem.ProtocolError) as refused:
            ask(kind, server.path, [calls.put("key", 1)], exactly_once=True)
        assert "exactly-once" in refused.value.message
        assert not server.requests


@both
def test_silence_ends_in_time_and_a_write_is_unknown(kind: str) -> None:
    with FakeServer(lambda *_: SILENCE) as server:
        read, write = ask(
            kind, server.path, [calls.get("key"), calls.put("key", 1)], timeout_s=0.2
        )
        assert isinstance(read, inmem.TimedOut) and isinstance(read, TimeoutError)
        assert read.outcome is None
        assert write.is_outcome_unknown


KEPT = inmem.Identity(client_id=bytes(16), registered_at=42, next_sequence=7)


@both
@pytest.mark.parametrize(
    "code, outcome",
    [
        ("unavailable", "outcome_unknown"),
        ("wal_poisoned", "outcome_unknown"),
        ("internal", "outcome_unknown"),
        # The store has looked: neither attempt committed anything.
        ("read_conflict", "not_committed"),
    ],
)
def test_a_refusal_says_nothing_about_the_attempt_of_an_earlier_process(
    kind: str, code: str, outcome: str
) -> None:
    with FakeServer(lambda *_: refusal(code)) as server:
        (repeat,) = ask(kind, server.path, [calls.put("key", 1)], exactly_once=KEPT)
        assert (repeat.code, repeat.outcome) == (code, outcome)
        (write,) = ask(kind, server.path, [calls.put("key", 1)], exactly_once=True)
        assert (write.code, write.outcome) == (code, "not_committed")
        sequences = [request["client_sequence"] for request in server.requests]
        assert sequences == [7, 1]


@both
def test_a_repeat_that_finds_no_daemon_is_in_doubt(kind: str) -> None:
    def script(server: FakeServer, _: int, __: Any) -> Any:
        server.stop_listening()
        return LOSE

    quickly = inmem.Reconnect(delay_total_max_s=0)
    for exactly_once, outcome in [(KEPT, "outcome_unknown"), (True, "not_committed")]:
        with FakeServer(script) as server:
            asked: list[calls.Call[Any]] = [calls.get("key"), calls.put("key", 1), calls.get("key")]
            _, write, read = ask(
                kind, server.path, asked, exactly_once=exactly_once, reconnect=quickly
            )
            assert write.code == read.code == "connection_refused"
            assert (write.outcome, read.outcome) == (outcome, "not_committed")


@both
def test_only_as_many_writes_as_can_be_unanswered_may_be_repeats(kind: str) -> None:
    with FakeServer(lambda *_: refusal("unavailable")) as server:
        asked = [calls.put("key", number) for number in range(65)]
        outcomes = [
            error.outcome for error in ask(kind, server.path, asked, exactly_once=KEPT)
        ]
        assert outcomes == ["outcome_unknown"] * 64 + ["not_committed"]


def test_an_answer_that_is_none_leaves_a_write_unknown() -> None:
    with FakeServer(lambda *_: {"ok": True, "kind": "written", "result": {}}) as server:
        with Client(server.path) as client:
            with pytest.raises(inmem.ProtocolError) as refused:
                client.kv.put("key", 1)
            assert refused.value.is_outcome_unknown


def test_an_error_survives_being_copied_and_sent_to_another_process() -> None:
    error = inmem.ConnectionLost(
        "gone", code="connection_lost", outcome="outcome_unknown", details={"a": 1}
    )
    for other in [copy.copy(error), pickle.loads(pickle.dumps(error))]:
        assert type(other) is inmem.ConnectionLost
        assert (str(other), other.args) == (str(error), error.args)
        assert vars(other) == vars(error)


def test_a_transaction_ends_with_its_connection() -> None:
    def script(_: FakeServer, number: int, request: Any) -> Any:
        return {"txn.begin": BEGUN, "kv.get": SEVEN}.get(request["op"], LOSE)

    with FakeServer(script) as server, Client(server.path) as client:
        with pytest.raises(inmem.ConnectionLost) as lost:
            with client.transaction() as txn:
                txn.kv.put("key", 1)
        assert lost.value.outcome == "not_committed"
        with pytest.raises(inmem.ConnectionLost) as lost:
            with client.transaction() as txn:
                assert txn.kv.get("key") == 7
        # The commit itself may have happened.
        assert lost.value.is_outcome_unknown
        asked = [request["op"] for request in server.requests]
        assert asked == ["txn.begin", "kv.put", "txn.begin", "kv.get", "txn.commit"]


def test_an_exactly_once_commit_is_repeated_on_another_connection() -> None:
    def script(_: FakeServer, number: int, request: Any) -> Any:
        if request["op"] == "txn.begin":
            return BEGUN
        return LOSE if number == 3 else WRITTEN

    with FakeServer(script) as server, Client(server.path, exactly_once=True) as client:
        with client.transaction() as txn:
            txn.kv.put("key", 1)
        assert txn.receipt is not None and txn.receipt.commit_version == 5
        put, first, repeated = server.requests[1:]
        assert "client_sequence" not in put
        assert first == repeated
        assert (first["op"], first["txn_id"], first["client_sequence"]) == ("txn.commit", 3, 1)


def test_a_lost_commit_that_did_not_happen_runs_the_function_again() -> None:
    def script(_: FakeServer, number: int, request: Any) -> Any:
        if request["op"] == "txn.begin":
            return BEGUN
        return {2: LOSE, 3: refusal("transaction_not_active")}.get(number, WRITTEN)

    count = 0

    def body(_: inmem.Transaction) -> int:
        nonlocal count
        count += 1
        return count

    with FakeServer(script) as server, Client(server.path, exactly_once=True) as client:
        assert client.transact(body) == 2
        asked = [request["op"] for request in server.requests]
        assert asked == ["txn.begin", "txn.commit", "txn.commit", "txn.begin", "txn.commit"]


def test_a_pipeline_repeats_what_may_be_repeated() -> None:
    def script(_: FakeServer, number: int, request: Any) -> Any:
        if number == 2:
            return LOSE
        return SEVEN if request["op"] == "kv.get" else WRITTEN

    with FakeServer(script) as server, Client(server.path, exactly_once=True) as client:
        with client.pipeline() as pipeline:
            tickets = [pipeline.add(calls.put(f"k/{number}", 1)) for number in range(200)]
            found = pipeline.add(calls.get("key"))
        assert all(ticket.result().commit_version == 5 for ticket in tickets)
        assert found.result() == 7
        sequences = [request.get("client_sequence", 0) for request in server.requests]
        assert set(sequences) == set(range(201))
        assert all(request.get("client_sequence_lag", 0) < 64 for request in server.requests)


def test_a_killed_daemon_that_comes_back_is_found_again() -> None:
    async def main(daemon: Daemon) -> None:
        async with AsyncClient(daemon.socket) as client:
            with Client(daemon.socket) as other:
                await client.kv.put("key", 1)
                daemon.kill()
                daemon.start()
                assert await client.kv.get("key") == other.kv.get("key") == 1
                assert client.connection_number == other.connection_number == 2

    with Daemon() as daemon:
        asyncio.run(main(daemon))


def test_exactly_once_holds_over_a_kill_of_the_daemon() -> None:
    with Daemon() as daemon:
        ids = {kind: inmem.Identity(client_id=kind.encode() * 2) for kind in ["blocking", "asyncio_"]}
        first = {}
        for kind, identity in ids.items():
            try:
                (first[kind],) = ask(
                    kind.strip("_"), daemon.socket, [calls.incr("n")], exactly_once=identity
                )
            except inmem.ProtocolError as error:
                pytest.skip(f"needs a server with exactly-once requests: {error.message}")
        daemon.kill()
        daemon.start()
        # Whoever has the same id and sequence is the same client asking again.
        for kind, identity in ids.items():
            with Client(daemon.socket, exactly_once=identity) as client:
                assert client.kv.incr("n") == first[kind]
                known = client.identity
                assert known is not None and known.next_sequence == 2
            with Client(daemon.socket, exactly_once=known) as client:
                assert client.kv.put(kind, 1).is_committed
        with Client(daemon.socket) as client:
            assert client.kv.get("n") == 2


def test_durability_can_be_waited_for(inmem_client: Client) -> None:
    if "db.wait_durable" not in inmem_client.greeting.operations:
        pytest.skip("needs a server with db.wait_durable")
    receipt = inmem_client.kv.put("key", 1)
    assert receipt.commit_version <= inmem_client.wait_durable(receipt)
    assert inmem_client.wait_durable(0) >= receipt.commit_version


def test_the_receipt_of_the_fake_is_one() -> None:
    assert calls.put("k", 1).read("written", RECEIPT).commit_version == 5
