"""What goes into a commit, and what comes out: facts, and the revision that they made."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from meltemi.base.refs import Ref

if TYPE_CHECKING:
    from meltemi.flow.table import Table

K = TypeVar("K")
V = TypeVar("V")


class Put(Generic[K, V]):
    """A fact: the input table has this row under this key."""

    __slots__ = ("key", "row", "table")

    def __init__(self, table: Table[K, V], key: K, row: V) -> None:
        self.table = table
        self.key = key
        self.row = row

    def __repr__(self) -> str:
        return f"Put({self.table.name}, {self.key!r}, {self.row!r})"


class Remove(Generic[K, V]):
    """A fact: the input table has no row under this key."""

    __slots__ = ("key", "table")

    def __init__(self, table: Table[K, V], key: K) -> None:
        self.table = table
        self.key = key

    def __repr__(self) -> str:
        return f"Remove({self.table.name}, {self.key!r})"


Fact = Put[Any, Any] | Remove[Any, Any]


class Delta(msgspec.Struct, Generic[K, V], frozen=True):
    """What a revision did to one table, sorted by key: rows that are new or differ, and old rows that are gone."""

    changed: dict[K, V] = {}
    removed: dict[K, V] = {}

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


class Revision(msgspec.Struct, frozen=True):
    """What one commit did.

    `changes` has the tables that changed, by name, in order of declaration. `problems_changed` names the objects whose
    problems are not what they were before (ask `Graph.problems_of`). A commit without any effect gives a revision
    that is empty and has the number of the last one.
    """

    number: int
    changes: Mapping[str, Delta[Any, Any]] = MappingProxyType({})
    problems_changed: frozenset[Ref] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed, neither rows nor problems."""
        return not self.changes and not self.problems_changed

    def of(self, table: Table[K, V]) -> Delta[K, V]:
        """What happened to a table; an empty delta if nothing did."""
        return self.changes.get(table.name) or Delta()

    def __repr__(self) -> str:
        parts = [f"{name} {_count(delta)}" for name, delta in self.changes.items()]
        if self.problems_changed:
            parts.append(f"problems of {len(self.problems_changed)} objects")
        return f"<Revision {self.number}: {', '.join(parts) or 'no change'}>"


def _count(delta: Delta[Any, Any]) -> str:
    gone = f" -{len(delta.removed)}" if delta.removed else ""
    return f"+{len(delta.changed)}{gone}" if delta.changed else gone.strip()
