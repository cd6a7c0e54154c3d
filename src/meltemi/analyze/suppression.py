"""What is not to be told: by a code and an object, on the command line or in an annotation of the object.

`IST0102=Namespace shop` (one object), `IST0103=Pod shop/*` or Istio's `IST0103=Pod *.shop` (many), `IST0118` (all).
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec

from meltemi.api.meta import Resource
from meltemi.base.problems import Problem

ANNOTATION = "galley.istio.io/analyze-suppress"
ANY = "*"


class Suppression(msgspec.Struct, frozen=True):
    """A code (`*`: any), and patterns of the kind, namespace and name of the objects it is not told of."""

    code: str
    kind: str = ANY
    namespace: str = ANY
    name: str = ANY

    def covers(self, problem: Problem) -> bool:
        """Whether a finding is not to be told."""
        ref = problem.ref
        return (
            self.code in (ANY, problem.code)
            and self.kind in (ANY, ref.kind)
            and fnmatchcase(ref.namespace, self.namespace)
            and fnmatchcase(ref.name, self.name)
        )


def parse(text: str) -> Suppression:
    """Reads one from the command line. Raises ValueError, saying what is expected."""
    code, equals, rest = text.partition("=")
    if not code.strip():
        raise ValueError(f"{text!r} names no code")
    if not equals:
        return Suppression(code.strip())
    kind, _, name = rest.strip().partition(" ")
    name = name.strip()
    if not (kind and name):
        raise ValueError(f"{text!r} names no object: write CODE='Kind namespace/name'")
    if "/" in name:
        namespace, _, name = name.partition("/")
        return Suppression(code.strip(), kind, namespace, name)
    if "." in name and kind != "Namespace":
        name, _, namespace = name.rpartition(".")
        return Suppression(code.strip(), kind, namespace, name)
    return Suppression(code.strip(), kind, ANY, name)


def of_annotation(resource: Resource) -> Iterator[Suppression]:
    """What an object does not want to be told of itself."""
    for code in resource.annotations.get(ANNOTATION, "").split(","):
        if code.strip():
            ref = resource.ref
            yield Suppression(code.strip(), ref.kind, ref.namespace, ref.name)
