"""Gateways: listeners at the edge of the mesh, the routes behind them, and what is told of clients from outside.

A listener has a chain for each server that TLS names tell apart, or one for all plaintext requests. Its routes are
resources of their own, so that a change of routes leaves the listener and its connections alone. Nothing that a client
from outside says about itself in the mesh's headers is believed, and its certificate is the only one that is passed on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

import msgspec

from meltemi.base.problems import Problem
from meltemi.envoy import (
    access_logs,
    authorization,
    chains,
    crossings,
    http,
    http3,
    metadata,
    names,
    peer,
    routing,
    server_tls,
    tcp,
)
from meltemi.envoy.connections import Claims
from meltemi.envoy.resource import Offer, finish, offer
from meltemi.envoy.values import address, cidr, duration
from meltemi.flow import View
from meltemi.model.clients import Audience
from meltemi.model.gateways import GatewayConfig, GatewayServer
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Inbound
from meltemi.model.proxies import View as ProxyView
from meltemi.model.routes import Source, TcpRoute, VirtualHost
from meltemi.model.security import Authorization
from meltemi.model.services import Protocol
from meltemi.model.traffic import Destination, TrafficPolicy
from meltemi.protos.envoy.config.core.v3.base_pb2 import TrafficDirection
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost as VirtualHostMessage
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from meltemi.protos.google.protobuf.any_pb2 import Any

Key = tuple[str, str]  # resource name, view
Destinations = View[tuple[str, str], Destination]

HANDSHAKE = timedelta(seconds=15)
"""How long a client has for its TLS handshake, as in Istio."""


class Edge(msgspec.Struct, frozen=True):
    """What all servers of one view share: who the gateway is as a client of the mesh, and who may come in."""

    client: Audience
    rules: Mapping[str, Any]  # for requests, as routes have them
    guards: tuple[Filter, ...]  # for connections
    policies: tuple[tuple[tuple[str, str], Destination], ...]
    mesh: Mesh

    def policy(self, route: TcpRoute) -> TrafficPolicy:
        """The policy of a route's first target."""
        for share in route.targets[:1]:
            target = share.target
            destination = dict(self.policies).get((target.namespace, target.host))
            for variant in destination.variants if destination else ():
                if variant.clients.includes(self.client):
                    return variant.for_connections(target.port, target.subset, shared=len(route.targets) > 1)
        return TrafficPolicy()


def gateway(
    row: GatewayConfig,
    *,
    mesh: View[tuple[()], Mesh],
    views: View[str, ProxyView],
    destinations: Destinations,
    inbound: View[str, Inbound],
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of listeners `<address>_<port>`, of those for QUIC and of their routes, for the row's view alone."""
    view = views.get(row.view)
    if view is None:
        return
    serving = inbound.get(row.view)
    rules = serving.authorization if serving else Authorization()
    yield from authorization.problems(rules)
    edge = Edge(
        _audience(view),
        authorization.for_routes(rules),
        tuple(authorization.network(rules)),
        _policies(row, destinations),
        mesh.only(),
    )
    rule_sources = [Source(policy.ref) for policy in rules.policies]
    for (bind, port), group in itertools.groupby(row.servers, key=lambda each: (each.bind, each.port)):
        servers = tuple(group)
        for server in servers:
            if server.is_http:
                made = finish(server.name, routes(server, edge), [*_sources(server), *rule_sources])
                yield (made.name, row.view), offer(made, view=row.view)
        sources = [*(source for server in servers for source in _sources(server, routed=False)), *rule_sources]
        yield from _unmatchable(servers)
        bound = bind or names.WILDCARD
        message = listener(bound, port, servers, edge)
        if message.filter_chains:
            yield (message.name, row.view), offer(finish(message.name, message, sources), view=row.view)
        announced = {server.name: server for server in servers if server.http3_port}
        if over_quic := [chain for chain in message.filter_chains if chain.name in announced]:
            sources = [source for each in announced.values() for source in _sources(each, routed=False)]
            message = http3.listener(bound, port, over_quic, HANDSHAKE)
            yield (message.name, row.view), offer(finish(message.name, message, sources), view=row.view)


def _audience(view: ProxyView) -> Audience:
    return Audience(view.audience, view.kind, view.namespace, view.labels, view.scope, view.locality, view.network)


def _policies(row: GatewayConfig, destinations: Destinations) -> tuple[tuple[tuple[str, str], Destination], ...]:
    """Read the destinations whose policies connections heed; those of requests stand in the clusters."""
    wanted = dict.fromkeys(
        (share.target.namespace, share.target.host)
        for server in row.servers
        for route in server.tcp_routes
        for share in route.targets[:1]
    )
    found = ((key, destinations.get(key)) for key in wanted)
    return tuple((key, destination) for key, destination in found if destination is not None)


def _sources(server: GatewayServer, *, routed: bool = True) -> list[Source]:
    """The users' objects that a server's routes rest on, or (not `routed`) its part of the listener."""
    found = [Source(ref) for ref in server.refs]
    if routed:
        found += [source for host in server.virtual_hosts for source in host.sources]
    else:
        found += [route.source for route in server.tcp_routes if route.source is not None]
    return found


# === routes ===


def routes(server: GatewayServer, edge: Edge) -> RouteConfiguration:
    """The route configuration of an HTTP server, under the server's name. What it does not know is answered with 404."""
    message = routing.configuration(server.name, [_virtual_host(host, server, edge) for host in server.virtual_hosts])
    for name, rules in edge.rules.items():
        message.typed_per_filter_config[name].CopyFrom(rules)
    return message


def _virtual_host(host: VirtualHost, server: GatewayServer, edge: Edge) -> VirtualHostMessage:
    known = host.domains[0] if host.domains else host.name
    message = routing.virtual_host(
        host.name,
        host.domains,
        routing.for_clients(host.routes, lambda clients: clients.includes(edge.client)),
        edge.mesh,
        operation=f"{host.name}/*",
        about=metadata.of_route(known, known, metadata.UNKNOWN),
    )
    if host.require_tls or server.https_redirect:
        message.require_tls = VirtualHostMessage.ALL
    if server.http3_port:
        message.response_headers_to_add.append(http3.announcement(server.http3_port))
    return message


# === listeners ===


def listener(bind: str, port: int, servers: Iterable[GatewayServer], edge: Edge) -> Listener:
    """The listener of all servers of one address and port.

    Where two would take the same connections the first does: Envoy would refuse the listener with both.
    """
    claims, found = Claims(), list[FilterChain]()
    for server in servers:
        for wish in server_chains(server, edge):
            chain, _ = claims.take(wish)
            if chain is not None:
                found.append(chain)
    message = Listener(
        name=names.listener(bind, port),
        address=address(bind, port),
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=found,
        listener_filters=[chains.inspector(name) for name in chains.needed_inspectors(found)],
        access_log=access_logs.loggers(edge.mesh, only_unrouted=True),
    )
    message.bind_to_port.value = True
    return message


def server_chains(server: GatewayServer, edge: Edge) -> Iterator[FilterChain]:
    """The chains of one server: one for all its requests, or one for each way that its connections may go."""
    if server.is_http:
        if _can_be_asked_for(server, server.hosts):
            yield _chain(server, server.hosts, [_requests(server, edge)], edge.mesh)
        return
    if server.is_crossed:
        yield crossings.chain(server, edge.guards, edge.mesh)
    for route in server.tcp_routes:
        if not route.clients.includes(edge.client):
            continue
        if not _can_be_asked_for(server, route.match.sni_hosts or server.hosts):
            continue
        opens = server.tls is not None and not server.passes
        proxy = tcp.to_targets(route.targets, edge.policy(route), edge.mesh, after_handshake=opens)
        filters = [*edge.guards, proxy]
        chain = _chain(server, route.match.sni_hosts or server.hosts, filters, edge.mesh)
        chain.filter_chain_match.prefix_ranges.extend(map(cidr, route.match.destination_subnets))
        yield chain


def _can_be_asked_for(server: GatewayServer, hosts: Sequence[str]) -> bool:
    """Whether a chain for these server names would be for anybody: with TLS, one of them must be matchable."""
    return server.tls is None or not hosts or any(map(_is_matchable, hosts))


def _is_matchable(name: str) -> bool:
    """Envoy matches server names by whole labels, with `*` in place of the first of them at most."""
    return name == "*" or "*" not in name.removeprefix("*.")


def _unmatchable(servers: Iterable[GatewayServer]) -> Iterator[Problem]:
    """A problem for each server name that no client will be recognised by."""
    for server in servers:
        if server.tls is None:
            continue
        asked = [(Source(ref, "spec.servers"), name) for ref in server.refs for name in server.hosts]
        asked += [(route.source, name) for route in server.tcp_routes if route.source for name in route.match.sni_hosts]
        for source, name in asked:
            if not _is_matchable(name):
                yield Problem(
                    ref=source.ref,
                    path=source.path,
                    message=f"{name!r} cannot be matched: '*' may stand for whole labels at the beginning only",
                    hint="write the names out, or *.example.org",
                    code="Unsupported",
                )


def _chain(server: GatewayServer, hosts: Iterable[str], filters: list[Filter], mesh: Mesh) -> FilterChain:
    chain = FilterChain(name=server.name, filters=filters)
    if server.tls is None:
        return chain
    called = [name for name in dict.fromkeys(hosts) if _is_matchable(name)]
    if "*" not in called and called:
        chain.filter_chain_match.CopyFrom(FilterChainMatch(transport_protocol="tls", server_names=called))
    if not server.passes:
        chain.transport_socket.CopyFrom(server_tls.server(server.tls, mesh, http=server.is_http))
        chain.transport_socket_connect_timeout.CopyFrom(duration(HANDSHAKE))
    return chain


def _requests(server: GatewayServer, edge: Edge) -> Filter:
    """The connection manager of a server. It stands at the edge: the client's address is that of the connection."""
    filters = http.outgoing_filters(grpc_web=server.protocol is Protocol.GRPC_WEB)
    filters[authorization.HTTP] = authorization.http_filters()
    filters[peer.REMOVAL] = peer.ignored()
    prefix = f"outbound_{names.listener(server.bind or names.WILDCARD, server.port)};"
    loggers = http.outbound_loggers(edge.mesh)
    manager = http.connection_manager(prefix, http.rds(server.name), filters, loggers, edge.mesh)
    manager.use_remote_address.value = True
    manager.forward_client_cert_details = HttpConnectionManager.SANITIZE_SET
    shown = manager.set_current_client_cert_details
    shown.subject.value = True
    shown.cert = True
    shown.uri = True
    shown.dns = True
    return http.as_filter(manager)
