"""Where the rows of one table stand, with their indexes, and what became of them in the commit under way.

Both kinds of table, facts and derived, keep their rows here. Every change says which buckets it touched, so that the
tables that read from this one can find exactly those of their rows that must be made again.

Invariant: `change` names a key at most once per commit, and is None unless some row really changed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from meltemi.flow.index import Bucket, Index, IndexFunction, Values, keys_of

K = TypeVar("K")
V = TypeVar("V")

# The names under which reads by key and of the whole table are recorded, beside the names of the indexes.
KEY = "key"
ALL = "all"
RESERVED = frozenset({KEY, ALL})


class Change(Generic[K, V]):
    """What a commit has done to a table so far, and the index values whose buckets that touched."""

    __slots__ = ("changed", "removed", "touched")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.changed: dict[K, V] = {}
        self.removed: dict[K, V] = {}
        self.touched: dict[str, set[Hashable]] = {name: set() for name in names}


class Store(Generic[K, V]):
    """The rows of one table."""

    __slots__ = ("_names", "change", "everything", "filing", "indexes", "rows")

    def __init__(self, indexes: Mapping[str, IndexFunction]) -> None:
        self.everything: Bucket[K, V] = Bucket()
        self.rows: dict[K, V] = self.everything.members
        self.indexes: dict[str, Index[K, V]] = {name: Index(name, function) for name, function in indexes.items()}
        self.filing = tuple(self.indexes.values())
        self.change: Change[K, V] | None = None
        names = (ALL, *self.indexes)
        self._names = (KEY, *names, *(keys_of(name) for name in names))

    def file(self, row: V) -> tuple[Values, ...]:
        """Under which values each index has the row. May raise whatever an index function raises."""
        return tuple([index.values(row) for index in self.filing])

    def put(self, key: K, row: V, filed: tuple[Values, ...]) -> None:
        """Add a row or replace it by one that differs. `filed` is what `file(row)` returned."""
        change = self._changing()
        touched = change.touched
        old = self.rows.get(key)
        self.everything.put(key, row)
        change.changed[key] = row
        touched[KEY].add(key)
        if old is None:
            touched[keys_of(ALL)].add(None)
        for index, new in zip(self.filing, filed, strict=True):
            before = index.values(old) if old is not None else ()
            touched[index.name].update(new)
            for value in new:
                index.enter(value, key, row)
            if before != new:
                for value in before:
                    if value not in new:
                        index.leave(value, key)
                touched[index.name].update(before)
                touched[index.keys_name].update(set(before).symmetric_difference(new))

    def drop(self, key: K) -> None:
        """Take out a row that is there."""
        change = self._changing()
        touched = change.touched
        old = self.rows[key]
        self.everything.drop(key)
        change.removed[key] = old
        touched[KEY].add(key)
        touched[keys_of(ALL)].add(None)
        for index in self.filing:
            values = index.values(old)
            for value in values:
                index.leave(value, key)
            touched[index.name].update(values)
            touched[index.keys_name].update(values)

    def _changing(self) -> Change[K, V]:
        change = self.change
        if change is None:
            change = self.change = Change(self._names)
            change.touched[ALL].add(None)
        return change
