"""Which Sidecar holds for a proxy, and what it lets the proxy see.

A Sidecar that selects the workload goes before one for the whole namespace, and that before the root namespace's. Of
several at one step the oldest holds.
"""

from __future__ import annotations

from collections.abc import Iterable

from meltemi.api.networking import Sidecar
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.flow import View
from meltemi.model.clients import EgressHost, Scope
from meltemi.model.mesh import Mesh

NOWHERE = "~"

Sidecars = View[tuple[str, str], Sidecar]


def choose(sidecars: Sidecars, namespace: str, labels: LabelSet, mesh: Mesh) -> Sidecar | None:
    """The Sidecar that holds for the workload with these labels, if any does."""
    own = sorted(sidecars.by("namespace", namespace), key=seniority)
    chosen = _first(each for each in own if (wanted := selector(each)) and labels.contains(wanted))
    chosen = chosen or _first(each for each in own if not selector(each))
    if chosen is not None or namespace == mesh.root_namespace:
        return chosen
    root = sorted(sidecars.by("namespace", mesh.root_namespace), key=seniority)
    return _first(each for each in root if not selector(each))


def selector(sidecar: Sidecar) -> LabelSet:
    """The labels of the workloads that a Sidecar is for; none for all of its namespace."""
    wanted = sidecar.spec.workload_selector
    return LabelSet.of(wanted.labels) if wanted else LabelSet()


def scope(sidecar: Sidecar | None, namespace: str) -> Scope:
    """What the proxies of a namespace may call by a Sidecar. `.` in it is their own namespace."""
    if sidecar is None:
        return Scope()
    spec = sidecar.spec
    hosts = [_egress(host, namespace) for listener in spec.egress for host in listener.hosts]
    policy = spec.outbound_traffic_policy
    return Scope(
        egress=tuple(dict.fromkeys(host for host in hosts if host is not None)) if spec.egress else None,
        outbound_registry_only=None if policy is None else policy.mode == "REGISTRY_ONLY",
        ref=sidecar.ref,
    )


def _egress(text: str, namespace: str) -> EgressHost | None:
    """An entry of `hosts`: `namespace/host`, where a host alone is one of any namespace; None for those of none."""
    place, slash, host = text.partition("/")
    if not slash:
        return EgressHost("*", text)
    return None if place == NOWHERE else EgressHost(namespace if place == "." else place, host)


def _first(sidecars: Iterable[Sidecar]) -> Sidecar | None:
    return next(iter(sidecars), None)
