"""Problems as people and programs read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from meltemi.base.problems import Problem, Severity
from meltemi.cli.printing import near, plural

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


def line(problem: Problem) -> str:
    """`shop.yaml:12: error: VirtualService bookshop/reviews: spec.http[0].rout: what is wrong`, and the fix below it."""
    where = f"{near(str(problem.origin))}: " if problem.origin.file else ""
    severity = click.style(problem.severity.lower(), fg=_COLOURS[problem.severity], bold=True)
    path = f" {problem.path}:" if problem.path else ""
    about = "" if problem.ref.kind == "File" else f" {problem.ref}:"
    text = f"{where}{severity}:{about}{path} {problem.message}"
    return f"{text}\n  hint: {problem.hint}" if problem.hint else text


def tell(problems: Iterable[Problem], *, err: bool = True) -> None:
    """Tells problems, one below the other."""
    for problem in problems:
        click.echo(line(problem), err=err)


def as_row(problem: Problem) -> dict[str, Any]:
    """A problem as a JSON object."""
    return {
        "file": problem.origin.file,
        "line": problem.origin.line,
        "severity": str(problem.severity),
        "kind": problem.ref.kind,
        "namespace": problem.ref.namespace,
        "name": problem.ref.name,
        "path": problem.path,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
    }


def count(problems: Iterable[Problem]) -> str:
    """`2 errors, 1 warning`, or `no problems`."""
    found = list(problems)
    parts = [
        plural(number, word)
        for severity, word in ((Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "remark"))
        if (number := sum(problem.severity is severity for problem in found))
    ]
    return ", ".join(parts) or "no problems"
