"""A graph in values that JSON has: for the admin interface, for bug reports, for eyes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from meltemi.base.problems import Problem
from meltemi.flow.keys import ordered

if TYPE_CHECKING:
    from meltemi.flow.table import Table

Encoder = Callable[[object], object]


def builtins(value: object) -> object:
    """A row in values that JSON has, as msgspec turns it; what msgspec does not know appears as its repr."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=repr)


def dump_table(
    table: Table[Any, Any], problems: Mapping[Hashable, tuple[Problem, ...]], encode: Encoder
) -> dict[str, Any]:
    """One table: how it was declared, its rows with their reads, the problems by primary key, the failing keys."""
    return {
        "name": table.name,
        "kind": table.kind,
        "primary": table.primary.name if table.primary is not None else None,
        "using": {alias: source.name for alias, source in table.reads.tables.items()},
        "indexes": list(table.indexes),
        "rows": [_row(table, key, row, encode) for key, row in table.items()],
        "problems": [
            {"key": builtins(key), "problems": [dump_problem(problem) for problem in problems[key]]}
            for key in ordered(problems)
        ],
        "failing": [builtins(key) for key in ordered(table.rule.failing)],
    }


def dump_problem(problem: Problem) -> dict[str, Any]:
    """A problem, field by field."""
    return {
        "object": str(problem.ref),
        "severity": problem.severity.value,
        "code": problem.code,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
        "origin": str(problem.origin),
    }


def _row(table: Table[Any, Any], key: Hashable, row: object, encode: Encoder) -> dict[str, Any]:
    return {
        "key": builtins(key),
        "row": encode(row),
        "reads": [
            {"table": read.table, "index": read.index, "value": builtins(read.value)}
            for read in ordered(table.provenance(key))
        ],
    }
