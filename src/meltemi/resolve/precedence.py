"""Which VirtualService routes the requests for a host: the most specific host first, then the older object.

Only one does; the others for the same host lose, and are told so. As a VirtualService may be visible to some namespaces
only, clients of different namespaces may have different ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from meltemi.api.networking.virtual_service import VirtualService
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.model.clients import Clients, Visibility
from meltemi.model.mesh import Mesh
from meltemi.resolve import problems
from meltemi.resolve.clients import by_namespace
from meltemi.resolve.hosts import exported, localised


class Candidate(msgspec.Struct, frozen=True):
    """A VirtualService that has rules for a host, under the pattern that covers the host."""

    service: VirtualService
    pattern: str
    visibility: Visibility


def candidates(found: Iterable[tuple[str, VirtualService]], mesh: Mesh) -> list[Candidate]:
    """Candidates by precedence. `found` are pairs of pattern and VirtualService, the most specific pattern first."""
    by_pattern: dict[str, list[VirtualService]] = {}
    seen: set[tuple[str, str]] = set()
    for pattern, service in found:
        key = (service.namespace, service.name)
        if key not in seen:
            seen.add(key)
            by_pattern.setdefault(pattern, []).append(service)
    return [
        Candidate(service, pattern, visibility_of(service, mesh))
        for pattern, services in by_pattern.items()
        for service in sorted(services, key=seniority)
    ]


def winners(ranked: list[Candidate]) -> list[tuple[Clients, VirtualService | None]]:
    """The VirtualService of each group of clients: the first that it may see."""
    named = set().union(*(each.visibility.namespaces or () for each in ranked))

    def first(namespace: str | None) -> VirtualService | None:
        for each in ranked:
            namespaces = each.visibility.namespaces
            if namespaces is None or namespace in namespaces:
                return each.service
        return None

    return by_namespace(named, first)


def conflicts(ranked: list[Candidate], host: str) -> Iterator[Problem]:
    """Those that lose to an older one for the same host before the same clients."""
    for position, each in enumerate(ranked):
        for senior in ranked[:position]:
            if senior.pattern == each.pattern and _overlap(senior.visibility, each.visibility):
                yield problems.of(
                    each.service,
                    "spec.hosts",
                    "HostConflict",
                    f"the rules for {host} are not in effect: {senior.service.ref}, which is older, has rules for it",
                    "put all rules for a host into one VirtualService",
                )
                break


def visibility_of(service: VirtualService, mesh: Mesh) -> Visibility:
    """The namespaces whose clients heed a VirtualService."""
    default = localised(mesh.default_virtual_service_visibility, service.namespace)
    return exported(service.spec.export_to, service.namespace, default)


def _overlap(one: Visibility, other: Visibility) -> bool:
    if one.namespaces is None or other.namespaces is None:
        return one.namespaces != frozenset() and other.namespaces != frozenset()
    return bool(one.namespaces & other.namespaces)
