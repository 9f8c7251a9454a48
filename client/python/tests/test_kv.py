"""Keys and values: what goes in comes out, as what it was."""

from __future__ import annotations

import math
from typing import Any

import pytest

import inmem
from inmem import MISSING, Client

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    0.0,
    1.0,
    -0.5,
    math.inf,
    -math.inf,
    "",
    "text \u00fc \U0001f600",
    b"",
    b"\x00\xff",
    [],
    [1, 1.0, "1", b"1", None, [True]],
    {},
    {"a": {"b": [1, {"c": None}]}, "": 0},
    "x" * 100_000,
    b"y" * 400_000,
    list(range(2000)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_comes_back_as_what_it_was(inmem_client: Client, value: Any) -> None:
    inmem_client.kv.put("key", value)
    found = inmem_client.kv.get("key")
    assert found == value
    assert type(found) is type(value)


def test_nan_and_negative_zero_keep_what_they_are(inmem_client: Client) -> None:
    inmem_client.kv.put("nan", math.nan)
    inmem_client.kv.put("zero", -0.0)
    assert math.isnan(inmem_client.kv.get("nan"))
    assert math.copysign(1, inmem_client.kv.get("zero")) == -1


def test_one_and_one_point_zero_are_different_values(inmem_client: Client) -> None:
    kv = inmem_client.kv
    kv.put("key", 1)
    assert not kv.cas_value("key", 1.0, "no")
    assert not kv.cas_value("key", "1", "no")
    assert not kv.cas_value("key", True, "no")
    assert kv.cas_value("key", 1, "yes")


@pytest.mark.parametrize(
    "value", [2**63, 2**64, object(), {1: 2}, {b"k": 1}, "\ud800", MISSING, [[set()]]]
)
def test_what_is_no_value_is_refused_and_nothing_is_written(
    inmem_client: Client, value: Any
) -> None:
    with pytest.raises(inmem.InmemError) as refused:
        inmem_client.kv.put("key", value)
    assert refused.value.outcome == "not_committed"
    assert inmem_client.kv.get("key") is MISSING


def test_missing_is_not_none(inmem_client: Client) -> None:
    kv = inmem_client.kv
    assert kv.get("key") is MISSING
    assert not MISSING
    assert kv.get("key", "default") == "default"
    assert kv.get_versioned("key") is None
    kv.put("key", None)
    assert kv.get("key") is None
    assert kv.get("key", "default") is None
    versioned = kv.get_versioned("key")
    assert versioned is not None and versioned.value is None
    assert kv.get_many(["key", "other", "key"]) == [None, MISSING, None]


def test_versions_grow_and_name_the_past(inmem_client: Client) -> None:
    kv = inmem_client.kv
    first = kv.put("key", "a")
    second = kv.put("key", "b")
    assert first.version.type == "txn" and first.is_committed
    assert first.commit_version < second.commit_version
    assert kv.latest_version("key") == second.version
    past = kv.get_at("key", first.version)
    assert past is not None and past.value == "a"
    deleted = kv.delete("key")
    assert deleted.count == 1
    history = kv.history("key")
    assert [version.value for version in history.versions] == [MISSING, "b", "a"]
    assert not history.has_more
    older = kv.history("key", before=second.commit_version)
    assert [version.value for version in older.versions] == ["a"]
    assert kv.history("key", limit=1).has_more


def test_conditions_hold_or_say_what_is_there(inmem_client: Client) -> None:
    kv = inmem_client.kv
    written = kv.put_if_absent("key", 1)
    assert isinstance(written, inmem.Receipt) and written
    refused = kv.put_if_absent("key", 2)
    assert isinstance(refused, inmem.Mismatch) and not refused
    assert refused.actual == written.version
    assert kv.cas_version("key", written.version, 3)
    assert not kv.cas_version("key", written.version, 4)
    assert not kv.cas_version("key", MISSING, 4)
    assert kv.cas_version("other", MISSING, 4)
    assert not kv.cas_value("third", None, 5)
    assert kv.cas_value("third", MISSING, 5)
    assert kv.get_many(["key", "other", "third"]) == [3, 4, 5]


def test_replacing_gives_what_was_there(inmem_client: Client) -> None:
    kv = inmem_client.kv
    assert kv.get_and_set("key", None).previous is MISSING
    assert kv.get_and_set("key", 2).previous is None
    assert kv.get_and_delete("key").previous == 2
    nothing = kv.get_and_delete("key")
    assert nothing.previous is MISSING and not nothing.receipt.is_committed


def test_integers_count_and_overflow_is_an_error(inmem_client: Client) -> None:
    kv = inmem_client.kv
    assert kv.incr("n").value == 1
    assert kv.incr("n", -3).value == -2
    kv.put("n", 2**63 - 1)
    with pytest.raises(inmem.NumberOverflow):
        kv.incr("n")
    kv.put("n", 1.0)
    with pytest.raises(inmem.WrongType):
        kv.incr("n")


def test_many_keys_at_once(inmem_client: Client) -> None:
    kv = inmem_client.kv
    receipt = kv.put_many({f"k/{number:03}": number for number in range(100)})
    assert kv.put_many([("z", 1)]).commit_version > receipt.commit_version
    assert kv.count() == 101
    assert kv.count("k/") == 100
    assert kv.exists("k/007") and not kv.exists("k/7")
    assert kv.exists_many(["k/000", "k/001", "no"]) == 2
    page = kv.list("k/", limit=30)
    assert [entry.key for entry in page.entries] == [f"k/{number:03}" for number in range(30)]
    assert page.entries[0].value is MISSING
    assert page.cursor is not None
    page = kv.list("k/", limit=30, cursor=page.cursor, with_values=True)
    assert page.entries[0].value == 30
    assert [entry.value for entry in kv.scan("k/", start="k/097").entries] == [97, 98, 99]
    assert [entry.value for entry in kv.scan_all("k/")] == list(range(100))
    assert kv.delete_many([f"k/{number:03}" for number in range(200)]).count == 100


def test_keys_may_be_bytes_of_text(inmem_client: Client) -> None:
    inmem_client.kv.put(b"key", 1)
    assert inmem_client.kv.get("key") == 1
    wrongs: list[inmem.Key] = ["", b"\xff", "a\0b", "k" * 2000, "_strata/x"]
    for wrong in wrongs:
        with pytest.raises(inmem.InvalidKey):
            inmem_client.kv.put(wrong, 1)
    with pytest.raises(inmem.Validation):
        inmem_client.kv.get("")


def test_durability_is_asked_for_per_handle(inmem_client: Client) -> None:
    kv = inmem_client.kv
    assert kv.put("a", 1).level == "logged"
    assert kv.with_durability("strict").put("b", 1).level == "synced"
    inmem_client.flush()


def test_the_errors_are_those_of_python_too(inmem_client: Client) -> None:
    with pytest.raises(ValueError):
        inmem_client.kv.put("", 1)
    with pytest.raises(LookupError):
        inmem_client.run("nobody")
    with pytest.raises(inmem.InvalidArgument) as refused:
        inmem_client.kv.cas_version("key", -1, "value")
    assert refused.value.code == "invalid_argument"
    assert "invalid_argument" in str(refused.value)
    assert refused.value.details == {"key": "expected"}
