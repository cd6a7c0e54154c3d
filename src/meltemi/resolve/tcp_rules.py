"""VirtualService `tcp` and `tls` rules as they hold at one place: for the mesh or a gateway, and for one port."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from meltemi.api.networking.virtual_service import (
    L4MatchAttributes,
    RouteDestination,
    TcpRoute,
    TlsMatchAttributes,
    TlsRoute,
    VirtualService,
)
from meltemi.base.problems import Problem
from meltemi.model import routes as model
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.routes import Source, TcpMatch, WeightedTarget
from meltemi.model.services import Protocol
from meltemi.resolve import problems, targets
from meltemi.resolve.actions import shares
from meltemi.resolve.http_rules import Place, gateways_of, qualified
from meltemi.resolve.targets import Lookup

Match = L4MatchAttributes | TlsMatchAttributes


def routes(
    service: VirtualService, protocol: Protocol, place: Place, lookup: Lookup
) -> Generator[Problem, None, tuple[model.TcpRoute, ...]]:
    """The connection routes of a VirtualService at a place: by SNI where TLS is passed through, else by address."""
    if protocol.is_tls and service.spec.tls:
        return (yield from tls_routes(service, place, lookup))
    return (yield from plain_routes(service, place, lookup))


def tls_routes(
    service: VirtualService, place: Place, lookup: Lookup
) -> Generator[Problem, None, tuple[model.TcpRoute, ...]]:
    """The `tls` rules: connections by the server name they ask for."""
    return (yield from _routes(service, service.spec.tls, "spec.tls", place, lookup))


def plain_routes(
    service: VirtualService, place: Place, lookup: Lookup
) -> Generator[Problem, None, tuple[model.TcpRoute, ...]]:
    """The `tcp` rules: connections by their destination."""
    return (yield from _routes(service, service.spec.tcp, "spec.tcp", place, lookup))


def is_catch_all(route: model.TcpRoute) -> bool:
    """Whether every connection of everybody fits."""
    return route.clients == ANYONE and route.match == TcpMatch()


def _routes(
    service: VirtualService, rules: Sequence[TcpRoute | TlsRoute], path: str, place: Place, lookup: Lookup
) -> Generator[Problem, None, tuple[model.TcpRoute, ...]]:
    found: list[model.TcpRoute] = []
    final = ""
    for position, rule in enumerate(rules):
        where = f"{path}[{position}]"
        for source, match, clients in _matches(rule, where, service, place):
            if final:
                yield _unreachable(service, source, final)
                continue
            shares_ = yield from _targets(rule.route, service, where, place.port, lookup)
            route = model.TcpRoute(match=match, targets=shares_, clients=clients, source=Source(service.ref, source))
            found.append(route)
            final = source if is_catch_all(route) else ""
    return tuple(found)


def _matches(
    rule: TcpRoute | TlsRoute, path: str, service: VirtualService, place: Place
) -> Iterator[tuple[str, TcpMatch, Clients]]:
    bound = gateways_of(service)
    matches: Sequence[Match] = rule.match
    for position, match in enumerate(matches):
        gateways = qualified(match.gateways, service.namespace) or bound
        if place.gateway not in gateways or match.port not in (0, place.port):
            continue
        clients = place.clients(match.source_labels, match.source_namespace)
        if clients is not None:
            yield f"{path}.match[{position}]", _match(match), clients
    if not matches and place.gateway in bound:
        yield path, TcpMatch(), ANYONE


def _match(match: Match) -> TcpMatch:
    sni = match.sni_hosts if isinstance(match, TlsMatchAttributes) else ()
    return TcpMatch(match.destination_subnets, sni)


def _targets(
    route: tuple[RouteDestination, ...], service: VirtualService, path: str, port: int, lookup: Lookup
) -> Generator[Problem, None, tuple[WeightedTarget, ...]]:
    weighted = []
    for position, each in enumerate(route):
        where = f"{path}.route[{position}].destination"
        target = yield from targets.resolve(each.destination, service, where, port, lookup)
        weighted.append(WeightedTarget(target, each.weight))
    return shares(weighted)


def _unreachable(service: VirtualService, path: str, final: str) -> Problem:
    return problems.warning(
        service,
        path,
        "UnreachableRule",
        f"no connection comes this far, because {final} takes all of them",
        "move the rule before it, or narrow the other's match",
    )
