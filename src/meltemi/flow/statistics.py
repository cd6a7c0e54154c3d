"""What a graph has done so far, as frozen records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from meltemi.flow.table import Table


class TableStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One table: what it holds, and what was done for it since the graph was made.

    `recomputed` counts evaluations of the transform, `unchanged` those whose result equalled what was there (where
    the change stopped), `failing` the primary rows whose last evaluation raised, `seconds` the time spent,
    `changed_at` the number of the last revision that changed a row (0: none yet).
    """

    name: str
    kind: str
    rows: int
    recomputed: int
    unchanged: int
    failing: int
    seconds: float
    changed_at: int

    @classmethod
    def of(cls, table: Table[Any, Any]) -> TableStatistics:
        """The statistics of a table."""
        return cls(
            name=table.name,
            kind=table.kind,
            rows=len(table),
            recomputed=getattr(table.rule, "recomputed", 0),
            unchanged=getattr(table.rule, "unchanged", 0),
            failing=len(table.rule.failing),
            seconds=table.seconds,
            changed_at=table.changed_at,
        )


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """A graph: the number of its last revision, how many problems stand, and its tables in order of declaration."""

    revision: int
    problems: int
    tables: tuple[TableStatistics, ...]

    @property
    def seconds(self) -> float:
        """The time spent in all tables."""
        return sum(table.seconds for table in self.tables)

    def table(self, name: str) -> TableStatistics:
        """The statistics of the table of a name. Raises KeyError if there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)
