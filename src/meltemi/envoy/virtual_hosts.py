"""Virtual hosts as resources of their own: one for every HTTP port of every service.

A change to one service's routes sends that service's virtual host and nothing else. The route configurations they
belong to are empty shells (`routes`), and Envoy subscribes to what belongs in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from meltemi.base.problems import Problem
from meltemi.envoy import audiences, domains, metadata, names, routing
from meltemi.envoy.audiences import Applies
from meltemi.envoy.binding import shares_http
from meltemi.envoy.resource import VIRTUAL_HOST, Offer, Resource, Seen, Variant, finish
from meltemi.flow import View
from meltemi.model.clients import ANYONE, Clients, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.routes import (
    Forward,
    HostRoutes,
    HttpMatch,
    Route,
    RouteVariant,
    Source,
    Target,
    WeightedTarget,
)
from meltemi.model.services import Service
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost

Key = tuple[str, str]  # resource name, namespace of the service

ORPHAN_PORT = 80  # where VirtualServices for hosts that no service has are put, as in Istio
SIDECARS = Clients(kind=ProxyKind.SIDECAR)


class Host(msgspec.Struct, frozen=True):
    """A host on a port, with its routes by group of clients: what its virtual hosts have in common."""

    host: str
    name: str
    namespace: str
    port: int
    variants: tuple[RouteVariant, ...]
    sources: tuple[Source, ...] = ()
    headless: bool = False


def of_service(service: Service, port: int, known: HostRoutes | None) -> Host:
    """The host of a service port. Where nobody made routes for it, all requests go to the service itself."""
    variants = known.variants if known else ()
    if not variants or not variants[-1].routes(port):
        target = WeightedTarget(Target(service.namespace, service.host, port), session=service.session)
        default = Route(name="default", match=HttpMatch(), action=Forward((target,)))
        variants = (*variants, RouteVariant(ANYONE, ((port, (default,)),)))
    source = (Source(service.ref),)
    return Host(service.host, service.name, service.namespace, port, variants, source, service.headless)


def virtual_hosts(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    routes: View[tuple[str, str], HostRoutes],
    services: domains.Services,
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of VirtualHost, one for each port on which the service shares HTTP with others."""
    settings = mesh.only()
    for port in service.ports:
        if not shares_http(service, port):
            continue
        seen = (Seen(service.namespace, service.host, service.visibility, port.number),)
        name = names.virtual_host_resource(names.shared_routes(port.number), service.host, port.number)
        host = of_service(service, port.number, routes.get(service.key))
        yield from too_many(host)
        called = domains.of_service(service, port.number, services, settings.domain)
        made: list[Variant] = []
        if called.own:
            neighbours = Clients(kind=ProxyKind.SIDECAR, namespaces=frozenset({service.namespace}))
            made += variants(host, name, (*called.common, called.own), settings, neighbours)
        made += variants(host, name, called.common, settings, SIDECARS)
        yield (name, service.namespace), Offer(VIRTUAL_HOST, name, audiences.compact(made), seen)


def orphan_virtual_hosts(
    row: HostRoutes,
    *,
    mesh: View[tuple[()], Mesh],
    services: domains.Services,
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of VirtualHost for a host that routes were written for and no service has; Istio puts it on port 80."""
    settings = mesh.only()
    if row.host == "*":
        return
    other = domains.derived_by(row.host, ORPHAN_PORT, services, settings.domain)
    if other is not None:
        for ref in sorted({source.ref for variant in row.variants for source in variant.sources}):
            yield Problem(
                ref=ref,
                path="spec.hosts",
                message=f"{row.host!r} is another name of the service {other.host}, which keeps it",
                hint=f"write {other.host}",
                code="HostConflict",
            )
        return
    host = Host(row.host, row.host, row.namespace, ORPHAN_PORT, row.variants)
    yield from too_many(host)
    name = names.virtual_host_resource(names.shared_routes(ORPHAN_PORT), row.host, ORPHAN_PORT)
    made = variants(host, name, [row.host], settings, SIDECARS)
    if made:
        yield (
            (name, row.namespace),
            Offer(VIRTUAL_HOST, name, audiences.compact(made), (Seen(row.namespace, row.host),)),
        )


Finisher = Callable[[VirtualHost, Iterable[Source]], Resource]


def _as_it_is(message: VirtualHost, sources: Iterable[Source]) -> Resource:
    return finish(message.name, message, sources)


def variants(
    host: Host,
    name: str,
    called: Iterable[str],
    mesh: Mesh,
    within: Clients,
    finished: Finisher = _as_it_is,
) -> list[Variant]:
    """The virtual host under these names, for every group of clients `within` that its routes tell apart.

    `finished` makes the resource of it, where that is more than the virtual host.
    """
    called = tuple(called)
    operation = f"{names.virtual_host(host.host, host.port)}/*"
    about = metadata.of_route(host.host, host.name, host.namespace)
    made: list[Variant] = []
    for variant in host.variants:
        clients = within.meet(variant.clients)
        if clients is None:
            continue
        routes = variant.routes(host.port)

        def make(applies: Applies, variant: RouteVariant = variant) -> Resource:
            held = routing.for_clients(variant.routes(host.port), applies)
            message = routing.virtual_host(name, called, held, mesh, operation=operation, about=about)
            if host.headless:
                routing.keep_address(message)
            return finished(message, [*host.sources, *variant.sources, *routing.sources(held)])

        made += audiences.variants(audiences.predicates(route.clients for route in routes), make, clients)
    return made


def too_many(host: Host) -> Iterator[Problem]:
    """A problem for each route whose predicate about clients is one too many to be heeded."""
    for variant in host.variants:
        routes = variant.routes(host.port)
        ignored = audiences.predicates(route.clients for route in routes)[audiences.MOST_PREDICATES :]
        for route in routes:
            if route.clients in ignored and route.source is not None:
                yield Problem(
                    ref=route.source.ref,
                    path=route.source.path,
                    message=f"one host tells apart {audiences.MOST_PREDICATES} groups of clients at most;"
                    " this route is for one more and has no effect",
                    hint="let several routes ask for the same sourceLabels and sourceNamespace",
                    code="TooManyClientGroups",
                )
