"""Transforms: plain functions from rows to rows, whose parameters name every table they may read.

A transform returns its row (or rows) or yields them; among them it may yield problems. Here its signature is compared
with what the declaration gives it, its results are told apart, and a fault of it becomes a problem, because one row
that fails must never keep the others from being made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import PurePath
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.flow.errors import DeclarationError

if TYPE_CHECKING:
    from meltemi.flow.table import Table

_ENGINE = "meltemi.flow"
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Using:
    """The tables that a transform reads, by the names of its parameters."""

    __slots__ = ("tables",)

    def __init__(self, tables: Mapping[str, Table[Any, Any]]) -> None:
        self.tables = dict(tables)

    def __repr__(self) -> str:
        return f"using({', '.join(f'{alias}={table.name}' for alias, table in self.tables.items())})"


def using(**tables: Table[Any, Any]) -> Using:
    """Name the tables that a transform reads: each arrives as the keyword argument of that name, a `View`."""
    return Using(tables)


NOTHING = Using({})


def check_signature(table: str, transform: Callable[..., Any], leading: int, reads: Using) -> None:
    """Compare a transform's parameters with what it will be called with.

    `leading` positional arguments (the row) come first, then the views by name. Raises DeclarationError, naming the
    parameter that nobody gives or the table that nobody takes.
    """
    name = getattr(transform, "__qualname__", repr(transform))
    try:
        parameters = list(inspect.signature(transform).parameters.values())
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"table {table!r}: {name} has no signature to check: {error}") from error
    fixed = [parameter for parameter in parameters if parameter.kind in _BY_PLACE][:leading]
    takes_any_row = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    if len(fixed) < leading and not takes_any_row:
        raise DeclarationError(f"table {table!r}: {name} must take {leading} positional argument(s) before its views")
    rest = [parameter for parameter in parameters if parameter not in fixed]
    takes_any_view = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in rest)
    named = {parameter.name: parameter for parameter in rest if parameter.kind in _BY_NAME}
    for parameter in rest:
        wanted = parameter.kind in (*_BY_PLACE, inspect.Parameter.KEYWORD_ONLY)
        if wanted and parameter.default is inspect.Parameter.empty and parameter.name not in reads.tables:
            raise DeclarationError(
                f"table {table!r}: {name} wants {parameter.name!r}, which is missing from {reads}"
                f" (hint: using({parameter.name}=...))"
            )
    for alias in reads.tables:
        if alias not in named and not takes_any_view:
            raise DeclarationError(f"table {table!r}: {reads} names {alias!r}, but {name} has no such parameter")


def one(result: Any, problems: list[Problem]) -> Any:
    """The row that a transform returned or yielded, or None; its problems are added to `problems`."""
    if isinstance(result, Problem):
        problems.append(result)
        return None
    if type(result) is not GeneratorType:
        return result
    row = None
    for item in result:
        if isinstance(item, Problem):
            problems.append(item)
        elif row is not None:
            raise ValueError("the transform yielded more than one row")
        else:
            row = item
    return row


def many(result: Any, problems: list[Problem]) -> Iterator[tuple[Any, Any]]:
    """The pairs of key and row that a transform returned or yielded; its problems are added to `problems`."""
    for item in result:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        key, row = item
        hash(key)
        if row is None:
            raise ValueError(f"the transform yielded None as the row of {key!r}")
        yield key, row


def ref_of(table: str, key: Hashable, row: object) -> Ref:
    """The object a problem of this row concerns: the row's `ref`, if it has one, or else the row itself."""
    ref = getattr(row, "ref", None)
    return ref if isinstance(ref, Ref) else Ref("Table", "", f"{table}/{key}" if key != () else table)


def failure(table: str, key: Hashable, row: object, error: Exception) -> Problem:
    """The problem that stands for an exception of a transform or an index function."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Problem(
        ref=ref_of(table, key, row),
        message=f"{table} could not be made: {what} ({_place(error)})",
        hint="this is a fault in Meltemi: please report it; what was last good stays in effect",
        code="Internal",
    )


def _place(error: Exception) -> str:
    """The line that raised; of those on the way, the innermost that is not the engine's own."""
    place, own = "unknown place", True
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if not str(frame.f_globals.get("__name__", "")).startswith(_ENGINE):
            own = False
            place = f"{PurePath(frame.f_code.co_filename).name}:{trace.tb_lineno}"
        elif own:
            place = f"{PurePath(frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
