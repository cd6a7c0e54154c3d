"""The server side of a workload: the ports on which it serves, who may connect, and who may do what.

A port is one that some service sends to. Where two services send to one port, the older says what is spoken there. A
Sidecar with `ingress` listeners replaces them all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem, Severity
from meltemi.flow import View
from meltemi.model import proxies as model
from meltemi.model.clients import ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Inbound, InboundPort
from meltemi.model.security import PeerPolicy
from meltemi.model.services import Protocol, Service, ServicePort
from meltemi.resolve import ingress
from meltemi.resolve.authorization import Policies, authorization
from meltemi.resolve.inbound_limits import Destinations, Limits
from meltemi.resolve.peers import Peers, policy
from meltemi.resolve.sidecars import Sidecars

Services = View[tuple[str, str], Service]
Key = tuple[str, str]


def inbound(
    view: model.View,
    *,
    mesh: View[tuple[()], Mesh],
    services: Services,
    sidecars: Sidecars,
    peers: Peers,
    policies: Policies,
    credentials: ingress.Credentials,
    destinations: Destinations,
) -> Iterator[Inbound | Problem]:
    """The server side of a view. A gateway has no ports of this kind; its policies hold for what its servers take in."""
    settings = mesh.only()
    peer = yield from policy(peers, view.namespace, view.labels, settings.root_namespace)
    rules = yield from authorization(policies, view.namespace, view.labels, settings)
    ports: list[InboundPort] = []
    author = None
    if view.kind is ProxyKind.SIDECAR:
        behind = selecting(services, view)
        sidecar = sidecars.get((view.scope.ref.namespace, view.scope.ref.name)) if view.scope.ref else None
        if sidecar is not None and (sidecar.spec.ingress or sidecar.spec.inbound_connection_pool):
            author = sidecar.ref
        limits = Limits(sidecar, view.namespace, destinations, settings)
        if sidecar is not None and sidecar.spec.ingress:
            targets = [(each, port.number, target_port(port, view)) for each in behind for port in each.ports]
            ports = yield from ingress.ports(sidecar, targets, view, peer, limits, credentials)
        else:
            ports = yield from _ports(behind, view, peer, limits, settings)
    yield Inbound(view.key, tuple(sorted(ports, key=lambda each: each.port)), peer, rules, sidecar=author)


def selecting(services: Services, view: model.View) -> list[Service]:
    """The services that send to the workload, the oldest first."""
    found = (
        service
        for key, value in view.labels.items
        for service in services.by("selector", (view.namespace, key, value))
        if view.labels.contains(service.selector)
    )
    return sorted(found, key=seniority)


def target_port(port: ServicePort, view: model.View) -> int:
    """The number of the workload's port that a service port leads to; 0 if it names one that the workload has not."""
    if isinstance(port.target, int):
        return port.target or port.number
    return dict(view.ports).get(port.target, 0)


def _ports(
    services: list[Service], view: model.View, peer: PeerPolicy, limits: Limits, mesh: Mesh
) -> Generator[Problem, None, list[InboundPort]]:
    found: dict[int, tuple[Service, InboundPort]] = {}
    for service in services:
        for port in service.ports:
            number = target_port(port, view)
            if number == 0 or port.protocol is Protocol.UDP:
                continue
            if number in found:
                senior, chosen = found[number]
                if chosen.protocol is not port.protocol:
                    yield _conflict(service, port, senior, chosen)
                continue
            pool, refs = limits.of(number, service, port.number)
            made = InboundPort(
                number,
                port.protocol,
                peer.of(number),
                service.host,
                port.number,
                f"{ingress.LOCALHOST}:{number}" if mesh.inbound_to_localhost else "",
                service.name,
                service.namespace,
                pool=pool,
                refs=refs,
            )
            found[number] = (service, made)
    return [made for _, made in found.values()]


def _conflict(service: Service, port: ServicePort, senior: Service, chosen: InboundPort) -> Problem:
    return Problem(
        ref=service.ref,
        path=f"spec.ports[{service.ports.index(port)}]",
        message=f"port {port.number} says {port.protocol}, but leads to port {chosen.port} of workloads for which"
        f" {senior.ref}, which is older, says {chosen.protocol}",
        hint="give both ports one protocol, or another target port",
        code="ProtocolConflict",
        severity=Severity.WARNING,
    )
