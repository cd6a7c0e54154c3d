"""What transforms see: rows in the order of their keys, read-only, and only while they are called."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest

from meltemi.flow import Graph, NoRow, Put, ReadError, Remove, Table, View, using
from meltemi.flow.index import Bucket
from meltemi.flow.keys import ordered


def test_a_transform_can_be_called_with_a_view_of_rows_at_hand() -> None:
    view = View.of({"b": 20, "a": 10, "c": 15}, tens=lambda number: number // 10)
    assert view.get("a") == 10
    assert view.get("z") is None
    assert view.by("tens", 1) == (10, 15)
    assert view.keys_by("tens", 1) == ("a", "c")
    assert view.by("tens", 9) == view.keys_by("tens", 9) == ()
    assert view.all() == (10, 20, 15)
    assert view.keys() == ("a", "b", "c")
    assert repr(view) == "<View of rows at hand: 3 rows>"


def test_a_view_of_a_single_gives_its_only_row() -> None:
    full: View[tuple[()], str] = View.of({(): "mesh"})
    empty: View[tuple[()], str] = View.of({})
    assert full.only() == full.one(None) == "mesh"
    assert empty.one("default") == "default"
    with pytest.raises(NoRow, match="has no row"):
        empty.only()


def test_a_table_of_many_has_no_only_row() -> None:
    with pytest.raises(ReadError, match="not a single table"):
        View.of({"a": 1}).one(None)


def test_an_index_that_does_not_exist_is_named_with_those_that_do() -> None:
    view = View.of({"a": 1}, parity=lambda number: number % 2)
    with pytest.raises(ReadError, match=r"no index 'size' \(it has: parity\)"):
        view.by("size", 1)
    with pytest.raises(ReadError, match="no index 'size'"):
        view.keys_by("size", 1)
    table: Table[str, int] = Graph().input("numbers")
    with pytest.raises(ReadError, match=r"no index 'size' \(it has: none\)"):
        table.by("size", 1)


def test_a_view_kept_beyond_its_transform_cannot_be_read() -> None:
    g = Graph()
    words: Table[str, str] = g.input("words")
    kept: list[View[str, str]] = []
    g.single("keeper", lambda *, words: kept.append(words), using(words=words))
    g.commit([])
    with pytest.raises(ReadError, match="outside the transform"):
        kept[0].get("a")


@pytest.mark.parametrize("kind", [tuple, list, set, frozenset])
def test_an_index_may_give_several_values_at_once(kind: Any) -> None:
    view = View.of({"a": "xy", "b": "yy"}, letter=kind)
    assert view.by("letter", "x") == ("xy",)
    assert view.by("letter", "y") == ("xy", "yy")


def test_none_and_nothing_are_in_no_bucket() -> None:
    view = View.of({"a": 1, "b": 2}, odd=lambda number: number if number % 2 else None, none=lambda number: ())
    assert view.by("odd", 1) == (1,)
    assert view.by("odd", None) == view.by("none", ()) == ()


def test_keys_of_several_types_have_an_order_too() -> None:
    keys: list[Hashable] = ["b", 2, ("a", None), 1, "a", ("a", 1)]
    expected = (1, 2, "a", "b", ("a", 1), ("a", None))
    assert (
        View.of(dict.fromkeys(keys, "row")).keys() == View.of(dict.fromkeys(reversed(keys), "row")).keys() == expected
    )


def test_a_bucket_keeps_its_order_through_any_changes() -> None:
    bucket: Bucket[Any, Any] = Bucket()
    members: dict[Any, int] = {}
    for step in range(600):
        key = (step * 37) % 101 if step < 500 else f"late {step}"
        if key in members and step % 3 == 0:
            del members[key]
            bucket.drop(key)
        else:
            members[key] = step
            bucket.put(key, step)
        if step % 5 == 0 or step > 400:
            expected = ordered(members)
            assert list(bucket.keys()) == expected
            assert bucket.rows() == tuple(members[each] for each in expected)


def test_reads_that_nobody_makes_any_more_are_forgotten() -> None:
    g = Graph()
    words: Table[str, str] = g.input("words")
    book: Table[str, str] = g.input("book", initial=lambda word: word[0])

    def found(word: str, *, book: View[str, str]) -> tuple[str, ...]:
        return book.by("initial", word[0])

    table = g.derive("found", found, words, using(book=book))
    slot = table.rule.views["book"]._slots["initial"]  # type: ignore[union-attr]
    for number in range(10):
        g.commit([Put(words, "a", f"{number}")])
        assert list(slot) == [f"{number}"]
    g.commit([Remove(words, "a")])
    assert list(slot) == []
