"""What can go wrong with the engine itself, as a tree.

    FlowError
        DeclarationError    a table was declared wrongly: its names, its transform's parameters, its order
        CommitError         a commit cannot be made: a fact for a derived table, a commit inside a commit
        ReadError           a transform read what is not there to be read: an unknown index, a closed view
            NoRow           `View.only()` found no row

What is wrong with a *row* is never raised out of a commit: it is a `meltemi.base.problems.Problem`.
"""

from __future__ import annotations


class FlowError(Exception):
    """Any fault in the use of the engine."""


class DeclarationError(FlowError):
    """A table was declared wrongly."""


class CommitError(FlowError):
    """A commit cannot be made."""


class ReadError(FlowError):
    """A transform read something that is not there to be read."""


class NoRow(ReadError):
    """A single table was read with `only()`, and it has no row."""
