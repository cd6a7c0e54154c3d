"""What is routed through the servers of a gateway: the VirtualServices bound to it, for the hosts that both name.

Unlike in the mesh, several VirtualServices may route one host: their rules are put together, the older's first, and
rules that fit everything last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from meltemi.api.networking import VirtualService
from meltemi.base.hosts import matches, qualify, specificity
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.model import proxies as model
from meltemi.model.routes import Route, Source, TcpMatch, TcpRoute, VirtualHost
from meltemi.resolve import delegation, http_rules, problems, tcp_rules
from meltemi.resolve.delegation import VirtualServices
from meltemi.resolve.gateway_servers import Served
from meltemi.resolve.http_rules import Place
from meltemi.resolve.matches import is_catch_all
from meltemi.resolve.precedence import visibility_of
from meltemi.resolve.targets import Lookup


class _Host:
    """A virtual host in the making."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.finals: list[Route] = []
        self.owners: set[tuple[str, str]] = set()
        self.sources: list[Source] = []
        self.require_tls = False


def virtual_hosts(
    group: list[Served], view: model.View, virtual: VirtualServices, lookup: Lookup
) -> Generator[Problem, None, tuple[VirtualHost, ...]]:
    """The virtual hosts of HTTP servers that share a listener, the most specific host first."""
    made: dict[str, _Host] = {}
    for served in group:
        redirects = served.server.tls is not None and served.server.tls.https_redirect
        if redirects:
            for host in served.names:
                made.setdefault(host, _Host()).require_tls = True
        for service in bound(served, view, virtual, lookup):
            shared = common_hosts(served, service, lookup)
            if service.spec.http and shared:
                yield from _add(made, shared, redirects, served, service, view, virtual, lookup)
    port = group[0].port
    return tuple(
        VirtualHost(
            name=f"{host}:{port}",
            domains=(host,),
            routes=(*each.routes, *each.finals),
            require_tls=each.require_tls,
            sources=tuple(dict.fromkeys(each.sources)),
        )
        for host, each in sorted(made.items(), key=lambda item: specificity(item[0]))
    )


def _add(
    made: dict[str, _Host],
    hosts: tuple[str, ...],
    redirects: bool,
    served: Served,
    service: VirtualService,
    view: model.View,
    virtual: VirtualServices,
    lookup: Lookup,
) -> Generator[Problem, None, None]:
    """Put the routes of a VirtualService into its virtual hosts."""
    place = Place(served.gateway_name, served.server.port.number, view.namespace, view.labels)
    rules = yield from delegation.rules(service, virtual)
    routes = yield from http_rules.routes(rules, service, place, lookup)
    owner = (service.namespace, service.name)
    for host in hosts:
        each = made.setdefault(host, _Host())
        each.require_tls = each.require_tls or redirects
        if owner in each.owners:
            continue
        each.owners.add(owner)
        each.sources.append(Source(service.ref))
        for route in routes:
            if not is_catch_all(route.match):
                each.routes.append(route)
            elif each.finals:
                yield _shadowed(service, host, route, each.finals[0])
            else:
                each.finals.append(route)


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
