"""Tables as `kubectl` prints them: capitals above, three spaces between, nothing cut off, the last column as it is.

A writer of our own, because a table may have ten thousand rows and is read by programs as often as by people. Colour is
added after the widths are known and never carries a meaning that the text does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import click

GAP = 3

STYLES: Mapping[str, str] = {
    "SYNCED": "green",
    "SENDING": "yellow",
    "WAITING": "yellow",
    "REJECTED": "red",
    "Running": "green",
    "Pending": "yellow",
    "CrashLoopBackOff": "red",
    "Error": "red",
    "Failed": "red",
    "Warning": "yellow",
    "Terminating": "yellow",
}


class Columns:
    """The widths of a table's columns, so that rows which come later stand below those that came before.

    A later row with a longer cell widens its column from there on.
    """

    def __init__(self, headers: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> None:
        self.headers = tuple(headers)
        self._widths = [len(header) for header in self.headers]
        for row in rows:
            self._widen(row)

    def head(self) -> str:
        """The line of headers."""
        return self._line([header.upper() for header in self.headers], {})

    def line(self, row: Sequence[str], styles: Mapping[str, str] = STYLES) -> str:
        """One row."""
        return self._line(row, styles)

    def _widen(self, row: Sequence[str]) -> None:
        for index, cell in enumerate(row):
            if len(cell) > self._widths[index]:
                self._widths[index] = len(cell)

    def _line(self, row: Sequence[str], styles: Mapping[str, str]) -> str:
        self._widen(row)
        last = max((index for index, cell in enumerate(row) if cell), default=0)
        pieces = []
        for index, cell in enumerate(row[: last + 1]):
            padding = "" if index == last else " " * (self._widths[index] - len(cell) + GAP)
            colour = styles.get(cell)
            pieces.append((click.style(cell, fg=colour) if colour else cell) + padding)
        return "".join(pieces)


def lines(headers: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[str, str] = STYLES) -> Iterator[str]:
    """The whole table, line by line."""
    columns = Columns(headers, rows)
    yield columns.head()
    for row in rows:
        yield columns.line(row, styles)


def write(headers: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[str, str] = STYLES) -> None:
    """Prints the whole table."""
    click.echo("\n".join(lines(headers, rows, styles)))
