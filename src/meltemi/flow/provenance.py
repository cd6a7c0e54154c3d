"""From a row back to the facts it rests on, through everything that was read on the way."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from meltemi.flow.store import ALL, KEY
from meltemi.flow.view import Read

if TYPE_CHECKING:
    from meltemi.flow.table import Table


class Source(NamedTuple):
    """A fact: a row of an input table, by the table's name and the row's key."""

    table: str
    key: Hashable


def sources(tables: Mapping[str, Table[Any, Any]], name: str, key: Hashable) -> frozenset[Source]:
    """The facts that the row of `key` in the table called `name` rests on; empty if there is no such row."""
    found: set[Source] = set()
    seen: set[Source] = set()
    reads_followed: set[Read] = set()
    rest = [Source(name, key)]
    while rest:
        row = rest.pop()
        table = tables[row.table]
        if row in seen or row.key not in table:
            continue
        seen.add(row)
        if table.kind == "input":
            found.add(row)
        for read in table.provenance(row.key):
            if read not in reads_followed:
                reads_followed.add(read)
                rest.extend(Source(read.table, member) for member in members(tables[read.table], read))
    return frozenset(found)


def members(table: Table[Any, Any], read: Read) -> Iterable[Hashable]:
    """The keys that stand now in what was read."""
    if read.index == KEY:
        return (read.value,)
    index = read.index.removesuffix(".keys")
    return table.keys() if index == ALL else table.keys_by(index, read.value)
