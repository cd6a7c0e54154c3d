"""Indexes of a table: which rows have a value, kept up to date row by row and sorted only when somebody reads.

An index is a function from a row to a value, or to several (a tuple, list, set or frozenset *of values*; a value that
is itself a pair must therefore be wrapped: `((namespace, name),)`). `None` and an empty collection mean that the row
is not in the index. The rows of one value are a bucket.

Invariant: a bucket exists if and only if it has members, and its cached order and rows agree with them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from meltemi.flow.keys import sort

K = TypeVar("K")
V = TypeVar("V")

IndexFunction = Callable[[Any], object]
Values = tuple[Hashable, ...]

# After so many arrivals and departures between two reads, sorting anew is cheaper than keeping the order.
_PATIENCE = 16


class Bucket(Generic[K, V]):
    """Some rows of a table by key, and the same sorted by key, made when read and then kept."""

    __slots__ = ("_natural", "_order", "_rows", "_strain", "members")

    def __init__(self) -> None:
        self.members: dict[K, V] = {}
        self._order: list[K] | None = None
        self._rows: tuple[V, ...] | None = None
        self._natural = True
        self._strain = 0

    def put(self, key: K, row: V) -> None:
        """Add a row or replace it."""
        if self._order is not None and key not in self.members:
            self._rearrange(key, arrives=True)
        self.members[key] = row
        self._rows = None

    def drop(self, key: K) -> None:
        """Take a row out, if it is in."""
        if self.members.pop(key, None) is not None:
            if self._order is not None:
                self._rearrange(key, arrives=False)
            self._rows = None

    def rows(self) -> tuple[V, ...]:
        """The rows, sorted by key."""
        rows = self._rows
        if rows is None:
            members = self.members
            if len(members) == 1:
                rows = self._rows = tuple(members.values())
            else:
                rows = self._rows = tuple([members[key] for key in self._sorted()])
        return rows

    def keys(self) -> tuple[K, ...]:
        """The keys, sorted."""
        return tuple(self._sorted())

    def _sorted(self) -> list[K]:
        if self._order is None:
            self._order, self._natural = sort(self.members)
        self._strain = 0
        return self._order

    def _rearrange(self, key: K, *, arrives: bool) -> None:
        order: list[Any] | None = self._order
        self._strain += 1
        if order is None or not self._natural or self._strain > _PATIENCE:
            self._order = None
            return
        try:
            position = bisect_left(order, key)
        except TypeError:
            self._order = None
            return
        if arrives:
            order.insert(position, key)
        elif position < len(order) and order[position] == key:
            del order[position]
        else:
            self._order = None


class Index(Generic[K, V]):
    """One index of a table: its function and its buckets by value."""

    __slots__ = ("buckets", "function", "keys_name", "name")

    def __init__(self, name: str, function: IndexFunction) -> None:
        self.name = name
        self.keys_name = keys_of(name)
        self.function = function
        self.buckets: dict[Hashable, Bucket[K, V]] = {}

    def values(self, row: V) -> Values:
        """The values of a row, without doubles. May raise whatever the index function raises."""
        found = self.function(row)
        if found is None:
            return ()
        if type(found) in _MANY:
            values: Values = tuple(dict.fromkeys(found))  # type: ignore[call-overload]
            return values
        hash(found)
        return (found,)

    def enter(self, value: Hashable, key: K, row: V) -> None:
        """Put a row into the bucket of a value."""
        bucket = self.buckets.get(value)
        if bucket is None:
            bucket = self.buckets[value] = Bucket()
        bucket.put(key, row)

    def leave(self, value: Hashable, key: K) -> None:
        """Take a row out of the bucket of a value."""
        bucket = self.buckets.get(value)
        if bucket is not None:
            bucket.drop(key)
            if not bucket.members:
                del self.buckets[value]


def keys_of(index: str) -> str:
    """The name under which a read of an index's keys alone (not of its rows) is recorded."""
    return f"{index}.keys"


_MANY = frozenset({tuple, list, set, frozenset})
