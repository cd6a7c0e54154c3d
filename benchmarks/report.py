"""What was measured beside what the design allows: rows, verdicts and one table.

A verdict is refused where the noise, a side measured against itself in the same run, exceeds a tenth.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Sequence

import msgspec

NOISE = 0.10


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One budget of the design. `noise`: a side over itself, 1 where they agree; None where there is nothing to compare."""

    what: str
    budget: str
    measured: str
    within: bool | None = None
    noise: float | None = None

    @property
    def verdict(self) -> str:
        """`within`, `over`, or `noise` where the measurement cannot tell; empty where nothing is demanded."""
        if self.within is None:
            return ""
        if self.noise is not None and abs(self.noise - 1) > NOISE:
            return "noise"
        return "within" if self.within else "over"


def print_rows(rows: Iterable[Row]) -> None:
    """The table of budgets."""
    cells = [
        (row.what, row.budget, row.measured, "" if row.noise is None else f"{row.noise:.2f}", row.verdict)
        for row in rows
    ]
    print_table(("what", "budget", "measured", "self / self", "verdict"), cells)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under heads, all to the left."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in (head, tuple("-" * width for width in widths), *lines[1:]):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


def finish(rows: Sequence[Row], title: str) -> None:
    """Print a benchmark's rows; as a line of JSON for `python -m benchmarks`, which joins them."""
    if "--json" in sys.argv:
        print("ROWS " + json.dumps(msgspec.to_builtins(rows)), flush=True)
    else:
        print(f"\n{title}\n")
        print_rows(rows)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)
