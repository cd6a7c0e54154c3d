"""One table out of several."""

from __future__ import annotations

from meltemi.flow import Graph, Put, Remove, Table, using


def test_a_union_has_the_rows_of_all_its_tables() -> None:
    g = Graph()
    one: Table[str, int] = g.input("one")
    two: Table[str, int] = g.input("two")
    both = g.union("both", one, two, parity=lambda n: n % 2)
    g.commit([Put(one, "a", 1), Put(two, "b", 3)])
    assert both.items() == (("a", 1), ("b", 3))
    assert both.by("parity", 1) == (1, 3)


def test_the_table_named_first_wins_whatever_comes_first() -> None:
    g = Graph()
    one: Table[str, int] = g.input("one")
    two: Table[str, int] = g.input("two")
    both = g.union("both", one, two)
    g.commit([Put(two, "a", 2)])
    assert both.get("a") == 2
    g.commit([Put(one, "a", 1)])
    assert both.get("a") == 1
    g.commit([Remove(one, "a")])
    assert both.get("a") == 2
    g.commit([Remove(two, "a")])
    assert both.items() == ()


def test_readers_of_a_union_follow_it_and_its_sources_are_known() -> None:
    g = Graph()
    one: Table[str, int] = g.input("one")
    two: Table[str, int] = g.input("two")
    both = g.union("both", one, two)
    total = g.single("total", lambda rows: sum(rows.all()), using(rows=both))
    g.commit([Put(one, "a", 1), Put(two, "b", 2)])
    assert total.only() == 3
    assert {source.table for source in g.sources(both, "b")} == {"two"}
    g.commit([Put(two, "b", 5)])
    assert total.only() == 6
