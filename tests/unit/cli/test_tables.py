"""Tables: aligned, plain, and coloured only beside the words."""

from __future__ import annotations

import click

from meltemi.cli import tables


def test_columns_are_as_wide_as_their_widest_cell_and_the_last_is_not_padded() -> None:
    shown = list(tables.lines(("Name", "State", "Age"), [("a", "Running", "1s"), ("longer", "x", "12m")], {}))
    assert shown == ["NAME     STATE     AGE", "a        Running   1s", "longer   x         12m"]


def test_empty_cells_at_the_end_leave_no_blanks() -> None:
    assert list(tables.lines(("A", "B"), [("a", "")], {})) == ["A   B", "a"]


def test_a_later_row_with_a_longer_cell_widens_its_column() -> None:
    columns = tables.Columns(("A", "B"), [("a", "b")])
    assert columns.line(("aaa", "b")) == "aaa   b"
    assert columns.line(("a", "b")) == "a     b"


def test_colour_is_beside_the_words_and_counts_for_nothing_in_the_widths() -> None:
    coloured = list(tables.lines(("Type", "X"), [("SYNCED", "y"), ("-", "y")]))
    assert "\x1b[32mSYNCED" in coloured[1]
    plain = list(tables.lines(("Type", "X"), [("SYNCED", "y"), ("-", "y")], {}))
    assert [click.unstyle(line) for line in coloured] == plain
