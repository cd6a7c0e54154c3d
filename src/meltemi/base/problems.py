"""What is wrong with what a user wrote, told so that the user can mend it.

Problems are values, collected and handed on; they are not raised. A problem names the object, the path of the field
within it, what is wrong, and what to do about it. Whoever shows it adds the file and line from the object's origin.
"""

from __future__ import annotations

import enum

import msgspec

from meltemi.base.refs import Origin, Ref


class Severity(enum.StrEnum):
    """How much a problem matters: an error takes the object (or part of it) out of effect, the others do not."""

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"


class Problem(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """One thing that is wrong with one object.

    `path` follows Kubernetes' notation (`spec.http[0].route[1].destination.host`); `code` is a short CamelCase
    reason fit for a status condition (`UnknownField`, `HostNotFound`); `hint` is the fix, in the imperative.
    """

    ref: Ref
    path: str = ""
    message: str
    hint: str = ""
    code: str = "Invalid"
    severity: Severity = Severity.ERROR
    origin: Origin = Origin()

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin.file else ""
        path = f" {self.path}:" if self.path else ""
        text = f"{where}{self.severity.lower()}: {self.ref}:{path} {self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text
