"""What the status writer asks of the control plane."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meltemi.api.registry import KINDS
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.controlplane.facts import Facts
from meltemi.controlplane.revisions import Revisions
from meltemi.kube.resources import Obj
from meltemi.sources.kubernetes import resource_of
from meltemi.status.writer import Subject

_KEPT = {kind.kind: kind for kind in KINDS if kind.mesh}


class Subjects:
    """The objects whose status the mesh keeps: those of its own kinds."""

    def __init__(self, revisions: Revisions, facts: Facts) -> None:
        self._revisions = revisions
        self._facts = facts

    def subject(self, ref: Ref) -> Subject | None:
        """The object, if it is there and of a kind of the mesh."""
        kind = _KEPT.get(ref.kind)
        found = self._revisions.pipeline.object(ref)
        if kind is None or found is None:
            return None
        status = msgspec.to_builtins(getattr(found, "status", None))
        return Subject(
            ref,
            resource_of(kind),
            found.metadata.generation,
            found.metadata.uid,
            status or {},
            self._addresses(ref) if ref.kind == "ServiceEntry" else None,
        )

    def _addresses(self, ref: Ref) -> tuple[Obj, ...]:
        given = self._revisions.pipeline.allocations.only().addresses.get((ref.namespace, ref.name), ())
        return tuple({"value": each.value, "host": each.host} for each in given)

    def problems_of(self, ref: Ref) -> Iterable[Problem]:
        """What is wrong with it: as it was read, as it was understood, and as Envoy took it."""
        yield from self._facts.problems.get(ref, ())
        yield from self._revisions.pipeline.graph.problems_of(ref)
        yield from (problem for problem in self._revisions.hub.problems() if problem.ref == ref)

    def behind(self, revision: int) -> tuple[int, int]:
        """How many proxies are behind a revision, and of how many."""
        hub = self._revisions.hub
        return len(hub.behind(revision)), len(hub.connections)
