"""What is routed through the servers of a gateway: the VirtualServices bound to it, for the hosts that both name.

Unlike in the mesh, several VirtualServices may route one host: their rules are put together, the older's first, and
rules that fit everything last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from meltemi.api.networking import VirtualService
from meltemi.base.hosts import matches, qualify, specificity
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.model import proxies as model
from meltemi.model.routes import Route, Source, TcpMatch, TcpRoute, VirtualHost
from meltemi.resolve import delegation, http_rules, problems, tcp_rules
from meltemi.resolve.delegation import VirtualServices
from meltemi.resolve.gateway_servers import Served
from meltemi.resolve.http_rules import Place
from meltemi.resolve.matches import is_catch_all
from meltemi.resolve.precedence import visibility_of
from meltemi.resolve.targets import Lookup


class _Part(msgspec.Struct, frozen=True):
    """What one server, or one VirtualService through it, gives to a virtual host."""

    service: VirtualService | None
    routes: tuple[Route, ...]
    redirects: bool


def virtual_hosts(
    group: list[Served], view: model.View, virtual: VirtualServices, lookup: Lookup
) -> Generator[Problem, None, tuple[VirtualHost, ...]]:
    """The virtual hosts of HTTP servers that share a listener, the most specific host first."""
    parts: dict[str, list[_Part]] = {}
    for served in group:
        redirects = served.server.tls is not None and served.server.tls.https_redirect
        if redirects:
            for host in served.names:
                parts.setdefault(host, []).append(_Part(None, (), redirects=True))
        for service in bound(served, view, virtual, lookup):
            shared = common_hosts(served, service, lookup)
            if service.spec.http and shared:
                part = _Part(service, (yield from _routes(served, service, view, virtual, lookup)), redirects)
                for host in shared:
                    parts.setdefault(host, []).append(part)
    made = []
    for host in sorted(parts, key=specificity):
        made.append((yield from _virtual_host(host, group[0].port, parts[host])))
    return tuple(made)


def _routes(
    served: Served, service: VirtualService, view: model.View, virtual: VirtualServices, lookup: Lookup
) -> Generator[Problem, None, tuple[Route, ...]]:
    place = Place(served.gateway_name, served.server.port.number, view.namespace, view.labels)
    rules = yield from delegation.rules(service, virtual)
    return (yield from http_rules.routes(rules, service, place, lookup))


def _virtual_host(host: str, port: int, parts: list[_Part]) -> Generator[Problem, None, VirtualHost]:
    """The parts put together. A VirtualService that comes through several servers counts once."""
    services: dict[Ref, VirtualService] = {}
    routes: list[Route] = []
    final: Route | None = None
    for part in parts:
        if part.service is None or part.service.ref in services:
            continue
        services[part.service.ref] = part.service
        for route in part.routes:
            if not is_catch_all(route.match):
                routes.append(route)
            elif final is None:
                final = route
            else:
                yield _shadowed(part.service, host, route, final)
    return VirtualHost(
        name=f"{host}:{port}",
        domains=(host,),
        routes=tuple(routes) if final is None else (*routes, final),
        require_tls=any(part.redirects for part in parts),
        sources=tuple(map(Source, services)),
    )


def connection_routes(
    served: Served, view: model.View, virtual: VirtualServices, lookup: Lookup, taken: set[str]
) -> Generator[Problem, None, tuple[TcpRoute, ...]]:
    """The routes of a server that sees connections only. `taken` are the server names routed on its port already."""
    place = Place(served.gateway_name, served.server.port.number, view.namespace, view.labels)
    found: list[TcpRoute] = []
    for service in bound(served, view, virtual, lookup):
        if not common_hosts(served, service, lookup):
            continue
        if served.passes_tls:
            for route in (yield from tcp_rules.tls_routes(service, place, lookup)):
                doubles = [name for name in route.match.sni_hosts if name in taken]
                if doubles:
                    yield _taken(service, route, doubles)
                    continue
                taken.update(route.match.sni_hosts)
                found.append(route)
        elif not any(route.match == TcpMatch() for route in found):
            found += yield from tcp_rules.plain_routes(service, place, lookup)
    return tuple(found)


def bound(served: Served, view: model.View, virtual: VirtualServices, lookup: Lookup) -> Iterator[VirtualService]:
    """The VirtualServices that are bound to a server's Gateway and that the proxy may see, the oldest first."""
    for service in sorted(virtual.by("gateway", served.gateway_name), key=seniority):
        if visibility_of(service, lookup.mesh).includes(view.namespace):
            yield service


def common_hosts(served: Served, service: VirtualService, lookup: Lookup) -> tuple[str, ...]:
    """The hosts that a server and a VirtualService have in common: of each pair that overlaps, the narrower."""
    found = []
    for host in service.spec.hosts:
        wanted = qualify(host, service.namespace, lookup.mesh.domain)
        for place, offered in served.hosts:
            if place in ("*", service.namespace):
                if matches(offered, wanted):
                    found.append(wanted)
                elif matches(wanted, offered):
                    found.append(offered)
    return tuple(dict.fromkeys(found))


def _shadowed(service: VirtualService, host: str, route: Route, final: Route) -> Problem:
    other = f"{final.source.ref} ({final.source.path})" if final.source else final.name
    return problems.warning(
        service,
        route.source.path if route.source else "spec.http",
        "UnreachableRule",
        f"no request for {host} comes this far at the gateway, because {other}, which is older, takes all of them",
        "narrow the match, or put all rules for the host into one VirtualService",
    )


def _taken(service: VirtualService, route: TcpRoute, names: list[str]) -> Problem:
    return problems.of(
        service,
        f"{route.source.path}.sniHosts" if route.source else "spec.tls",
        "HostConflict",
        f"connections for {', '.join(names)} are routed by an older rule on this port",
        "put all rules for a server name into one place",
    )
