"""What a transform sees of the tables it names: read-only, and every read is remembered as a dependency.

The unit of a dependency is (table, index, value): a key, a bucket of an index, or all; where only keys are asked for,
the keys alone, so that a row that changes but stays in its bucket disturbs nobody. For each such unit that some row of
the reading table has read there is one `Cell`, which knows the rows that read it. A row's dependencies are a tuple of
cells, so a read costs one dictionary look-up and one append, however many rows it returns.

Invariant: a view can be read only while its own table is being refreshed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from meltemi.flow.errors import NoRow, ReadError
from meltemi.flow.index import Bucket, IndexFunction, keys_of
from meltemi.flow.store import ALL, KEY, Store

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class Read(msgspec.Struct, frozen=True, order=True):
    """One dependency: rows of `table` whose `index` has `value`.

    `index` is `key` for a read by key, `all` for the whole table (the value is None then), and ends in `.keys` where
    the keys were read and not the rows.
    """

    table: str
    index: str
    value: Hashable


class Cell:
    """One unit of dependency of one reading table: the keys of the rows that have read it."""

    __slots__ = ("readers", "slot", "value")

    def __init__(self, slot: Slot, value: Hashable) -> None:
        self.slot = slot
        self.value = value
        self.readers: set[Hashable] = set()

    def release(self, key: Hashable) -> None:
        """Forget a reader, and this cell if it was the last."""
        self.readers.discard(key)
        if not self.readers and self.slot.get(self.value) is self:
            del self.slot[self.value]

    @property
    def read(self) -> Read:
        """What was read."""
        return Read(self.slot.table, self.slot.index, self.value)


class Slot(dict[Hashable, Cell]):
    """The cells of one index of one view, by value, made as they are asked for."""

    __slots__ = ("index", "table")

    def __init__(self, table: str, index: str) -> None:
        super().__init__()
        self.table = table
        self.index = index

    def __missing__(self, value: Hashable) -> Cell:
        cell = self[value] = Cell(self, value)
        return cell

    def readers(self, touched: set[Hashable]) -> set[Hashable]:
        """The keys of the rows that have read one of the values."""
        found: set[Hashable] = set()
        if len(self) < len(touched):
            for value, cell in self.items():
                if value in touched:
                    found |= cell.readers
        else:
            for value in touched:
                read = self.get(value)
                if read is not None:
                    found |= read.readers
        return found


class Log(Protocol):
    """Where a view writes down what was read."""

    def append(self, cell: Cell, /) -> None: ...


class View(Generic[K, V]):
    """A read-only look at a table, handed to a transform under the alias of `using(alias=table)`."""

    __slots__ = ("_all", "_buckets", "_everything", "_keys", "_log", "_rows", "_single", "_slots", "_table")

    def __init__(self, table: str, store: Store[K, V], *, single: bool = False) -> None:
        self._table = table
        self._single = single
        self._everything: Bucket[K, V] = store.everything
        self._rows: dict[K, V] = store.rows
        self._buckets = {name: index.buckets for name, index in store.indexes.items()}
        names = (ALL, *store.indexes)
        self._slots = {name: Slot(table, name) for name in (KEY, *names, *(keys_of(name) for name in names))}
        self._keys = self._slots[KEY]
        self._all = self._slots[ALL]
        self._log: Log = CLOSED

    @classmethod
    def of(cls, rows: Mapping[K, V], **indexes: IndexFunction) -> View[K, V]:
        """A view of rows at hand that belongs to no graph, for calling a transform directly, as tests do.

        A mapping whose only key is `()` is a view of a single table.
        """
        store: Store[K, V] = Store(indexes)
        for key, row in rows.items():
            store.put(key, row, store.file(row))
        view = cls("rows at hand", store, single=set(rows) <= {cast("K", ())})
        view._log = UNHEEDED
        return view

    def get(self, key: K) -> V | None:
        """The row of a key, or None."""
        self._log.append(self._keys[key])
        return self._rows.get(key)

    def by(self, index: str, value: Hashable) -> tuple[V, ...]:
        """The rows whose index has this value, sorted by key."""
        try:
            slot, buckets = self._slots[index], self._buckets[index]
        except KeyError:
            raise self._unknown(index) from None
        self._log.append(slot[value])
        bucket = buckets.get(value)
        return () if bucket is None else bucket.rows()

    def keys_by(self, index: str, value: Hashable) -> tuple[K, ...]:
        """The keys of the rows whose index has this value, sorted. Rests on the keys alone, not on the rows."""
        try:
            slot, buckets = self._slots[keys_of(index)], self._buckets[index]
        except KeyError:
            raise self._unknown(index) from None
        self._log.append(slot[value])
        bucket = buckets.get(value)
        return () if bucket is None else bucket.keys()

    def all(self) -> tuple[V, ...]:
        """Every row, sorted by key."""
        self._log.append(self._all[None])
        return self._everything.rows()

    def keys(self) -> tuple[K, ...]:
        """Every key, sorted. Rests on the keys alone, not on the rows."""
        self._log.append(self._slots[keys_of(ALL)][None])
        return self._everything.keys()

    def only(self) -> V:
        """The row of a single table. Raises NoRow if it has none."""
        row = self.one(None)
        if row is None:
            raise NoRow(f"the single table {self._table!r} has no row")
        return row

    def one(self, default: D) -> V | D:
        """The row of a single table, or `default` if it has none."""
        if not self._single:
            raise ReadError(f"{self._table!r} is not a single table: read it with get(), by() or all()")
        row = self.get(cast("K", ()))
        return default if row is None else row

    def __repr__(self) -> str:
        return f"<View of {self._table}: {len(self._rows)} rows>"

    # For the table that reads through this view.

    def open(self, log: Log) -> None:
        """Let reads go on, to be written into `log`."""
        self._log = log

    def close(self) -> None:
        """Refuse reads until opened again."""
        self._log = CLOSED

    def readers(self, touched: Mapping[str, set[Hashable]]) -> set[Hashable]:
        """The keys of the rows that have read one of the touched values, by name of the index."""
        found: set[Hashable] = set()
        for name, slot in self._slots.items():
            if slot:
                values = touched[name]
                if values:
                    found |= slot.readers(values)
        return found

    def _unknown(self, index: str) -> ReadError:
        known = ", ".join(self._buckets) or "none"
        return ReadError(f"table {self._table!r} has no index {index!r} (it has: {known})")


class _Closed:
    def append(self, cell: Cell, /) -> None:
        raise ReadError(f"{cell.slot.table!r} was read outside the transform that names it")


class _Unheeded:
    def append(self, cell: Cell, /) -> None:
        del cell.slot[cell.value]


CLOSED: Any = _Closed()
UNHEEDED: Any = _Unheeded()
