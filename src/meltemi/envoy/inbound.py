"""The server side of a workload: the listener that all captured inbound connections arrive at, and the clusters behind.

An inspector holds a connection back until the client has said something. A server that speaks first to a client in
plaintext, on a port that also takes mutual TLS, is therefore only heard when the inspectors give up: after a second,
unless the mesh says otherwise (`protocolDetectionTimeout`). A client in the mesh begins with TLS and never waits. No
inspector looks at ports whose chains do not rest on what it finds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from meltemi.base.durations import Timeout
from meltemi.base.problems import Problem
from meltemi.envoy import access_logs, authorization, chains, inbound_chains, inbound_clusters, inbound_routes, names
from meltemi.envoy.inbound_chains import PLAIN, TLS, Door, Shape
from meltemi.envoy.resource import Offer, finish, offer
from meltemi.envoy.values import address, timeout
from meltemi.flow import View
from meltemi.model.clients import ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Inbound, InboundPort
from meltemi.model.proxies import View as ProxyView
from meltemi.model.routes import Source
from meltemi.protos.envoy.config.core.v3.base_pb2 import TrafficDirection
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import (
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener

Key = tuple[str, str]  # resource name, view

SERVER_SPEAKS_FIRST = timedelta(seconds=1)
"""How long inspectors wait for a client that says nothing, where one in plaintext may be waiting for the server."""

_HELLO_SIZE = 512  # bytes: what the TLS inspector reads first; longer greetings take another read


def inbound(
    row: Inbound, *, mesh: View[tuple[()], Mesh], views: View[str, ProxyView]
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of the listener `virtualInbound` and of the clusters `inbound|<port>||`, for the row's view alone."""
    view = views.get(row.view)
    if view is None or view.kind is not ProxyKind.SIDECAR:
        return
    settings = mesh.only()
    yield from authorization.problems(row.authorization)
    rules = [Source(policy.ref) for policy in row.authorization.policies]
    peers = [Source(ref) for ref in row.peer.refs]
    authors = [Source(row.sidecar)] if row.sidecar else []
    ways = doors(row, settings)
    for port in served_ports(row, settings):
        cluster = inbound_clusters.cluster(port, settings)
        sources = [*authors, *map(Source, port.refs)]
        yield (cluster.name, row.view), offer(finish(cluster.name, cluster, sources), view=row.view)
    for routes in inbound_routes.configurations(ways, row, settings):
        yield (_route_key(routes.name), row.view), offer(finish(routes.name, routes, rules), view=row.view)
    made = [listener(row, ways, settings)]
    made += [own_listener(door, row, settings) for door in ways if not door.captured]
    for message in made:
        resource = finish(message.name, message, [*authors, *peers, *rules])
        yield (resource.name, row.view), offer(resource, view=row.view)


def _route_key(name: str) -> str:
    """What tells a route configuration from the cluster of the same name in the table."""
    return f"routes {name}"


def served_ports(row: Inbound, mesh: Mesh) -> list[InboundPort]:
    """The ports that have chains of their own: the first of each number, and never the listener's."""
    found: dict[int, InboundPort] = {}
    for port in row.ports:
        if port.port != mesh.inbound_listener_port:
            found.setdefault(port.port, port)
    return [found[number] for number in sorted(found)]


def doors(row: Inbound, mesh: Mesh) -> list[Door]:
    """All ways in: declared ports, ports with an mTLS mode of their own, and last every other port."""
    declared = {port.port: inbound_chains.of_port(port) for port in served_ports(row, mesh)}
    special = [
        inbound_chains.undeclared(number, mode)
        for number, mode in row.peer.ports
        if number not in declared and number != mesh.inbound_listener_port
    ]
    return [*declared.values(), *special, inbound_chains.undeclared(0, row.peer.mode)]


def own_listener(door: Door, row: Inbound, mesh: Mesh) -> Listener:
    """The listener `<address>_<port>` of a port that is not captured: clients connect to the proxy itself."""
    guards = authorization.network(row.authorization)
    found = list(inbound_chains.chains(door, guards, mesh))
    message = Listener(
        name=door.names[0],
        address=address(door.bind or names.WILDCARD, door.port),
        traffic_direction=TrafficDirection.INBOUND,
        listener_filters=[chains.inspector(name) for name in chains.needed_inspectors(found)],
        continue_on_listener_filters_timeout=True,
        filter_chains=found,
        access_log=access_logs.loggers(mesh, only_unrouted=True),
    )
    _limit_waiting(message, [door], mesh)
    return message


def listener(row: Inbound, ways: Sequence[Door], mesh: Mesh) -> Listener:
    """The listener `virtualInbound`."""
    guards = authorization.network(row.authorization)
    ways = [door for door in ways if door.captured]
    message = Listener(
        name=names.VIRTUAL_INBOUND,
        address=address(names.WILDCARD, mesh.inbound_listener_port),
        traffic_direction=TrafficDirection.INBOUND,
        listener_filters=listener_filters(ways),
        continue_on_listener_filters_timeout=True,
        filter_chains=[
            inbound_chains.black_hole(mesh),
            *(chain for door in ways for chain in inbound_chains.chains(door, guards, mesh)),
        ],
        access_log=access_logs.loggers(mesh, only_unrouted=True),
    )
    _limit_waiting(message, ways, mesh)
    return message


def _limit_waiting(message: Listener, ways: Iterable[Door], mesh: Mesh) -> None:
    """How long the inspectors of a listener wait for its clients to speak."""
    wait = mesh.protocol_detection_timeout
    if not wait.duration and any(_waits_in_vain(door.shapes) for door in ways):
        wait = Timeout.of(SERVER_SPEAKS_FIRST)
    limit = timeout(wait) if wait.duration else None
    if limit is not None:
        message.listener_filters_timeout.CopyFrom(limit)


def _waits_in_vain(shapes: Iterable[Shape]) -> bool:
    """Whether a client that waits for the server to speak may be held back by an inspector."""
    found = tuple(shapes)
    plain = any(shape.transport == PLAIN and not shape.http for shape in found)
    return plain and (_asks_tls(found) or _asks_http(found))


def _asks_tls(shapes: Iterable[Shape]) -> bool:
    return any(shape.transport == TLS for shape in shapes)


def _asks_http(shapes: Iterable[Shape]) -> bool:
    return any(shape.transport == PLAIN and shape.protocols for shape in shapes)


def listener_filters(ways: Iterable[Door]) -> list[ListenerFilter]:
    """First where the connection was going; then TLS and HTTP, on the ports that need to know."""
    found = [chains.inspector(chains.ORIGINAL_DESTINATION)]
    known = list(ways)
    for name, asks in ((chains.TLS_INSPECTOR, _asks_tls), (chains.HTTP_INSPECTOR, _asks_http)):
        needed = {door.port: asks(door.shapes) for door in known}
        if any(needed.values()):
            inspector = chains.inspector(name)
            disabled = _elsewhere(needed)
            if disabled is not None:
                inspector.filter_disabled.CopyFrom(disabled)
            found.append(inspector)
    return found


def _elsewhere(needed: dict[int, bool]) -> ListenerFilterChainMatchPredicate | None:
    """The ports on which an inspector is not needed; key 0 stands for all that are not keys. None: it is on all."""
    others = needed.get(0, False)
    listed = [port for port, wanted in needed.items() if port and wanted is not others]
    if others:
        return _one_of(listed) if listed else None
    return ListenerFilterChainMatchPredicate(not_match=_one_of(listed))


def _one_of(ports: list[int]) -> ListenerFilterChainMatchPredicate:
    rules = []
    for port in ports:
        rule = ListenerFilterChainMatchPredicate()
        rule.destination_port_range.start = port
        rule.destination_port_range.end = port + 1
        rules.append(rule)
    if len(rules) == 1:
        return rules[0]
    return ListenerFilterChainMatchPredicate(or_match=ListenerFilterChainMatchPredicate.MatchSet(rules=rules))
