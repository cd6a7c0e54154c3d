"""Where the requests for a host go: VirtualServices, and the service itself where none applies.

A VirtualService routes a service's HTTP ports if it has `http` rules, the others if it has `tcp` or `tls` rules. Hosts
that no service has are routed on port 80, as in Istio.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from meltemi.api.networking.virtual_service import VirtualService
from meltemi.base.durations import Timeout
from meltemi.base.hosts import qualify
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import traffic
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.mesh import Mesh
from meltemi.model.routes import (
    Forward,
    HostRoutes,
    HostTcpRoutes,
    HttpMatch,
    RetryPolicy,
    Route,
    RouteVariant,
    Source,
    Target,
    TcpRoute,
    TcpRouteVariant,
    WeightedTarget,
)
from meltemi.model.services import Protocol, Service, ServicePort
from meltemi.resolve import delegation, hosts, http_rules, tcp_rules
from meltemi.resolve.hosts import patterns
from meltemi.resolve.http_rules import MESH, Place
from meltemi.resolve.precedence import Candidate, candidates, conflicts, winners
from meltemi.resolve.targets import Lookup

VirtualServices = View[tuple[str, str], VirtualService]
Services = View[tuple[str, str], Service]
Destinations = View[tuple[str, str], traffic.Destination]
Ports = tuple[tuple[int, tuple[Route, ...]], ...]

ORPHAN_PORT = 80


def http_routes(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    virtual: VirtualServices,
    services: Services,
    destinations: Destinations,
) -> Iterator[HostRoutes | Problem]:
    """The HTTP routes of a service on each of its ports that may carry HTTP; no row if it has none."""
    lookup = Lookup(mesh.only(), services, destinations)
    defaults: Ports = tuple(
        (port.number, (default_route(service, port, lookup),))
        for port in service.ports
        if port.protocol.is_http or port.protocol is Protocol.AUTO
    )
    if not defaults:
        return
    found = (
        (pattern, each) for pattern in patterns(service.host) for each in virtual.by("host", pattern) if each.spec.http
    )
    ranked = candidates(found, lookup.mesh)
    yield from conflicts(ranked, service.host)
    variants = yield from _variants(ranked, defaults, virtual, lookup)
    yield HostRoutes(service.namespace, service.host, variants)


def orphans(
    service: VirtualService,
    *,
    mesh: View[tuple[()], Mesh],
    virtual: VirtualServices,
    services: Services,
    destinations: Destinations,
) -> Iterator[tuple[tuple[str, str], HostRoutes] | Problem]:
    """The routes of those hosts of a VirtualService that no service has. Of several for one host, the oldest makes them.

    Clients to whom nobody exports routes for such a host have no variant: for them the host does not exist.
    """
    lookup = Lookup(mesh.only(), services, destinations)
    if not service.spec.http or MESH not in http_rules.gateways_of(service):
        return
    for host in dict.fromkeys(qualify(each, service.namespace, lookup.mesh.domain) for each in service.spec.hosts):
        if hosts.exists(services, host):
            continue
        ranked = candidates(((host, each) for each in virtual.by("host", host) if each.spec.http), lookup.mesh)
        if ranked and ranked[0].service.ref != service.ref:
            continue
        yield from conflicts(ranked, host)
        variants = yield from _variants(ranked, ((ORPHAN_PORT, ()),), virtual, lookup)
        known = tuple(variant for variant in variants if variant.routes(ORPHAN_PORT))
        yield (service.namespace, host), HostRoutes(service.namespace, host, known)


def tcp_routes(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    virtual: VirtualServices,
    services: Services,
    destinations: Destinations,
) -> Iterator[HostTcpRoutes | Problem]:
    """The connection routes of a service on each of its ports that may carry other things than HTTP."""
    lookup = Lookup(mesh.only(), services, destinations)
    ports = [port for port in service.ports if port.protocol.is_tcp or port.protocol is Protocol.AUTO]
    if not ports:
        return
    found = (
        (pattern, each)
        for pattern in patterns(service.host)
        for each in virtual.by("host", pattern)
        if each.spec.tcp or each.spec.tls
    )
    ranked = candidates(found, lookup.mesh)
    yield from conflicts(ranked, service.host)
    variants = []
    for clients, winner in winners(ranked):
        routed = []
        for port in ports:
            rules: tuple[TcpRoute, ...] = ()
            if winner is not None:
                rules = yield from tcp_rules.routes(winner, port.protocol, Place(MESH, port.number), lookup)
            if not any(tcp_rules.is_catch_all(route) for route in rules):
                rules = (*rules, TcpRoute(targets=(_itself(service, port, services),)))
            routed.append((port.number, rules))
        variants.append(TcpRouteVariant(clients, tuple(routed)))
    yield HostTcpRoutes(service.namespace, service.host, tuple(variants))


def default_route(service: Service, port: ServicePort, lookup: Lookup) -> Route:
    """The route of a service that no VirtualService routes: every request to itself."""
    retries = lookup.mesh.default_retry or RetryPolicy()
    target = _itself(service, port, lookup.services)
    action = Forward(targets=(target,), timeout=Timeout.off(), retries=retries)
    return Route(name="default", match=HttpMatch(), action=action, source=Source(service.ref))


def _itself(service: Service, port: ServicePort, services: Services) -> WeightedTarget:
    """A port of the service, or of the one that it is another name of."""
    meant = hosts.meant(services, service)
    if meant.port(port.number) is None:
        meant = service
    return WeightedTarget(Target(meant.namespace, meant.host, port.number), session=meant.session)


def _variants(
    ranked: list[Candidate], defaults: Ports, virtual: VirtualServices, lookup: Lookup
) -> Generator[Problem, None, tuple[RouteVariant, ...]]:
    variants: list[RouteVariant] = []
    for clients, winner in winners(ranked):
        if winner is None:
            variants.append(RouteVariant(clients, defaults))
        else:
            variants += yield from _routed(winner, clients, defaults, virtual, lookup)
    return tuple(variants)


def _routed(
    winner: VirtualService, clients: Clients, defaults: Ports, virtual: VirtualServices, lookup: Lookup
) -> Generator[Problem, None, list[RouteVariant]]:
    """The variants of one VirtualService. Clients that none of its rules is for get the defaults, port by port."""
    rules = yield from delegation.rules(winner, virtual)
    sources = tuple(dict.fromkeys(Source(rule.owner.ref) for rule in rules)) or (Source(winner.ref),)
    routed: dict[int, tuple[Route, ...]] = {}
    for port, _ in defaults:
        routed[port] = yield from http_rules.routes(rules, winner, Place(MESH, port), lookup)
    named = tuple((port, routed[port] or fallback) for port, fallback in defaults)
    others = tuple((port, routed[port] if _serves_all(routed[port]) else fallback) for port, fallback in defaults)
    if named == others:
        return [RouteVariant(clients, named, sources)]
    predicates = dict.fromkeys(route.clients for routes in routed.values() for route in routes)
    groups = [clients.meet(each) for each in predicates if each != ANYONE]
    return [
        *(RouteVariant(group, named, sources) for group in groups if group is not None),
        RouteVariant(clients, others, sources),
    ]


def _serves_all(routes: tuple[Route, ...]) -> bool:
    return any(route.clients == ANYONE for route in routes)
