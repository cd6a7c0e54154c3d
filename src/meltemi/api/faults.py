"""Faults: what is wrong with a document or a resource, before it is known which object and file that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Origin, Ref


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong, at a path. Code and severity are those of a `Problem`."""

    path: str
    message: str
    hint: str = ""
    code: str = "InvalidValue"
    severity: Severity = Severity.ERROR


Faults = Iterator[Fault]


def warning(path: str, message: str, hint: str = "", code: str = "Ineffective") -> Fault:
    """A fault that leaves the object in effect."""
    return Fault(path, message, hint, code, Severity.WARNING)


def problem_of(fault: Fault, ref: Ref, origin: Origin) -> Problem:
    """The fault as a problem of an object."""
    return Problem(
        ref=ref,
        path=fault.path,
        message=fault.message,
        hint=fault.hint,
        code=fault.code,
        severity=fault.severity,
        origin=origin,
    )


def problems_of(faults: Iterable[Fault], ref: Ref, origin: Origin) -> Iterator[Problem]:
    """The faults as problems of an object."""
    for fault in faults:
        yield problem_of(fault, ref, origin)
