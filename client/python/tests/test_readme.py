"""What the README says is so: its programs run, its names exist, its tables are right."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import inmem
from inmem import Client, errors
from inmem.aio import AsyncClient, AsyncKv, AsyncRun, AsyncRuns
from inmem.client import Kv, Run, Runs
from inmem.testing import Daemon

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs_and_says_what_it_says(
    program: str, inmem_daemon: Daemon, inmem_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INMEM_SOCKET", inmem_daemon.socket)
    inmem_client.kv.put("n", 1)
    entries = [("a", 1), ("b", 2)]
    known: dict[str, Any] = {"client": inmem_client, "inmem": inmem, "entries": entries}
    exec(compile(program, str(README), "exec"), known)
    if "test_mine" in known:
        known["test_mine"](inmem_client)
        assert inmem_client.kv.get("key") == 1
    with inmem.Client() as client:
        for line in program.splitlines():
            expression, _, said = line.partition("#")
            if expression.strip().startswith("client.kv.get"):
                found = eval(expression.strip(), {"client": client})
                expected = inmem.MISSING if "MISSING" in said else ast.literal_eval(said.strip())
                assert found == expected, line


def test_there_are_programs_in_the_readme() -> None:
    assert len(PROGRAMS) == 4


def rows(heading: str) -> list[list[str]]:
    """The rows of the table behind a heading."""
    part = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return [name for name in re.findall(r"`(\w+)[^`]*`", cell) if name != "client"]


def test_the_readme_names_what_there_is_and_nothing_else() -> None:
    # Of the blocking classes and their asyncio twins alike.
    kinds: list[tuple[type[Any], type[Any]]] = [
        (Kv, AsyncKv),
        (Runs, AsyncRuns),
        (Run, AsyncRun),
        (Client, AsyncClient),
    ]
    found = rows("What there is")
    assert len(found) == len(kinds)
    for (_, cell), pair in zip(found, kinds):
        for name in names(cell):
            if name in {"AsyncClient", "durable_versions"}:
                assert hasattr(AsyncClient, "durable_versions")
            elif name == "pipeline":
                assert hasattr(pair[0], name)
            else:
                assert all(hasattr(kind, name) for kind in pair), name
    for kind in (Kv, Runs):
        public = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
        row = found[[pair[0] for pair in kinds].index(kind)]
        assert public <= set(names(row[1])), kind


def test_the_blocking_client_and_the_asyncio_client_have_the_same_methods() -> None:
    alone = {"pipeline": Client, "durable_versions": AsyncClient}
    pairs: list[tuple[type[Any], type[Any]]] = [
        (Kv, AsyncKv),
        (Runs, AsyncRuns),
        (Run, AsyncRun),
        (Client, AsyncClient),
        (inmem.client.Batch, inmem.aio.AsyncBatch),
        (inmem.Transaction, inmem.aio.AsyncTransaction),
    ]
    for blocking, streaming in pairs:
        here, there = (
            {name for name in dir(kind) if not name.startswith("_")} - alone.keys()
            for kind in (blocking, streaming)
        )
        assert here == there, blocking
        for name in here:
            ours, theirs = (getattr(kind, name) for kind in (blocking, streaming))
            if inspect.isfunction(ours) and inspect.isfunction(theirs):
                assert [*inspect.signature(ours).parameters.values()] == [
                    parameter.replace(annotation=ours_annotation(ours, parameter.name))
                    for parameter in inspect.signature(theirs).parameters.values()
                ], f"{blocking.__name__}.{name}"


def ours_annotation(function: Any, name: str) -> Any:
    parameters = inspect.signature(function).parameters
    return parameters[name].annotation if name in parameters else None


def test_the_errors_of_the_readme_are_those_of_the_package() -> None:
    described = set()
    for first, _ in rows("Errors"):
        described |= set(names(first)) - {"ValueError", "ConnectionError", "TimeoutError"}
    public = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, inmem.InmemError)
    }
    assert described == public - {"InmemError"}
    assert all(name in inmem.__all__ for name in public)


SUB_CODES = Path(__file__).parents[3] / "model/src/error/sub_code.rs"
FAMILIES: dict[str, tuple[int, tuple[type[inmem.InmemError], ...]]] = {
    "NotFound": (1, (inmem.NotFound,)),
    "InvalidKey": (3, (inmem.InvalidKey,)),
    "HistoryTrimmed": (5, (inmem.HistoryTrimmed,)),
    "ConstraintViolation": (6, (inmem.Constraint, inmem.InvalidValue)),
    "Conflict": (7, (inmem.Conflict,)),
    "StorageError": (9, (inmem.Io,)),
}


@pytest.mark.skipif(not SUB_CODES.exists(), reason="outside the repository of in-mem")
def test_every_error_of_the_server_is_an_exception_of_its_family() -> None:
    table = re.findall(r'^\s+\w+ = \d+, "(\w+)", (\w+), \w+;', SUB_CODES.read_text(), re.MULTILINE)
    assert len(table) > 40
    for code, name in table:
        number, family = FAMILIES[name]
        error = errors.from_wire({"class": number, "code": code, "message": "", "retry": "no"})
        assert isinstance(error, family), code
        looked = name != "StorageError" or code == "session_expired"
        assert error.is_decisive == looked, code
