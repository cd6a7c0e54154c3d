"""Problems of objects as users wrote them: the object, its origin, and what is to be said."""

from __future__ import annotations

from meltemi.api.meta import Resource
from meltemi.base.problems import Problem, Severity


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
