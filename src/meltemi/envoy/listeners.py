"""Outbound listeners: one for each port, and one for each address and port of services that are not HTTP.

Connections that the sidecar captured arrive at `virtualOutbound` (`base`), which hands each to the listener of its
destination: first that of its address and port, then that of its port. See `binding` for what is served where.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meltemi.base.hosts import is_address
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem, Severity
from meltemi.envoy import audiences, chains, connections, http, names, tcp, tls
from meltemi.envoy.audiences import Applies
from meltemi.envoy.binding import has_own_listener, meets_at_port, own_addresses, shares_http
from meltemi.envoy.connections import Claims, Connections, Destinations, TcpRoutes
from meltemi.envoy.resource import LISTENER, Offer, Resource, Variant, finish
from meltemi.envoy.routes import seen_by
from meltemi.envoy.unknown import EgressProxies, outbound_policies
from meltemi.flow import View
from meltemi.model.clients import Clients, OutboundPolicy
from meltemi.model.mesh import Mesh
from meltemi.model.routes import Source
from meltemi.model.services import Protocol, Service, ServiceEndpoints, ServicePort
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain

Key = tuple[str, str]  # resource name, "<namespace>/<host>" of the service


def port_listener(
    port: int,
    services: tuple[Service, ...],
    *,
    mesh: View[tuple[()], Mesh],
    tcp_routes: TcpRoutes,
    destinations: Destinations,
    egress_proxies: EgressProxies,
) -> Iterator[Offer | Problem]:
    """The listener `0.0.0.0_<port>`: HTTP of all services on the port, and whoever has no address of its own.

    Of several that would take the same connections the oldest has them, and the others get a problem. There is none
    where all services on the port have listeners of their own.
    """
    settings = mesh.only()
    on_port = [
        (service, found)
        for service in services
        if (found := service.port(port)) is not None and meets_at_port(service, found)
    ]
    if not on_port:
        return
    http_here = any(shares_http(service, each) for service, each in on_port)
    grpc_web = any(each.protocol is Protocol.GRPC_WEB for _, each in on_port)
    others = [
        connections.of_port(service, each, tcp_routes, destinations)
        for service, each in sorted(on_port, key=lambda pair: seniority(pair[0]))
        if not each.protocol.is_http and each.protocol is not Protocol.AUTO
    ]
    yield from _conflicts(others, settings)
    name = names.listener(names.WILDCARD, port)
    wanted = audiences.predicates(each for item in others for each in (_viewers(item), *item.predicates))
    made: list[Variant] = []
    for within, policy in outbound_policies(settings, egress_proxies.only()):

        def make(applies: Applies, policy: OutboundPolicy = policy) -> Resource:
            default = chains.unknown_destinations(policy, settings)
            claims, found, sources = Claims(), list[FilterChain](), list[Source]()
            for item in others:
                if not applies(_viewers(item)):
                    continue
                sources += item.sources(applies)
                own, default = claims.gather(connections.chains(item, applies, settings, by_name=True), default)
                found += own
            if http_here:
                manager = http.outbound(name, http.rds(names.shared_routes(port)), settings, grpc_web=grpc_web)
                found.insert(0, chains.http_chain("", [manager]))
            return finish(name, chains.outbound_listener(names.WILDCARD, port, found, default, settings), sources)

        made += audiences.variants(wanted, make, within)
    yield Offer(LISTENER, name, audiences.compact(made), seen_by((service for service, _ in on_port), port))


def _viewers(item: Connections) -> Clients:
    """The clients to whom a service is exported."""
    return Clients(namespaces=item.service.visibility.namespaces)


def _conflicts(others: Iterable[Connections], mesh: Mesh) -> Iterator[Problem]:
    """A problem for each service whose connections an older one takes."""
    claims = Claims()
    for item in others:
        yield from connections.unmatchable(item)
        for wish in connections.chains(item, lambda _: True, mesh, by_name=True):
            _, winner = claims.take(wish)
            if winner and winner != item.service.host:
                yield Problem(
                    ref=item.service.ref,
                    path="spec.ports",
                    message=f"port {item.port.number} cannot be told apart from {winner}, which is older and gets it",
                    hint="give the service an address of its own (spec.addresses), or another port",
                    code="PortConflict",
                    severity=Severity.WARNING,
                )
                break


def service_listeners(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    tcp_routes: TcpRoutes,
    destinations: Destinations,
    endpoints: View[tuple[str, str], ServiceEndpoints],
    egress_proxies: EgressProxies,
) -> Iterator[tuple[Key, Offer] | Problem]:
    """The listeners `<address>_<port>` of a service: of its virtual addresses, or of its pods if it is headless."""
    settings = mesh.only()
    for port in service.ports:
        if not has_own_listener(service, port):
            continue
        item = connections.of_port(service, port, tcp_routes, destinations)
        yield from connections.unmatchable(item)
        for address in _addresses(service, port, endpoints):
            name = names.listener(address, port.number)
            made: list[Variant] = []
            for within, policy in outbound_policies(settings, egress_proxies.only()):

                def make(
                    applies: Applies,
                    item: Connections = item,
                    address: str = address,
                    policy: OutboundPolicy = policy,
                ) -> Resource:
                    return _own_listener(item, address, applies, policy, settings)

                made += audiences.variants(audiences.predicates(item.predicates), make, within)
            yield (
                (name, f"{service.namespace}/{service.host}"),
                Offer(LISTENER, name, audiences.compact(made), seen_by([service], port.number)),
            )


def _addresses(
    service: Service, port: ServicePort, endpoints: View[tuple[str, str], ServiceEndpoints]
) -> tuple[str, ...]:
    if not service.headless:
        return own_addresses(service)
    known = endpoints.get(service.key)
    pods = {endpoint.address for endpoint in (known.of(port.number) if known else ())}
    return tuple(sorted(address for address in pods if is_address(address)))


def _own_listener(item: Connections, address: str, applies: Applies, policy: OutboundPolicy, mesh: Mesh) -> Resource:
    """A listener for nothing but one service port."""
    service, port = item.service, item.port
    name = names.listener(address, port.number)
    only = address if service.headless else ""
    wishes = connections.chains(item, applies, mesh, only_address=only)
    found, default = Claims().gather(wishes, chains.unknown_destinations(policy, mesh))
    if port.protocol is Protocol.AUTO:
        found += _sniffed_chains(name, names.own_routes(service.host, port.number), mesh)
    return finish(name, chains.outbound_listener(address, port.number, found, default, mesh), item.sources(applies))


def _sniffed_chains(name: str, routes: str, mesh: Mesh) -> Iterator[FilterChain]:
    """A chain for each version of HTTP, because each is announced to the server under a name of its own."""
    manager = http.outbound(name, http.rds(routes), mesh)
    for protocols, alpn in ((chains.PLAIN_HTTP1, tls.ALPN_HTTP1), (chains.PLAIN_HTTP2, tls.ALPN_HTTP2)):
        yield chains.http_chain(protocols[0], [tcp.offer_protocols(alpn), manager], protocols)
