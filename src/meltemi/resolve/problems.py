"""Problems of objects as users wrote them: the object, its origin, and what is to be said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from meltemi.api.meta import Resource
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem, Severity

R = TypeVar("R", bound=Resource)


def of(
    resource: Resource, path: str, code: str, message: str, hint: str, severity: Severity = Severity.ERROR
) -> Problem:
    """A problem of an object, found at a path within it."""
    return Problem(
        ref=resource.ref, path=path, message=message, hint=hint, code=code, severity=severity, origin=resource.origin
    )


def warning(resource: Resource, path: str, code: str, message: str, hint: str) -> Problem:
    """A problem that takes nothing out of effect."""
    return of(resource, path, code, message, hint, Severity.WARNING)


def overruled(resource: R, rivals: Iterable[R], path: str, code: str, hint: str) -> Iterator[Problem]:
    """A problem if one of the objects that are for the same workloads is older, so that this one is never chosen."""
    oldest = min(rivals, key=seniority, default=resource)
    if oldest.name != resource.name:
        message = f"it is not in effect: {oldest.ref}, which is older, is for the same workloads"
        yield of(resource, path, code, message, hint)
