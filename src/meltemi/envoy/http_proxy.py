"""The explicit HTTP proxy of a sidecar (MeshConfig `proxyHttpPort`): for applications that are told of a proxy.

One listener on the loopback address takes requests for all HTTP services, on whichever port of theirs. So here, and only
here, a virtual host is known by its names together with its port. What nobody knows is refused even where captured requests
would pass: there is no address that the client meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from meltemi.base.problems import Problem
from meltemi.envoy import audiences, domains, http, names, routing, virtual_hosts
from meltemi.envoy.base import Key as BaseKey
from meltemi.envoy.binding import shares_http
from meltemi.envoy.resource import LISTENER, ROUTES, VIRTUAL_HOST, Offer, Seen, Variant, finish
from meltemi.envoy.values import address, ads
from meltemi.envoy.virtual_hosts import ORPHAN_PORT, SIDECARS, Host, Key
from meltemi.flow import View
from meltemi.model.clients import REFUSED, Clients, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.routes import HostRoutes
from meltemi.model.services import Service
from meltemi.protos.envoy.config.core.v3.base_pb2 import TrafficDirection
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener

ROUTE_CONFIGURATION = "http_proxy"
LOOPBACK = "127.0.0.1"


def listener(mesh: Mesh) -> Iterator[tuple[BaseKey, Offer] | Problem]:
    """Offers of the listener `127.0.0.1_<port>` and of its route configuration, which has no more than the catch-all."""
    if not mesh.proxy_http_port:
        return
    name = names.listener(LOOPBACK, mesh.proxy_http_port)
    manager = http.outbound(name, http.rds(ROUTE_CONFIGURATION), mesh)
    message = Listener(
        name=name,
        address=address(LOOPBACK, mesh.proxy_http_port),
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[FilterChain(filters=[manager])],
    )
    yield (name, ""), Offer(LISTENER, name, (Variant(SIDECARS, finish(name, message)),))
    shell = routing.configuration(ROUTE_CONFIGURATION, [routing.catch_all(REFUSED)])
    shell.ignore_port_in_host_matching = False
    shell.vhds.config_source.CopyFrom(ads())
    made = finish(ROUTE_CONFIGURATION, shell)
    yield (ROUTE_CONFIGURATION, ""), Offer(ROUTES, ROUTE_CONFIGURATION, (Variant(SIDECARS, made),))


def service_hosts(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    routes: View[tuple[str, str], HostRoutes],
    services: domains.Services,
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of VirtualHost `http_proxy/<host>:<port>`, one for each HTTP port of a service."""
    settings = mesh.only()
    if not settings.proxy_http_port:
        return
    for port in service.ports:
        if not shares_http(service, port):
            continue
        seen = Seen(service.namespace, service.host, service.visibility)
        known = virtual_hosts.of_service(service, port.number, routes.get(service.key))
        host = msgspec.structs.replace(known, headless=False)  # no client has chosen one of its addresses
        called = domains.of_service(service, port.number, services, settings.domain)
        made: list[Variant] = []
        if called.own:
            neighbours = Clients(kind=ProxyKind.SIDECAR, namespaces=frozenset({service.namespace}))
            made += _variants(host, (*called.common, called.own), settings, neighbours)
        made += _variants(host, called.common, settings, SIDECARS)
        yield _offer(host, made, seen)


def orphan_hosts(
    row: HostRoutes, *, mesh: View[tuple[()], Mesh], services: domains.Services
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of VirtualHost for a host that routes were written for and no service has."""
    settings = mesh.only()
    if not settings.proxy_http_port or row.host == "*":
        return
    if domains.derived_by(row.host, ORPHAN_PORT, services, settings.domain) is not None:
        return  # which is told where captured requests are routed
    host = Host(row.host, row.host, row.namespace, ORPHAN_PORT, row.variants)
    made = _variants(host, [row.host], settings, SIDECARS)
    if made:
        yield _offer(host, made, Seen(row.namespace, row.host))


def _variants(host: Host, called: Iterable[str], mesh: Mesh, within: Clients) -> list[Variant]:
    return virtual_hosts.variants(host, _name(host), _with_port(called, host.port), mesh, within)


def _with_port(called: Iterable[str], port: int) -> Iterator[str]:
    """Names as requests to that port say them: on HTTP's own port also without it."""
    for name in called:
        yield f"{name}:{port}"
        if port == ORPHAN_PORT:
            yield name


def _offer(host: Host, made: list[Variant], seen: Seen) -> tuple[Key, Offer]:
    name = _name(host)
    return (name, host.namespace), Offer(VIRTUAL_HOST, name, audiences.compact(made), (seen,))


def _name(host: Host) -> str:
    return names.virtual_host_resource(ROUTE_CONFIGURATION, host.host, host.port)
