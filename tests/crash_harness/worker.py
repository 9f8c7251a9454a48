"""A client process that uses the Python client, in the words of the harness.

`worker.py client-process <orders>` does what `tests/support/kill/client_process.rs` does: on a line
`go <socket>` it works until its connection is lost, tells each request before it is sent and what
came of it after, in the lines of the checker's record, and ends with `L`, `F <why>` or `E <why>`.
`worker.py once <socket> <number>` adds exactly once, through whatever happens to the daemon, until
its input ends: `A <sum>` for each addition to the shared counter, `B` for one to its own.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from typing import Any, Awaitable, Callable

import msgpack

import inmem
from inmem import calls

OWN_KEY_COUNT = 24
SHARED_KEY_COUNT = 12
COUNTER_COUNT = 4
ACCOUNT_COUNT = 8
AMOUNT_MAX = 1 << 40
MODES = {"M": "in_memory", "B": "buffered", "S": "strict"}
LOST = {"connection_lost", "connection_refused", "unavailable", "database_closed"}

# One attempt to connect: whoever records what it sees has to know when a daemon is gone.
AT_ONCE = inmem.Reconnect(delay_total_max_s=0)


def say(text: str) -> None:
    """One write, so that nothing is half said when this process dies."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        sys.exit(0)


def key_text(key: str) -> str:
    """A key as records have it."""
    return "".join(it if it.isalnum() or it in "._-" else f"%{ord(it):02X}" for it in key)


def datum(value: Any) -> str:
    """A value as records have it."""
    return f"i{value}" if isinstance(value, int) else "x" + msgpack.packb(value).hex()


def sight(key: str, version: int | None, value: Any) -> str:
    """What was found at a key: a value, or `MISSING`."""
    found = "!" if value is inmem.MISSING else datum(value)
    return f"{key_text(key)}@{'?' if version is None else version}={found}"


def versioned(key: str, found: inmem.Versioned[Any] | None) -> str:
    """The same, of an answer."""
    if found is None:
        return sight(key, None, inmem.MISSING)
    return sight(key, found.version.value, found.value)


def written(receipt: inmem.Receipt, before: str = "-", after: str = "-") -> str:
    """What a commit is in a record."""
    return f"C {receipt.commit_version} {before} {after}"


class Asked:
    """A request: how it is told, what is sent, and how its answer is told."""

    def __init__(self, told: str, call: calls.Call[Any], read: Callable[[Any], str]) -> None:
        self.told = told
        self.call = call
        self.read = read


class Orders:
    """What the harness decided."""

    def __init__(self, words: list[str]) -> None:
        self.number, self.seed, self.depth, self.override_per_ten = map(int, words[:4])
        self.mode = words[4]
        self.runs = words[5].split(",")
        self.value_len_bytes = int(words[7])


class Worker:
    """Draws requests and tells them."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.rng = random.Random(orders.seed)
        self.request_id = 0

    def sent(self, told: str) -> int:
        """Tells that a request is about to be sent; its number."""
        self.request_id += 1
        say(f"S {self.request_id} {time.monotonic_ns()} {told}\n")
        return self.request_id

    def done(self, id: int, outcome: str) -> None:
        """Tells what came of a request."""
        say(f"D {id} {time.monotonic_ns()} {outcome}\n")

    def failed(self, id: int, error: inmem.InmemError) -> inmem.InmemError:
        """Tells that a request has no result."""
        self.done(id, "U" if error.is_outcome_unknown else "N")
        return error

    def write(self, run: str, mode: str, expects: str, writes: list[str]) -> str:
        """A write as records have it."""
        return f"W {run} {mode} {expects} {','.join(writes)}"

    def draw_mode(self) -> tuple[Any, str]:
        """The durability a request names, if it names one, and the one it has."""
        if self.orders.override_per_ten <= self.rng.randrange(10):
            return None, self.orders.mode
        mode = self.rng.choice("MBS")
        return MODES[mode], mode

    def draw_key(self) -> str:
        if self.rng.randrange(3) == 0:
            return f"s/{self.rng.randrange(SHARED_KEY_COUNT)}"
        return f"w{self.orders.number}/{self.rng.randrange(OWN_KEY_COUNT)}"

    def draw_value(self) -> str:
        """A value no other request puts."""
        text = f"{self.orders.number} {self.request_id} {self.rng.getrandbits(64):x} "
        return text.ljust(self.orders.value_len_bytes, ".")

    def draw(self, run: str, mode: str) -> Asked:
        """One request of a pipeline."""
        key, kind = self.draw_key(), self.rng.randrange(20)
        if kind < 10:
            value = self.draw_value()
            told = self.write(run, mode, "-", [f"P{key_text(key)}={datum(value)}"])
            return Asked(told, calls.put(key, value), written)
        if kind < 12:
            value = self.draw_value()
            told = self.write(run, mode, "-", [f"P{key_text(key)}={datum(value)}"])
            return Asked(told, calls.put_if_absent(key, value), lambda it: conditional(key, it))
        if kind < 14:
            told = self.write(run, mode, "-", [f"D{key_text(key)}"])
            return Asked(told, calls.delete(key), lambda it: deleted(key, it))
        if kind < 17:
            counter, amount = f"c/{self.rng.randrange(COUNTER_COUNT)}", self.rng.choice([1, 2, 7])
            told = self.write(run, mode, "-", [f"A{key_text(counter)}={amount}"])
            return Asked(told, calls.incr(counter, amount), lambda it: incremented(counter, it))
        return Asked(
            f"R {run}", calls.get_versioned(key), lambda it: f"V ? - {versioned(key, it)}"
        )

    def draw_batch(self, run: str, mode: str) -> tuple[str, list[tuple[Any, ...]], str] | None:
        """The changes of a batch, and the counter of its own it adds to."""
        first, second, gone = self.draw_key(), self.draw_key(), self.draw_key()
        if len({first, second, gone}) < 3:
            return None
        counter, value, other = f"b/{self.orders.number}", self.draw_value(), self.draw_value()
        writes = [
            f"P{key_text(first)}={datum(value)}",
            f"P{key_text(second)}={datum(other)}",
            f"D{key_text(gone)}",
            f"A{key_text(counter)}=1",
        ]
        changes = [("put", first, value), ("put", second, other), ("delete", gone), ("incr", counter)]
        return self.write(run, mode, "-", writes), changes, counter

    def draw_transfer(self) -> tuple[str, str, int]:
        """Two accounts and an amount."""
        source, target = self.rng.sample(range(ACCOUNT_COUNT), 2)
        return f"a/{source}", f"a/{target}", 1 + self.rng.randrange(AMOUNT_MAX)


def conditional(key: str, answer: Any) -> str:
    if isinstance(answer, inmem.Receipt):
        return written(answer, before=sight(key, None, inmem.MISSING))
    return f"V ? - {key_text(key)}@{answer.actual.value}=*"


def deleted(key: str, answer: inmem.Deleted) -> str:
    if answer.receipt.is_committed:
        return written(answer.receipt)
    return f"V ? - {sight(key, None, inmem.MISSING)}"


def incremented(key: str, answer: inmem.Incremented) -> str:
    version = answer.receipt.commit_version
    return written(answer.receipt, after=sight(key, version, answer.value))


def batched(counter: str, answer: inmem.BatchResult) -> str:
    version = answer.receipt.commit_version
    return written(answer.receipt, after=sight(counter, version, answer.effects[-1].value))


def listed(page: inmem.Page[inmem.Entry]) -> str:
    found = [sight(entry.key, entry.version, entry.value) for entry in page.entries]
    return f"V ? /s%2F {','.join(found) or '-'}"


class Blocking(Worker):
    """Works through `inmem.Client`, pipelines included."""

    def turn(self, socket: str) -> list[inmem.InmemError]:
        """Works until something ends the turn; what ended it."""
        with inmem.Client(socket, timeout_s=30, exactly_once=True, reconnect=AT_ONCE) as client:
            runs = [(run, client.run(run)) for run in self.orders.runs]
            while True:
                id, run = self.rng.choice(runs)
                durability, mode = self.draw_mode()
                if durability is not None:
                    run = run.with_durability(durability)
                kind = self.rng.randrange(20)
                if kind < 13:
                    errors = self.pipeline(run, plain(id), mode)
                elif kind < 16:
                    errors = self.transfer(run, plain(id), mode)
                elif kind < 18:
                    errors = self.batch(run, plain(id), mode)
                else:
                    errors = self.look(client, run, plain(id), kind)
                if any(ends(error) for error in errors):
                    return errors

    def pipeline(self, run: inmem.Run, id: str, mode: str) -> list[inmem.InmemError]:
        asked = [self.draw(id, mode) for _ in range(1 + self.rng.randrange(self.orders.depth))]
        pipeline = run.pipeline()
        numbers = [self.sent(it.told) for it in asked]
        tickets = [pipeline.add(it.call) for it in asked]
        pipeline.send()
        errors = []
        for number, it, ticket in zip(numbers, asked, tickets):
            try:
                self.done(number, it.read(ticket.result()))
            except inmem.InmemError as error:
                errors.append(self.failed(number, error))
        return errors

    def transfer(self, run: inmem.Run, id: str, mode: str) -> list[inmem.InmemError]:
        source, target, amount = self.draw_transfer()
        try:
            transaction = run.transaction().begin()
            expects, writes = [], []
            for key, change in [(source, -amount), (target, amount)]:
                found = transaction.kv.get_versioned(key)
                balance = (found.value if found is not None else 0) + change
                transaction.kv.put(key, balance)
                expects.append(versioned(key, found))
                writes.append(f"P{key_text(key)}={datum(balance)}")
        except inmem.InmemError as error:
            return [error]
        return self.ask(
            self.write(id, mode, ",".join(expects), writes),
            lambda: written(transaction.commit()),
        )

    def batch(self, run: inmem.Run, id: str, mode: str) -> list[inmem.InmemError]:
        drawn = self.draw_batch(id, mode)
        if drawn is None:
            return []
        told, changes, counter = drawn
        batch = run.batch()
        for name, *arguments in changes:
            getattr(batch, name)(*arguments)
        return self.ask(told, lambda: batched(counter, batch.commit()))

    def look(
        self, client: inmem.Client, run: inmem.Run, id: str, kind: int
    ) -> list[inmem.InmemError]:
        if kind == 18:
            return self.ask(f"R {id}", lambda: listed(run.kv.list("s/", with_values=True)))

        def flush() -> str:
            client.flush()
            return "V ? - -"

        return self.ask("F", flush)

    def ask(self, told: str, make: Callable[[], str]) -> list[inmem.InmemError]:
        number = self.sent(told)
        try:
            self.done(number, make())
            return []
        except inmem.InmemError as error:
            return [self.failed(number, error)]


class Streaming(Worker):
    """Works through `inmem.AsyncClient`: its requests are on their way at once."""

    def turn(self, socket: str) -> list[inmem.InmemError]:
        return asyncio.run(self.work(socket))

    async def work(self, socket: str) -> list[inmem.InmemError]:
        async with inmem.AsyncClient(
            socket, timeout_s=30, exactly_once=True, reconnect=AT_ONCE
        ) as client:
            runs = [(run, await client.run(run)) for run in self.orders.runs]
            while True:
                id, run = self.rng.choice(runs)
                durability, mode = self.draw_mode()
                if durability is not None:
                    run = run.with_durability(durability)
                count = 1 + self.rng.randrange(self.orders.depth)
                doing = [self.single(run, self.draw(plain(id), mode)) for _ in range(count)]
                if self.rng.randrange(4) == 0:
                    doing.append(self.transfer(run, plain(id), mode))
                if self.rng.randrange(6) == 0:
                    doing.append(self.batch(run, plain(id), mode))
                errors = [error for error in await asyncio.gather(*doing) if error is not None]
                if any(ends(error) for error in errors):
                    return errors

    async def single(self, run: inmem.aio.AsyncRun, asked: Asked) -> inmem.InmemError | None:
        async def make() -> str:
            return asked.read(await run._scope.run(asked.call))

        return await self.ask(asked.told, make)

    async def transfer(
        self, run: inmem.aio.AsyncRun, id: str, mode: str
    ) -> inmem.InmemError | None:
        source, target, amount = self.draw_transfer()
        try:
            transaction = await run.transaction().begin()
            expects, writes = [], []
            for key, change in [(source, -amount), (target, amount)]:
                found = await transaction.kv.get_versioned(key)
                balance = (found.value if found is not None else 0) + change
                await transaction.kv.put(key, balance)
                expects.append(versioned(key, found))
                writes.append(f"P{key_text(key)}={datum(balance)}")
        except inmem.InmemError as error:
            return error

        async def make() -> str:
            return written(await transaction.commit())

        return await self.ask(self.write(id, mode, ",".join(expects), writes), make)

    async def batch(self, run: inmem.aio.AsyncRun, id: str, mode: str) -> inmem.InmemError | None:
        drawn = self.draw_batch(id, mode)
        if drawn is None:
            return None
        told, changes, counter = drawn
        batch = run.batch()
        for name, *arguments in changes:
            getattr(batch, name)(*arguments)

        async def make() -> str:
            return batched(counter, await batch.commit())

        return await self.ask(told, make)

    async def ask(self, told: str, make: Callable[[], Awaitable[str]]) -> inmem.InmemError | None:
        number = self.sent(told)
        try:
            self.done(number, await make())
            return None
        except inmem.InmemError as error:
            return self.failed(number, error)


def plain(run: str) -> str:
    """The id of a run as records have it."""
    return run.replace("-", "")


def ends(error: inmem.InmemError) -> bool:
    """Whether an error ends a turn."""
    return not isinstance(error, inmem.Conflict) and error.code != "transaction_not_active"


def ending(errors: list[inmem.InmemError]) -> str:
    """What to say of a turn that these errors ended; the worst counts."""
    ended = [error for error in errors if ends(error)]
    for error in ended:
        if error.code not in LOST and error.code != "resource_exhausted":
            return f"E {error!r}"
    for error in ended:
        if error.code == "resource_exhausted":
            return f"F {error}"
    return "L"


def client_process(words: list[str]) -> None:
    """Works whenever it is told to go."""
    orders = Orders(words)
    worker: Blocking | Streaming = (Blocking, Streaming)[orders.number % 2](orders)
    for line in sys.stdin:
        socket = line.removeprefix("go ").rstrip("\n")
        try:
            errors = worker.turn(socket)
        except inmem.InmemError as error:
            errors = [error]
        say(ending(errors) + "\n")


PATIENT = inmem.Reconnect(delay_total_max_s=60)


def once(words: list[str]) -> None:
    """Adds until the input ends."""
    socket, number = words[0], int(words[1])
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    if number % 4 == 1:
        asyncio.run(once_streaming(socket, stop))
        return
    with inmem.Client(socket, exactly_once=True, reconnect=PATIENT) as client:
        while not stop.is_set():
            if number % 4 == 0:
                say(f"A {client.kv.incr('shared').value}\n")
            elif number % 4 == 2:
                with client.pipeline() as pipeline:
                    tickets = [pipeline.add(calls.incr("shared")) for _ in range(20)]
                say("".join(f"A {ticket.result().value}\n" for ticket in tickets))
            else:
                client.transact(lambda it: it.kv.incr(f"own/{number}"), retry_count_max=1_000)
                say("B\n")


async def once_streaming(socket: str, stop: threading.Event) -> None:
    """The same, several at once."""
    async with inmem.AsyncClient(socket, exactly_once=True, reconnect=PATIENT) as client:
        while not stop.is_set():
            added = await asyncio.gather(*(client.kv.incr("shared") for _ in range(5)))
            say("".join(f"A {it.value}\n" for it in added))


if __name__ == "__main__":
    {"client-process": client_process, "once": once}[sys.argv[1]](sys.argv[2:])
