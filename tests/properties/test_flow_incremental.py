"""The two properties that hold the engine to account, over random declarations and random histories of commits.

*Incremental = fresh*: after every commit, every table and every problem is what the naive evaluator has, which makes
everything again; when no row is failing, it is also what a new graph makes of the final facts in one commit, down to
what each row has read. *Shuffled = ordered*: neither the order of the facts nor their division into commits matters.

Rows are small numbers, so that keys collide, results come out equal, conflicts happen, and transforms and index
functions fail, often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Ref
from meltemi.flow import Fact, Graph, Put, Remove, Revision, Table, using
from meltemi.flow.naive import Naive
from meltemi.flow.rules import Rule

KEYS = ("k0", "k1", "k2", "k3", "k4")
READS = ("get", "by", "by tags", "keys_by", "all", "keys", "chained")


class Row(msgspec.Struct, frozen=True):
    ref: Ref
    a: int
    b: int
    tags: tuple[int | str, ...] = ()


class Spec(msgspec.Struct, frozen=True):
    """One declaration: which kind, over which earlier table, reading which others how, and when it misbehaves."""

    kind: str
    primary: int
    reads: tuple[tuple[int, str], ...]
    salt: int
    modulus: int
    fails_on: int
    absent_on: int
    complains_on: int
    gathers_by: str
    weak_index: bool


def row_of(total: int, modulus: int, ref: Ref) -> Row:
    reduced = total % modulus
    tags = tuple((reduced, f"t{total % 2}", 2)[: total % 4])
    return Row(ref, a=reduced, b=total % 5, tags=tags)


def weigh(value: object) -> int:
    """A number that depends on everything in a value."""
    match value:
        case Row():
            return value.a * 3 + value.b + len(value.tags)
        case tuple():
            return sum((index + 1) * weigh(each) for index, each in enumerate(value)) + len(value)
        case int():
            return value
        case str():
            return int(value[1:])
    return 1


def read(view: Any, how: str, total: int, single: bool) -> int:
    if single:
        return weigh(view.only() if how == "get" else view.one(None))
    match how:
        case "get":
            return weigh(view.get(KEYS[total % 5]))
        case "by":
            return weigh(view.by("a", total % 3))
        case "by tags":
            return weigh(view.by("tags", (total % 3, "t0", "t1")[total % 3]))
        case "keys_by":
            return weigh(view.keys_by("a", total % 3))
        case "all":
            return weigh(view.all())
        case "keys":
            return weigh(view.keys())
    found = view.get(KEYS[total % 5])
    return weigh(view.by("a", found.a)) if found is not None else 0


def transform_of(name: str, spec: Spec, tables: list[Table[Any, Any]]) -> Callable[..., Any]:
    def total_of(start: object, views: dict[str, Any]) -> int:
        total = weigh(start) + spec.salt
        for index, (table, how) in enumerate(spec.reads):
            total += read(views[f"v{index}"], how, total, tables[table].kind == "single")
        return total

    def items(start: object, ref: Ref, views: dict[str, Any]) -> Iterator[Any]:
        total = total_of(start, views)
        if total % 4 == spec.complains_on:
            yield Problem(ref=ref, message=f"{name} says {total % 3}", severity=Severity.WARNING)
        if total % 6 == spec.fails_on:
            raise ValueError(f"{name} cannot do {total % 6}")
        if total % 5 == spec.absent_on:
            return
        if spec.kind == "expand":
            for offset in range(total % 3 + 1):
                yield KEYS[(total + offset) % 5], row_of(total + offset, spec.modulus, Ref("Made", "", "by many"))
        else:
            yield row_of(total, spec.modulus, ref)

    def per_row(row: Row, **views: Any) -> Iterator[Any]:
        return items(row, row.ref, views)

    def per_bucket(value: object, rows: tuple[Row, ...], **views: Any) -> Iterator[Any]:
        return items((value, *rows), rows[0].ref, views)

    def once(**views: Any) -> Iterator[Any]:
        return items((), Ref("Mesh", "", "mesh"), views)

    return {"derive": per_row, "expand": per_row, "gather": per_bucket, "single": once}[spec.kind]


def weak(row: Row) -> int:
    if row.b == 4:
        raise KeyError("no such thing")
    return row.b


def declare(specs: tuple[Spec, ...]) -> tuple[Graph, list[Table[Any, Any]]]:
    g = Graph(clock=lambda: 0.0)
    indexes: dict[str, Callable[[Any], object]] = {"a": lambda row: row.a % 3, "tags": lambda row: row.tags}
    inputs: list[Table[Any, Any]] = [g.input("in0", **indexes), g.input("in1", **indexes, weak=weak)]
    tables = list(inputs)
    for number, spec in enumerate(specs):
        name = f"{spec.kind}{number}"
        primary = tables[spec.primary]
        own = {**indexes, "weak": weak} if spec.weak_index else indexes
        if spec.kind == "union":
            others = (tables[table] for table, _ in spec.reads if tables[table].kind != "single")
            tables.append(g.union(name, primary, *others, **own))
            continue
        transform = transform_of(name, spec, tables)
        reads = using(**{f"v{index}": tables[table] for index, (table, _) in enumerate(spec.reads)})
        if spec.kind == "single":
            tables.append(g.single(name, transform, reads))
        elif spec.kind == "derive":
            tables.append(g.derive(name, transform, primary, reads, **own))
        elif spec.kind == "expand":
            tables.append(g.expand(name, transform, primary, reads, **own))
        else:
            tables.append(g.gather(name, transform, primary, spec.gathers_by, reads, **own))
    return g, inputs


@st.composite
def declarations(draw: st.DrawFn) -> tuple[Spec, ...]:
    specs: list[Spec] = []
    kinds = ["input", "input"]
    for number in range(draw(st.integers(1, 5))):
        usable = [index for index, kind in enumerate(kinds) if kind != "single"]
        spec = Spec(
            kind=draw(st.sampled_from(("derive", "expand", "gather", "single", "union"))),
            primary=draw(st.sampled_from(usable)),
            reads=tuple(draw(st.lists(st.tuples(st.integers(0, number + 1), st.sampled_from(READS)), max_size=3))),
            salt=draw(st.integers(0, 9)),
            modulus=draw(st.sampled_from((1, 2, 5, 11))),
            fails_on=draw(st.sampled_from((-1, -1, 0, 3))),
            absent_on=draw(st.sampled_from((-1, 1, 4))),
            complains_on=draw(st.sampled_from((-1, 0, 2))),
            gathers_by=draw(st.sampled_from(("a", "tags"))),
            weak_index=draw(st.sampled_from((False, False, True))),
        )
        specs.append(spec)
        kinds.append(spec.kind)
    return tuple(specs)


# A fact: the input table, the key, and the number that makes the row (None removes it).
facts = st.tuples(st.integers(0, 1), st.sampled_from(KEYS), st.none() | st.integers(0, 40))
histories = st.lists(st.lists(facts, max_size=5), min_size=1, max_size=8)


def fact_of(inputs: list[Table[Any, Any]], fact: tuple[int, str, int | None]) -> Fact:
    table, key, number = fact
    if number is None:
        return Remove(inputs[table], key)
    return Put(inputs[table], key, row_of(number, 7, Ref("Fact", f"in{table}", key)))


def rows_of(g: Graph) -> dict[str, dict[Any, Any]]:
    return {table.name: dict(table.items()) for table in g.tables}


def failing_in(g: Graph) -> set[tuple[str, Any]]:
    return {(table.name, key) for table in g.tables for key in table.rule.failing}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(declarations(), histories)
def test_every_commit_gives_what_evaluating_everything_anew_gives(
    specs: tuple[Spec, ...], history: list[list[tuple[int, str, int | None]]]
) -> None:
    g, inputs = declare(specs)
    naive = Naive(declare(specs)[0])
    mirror: dict[str, dict[Any, Any]] = {table.name: {} for table in g.tables}
    for batch in history:
        problems_before = g.problems()
        evaluated = [getattr(table.rule, "recomputed", 0) for table in g.tables]
        revision = g.commit(fact_of(inputs, fact) for fact in batch)
        assert_each_row_was_made_at_most_once(g, evaluated)
        naive.commit(fact_of(inputs, fact) for fact in batch)
        assert rows_of(g) == naive.rows
        assert g.problems() == naive.problems
        assert failing_in(g) == naive.failing
        replay(revision, mirror)
        assert mirror == naive.rows
        assert revision.problems_changed == {problem.ref for problem in {*problems_before} ^ {*g.problems()}}
        for table in g.tables:
            assert_indexes_agree(table)


def assert_each_row_was_made_at_most_once(g: Graph, evaluated_before: list[int]) -> None:
    for table, before in zip(g.tables, evaluated_before, strict=True):
        if isinstance(table.rule, Rule):
            assert table.rule.recomputed - before <= len(table.rule.every())


def replay(revision: Revision, mirror: dict[str, dict[Any, Any]]) -> None:
    """Apply a revision's changes to a copy of the tables, insisting that each of them is a change, in key order."""
    for name, delta in revision.changes.items():
        assert delta
        copy = mirror[name]
        for key, row in delta.changed.items():
            assert key not in copy or copy[key] != row
            copy[key] = row
        for key, row in delta.removed.items():
            assert copy.pop(key) == row


def assert_indexes_agree(table: Table[Any, Any]) -> None:
    for name, index in table.store.indexes.items():
        values = {value for row in table.all() for value in index.values(row)}
        assert table.values_of(name) == values
        for value in values:
            expected = [(key, row) for key, row in table.items() if value in index.values(row)]
            assert table.keys_by(name, value) == tuple(key for key, _ in expected)
            assert table.by(name, value) == tuple(row for _, row in expected)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(declarations(), histories, st.randoms(use_true_random=False), st.integers(1, 4))
def test_neither_history_nor_order_matters_when_no_row_is_failing(
    specs: tuple[Spec, ...], history: list[list[tuple[int, str, int | None]]], random: Any, commits: int
) -> None:
    g, inputs = declare(specs)
    last: dict[tuple[int, str], int | None] = {}
    for batch in history:
        g.commit(fact_of(inputs, fact) for fact in batch)
        last.update({(table, key): number for table, key, number in batch})

    final = [(table, key, number) for (table, key), number in last.items() if number is not None]
    random.shuffle(final)
    other, other_inputs = declare(specs)
    for start in range(commits):
        other.commit(fact_of(other_inputs, fact) for fact in final[start::commits])

    if not failing_in(g) and not failing_in(other):
        assert {**g.dump(), "revision": 0} == {**other.dump(), "revision": 0}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(declarations(), st.lists(facts, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_facts_within_a_first_commit_never_matters(
    specs: tuple[Spec, ...], batch: list[tuple[int, str, int | None]], random: Any
) -> None:
    unique = list({(table, key): (table, key, number) for table, key, number in batch}.values())
    g, inputs = declare(specs)
    one = g.commit(fact_of(inputs, fact) for fact in unique)
    random.shuffle(unique)
    shuffled, shuffled_inputs = declare(specs)
    other = shuffled.commit(fact_of(shuffled_inputs, fact) for fact in unique)

    assert g.dump() == shuffled.dump()
    assert one == other
    assert [list(delta.changed) for delta in one.changes.values()] == [list(d.changed) for d in other.changes.values()]
