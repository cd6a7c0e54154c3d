"""The graph: tables in order of declaration, and commits that bring them all up to date.

Facts go into input tables; every other table follows from the tables declared before it. One commit makes one
revision. Each table is refreshed at most once per commit, after everything that it reads, so nobody ever sees one
table updated and another not.

Invariant: between commits, every table is what a fresh graph with the same facts would have, but for rows whose
transform raises, which stand as they were last good. The order in which facts arrived never matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import MappingProxyType
from typing import Any, Concatenate, TypeVar, overload

from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.flow import dump as dumping
from meltemi.flow import provenance
from meltemi.flow.errors import CommitError, DeclarationError
from meltemi.flow.expansion import PerRowMany
from meltemi.flow.index import IndexFunction
from meltemi.flow.ledger import Ledger
from meltemi.flow.revision import Delta, Fact, Put, Remove, Revision
from meltemi.flow.rules import Facts, Once, PerBucket, PerRow, Rule
from meltemi.flow.statistics import Statistics, TableStatistics
from meltemi.flow.store import RESERVED, Store
from meltemi.flow.table import Table
from meltemi.flow.transform import NOTHING, Using, check_signature
from meltemi.flow.union import Union
from meltemi.flow.view import View

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")
J = TypeVar("J")


class Graph:
    """Tables that follow from tables. `clock` (seconds) is only read for `statistics()`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.number = 0
        self._clock = clock
        self._tables: dict[str, Table[Any, Any]] = {}
        self._ledger = Ledger()
        self._state = "ready"

    # Declaration

    def input(self, name: str, /, **indexes: Callable[[V], object]) -> Table[K, V]:
        """A table of facts. Annotate the variable: `pods: Table[Ref, Pod] = g.input("core/Pod", node=...)`."""
        store: Store[K, V] = Store(self._checked(name, indexes))
        return self._add(Table(name, store, Facts(name, store, self._ledger), self._ledger))

    @overload
    def derive(
        self,
        name: str,
        transform: Callable[Concatenate[V, ...], Iterator[W | Problem]],
        primary: Table[K, V],
        reads: Using = NOTHING,
        /,
        **indexes: Callable[[W], object],
    ) -> Table[K, W]: ...
    @overload
    def derive(
        self,
        name: str,
        transform: Callable[Concatenate[V, ...], W | None],
        primary: Table[K, V],
        reads: Using = NOTHING,
        /,
        **indexes: Callable[[W], object],
    ) -> Table[K, W]: ...
    def derive(
        self,
        name: str,
        transform: Callable[..., Any],
        primary: Table[K, Any],
        reads: Using = NOTHING,
        /,
        **indexes: IndexFunction,
    ) -> Table[K, Any]:
        """A table with one row, or none, per row of `primary`, under the same key.

        The transform gets the row and, by name, a view of each table of `reads`; it returns the row or None, or
        yields at most one row and any problems.
        """
        store: Store[K, Any] = Store(self._checked(name, indexes))
        rule = PerRow(self._own(name, primary).name, primary.store, *self._declared(name, transform, 1, reads, store))
        return self._add(Table(name, store, rule, self._ledger, primary, reads))

    @overload
    def single(
        self, name: str, transform: Callable[..., Iterator[W | Problem]], reads: Using, /
    ) -> Table[tuple[()], W]: ...
    @overload
    def single(
        self, name: str, transform: Callable[..., W | None], reads: Using = NOTHING, /
    ) -> Table[tuple[()], W]: ...
    def single(self, name: str, transform: Callable[..., Any], reads: Using = NOTHING, /) -> Table[tuple[()], Any]:
        """A table with one row, or none, under the key `()`."""
        store: Store[tuple[()], Any] = Store({})
        rule = Once(*self._declared(name, transform, 0, reads, store))
        return self._add(Table(name, store, rule, self._ledger, None, reads))

    def expand(
        self,
        name: str,
        transform: Callable[Concatenate[V, ...], Iterable[tuple[J, W] | Problem]],
        primary: Table[Any, V],
        reads: Using = NOTHING,
        /,
        **indexes: Callable[[W], object],
    ) -> Table[J, W]:
        """A table with any number of rows per row of `primary`: the transform yields pairs of key and row, or problems.

        Equal rows made of different primary rows under one key are one row. If they differ, that of the smallest
        primary key stands and the others get a problem with the code `Conflict`.
        """
        store: Store[J, W] = Store(self._checked(name, indexes))
        declared = self._declared(name, transform, 1, reads, store)
        rule = PerRowMany(self._own(name, primary).name, primary.store, *declared)
        return self._add(Table(name, store, rule, self._ledger, primary, reads))

    @overload
    def gather(
        self,
        name: str,
        transform: Callable[Concatenate[J, tuple[V, ...], ...], Iterator[W | Problem]],
        primary: Table[Any, V],
        index: str,
        reads: Using = NOTHING,
        /,
        **indexes: Callable[[W], object],
    ) -> Table[J, W]: ...
    @overload
    def gather(
        self,
        name: str,
        transform: Callable[Concatenate[J, tuple[V, ...], ...], W | None],
        primary: Table[Any, V],
        index: str,
        reads: Using = NOTHING,
        /,
        **indexes: Callable[[W], object],
    ) -> Table[J, W]: ...
    def gather(
        self,
        name: str,
        transform: Callable[..., Any],
        primary: Table[Any, Any],
        index: str,
        reads: Using = NOTHING,
        /,
        **indexes: IndexFunction,
    ) -> Table[Any, Any]:
        """A table with one row, or none, per value of an index of `primary`, under that value as key.

        The transform gets the value and the rows that have it, sorted by key.
        """
        store: Store[Any, Any] = Store(self._checked(name, indexes))
        if index not in self._own(name, primary).store.indexes:
            raise DeclarationError(f"table {name!r}: {primary!r} has no index {index!r} to gather by")
        rule = PerBucket(primary.name, primary.store, index, *self._declared(name, transform, 2, reads, store))
        return self._add(Table(name, store, rule, self._ledger, primary, reads))

    def union(self, name: str, /, *tables: Table[K, V], **indexes: Callable[[V], object]) -> Table[K, V]:
        """A table with the rows of several. Where they share a key, the row of the table named first stands."""
        store: Store[K, V] = Store(self._checked(name, indexes))
        parts = {self._own(name, table).name: table for table in tables}
        views: dict[str, View[Any, Any]] = {part: View(part, table.store) for part, table in parts.items()}
        stores = {part: table.store for part, table in parts.items()}
        rule = Union(stores, name, _nothing, views, store, self._ledger)
        return self._add(Table(name, store, rule, self._ledger, None, Using(parts)))

    # Commits

    def commit(self, facts: Iterable[Fact]) -> Revision:
        """Take a batch of facts (the last one about a key wins) and bring every table up to date.

        Raises CommitError, and changes nothing, if a fact is not about an input table of this graph. Faults of
        transforms are not raised: they are problems.
        """
        if self._state != "ready":
            raise CommitError(f"the graph cannot take a commit: it is {self._state}")
        batches = self._batches(facts)
        self._state = "in the middle of another commit"
        try:
            revision = self._revise(batches)
        except BaseException:
            self._state = "broken, because a commit was interrupted: build a new one"
            raise
        self._state = "ready"
        return revision

    def _batches(self, facts: Iterable[Fact]) -> dict[str, dict[Hashable, Any]]:
        batches: dict[str, dict[Hashable, Any]] = {}
        for fact in facts:
            table = fact.table
            if self._tables.get(table.name) is not table or not isinstance(table.rule, Facts):
                raise CommitError(f"{fact!r}: not an input table of this graph")
            if isinstance(fact, Put) and fact.row is None:
                raise CommitError(f"{fact!r}: None is not a row (hint: use Remove)")
            batches.setdefault(table.name, {})[fact.key] = None if isinstance(fact, Remove) else fact.row
        return batches

    def _revise(self, batches: dict[str, dict[Hashable, Any]]) -> Revision:
        clock = self._clock
        changed: list[Table[Any, Any]] = []
        for table in self._tables.values():
            rule = table.rule
            if isinstance(rule, Facts):
                if table.name not in batches:
                    continue
                start = clock()
                rule.accept(batches[table.name])
            elif table.pending:
                table.pending = False
                start = clock()
                rule.refresh()
            else:
                continue
            table.seconds += clock() - start
            if table.store.change is not None:
                changed.append(table)
                for reader in table.readers:
                    reader.pending = True
        return self._conclude(changed)

    def _conclude(self, changed: list[Table[Any, Any]]) -> Revision:
        problems_changed = self._ledger.settle()
        if not changed and not problems_changed:
            return Revision(self.number)
        self.number += 1
        changes: dict[str, Delta[Any, Any]] = {}
        for table in changed:
            change = table.store.change
            if change is not None:
                changes[table.name] = Delta(change.changed, change.removed)
                table.store.change = None
                table.changed_at = self.number
        return Revision(self.number, MappingProxyType(changes), problems_changed)

    # What there is

    @property
    def tables(self) -> tuple[Table[Any, Any], ...]:
        """Every table, in order of declaration."""
        return tuple(self._tables.values())

    def table(self, name: str) -> Table[Any, Any]:
        """The table of a name. Raises KeyError if there is none."""
        return self._tables[name]

    def problems(self) -> tuple[Problem, ...]:
        """Every problem once, sorted."""
        return self._ledger.all()

    def problems_of(self, ref: Ref) -> tuple[Problem, ...]:
        """The problems of one object, sorted."""
        return self._ledger.of(ref)

    def sources(self, table: Table[K, Any], key: K) -> frozenset[provenance.Source]:
        """The facts that a row rests on, by name of the input table and key.

        Followed are the rows really read: by key, and the present members of buckets read.
        """
        return provenance.sources(self._tables, table.name, key)

    def statistics(self) -> Statistics:
        """What the tables hold and what they have cost so far."""
        return Statistics(
            revision=self.number,
            problems=len(self._ledger),
            tables=tuple(TableStatistics.of(table) for table in self._tables.values()),
        )

    def dump(self, encode: dumping.Encoder = dumping.builtins, table: str | None = None) -> dict[str, Any]:
        """All tables, or one, in values that JSON has: rows (through `encode`), what they read, their problems."""
        chosen = self._tables.values() if table is None else (self._tables[table],)
        return {
            "revision": self.number,
            "tables": [dumping.dump_table(each, self._ledger.of_table(each.name), encode) for each in chosen],
            "problems": [dumping.dump_problem(problem) for problem in self._ledger.all()],
        }

    def __repr__(self) -> str:
        rows = sum(len(table) for table in self._tables.values())
        state = "" if self._state == "ready" else f", {self._state}"
        return (
            f"<Graph at revision {self.number}: {len(self._tables)} tables, {rows} rows,"
            f" {len(self._ledger)} problems{state}>"
        )

    # Declaration, checked

    def _checked(self, name: str, indexes: dict[str, IndexFunction]) -> dict[str, IndexFunction]:
        for index in indexes:
            if index in RESERVED:
                raise DeclarationError(f"table {name!r}: an index may not be called {index!r}")
        return indexes

    def _own(self, name: str, table: Table[K, V]) -> Table[K, V]:
        if not isinstance(table, Table):
            raise DeclarationError(f"table {name!r}: {table!r} is not a table")
        if self._tables.get(table.name) is not table:
            raise DeclarationError(f"table {name!r}: {table!r} was not declared before it in this graph")
        return table

    def _declared(
        self, name: str, transform: Callable[..., Any], leading: int, reads: Using, store: Store[Any, Any]
    ) -> tuple[str, Callable[..., Any], dict[str, View[Any, Any]], Store[Any, Any], Ledger]:
        check_signature(name, transform, leading, reads)
        views = {
            alias: View(self._own(name, table).name, table.store, single=table.kind == "single")
            for alias, table in reads.tables.items()
        }
        return name, transform, views, store, self._ledger

    def _add(self, table: Table[K, V]) -> Table[K, V]:
        if self._state == "in the middle of another commit":
            raise DeclarationError(f"table {table.name!r} was declared by a transform")
        if table.name in self._tables:
            raise DeclarationError(f"there are two tables called {table.name!r}")
        if isinstance(table.rule, Rule):
            for alias, source in table.reads.tables.items():
                table.rule.sources.append((table.rule.views[alias], source.store))
            for source in {id(each): each for each in (table.primary, *table.reads.tables.values()) if each}.values():
                source.readers.append(table)
        self._tables[table.name] = table
        return table


def _nothing() -> None:
    """A union has no transform of its own."""
