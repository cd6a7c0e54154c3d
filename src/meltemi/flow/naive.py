"""The same declarations evaluated the simple way: after every commit, everything is made again from the facts.

It is the oracle that the incremental engine is held against, so it shares nothing with it but the declarations: no
buckets, no recorded reads, no early end of a change; a view scans all rows. It is slow, and obviously right.

What is compared: after every commit, the rows and the problems of every table. A row whose transform raises stands as
it was when it last succeeded, in both; evaluating it more often than needed (as here) gives the same, because a
transform whose reads have not changed does again what it did before. Against a *fresh* evaluation of the final facts,
which has no last good rows, the comparison holds whenever no row is failing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

from meltemi.base.problems import Problem
from meltemi.flow.errors import NoRow, ReadError
from meltemi.flow.graph import Graph
from meltemi.flow.index import Values
from meltemi.flow.keys import ordered
from meltemi.flow.revision import Fact, Put
from meltemi.flow.rules import PerBucket
from meltemi.flow.table import Table
from meltemi.flow.transform import failure, many, one, ref_of

Rows = dict[Hashable, Any]
ValuesOf = Callable[[Any], Values]


class ScanningView:
    """What a transform sees: the interface of `View`, answered by looking at every row."""

    def __init__(self, name: str, rows: Rows, indexes: Mapping[str, ValuesOf], single: bool) -> None:
        self._name = name
        self._rows = rows
        self._indexes = indexes
        self._single = single

    def get(self, key: Hashable) -> Any:
        """The row of a key, or None."""
        return self._rows.get(key)

    def by(self, index: str, value: Hashable) -> tuple[Any, ...]:
        """The rows whose index has this value, sorted by key."""
        return tuple(self._rows[key] for key in self.keys_by(index, value))

    def keys_by(self, index: str, value: Hashable) -> tuple[Hashable, ...]:
        """The keys of the rows whose index has this value, sorted."""
        if index not in self._indexes:
            known = ", ".join(self._indexes) or "none"
            raise ReadError(f"table {self._name!r} has no index {index!r} (it has: {known})")
        values = self._indexes[index]
        return tuple(ordered(key for key, row in self._rows.items() if value in values(row)))

    def all(self) -> tuple[Any, ...]:
        """Every row, sorted by key."""
        return tuple(self._rows[key] for key in self.keys())

    def keys(self) -> tuple[Hashable, ...]:
        """Every key, sorted."""
        return tuple(ordered(self._rows))

    def only(self) -> Any:
        """The row of a single table. Raises NoRow if it has none."""
        row = self.one(None)
        if row is None:
            raise NoRow(f"the single table {self._name!r} has no row")
        return row

    def one(self, default: Any) -> Any:
        """The row of a single table, or `default` if it has none."""
        if not self._single:
            raise ReadError(f"{self._name!r} is not a single table: read it with get(), by() or all()")
        return self._rows.get((), default)


class Naive:
    """The tables of a graph's declarations, evaluated from scratch at every commit."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._facts: dict[str, Rows] = {}
        self._last_good: dict[tuple[str, Hashable], Rows] = {}
        self.rows: dict[str, Rows] = {}
        self.problems: tuple[Problem, ...] = ()
        self.failing: set[tuple[str, Hashable]] = set()

    def commit(self, facts: Iterable[Fact]) -> None:
        """Take a batch of facts and make every table again."""
        for fact in facts:
            rows = self._facts.setdefault(fact.table.name, {})
            if isinstance(fact, Put):
                rows[fact.key] = fact.row
            else:
                rows.pop(fact.key, None)
        self.rows = {}
        self.failing = set()
        found: set[Problem] = set()
        for table in self._graph.tables:
            found.update(self._facts_of(table) if table.kind == "input" else self._derive(table))
        self.problems = tuple(sorted(found))

    def _facts_of(self, table: Table[Any, Any]) -> list[Problem]:
        problems: list[Problem] = []
        made: dict[Hashable, Rows] = {}
        for key, row in self._facts.get(table.name, {}).items():
            made[key] = self._attempt(table, key, row, partial(_itself, key, row), problems)
        return [*problems, *self._put_together(table, made)]

    def _derive(self, table: Table[Any, Any]) -> list[Problem]:
        problems: list[Problem] = []
        made: dict[Hashable, Rows] = {}
        for key, row, call in self._calls(table):

            def evaluate(key: Hashable = key, call: Callable[[], Any] = call) -> Rows:
                result = call()
                if table.kind == "expand":
                    return self._pairs(table, key, many(result, problems), problems)
                row = one(result, problems)
                return {} if row is None else {key: row}

            made[key] = self._attempt(table, key, row, evaluate, problems)
        return [*problems, *self._put_together(table, made)]

    def _calls(self, table: Table[Any, Any]) -> list[tuple[Hashable, Any, Callable[[], Any]]]:
        """Every primary key of a table, a primary row to name in problems, and the call of the transform."""
        views = {alias: self._view(source) for alias, source in table.reads.tables.items()}
        rule: Any = table.rule
        if table.kind == "union":
            joined = {key: row for part in reversed(rule.parts) for key, row in self.rows[part].items()}
            return [(key, row, partial(_same, row)) for key, row in joined.items()]
        transform = rule.transform
        if table.primary is None:
            return [((), None, partial(transform, **views))]
        primary = self._view(table.primary)
        if isinstance(rule, PerBucket):
            values = {value for row in primary.all() for value in table.primary.store.indexes[rule.index].values(row)}
            buckets = {value: primary.by(rule.index, value) for value in values}
            return [(value, rows[0], partial(transform, value, rows, **views)) for value, rows in buckets.items()]
        rows = self.rows[table.primary.name]
        return [(key, row, partial(transform, row, **views)) for key, row in rows.items()]

    def _attempt(
        self, table: Table[Any, Any], key: Hashable, row: Any, make: Callable[[], Rows], problems: list[Problem]
    ) -> Rows:
        try:
            rows = make()
            for each in rows.values():
                table.store.file(each)
        except Exception as error:
            problems.append(failure(table.name, key, row, error))
            self.failing.add((table.name, key))
            return self._last_good.get((table.name, key), {})
        return rows

    def _pairs(self, table: Table[Any, Any], key: Hashable, pairs: Iterable[Any], problems: list[Problem]) -> Rows:
        rows: Rows = {}
        for name, row in pairs:
            if rows.setdefault(name, row) != row:
                problems.append(self._conflict(table, name, key, key))
        return rows

    def _put_together(self, table: Table[Any, Any], made: dict[Hashable, Rows]) -> list[Problem]:
        """Join what the primary keys made; the smallest wins. Remember it as last good, and forget who is gone."""
        problems: list[Problem] = []
        rows: Rows = {}
        winner: Rows = {}
        for key in ordered(made):
            for name, row in made[key].items():
                if name not in rows:
                    rows[name], winner[name] = row, key
                elif rows[name] != row:
                    problems.append(self._conflict(table, name, key, winner[name]))
        self._last_good = {slot: kept for slot, kept in self._last_good.items() if slot[0] != table.name}
        self._last_good.update({(table.name, key): kept for key, kept in made.items()})
        self.rows[table.name] = rows
        return problems

    def _conflict(self, table: Table[Any, Any], name: Hashable, maker: Hashable, winner: Hashable) -> Problem:
        assert table.primary is not None
        primary = self.rows[table.primary.name]
        other = ref_of(table.primary.name, winner, primary[winner])
        return Problem(
            ref=ref_of(table.primary.name, maker, primary[maker]),
            message=f"{table.name} {name} is "
            + (
                "made twice and differently; the first takes precedence"
                if maker == winner
                else f"also made, differently, by {other}, which takes precedence"
            ),
            hint=f"let only one object define {name}",
            code="Conflict",
        )

    def _view(self, table: Table[Any, Any]) -> ScanningView:
        indexes = {name: index.values for name, index in table.store.indexes.items()}
        return ScanningView(table.name, self.rows[table.name], indexes, table.kind == "single")


def _itself(key: Hashable, row: Any) -> Rows:
    return {key: row}


def _same(row: Any) -> Any:
    return row
