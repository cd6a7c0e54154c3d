"""Which connections go where: filter chains from the connection routes (VirtualService `tcp` and `tls`) of services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from meltemi.base.problems import Problem
from meltemi.envoy import tcp
from meltemi.envoy.audiences import Applies
from meltemi.envoy.binding import subnets
from meltemi.envoy.chains import taking_all
from meltemi.envoy.values import cidr
from meltemi.flow import View
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.mesh import Mesh
from meltemi.model.routes import HostTcpRoutes, Source, Target, TcpMatch, TcpRoute, WeightedTarget
from meltemi.model.services import Service, ServicePort
from meltemi.model.traffic import Destination, TrafficPolicy
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain, FilterChainMatch

TcpRoutes = View[tuple[str, str], HostTcpRoutes]
Destinations = View[tuple[str, str], Destination]


class Connections(msgspec.Struct, frozen=True):
    """The connection routes of one service port, with the policies of the destinations they lead to."""

    service: Service
    port: ServicePort
    routes: HostTcpRoutes | None
    policies: tuple[tuple[Target, Destination | None], ...]

    @property
    def predicates(self) -> list[Clients]:
        """All that is asked about clients."""
        found = [ANYONE]
        for variant in self.routes.variants if self.routes else ():
            found.append(variant.clients)
            found += [route.clients for route in dict(variant.ports).get(self.port.number, ())]
        found += [each.clients for _, destination in self.policies if destination for each in destination.variants]
        return found

    def of(self, applies: Applies) -> tuple[TcpRoute, ...]:
        """The routes that hold for clients of whom `applies` tells the predicates they fulfil, in order.

        Where nobody made any, connections go to the service itself.
        """
        for variant in self.routes.variants if self.routes else ():
            if applies(variant.clients):
                routes = dict(variant.ports).get(self.port.number, ())
                held = tuple(route for route in routes if applies(route.clients))
                if held:
                    return held
        return (TcpRoute(targets=(WeightedTarget(_own(self.service, self.port)),)),)

    def policy(self, route: TcpRoute, applies: Applies) -> TrafficPolicy:
        """The policy of a route's first target."""
        target = route.targets[0].target if route.targets else _own(self.service, self.port)
        destination = dict(self.policies).get(target)
        for variant in destination.variants if destination else ():
            if applies(variant.clients):
                return variant.for_connections(target.port, target.subset, shared=len(route.targets) > 1)
        return TrafficPolicy()

    def sources(self, applies: Applies) -> list[Source]:
        """The users' objects that decide here."""
        found = [Source(self.service.ref)]
        found += [route.source for route in self.of(applies) if route.source is not None]
        return found


def _own(service: Service, port: ServicePort) -> Target:
    return Target(service.namespace, service.host, port.number)


def of_port(service: Service, port: ServicePort, routes: TcpRoutes, destinations: Destinations) -> Connections:
    """Read what one service port's connections depend on."""
    known = routes.get(service.key)
    targets = [_own(service, port)]
    for variant in known.variants if known else ():
        for route in dict(variant.ports).get(port.number, ()):
            targets += [share.target for share in route.targets[:1]]
    policies = tuple((target, destinations.get((target.namespace, target.host))) for target in dict.fromkeys(targets))
    return Connections(service, port, known, policies)


def chains(
    connections: Connections, applies: Applies, mesh: Mesh, *, by_name: bool = False, only_address: str = ""
) -> Iterator[FilterChain]:
    """A chain for each route. Those whose match is empty fit every connection to the service's addresses.

    `by_name`: several services share the listener, so that of TLS the server name must tell which is meant.
    `only_address`: the client chose one pod of a headless service.
    """
    service, port = connections.service, connections.port
    for route in connections.of(applies):
        if route.match.sni_hosts and not _matchable(route.match.sni_hosts):
            continue
        policy = connections.policy(route, applies)
        address = only_address if _stays(route, service) else ""
        proxy = tcp.to_targets(route.targets, policy, mesh, only_address=address)
        yield FilterChain(
            name=service.host,
            filter_chain_match=_match(route.match, service, port, by_name),
            filters=[proxy],
        )


def _stays(route: TcpRoute, service: Service) -> bool:
    return all(share.target.host == service.host and not share.target.subset for share in route.targets)


def _match(match: TcpMatch, service: Service, port: ServicePort, by_name: bool) -> FilterChainMatch:
    server_names: Sequence[str] = _matchable(match.sni_hosts)
    if not server_names and by_name and port.protocol.is_tls and service.host != "*":
        server_names = (service.host,)
    blocks = match.destination_subnets or (subnets(service) if by_name else ())
    return FilterChainMatch(
        server_names=[name for name in server_names if name != "*"],
        transport_protocol="tls" if server_names else "",
        prefix_ranges=[cidr(block) for block in blocks],
    )


def _matchable(server_names: Iterable[str]) -> list[str]:
    """The server names that Envoy can match: whole labels, with `*` for the first of them at most."""
    return [name for name in server_names if "*" not in name.removeprefix("*.") or name == "*"]


def unmatchable(connections: Connections) -> Iterator[Problem]:
    """A problem for each server name of a route that Envoy cannot match."""
    for variant in connections.routes.variants if connections.routes else ():
        for route in dict(variant.ports).get(connections.port.number, ()):
            for name in route.match.sni_hosts:
                if not _matchable([name]) and route.source is not None:
                    yield Problem(
                        ref=route.source.ref,
                        path=route.source.path,
                        message=f"{name!r} cannot be matched: '*' may stand for whole labels at the beginning only",
                        hint="write the names out, or *.example.org",
                        code="Unsupported",
                    )


def fits_all(chain: FilterChain) -> bool:
    """Whether a chain matches every connection."""
    return chain.filter_chain_match == FilterChainMatch()


class Claims:
    """Which matches of a listener are taken: no two chains may have one in common."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], str] = {}

    def gather(self, wishes: Iterable[FilterChain], default: FilterChain) -> tuple[list[FilterChain], FilterChain]:
        """What wishes get, and the chain for all else: `default`, or the last of them that fits everything."""
        found: list[FilterChain] = []
        for wish in wishes:
            chain, _ = self.take(wish)
            if chain is None:
                continue
            if fits_all(chain):
                default = taking_all(chain)
            else:
                found.append(chain)
        return found, default

    def take(self, chain: FilterChain) -> tuple[FilterChain | None, str]:
        """Claim what a chain matches, as far as nobody else has it.

        Returns the chain for what it got (None: nothing), and the name of a chain that was there before it, if any.
        """
        match = chain.filter_chain_match
        blocks = [f"{block.address_prefix}/{block.prefix_len.value}" for block in match.prefix_ranges] or [""]
        wanted = list(match.server_names) or [match.transport_protocol]
        first = next((self._taken[pair] for pair in _pairs(blocks, wanted) if pair in self._taken), "")
        if match.server_names:
            wanted = [name for name in wanted if not any((block, name) in self._taken for block in blocks)]
        else:
            blocks = [block for block in blocks if (block, wanted[0]) not in self._taken]
        self._taken.update(dict.fromkeys(_pairs(blocks, wanted), chain.name or "another"))
        if not wanted or not blocks:
            return None, first
        if not first:
            return chain, ""
        rest = FilterChain()
        rest.CopyFrom(chain)
        if match.server_names:
            rest.filter_chain_match.server_names[:] = wanted
        else:
            kept = [
                block for block in match.prefix_ranges if f"{block.address_prefix}/{block.prefix_len.value}" in blocks
            ]
            del rest.filter_chain_match.prefix_ranges[:]
            rest.filter_chain_match.prefix_ranges.extend(kept)
        return rest, first


def _pairs(blocks: Iterable[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((block, name) for block in blocks for name in names)
