"""Names of the objects that users wrote, and where they wrote them.

A `Ref` names an object of the user's: a kind, a namespace and a name. An `Origin` says in which file and line it
stands. Both travel with everything that is made of the object, so that a problem, or a piece of Envoy
configuration, can always be led back to the text it came from.
"""

from __future__ import annotations

import msgspec


class Ref(msgspec.Struct, frozen=True, order=True, gc=False):
    """An object of the user's, by kind (`VirtualService`), namespace (empty if cluster-scoped) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Origin(msgspec.Struct, frozen=True, order=True, gc=False):
    """The place where an object was written: a file (or an API address) and the line, counted from 1 (0: unknown)."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file
