"""A table as everybody sees it: rows by key, made by a rule, readable from outside at any time between commits.

Transforms never see a table, only views of it, because what they read must be remembered.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar, cast

from meltemi.base.problems import Problem
from meltemi.flow.errors import NoRow, ReadError
from meltemi.flow.ledger import Ledger
from meltemi.flow.rules import Facts, Rule
from meltemi.flow.store import Store
from meltemi.flow.transform import NOTHING, Using
from meltemi.flow.view import Read

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class Table(Generic[K, V]):
    """One table of a graph. Reading it here records nothing; rows must not be amended."""

    def __init__(
        self,
        name: str,
        store: Store[K, V],
        rule: Facts | Rule,
        ledger: Ledger,
        primary: Table[Any, Any] | None = None,
        reads: Using = NOTHING,
    ) -> None:
        self.name = name
        self.store = store
        self.rule = rule
        self.primary = primary
        self.reads = reads
        self.readers: list[Table[Any, Any]] = []
        self.pending = isinstance(rule, Rule)
        self.seconds = 0.0
        self.changed_at = 0
        self._ledger = ledger

    @property
    def kind(self) -> str:
        """How the table was declared: input, derive, single, expand or gather."""
        return self.rule.kind

    @property
    def indexes(self) -> tuple[str, ...]:
        """The names of the table's indexes."""
        return tuple(self.store.indexes)

    def get(self, key: K) -> V | None:
        """The row of a key, or None."""
        return self.store.rows.get(key)

    def by(self, index: str, value: Hashable) -> tuple[V, ...]:
        """The rows whose index has this value, sorted by key."""
        bucket = self._index(index).get(value)
        return () if bucket is None else bucket.rows()

    def keys_by(self, index: str, value: Hashable) -> tuple[K, ...]:
        """The keys of the rows whose index has this value, sorted."""
        bucket = self._index(index).get(value)
        return () if bucket is None else bucket.keys()

    def values_of(self, index: str) -> frozenset[Hashable]:
        """The values that an index has."""
        return frozenset(self._index(index))

    def all(self) -> tuple[V, ...]:
        """Every row, sorted by key."""
        return self.store.everything.rows()

    def keys(self) -> tuple[K, ...]:
        """Every key, sorted."""
        return self.store.everything.keys()

    def items(self) -> tuple[tuple[K, V], ...]:
        """Every key with its row, sorted by key."""
        rows = self.store.rows
        return tuple((key, rows[key]) for key in self.keys())

    def only(self) -> V:
        """The row of a single table. Raises NoRow if it has none."""
        row = self.one(None)
        if row is None:
            raise NoRow(f"the single table {self.name!r} has no row")
        return row

    def one(self, default: D) -> V | D:
        """The row of a single table, or `default` if it has none."""
        if self.kind != "single":
            raise ReadError(f"{self.name!r} is not a single table: read it with get(), by() or all()")
        row = self.store.rows.get(cast("K", ()))
        return default if row is None else row

    def provenance(self, key: K) -> frozenset[Read]:
        """Everything that the row of this key has read, its primary row included; empty for facts.

        For a row that stands because it was last good, it is what the evaluation that made it has read.
        """
        return self.rule.provenance(key) if isinstance(self.rule, Rule) else frozenset()

    def problems(self, key: Hashable) -> tuple[Problem, ...]:
        """What the last evaluation of a row of the *primary* table (a fact: the row itself) had to tell."""
        return self._ledger.of_row(self.name, key)

    def is_failing(self, key: Hashable) -> bool:
        """Whether the last evaluation of a row of the primary table raised, so that what was last good stands."""
        return key in self.rule.failing

    def __len__(self) -> int:
        return len(self.store.rows)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        return key in self.store.rows

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def __repr__(self) -> str:
        indexes = f", indexes {', '.join(self.indexes)}" if self.indexes else ""
        failing = f", {len(self.rule.failing)} failing" if self.rule.failing else ""
        return f"<Table {self.name} ({self.kind}): {len(self)} rows{indexes}{failing}>"

    def _index(self, name: str) -> dict[Hashable, Any]:
        try:
            return self.store.indexes[name].buckets
        except KeyError:
            known = ", ".join(self.indexes) or "none"
            raise ReadError(f"table {self.name!r} has no index {name!r} (it has: {known})") from None
