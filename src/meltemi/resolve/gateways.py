"""Gateways: what a proxy at the edge of the mesh listens for, and where it sends what comes in."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from msgspec.structs import replace

from meltemi.api.networking import Gateway, VirtualService
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import proxies as model
from meltemi.model import traffic
from meltemi.model.clients import ProxyKind
from meltemi.model.gateways import Crossings, GatewayConfig, GatewayServer
from meltemi.model.mesh import Mesh
from meltemi.model.services import Service
from meltemi.resolve import http3
from meltemi.resolve.gateway_routes import connection_routes, virtual_hosts
from meltemi.resolve.gateway_servers import Served, served
from meltemi.resolve.gateway_tls import Credentials, server_tls
from meltemi.resolve.targets import Lookup

Key = tuple[str, str]
VirtualServices = View[Key, VirtualService]


def gateway(
    view: model.View,
    *,
    mesh: View[tuple[()], Mesh],
    gateways: View[Key, Gateway],
    virtual: VirtualServices,
    services: View[Key, Service],
    destinations: View[Key, traffic.Destination],
    credentials: Credentials,
) -> Iterator[GatewayConfig | Problem]:
    """The servers of a gateway's view; no row for sidecars."""
    if view.kind is not ProxyKind.GATEWAY:
        return
    lookup = Lookup(mesh.only(), services, destinations)
    servers: list[GatewayServer] = []
    groups = (yield from served(view, gateways, services)).values()
    yield from http3.without_effect([each for group in groups for each in group])
    for group in groups:
        if group[0].opens_tls or not group[0].is_http:
            servers += yield from _one_by_one(group, view, virtual, lookup, credentials)
        else:
            servers.append((yield from _merged(group, view, virtual, lookup)))
    yield GatewayConfig(view.key, tuple(sorted(_named_apart(servers), key=lambda each: (each.port, each.name))))


def crossings(*, gateways: View[str, GatewayConfig], views: View[str, model.View]) -> Crossings:
    """Where services must be known by the server names of mutual TLS. Gateways are few."""
    crossed = (config.view for config in gateways.all() if any(server.is_crossed for server in config.servers))
    return Crossings(frozenset(view.audience for key in crossed if (view := views.get(key)) is not None))


def _merged(
    group: list[Served], view: model.View, virtual: VirtualServices, lookup: Lookup
) -> Generator[Problem, None, GatewayServer]:
    """Plaintext HTTP servers of one port as one."""
    first = group[0]
    return GatewayServer(
        name=f"http.{first.port}" + (f".{first.server.bind}" if first.server.bind else ""),
        port=first.port,
        protocol=first.protocol,
        bind=first.server.bind,
        hosts=tuple(dict.fromkeys(name for each in group for name in each.names)),
        https_redirect=all(each.server.tls is not None and each.server.tls.https_redirect for each in group),
        virtual_hosts=(yield from virtual_hosts(group, view, virtual, lookup)),
        refs=tuple(dict.fromkeys(each.gateway.ref for each in group)),
    )


def _one_by_one(
    group: list[Served], view: model.View, virtual: VirtualServices, lookup: Lookup, credentials: Credentials
) -> Generator[Problem, None, list[GatewayServer]]:
    """TLS servers of one port, each on its own, or the one TCP server of a port. Those that lead nowhere are left out."""
    servers = []
    taken: set[str] = set()
    for each in group:
        usable, tls = yield from server_tls(each, view.namespace, credentials)
        if not usable:
            continue
        hosts = (yield from virtual_hosts([each], view, virtual, lookup)) if each.is_http else ()
        routes = (
            ()
            if each.is_http or each.is_crossed
            else (yield from connection_routes(each, view, virtual, lookup, taken))
        )
        if each.is_http or each.is_crossed or routes:
            servers.append(
                GatewayServer(
                    name=_name(each),
                    port=each.port,
                    protocol=each.protocol,
                    bind=each.server.bind,
                    hosts=each.names,
                    tls=tls,
                    http3_port=(yield from http3.port(each, tls)),
                    virtual_hosts=hosts,
                    tcp_routes=routes,
                    refs=(each.gateway.ref,),
                )
            )
    return servers


def _name(each: Served) -> str:
    """As Istio calls it: by the port that users see."""
    kind = "https" if each.is_http else "tls" if each.opens_tls else "tcp"
    port = each.server.port
    return f"{kind}.{port.number}.{port.name}.{each.gateway.name}.{each.gateway.namespace}"


def _named_apart(servers: list[GatewayServer]) -> Iterator[GatewayServer]:
    """The same servers; of those that share a name, all but the first get a number behind it."""
    counts: dict[str, int] = {}
    for each in servers:
        counts[each.name] = counts.get(each.name, 0) + 1
        if counts[each.name] == 1:
            yield each
        else:
            yield replace(each, name=f"{each.name}.{counts[each.name]}")
