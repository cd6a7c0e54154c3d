"""How the rows of a table come about: facts, or one evaluation of a transform per row, bucket, or table.

In a commit every table is refreshed once, in order of declaration. A rule first gathers its dirty keys: those of the
primary table that changed, and those that read something that changed, found through the cells of its views. It then
evaluates each of them once. An equal result is no change. If a transform raises, what it made before stays.

Invariant: after a refresh the reads held for a key are those of its last evaluation, whatever came of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar

from meltemi.base.problems import Problem
from meltemi.flow.index import Bucket
from meltemi.flow.keys import ordered
from meltemi.flow.ledger import Ledger
from meltemi.flow.store import KEY, Store
from meltemi.flow.transform import failure, one
from meltemi.flow.view import Cell, Read, View

AnyStore = Store[Any, Any]


class Facts:
    """The rule of an input table: rows are as they were put."""

    kind: ClassVar[str] = "input"

    def __init__(self, name: str, store: AnyStore, ledger: Ledger) -> None:
        self.name = name
        self.store = store
        self.ledger = ledger
        self.failing: set[Hashable] = set()

    def accept(self, facts: Mapping[Hashable, Any]) -> None:
        """Take the rows of a batch, by key; None removes. A row that an index function fails on is set aside."""
        store = self.store
        for key in ordered(facts):
            row = facts[key]
            old = store.rows.get(key)
            problems: tuple[Problem, ...] = ()
            self.failing.discard(key)
            if row is None:
                if old is not None:
                    store.drop(key)
            else:
                try:
                    if old is None or not (old is row or old == row):
                        store.put(key, row, store.file(row))
                except Exception as error:
                    self.failing.add(key)
                    problems = (failure(self.name, key, row, error),)
            self.ledger.record(self.name, key, problems)


class Rule(ABC):
    """The rule of a derived table."""

    kind: ClassVar[str]

    def __init__(
        self,
        name: str,
        transform: Callable[..., Any],
        views: dict[str, View[Any, Any]],
        store: AnyStore,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self.transform = transform
        self.views = views
        self.store = store
        self.ledger = ledger
        self.reads: dict[Hashable, tuple[Cell, ...]] = {}
        self.stale: dict[Hashable, tuple[Cell, ...]] = {}
        self.failing: set[Hashable] = set()
        self.sources: list[tuple[View[Any, Any], AnyStore]] = []
        self.recomputed = 0
        self.unchanged = 0
        self._fresh = True
        self._log: list[Cell] = []

    def refresh(self) -> None:
        """Evaluate whatever read something that changed in this commit."""
        dirty = self.every() if self._fresh else self.dirty()
        self._fresh = False
        if not dirty:
            return
        for view in self.views.values():
            view.open(self._log)
        try:
            for key in ordered(dirty):
                if self.exists(key):
                    self._evaluate(key)
                else:
                    self._forget(key)
        finally:
            for view in self.views.values():
                view.close()

    def dirty(self) -> set[Hashable]:
        """The primary keys to evaluate or to forget."""
        found = self.departed_or_changed()
        for view, store in self.sources:
            if store.change is not None:
                found |= view.readers(store.change.touched)
        return found

    @abstractmethod
    def every(self) -> set[Hashable]:
        """All primary keys."""

    @abstractmethod
    def departed_or_changed(self) -> set[Hashable]:
        """The primary keys that the primary table's own change makes dirty."""

    @abstractmethod
    def exists(self, key: Hashable) -> bool:
        """Whether the primary key is still there."""

    @abstractmethod
    def call(self, key: Hashable) -> Any:
        """Call the transform."""

    @abstractmethod
    def primary_read(self, key: Hashable) -> tuple[Read, ...]:
        """The dependency on the primary table, which needs no cell."""

    @abstractmethod
    def example(self, key: Hashable) -> object:
        """A primary row to name in a problem."""

    def take(self, key: Hashable, result: Any, problems: list[Problem]) -> bool:
        """Put what the transform made in place. True if it equals what was there. May raise; then nothing was done."""
        row = one(result, problems)
        store = self.store
        old = store.rows.get(key)
        if row is None:
            if old is None:
                return True
            store.drop(key)
            return False
        if old is not None and (old is row or old == row):
            return True
        store.put(key, row, store.file(row))
        return False

    def discard(self, key: Hashable) -> None:
        """Take out what was made of a primary key that is gone."""
        if key in self.store.rows:
            self.store.drop(key)

    def report(self, key: Hashable, problems: tuple[Problem, ...]) -> None:
        """Record what the last evaluation of a primary key had to tell."""
        self.ledger.record(self.name, key, problems)

    def provenance(self, key: Hashable) -> frozenset[Read]:
        """Everything that the row of this key has read."""
        return self.provenance_of_primary(key) if key in self.store.rows else frozenset()

    def provenance_of_primary(self, key: Hashable) -> frozenset[Read]:
        """Everything that the evaluation that made the present rows of a primary key has read."""
        cells = self.stale[key] if key in self.stale else self.reads.get(key, ())
        return frozenset([*self.primary_read(key), *(cell.read for cell in cells)])

    def _evaluate(self, key: Hashable) -> None:
        log = self._log
        log.clear()
        self.recomputed += 1
        problems: list[Problem] = []
        try:
            if self.take(key, self.call(key), problems):
                self.unchanged += 1
        except Exception as error:
            problems.append(failure(self.name, key, self.example(key), error))
            if key not in self.failing:
                self.failing.add(key)
                self.stale[key] = self.reads.get(key, ())
        else:
            if self.failing and key in self.failing:
                self.failing.discard(key)
                self.stale.pop(key, None)
        self._remember(key, tuple(dict.fromkeys(log)) if len(log) > 1 else tuple(log))
        self.report(key, tuple(problems))

    def _remember(self, key: Hashable, reads: tuple[Cell, ...]) -> None:
        before = self.reads.get(key, ())
        if reads == before:
            return
        for cell in reads:
            cell.readers.add(key)
        if before:
            kept = set(reads)
            for cell in before:
                if cell not in kept:
                    cell.release(key)
        if reads:
            self.reads[key] = reads
        else:
            del self.reads[key]

    def _forget(self, key: Hashable) -> None:
        self.discard(key)
        self._remember(key, ())
        self.failing.discard(key)
        self.stale.pop(key, None)
        self.report(key, ())


class PerRow(Rule):
    """`derive`: one row per row of the primary table, under the same key."""

    kind = "derive"

    def __init__(self, primary_name: str, primary: AnyStore, *declaration: Any) -> None:
        super().__init__(*declaration)
        self.primary_name = primary_name
        self.primary = primary

    def every(self) -> set[Hashable]:
        return set(self.primary.rows)

    def departed_or_changed(self) -> set[Hashable]:
        change = self.primary.change
        return set(change.touched[KEY]) if change is not None else set()

    def exists(self, key: Hashable) -> bool:
        return key in self.primary.rows

    def call(self, key: Hashable) -> Any:
        return self.transform(self.primary.rows[key], **self.views)

    def primary_read(self, key: Hashable) -> tuple[Read, ...]:
        return (Read(self.primary_name, KEY, key),)

    def example(self, key: Hashable) -> object:
        return self.primary.rows[key]


class PerBucket(Rule):
    """`gather`: one row per value of an index of the primary table."""

    kind = "gather"

    def __init__(self, primary_name: str, primary: AnyStore, index: str, *declaration: Any) -> None:
        super().__init__(*declaration)
        self.primary_name = primary_name
        self.primary = primary
        self.index = index
        self.buckets: dict[Hashable, Bucket[Any, Any]] = primary.indexes[index].buckets

    def every(self) -> set[Hashable]:
        return set(self.buckets)

    def departed_or_changed(self) -> set[Hashable]:
        change = self.primary.change
        return set(change.touched[self.index]) if change is not None else set()

    def exists(self, key: Hashable) -> bool:
        return key in self.buckets

    def call(self, key: Hashable) -> Any:
        return self.transform(key, self.buckets[key].rows(), **self.views)

    def primary_read(self, key: Hashable) -> tuple[Read, ...]:
        return (Read(self.primary_name, self.index, key),)

    def example(self, key: Hashable) -> object:
        return self.buckets[key].rows()[0]


class Once(Rule):
    """`single`: one row for the whole table, under the key `()`."""

    kind = "single"

    def every(self) -> set[Hashable]:
        return {()}

    def departed_or_changed(self) -> set[Hashable]:
        return set()

    def exists(self, key: Hashable) -> bool:
        return True

    def call(self, key: Hashable) -> Any:
        return self.transform(**self.views)

    def primary_read(self, key: Hashable) -> tuple[Read, ...]:
        return ()

    def example(self, key: Hashable) -> object:
        return None
