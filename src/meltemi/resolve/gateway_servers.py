"""Which servers of which Gateways a proxy at the edge runs, and on which ports.

All Gateways that select the proxy share its ports. On one port, plaintext HTTP servers are one server, TLS servers are
told apart by the server name that clients ask for, and any other pair is a conflict that the older wins.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from meltemi.api.networking import Gateway
from meltemi.api.networking.gateway import Server
from meltemi.base.hosts import qualify
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import proxies as model
from meltemi.model.services import Protocol, Service
from meltemi.resolve import problems, protocols
from meltemi.resolve.inbound import selecting, target_port

Gateways = View[tuple[str, str], Gateway]
Services = View[tuple[str, str], Service]


class Served(msgspec.Struct, frozen=True):
    """One server of a Gateway, and the port on which the proxy listens for it."""

    gateway: Gateway
    position: int
    server: Server
    protocol: Protocol
    port: int

    @property
    def gateway_name(self) -> str:
        """The name by which VirtualServices are bound to it."""
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def path(self) -> str:
        """Where it stands in the Gateway."""
        return f"spec.servers[{self.position}]"

    @property
    def opens_tls(self) -> bool:
        """Whether it has TLS (which plaintext HTTP with a redirect to HTTPS has not)."""
        return self.server.tls is not None and not self.protocol.is_http

    @property
    def passes_tls(self) -> bool:
        """Whether TLS is passed through unopened."""
        tls = self.server.tls
        return self.opens_tls and tls is not None and tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH")

    @property
    def is_crossed(self) -> bool:
        """Whether mutual TLS of the mesh crosses it: server names say where to, and no VirtualService does."""
        tls = self.server.tls
        return self.opens_tls and tls is not None and tls.mode == "AUTO_PASSTHROUGH"

    @property
    def is_http(self) -> bool:
        """Whether requests are routed one by one."""
        return self.protocol.is_http or (self.protocol is Protocol.HTTPS and self.opens_tls and not self.passes_tls)

    @property
    def hosts(self) -> tuple[tuple[str, str], ...]:
        """Its hosts, each with the namespace whose VirtualServices may use it (`*`: any)."""
        found = []
        for host in self.server.hosts:
            place, slash, name = host.rpartition("/")
            place = (place if place != "." else self.gateway.namespace) if slash else "*"
            found.append((place, qualify(name, self.gateway.namespace)))
        return tuple(dict.fromkeys(found))

    @property
    def names(self) -> tuple[str, ...]:
        """The server names that its TLS clients may ask for."""
        return tuple(dict.fromkeys(host for _, host in self.hosts))


def served(
    view: model.View, gateways: Gateways, services: Services
) -> Generator[Problem, None, dict[tuple[int, str], list[Served]]]:
    """The servers of a view by port and bind address, each group free of conflicts, the oldest Gateway first."""
    behind = selecting(services, view)
    ports: dict[tuple[int, str], list[Served]] = {}
    for gateway in sorted(gateways.all(), key=seniority):
        if not view.labels.contains(LabelSet.of(gateway.spec.selector)):
            continue
        for position, server in enumerate(gateway.spec.servers):
            port = _listening_port(server.port.number, behind, view)
            each = Served(gateway, position, server, protocols.declared(server.port.protocol), port)
            group = ports.setdefault((port, server.bind), [])
            problem = _misfit(each) or _conflict(each, group)
            if problem is not None:
                yield problem
            else:
                group.append(each)
    return {place: group for place, group in sorted(ports.items()) if group}


def _listening_port(number: int, services: list[Service], view: model.View) -> int:
    """The port of the proxy that the gateway's Service sends `number` to; the number itself where none does."""
    for service in services:
        port = service.port(number)
        if port is not None and (target := target_port(port, view)):
            return target
    return number


def _misfit(each: Served) -> Problem | None:
    """Why a server cannot be run at all, if so."""
    tls = each.server.tls
    if each.protocol in (Protocol.AUTO, Protocol.UDP):
        return problems.of(
            each.gateway,
            f"{each.path}.port.protocol",
            "UnknownProtocol",
            f"a gateway cannot serve protocol {each.server.port.protocol!r}",
            "use HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, TCP, MONGO or REDIS",
        )
    if each.protocol.is_tls and tls is None:
        return problems.of(
            each.gateway,
            f"{each.path}.tls",
            "TlsRequired",
            f"a server of protocol {each.server.port.protocol} needs TLS settings",
            "add tls.mode, and tls.credentialName unless TLS is passed through",
        )
    return None


def _conflict(each: Served, group: list[Served]) -> Problem | None:
    """Why a server cannot share its port with those that are older, if so."""
    if not group:
        return None
    first = group[0]
    if each.opens_tls and first.opens_tls:
        taken = {name: other for other in group for name in other.names}
        doubles = [name for name in each.names if name in taken]
        if not doubles:
            return None
        return problems.of(
            each.gateway,
            f"{each.path}.hosts",
            "ServerConflict",
            f"{', '.join(doubles)} on port {each.port} is served by {taken[doubles[0]].gateway.ref}, which is older",
            "let one Gateway serve each host of a port",
        )
    if not each.opens_tls and not first.opens_tls and each.protocol.is_http and first.protocol.is_http:
        return None
    return problems.of(
        each.gateway,
        f"{each.path}.port",
        "ServerConflict",
        f"port {each.port} speaks {first.server.port.protocol} for {first.gateway.ref}, which is older",
        "use another port, or the same protocol",
    )
