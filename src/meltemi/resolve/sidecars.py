"""Which Sidecar holds for a proxy, and what it lets the proxy see.

A Sidecar that selects the workload goes before one for the whole namespace, and that before the root namespace's. Of
several at one step the oldest holds. Seen are the hosts that it lists; what the rules for those hosts lead to can be
reached as well, or the rules would lead nowhere.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from meltemi.api.networking import Sidecar, VirtualService
from meltemi.api.networking.sidecar import EgressListener
from meltemi.base.hosts import overlaps, qualify
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.clients import LET_THROUGH, REFUSED, EgressHost, EgressProxy, OutboundPolicy, Scope
from meltemi.model.mesh import Mesh
from meltemi.model.services import Service
from meltemi.model.traffic import Destination
from meltemi.resolve import problems, targets
from meltemi.resolve.hosts import find, patterns
from meltemi.resolve.http_rules import MESH, gateways_of
from meltemi.resolve.ingress import ANY_ADDRESS, needs_own_address
from meltemi.resolve.precedence import visibility_of
from meltemi.resolve.targets import Lookup, named

OWN = "."
NOWHERE = "~"

Key = tuple[str, str]
Sidecars = View[Key, Sidecar]
Scopes = View[Key, Scope]


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


def scope(
    sidecar: Sidecar,
    *,
    mesh: View[Any, Mesh],
    virtual: View[Key, VirtualService],
    services: View[Key, Service],
    sidecars: Sidecars,
    destinations: View[Key, Destination],
) -> Iterator[Scope | Problem]:
    """What a Sidecar lets its proxies see. A `.` stays in those of the root namespace: it is the proxy's (`localised`)."""
    settings = mesh.only()
    spec = sidecar.spec
    yield from _overruled(sidecar, sidecars)
    own = sidecar.namespace if sidecar.namespace != settings.root_namespace else OWN
    listed = [
        egress_host(host, own, listener.port.number if listener.port else 0, bound=is_bound(listener))
        for listener in spec.egress
        for host in listener.hosts
    ]
    egress = tuple(dict.fromkeys(entry for entry in listed if entry is not None))
    outbound = yield from _outbound(sidecar, Lookup(settings, services, destinations))
    imports = {
        each
        for entry in egress
        for service in _rules_for(entry, virtual)
        if visibility_of(service, settings).includes(sidecar.namespace)
        for each in _destinations(service, services, settings)
    }
    if outbound is not None and outbound.proxy is not None:
        imports.add(EgressHost(outbound.proxy.namespace, outbound.proxy.host))
    yield Scope(
        egress=egress if spec.egress else None,
        imports=tuple(sorted(imports)),
        outbound=outbound,
        ref=sidecar.ref,
        own_address=needs_own_address(sidecar),
    )


def _outbound(sidecar: Sidecar, lookup: Lookup) -> Generator[Problem, None, OutboundPolicy | None]:
    policy = sidecar.spec.outbound_traffic_policy
    if policy is None:
        return None
    if policy.egress_proxy is None:
        return REFUSED if policy.mode == "REGISTRY_ONLY" else LET_THROUGH
    path = "spec.outboundTrafficPolicy.egressProxy"
    found = yield from targets.resolve(policy.egress_proxy, sidecar, path, targets.ANY_PORT, lookup)
    return OutboundPolicy(proxy=EgressProxy(found.namespace, found.host, found.port, found.subset))


def egress_proxies(*, scopes: Scopes) -> tuple[OutboundPolicy, ...]:
    """The policies of Sidecars that send unknown traffic to a service."""
    policies = {scope.outbound for scope in scopes.all() if scope.outbound is not None}
    return tuple(sorted(policy for policy in policies if policy.proxy is not None))


def _overruled(sidecar: Sidecar, sidecars: Sidecars) -> Iterator[Problem]:
    """A problem if an older Sidecar is for the very same workloads, so that this one is never chosen."""
    rivals = (each for each in sidecars.by("namespace", sidecar.namespace) if selector(each) == selector(sidecar))
    hint = "keep one Sidecar without a selector in a namespace, and one for each selector"
    yield from problems.overruled(sidecar, rivals, "spec.workloadSelector", "SidecarConflict", hint)


def localised(scope: Scope, namespace: str) -> Scope:
    """A scope as it holds for the proxies of one namespace."""
    if scope.egress is None or all(entry.namespace != OWN for entry in scope.egress):
        return scope
    egress = (replace(entry, namespace=namespace) if entry.namespace == OWN else entry for entry in scope.egress)
    return replace(scope, egress=tuple(dict.fromkeys(egress)))


def is_bound(listener: EgressListener) -> bool:
    """Whether a listener has an address of its own: where the proxy itself listens, or a certain one that is captured."""
    return listener.capture_mode == "NONE" or (listener.port is not None and listener.bind not in ANY_ADDRESS)


def egress_host(text: str, own: str, port: int, *, bound: bool = False) -> EgressHost | None:
    """An entry of `hosts`: `namespace/host`, where a host alone is one of any namespace; None for those of none."""
    place, slash, host = text.partition("/")
    if not slash:
        return EgressHost("*", text, port, bound)
    return None if place == NOWHERE else EgressHost(own if place == OWN else place, host, port, bound)


def _rules_for(entry: EgressHost, virtual: View[Key, VirtualService]) -> Iterator[VirtualService]:
    """The VirtualServices for hosts of an entry. Where everything is seen there is nothing to import."""
    if (entry.namespace, entry.host, entry.port) == ("*", "*", 0):
        return
    if entry.namespace != "*":
        for service in virtual.by("namespace", entry.namespace):
            bound = MESH in gateways_of(service)
            if bound and any(overlaps(entry.host, qualify(host, service.namespace)) for host in service.spec.hosts):
                yield service
        return
    yield from virtual.by("pattern", entry.host)
    for pattern in patterns(entry.host):
        if pattern != entry.host:
            yield from virtual.by("host", pattern)


def _destinations(service: VirtualService, services: View[Key, Service], mesh: Mesh) -> Iterator[EgressHost]:
    for _, destination in named(service):
        host = qualify(destination.host, service.namespace, mesh.domain)
        found = find(services, host, service.namespace)
        if found is not None:
            yield EgressHost(found.namespace, found.host)


def _first(sidecars: Iterable[Sidecar]) -> Sidecar | None:
    return next(iter(sidecars), None)
