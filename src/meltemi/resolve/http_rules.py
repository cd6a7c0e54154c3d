"""VirtualService `http` rules as they hold at one place: for the mesh or a gateway, and for one port.

Rules are read in the order in which they stand; each of a rule's matches becomes a route. After one that fits every
request of everybody nothing is reached any more, which is told to the author.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from meltemi.api.networking.virtual_service import HttpMatchRequest, VirtualService
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.routes import HttpMatch, Route, Source
from meltemi.resolve import actions, faults, matches, problems
from meltemi.resolve.delegation import Rule
from meltemi.resolve.targets import Lookup

MESH = "mesh"
"""The gateway that stands for all sidecars."""


class Place(msgspec.Struct, frozen=True):
    """Where rules are to hold: the sidecars (`mesh`) or a gateway (`namespace/name`), and the port clients ask for.

    At a gateway the client of a rule is the gateway itself, so that its namespace and labels are known.
    """

    gateway: str
    port: int
    namespace: str = ""
    labels: LabelSet | None = None

    def clients(self, source_labels: dict[str, str], source_namespace: str) -> Clients | None:
        """The clients that a rule about its source means at this place, or None if there are none."""
        wanted = LabelSet.of(source_labels)
        if self.labels is None:
            return Clients(namespaces=frozenset({source_namespace}) if source_namespace else None, labels=wanted)
        fits = self.labels.contains(wanted) and source_namespace in ("", self.namespace)
        return ANYONE if fits else None


def routes(
    rules: tuple[Rule, ...], service: VirtualService, place: Place, lookup: Lookup
) -> Generator[Problem, None, tuple[Route, ...]]:
    """The routes of a VirtualService at a place, in order of precedence."""
    found: list[Route] = []
    final: Route | None = None
    for rule in rules:
        for path, name, match, clients in _matches(rule, service, place):
            if final is not None:
                yield _unreachable(rule, path, final)
                continue
            if place.gateway == MESH and (named := matches.claims(match)):
                yield _claims(rule, path, named)
                continue
            route = yield from _route(rule, Source(rule.owner.ref, path), name, match, clients, place.port, lookup)
            found.append(route)
            if clients == ANYONE and matches.is_catch_all(route.match):
                final = route
    return tuple(found)


def gateways_of(service: VirtualService) -> tuple[str, ...]:
    """The gateways that a VirtualService is bound to, qualified; `mesh` if it names none."""
    return qualified(service.spec.gateways, service.namespace) or (MESH,)


def qualified(gateways: tuple[str, ...], namespace: str) -> tuple[str, ...]:
    """Names of gateways as `namespace/name`; `mesh` stays as it is. A name alone is one of the own namespace."""
    return tuple(
        each if each == MESH or "/" in each else f"{namespace}/{each.removesuffix(f'.{namespace}.svc.cluster.local')}"
        for each in gateways
    )


def _matches(rule: Rule, service: VirtualService, place: Place) -> Iterator[tuple[str, str, HttpMatchRequest, Clients]]:
    """The matches of a rule that hold at the place: path, route name, match, and the clients meant."""
    bound = gateways_of(service)
    for position, match in enumerate(rule.http.match):
        path = f"{rule.path}.match[{position}]"
        gateways = qualified(match.gateways, service.namespace) or bound
        if place.gateway not in gateways or match.port not in (0, place.port):
            continue
        clients = place.clients(match.source_labels, match.source_namespace)
        if clients is not None:
            yield path, f"{rule.name}.{match.name or position}", match, clients
    if not rule.http.match and place.gateway in bound:
        yield rule.path, rule.name, HttpMatchRequest(), ANYONE


def _route(
    rule: Rule, source: Source, name: str, match: HttpMatchRequest, clients: Clients, port: int, lookup: Lookup
) -> Generator[Problem, None, Route]:
    http = rule.http
    action = yield from actions.action(http, rule.owner, rule.path, port, lookup)
    action, requests, responses = actions.for_all(action, http)
    return Route(
        name=name,
        match=HttpMatch() if match == HttpMatchRequest() else matches.http_match(match),
        action=action,
        clients=clients,
        request_headers=requests,
        response_headers=responses,
        fault=(yield from faults.fault(http, rule.owner, rule.path)),
        cors=actions.cors(http.cors_policy),
        stat_prefix=match.stat_prefix,
        source=source,
    )


def _unreachable(rule: Rule, path: str, final: Route) -> Problem:
    where = final.source.path if final.source else final.name
    return problems.warning(
        rule.owner,
        path,
        "UnreachableRule",
        f"no request comes this far, because {where} takes all of them",
        "move the rule before it, or narrow the other's match",
    )


def _claims(rule: Rule, path: str, names: list[str]) -> Problem:
    return problems.of(
        rule.owner,
        path,
        "NotSupported",
        f"sidecars do not match on JWT claims ({', '.join(names)}), so that they route nothing by this match",
        "name the gateways that it is for, or leave the decision to an AuthorizationPolicy",
    )
