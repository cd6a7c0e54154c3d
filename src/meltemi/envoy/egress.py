"""Listeners at which a workload's own proxy waits for it (`model.egress`), and the route configurations of those for HTTP.

They are made for one audience each, so there is no choosing: routes and policies either hold for it or not. Such a
listener is named like any other, by address and port, and its audience gets it in place of one that others get under
that name. An address that the proxy itself listens at tells nothing of where the client meant to go: there unknown
traffic is refused, or it would come back for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from meltemi.base.hosts import is_wildcard
from meltemi.base.problems import Problem
from meltemi.envoy import binding, chains, connections, http, metadata, names, routing, virtual_hosts
from meltemi.envoy.connections import Claims, Destinations, TcpRoutes
from meltemi.envoy.resource import Offer, Resource, Variant, finish
from meltemi.flow import View
from meltemi.model.clients import REFUSED, Audience, Clients, OutboundPolicy
from meltemi.model.egress import BoundListener, Egress
from meltemi.model.mesh import Mesh
from meltemi.model.routes import HostRoutes, Source
from meltemi.model.services import Service, ServicePort
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost

Key = tuple[str, str]  # resource name, audience
Target = tuple[Service, ServicePort]


class _Context(msgspec.Struct, frozen=True):
    """What the listeners of one audience are made from."""

    audience: Audience
    mesh: Mesh
    sidecar: Source
    services: View[tuple[str, str], Service]
    routes: View[tuple[str, str], HostRoutes]
    tcp_routes: TcpRoutes
    destinations: Destinations

    def targets(self, listener: BoundListener) -> list[Target]:
        """The services that a listener leads to, with their ports."""
        found = ((self.services.get((each.namespace, each.host)), each.port) for each in listener.targets)
        return [(service, port) for service, number in found if service and (port := service.port(number))]

    def unknown(self, listener: BoundListener) -> OutboundPolicy:
        """What becomes of what is for none of them."""
        return (self.audience.scope.outbound or self.mesh.outbound) if listener.captured else REFUSED


def egress(
    row: Egress,
    *,
    mesh: View[tuple[()], Mesh],
    audiences: View[str, Audience],
    services: View[tuple[str, str], Service],
    routes: View[tuple[str, str], HostRoutes],
    tcp_routes: TcpRoutes,
    destinations: Destinations,
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of listener and route configuration `<bind>_<port>`."""
    audience = audiences.get(row.audience)
    if audience is None:
        return
    context = _Context(audience, mesh.only(), Source(row.sidecar), services, routes, tcp_routes, destinations)
    clients = Clients(audiences=frozenset({audience.key}))
    for listener in row.listeners:
        made = (_http(listener, context), _routes(listener, context)) if listener.http else (_tcp(listener, context),)
        for each in made:
            yield (
                (f"{each.type_url} {each.name}", row.audience),
                Offer(each.type_url, each.name, (Variant(clients, each),)),
            )


def _http(listener: BoundListener, context: _Context) -> Resource:
    name = names.listener(listener.bind, listener.port)
    manager = http.outbound(name, http.rds(name), context.mesh)
    return _listener(listener, [], FilterChain(filters=[manager]), [context.sidecar], context)


def _tcp(listener: BoundListener, context: _Context) -> Resource:
    default = chains.unknown_destinations(context.unknown(listener), context.mesh)
    claims, found, sources = Claims(), list[FilterChain](), [context.sidecar]
    targets = context.targets(listener)
    for service, port in targets:
        item = connections.of_port(service, port, context.tcp_routes, context.destinations)
        sources += item.sources(context.audience.fulfils)
        wishes = connections.chains(item, context.audience.fulfils, context.mesh, by_name=len(targets) > 1)
        own, default = claims.gather(wishes, default)
        found += own
    return _listener(listener, found, default, sources, context)


def _listener(
    listener: BoundListener,
    found: Sequence[FilterChain],
    default: FilterChain,
    sources: Iterable[Source],
    context: _Context,
) -> Resource:
    message = chains.outbound_listener(listener.bind, listener.port, found, default, context.mesh)
    message.bind_to_port.value = not listener.captured
    return finish(message.name, message, sources)


def _routes(listener: BoundListener, context: _Context) -> Resource:
    """The route configuration of an HTTP listener. Requests to a socket without a port say which port they are for."""
    targets = context.targets(listener)
    called = [["*"]] if listener.sole else list(_domains(targets, context, with_port=listener.port == 0))
    sources, hosts = [context.sidecar], list[VirtualHost]()
    for (service, port), domains in zip(targets, called, strict=True):
        if domains:
            message, origins = _virtual_host(service, port.number, domains, context)
            hosts.append(message)
            sources += origins
    if not any("*" in host.domains for host in hosts):
        hosts.append(routing.catch_all(context.unknown(listener)))
    name = names.listener(listener.bind, listener.port)
    configuration = routing.configuration(name, hosts)
    configuration.ignore_port_in_host_matching = listener.port != 0
    return finish(name, configuration, sources)


def _virtual_host(
    service: Service, port: int, domains: Iterable[str], context: _Context
) -> tuple[VirtualHost, list[Source]]:
    host = virtual_hosts.of_service(service, port, context.routes.get(service.key))
    variant = next(each for each in host.variants if context.audience.fulfils(each.clients))
    held = routing.for_clients(variant.routes(port), context.audience.fulfils)
    name = names.virtual_host(service.host, port)
    about = metadata.of_route(service.host, service.name, service.namespace)
    message = routing.virtual_host(name, domains, held, context.mesh, operation=f"{name}/*", about=about)
    return message, [*host.sources, *variant.sources, *routing.sources(held)]


def _domains(targets: Sequence[Target], context: _Context, *, with_port: bool) -> Iterator[list[str]]:
    """The names of each service, none of them twice: hosts that somebody wrote down go before names derived from them."""
    taken: dict[str, int] = {}
    for names_of in (_written, _derived):
        for position, (service, port) in enumerate(targets):
            for name in names_of(service, context):
                if with_port and name != "*":
                    taken.setdefault(f"{name}:{port.number}", position)
                taken.setdefault(name, position)
    for position in range(len(targets)):
        yield [name for name, owner in taken.items() if owner == position]


def _written(service: Service, context: _Context) -> list[str]:
    return [service.host] if is_wildcard(service.host) else [service.host, f"{service.host}."]


def _derived(service: Service, context: _Context) -> list[str]:
    domain = context.mesh.domain
    found = [*names.short_names(service, domain), *map(names.authority, binding.own_addresses(service))]
    bare = names.bare_name(service, domain)
    return [*found, bare] if bare and service.namespace == context.audience.namespace else found
