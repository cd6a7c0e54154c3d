"""References that lead nowhere, told to their authors even while no proxy would notice.

Routes and gateways tell what is wrong with the rules that they use. A rule that nobody uses yet (its gateway does not
run, its host is spelt wrongly) would be silent; here each object is asked about all that it names.
"""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.api.networking import DestinationRule, Gateway, ServiceEntry, VirtualService
from meltemi.api.networking.virtual_service import (
    HttpMatchRequest,
    L4MatchAttributes,
    TlsMatchAttributes,
)
from meltemi.base.hosts import overlaps, qualify
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import traffic
from meltemi.model.mesh import Mesh
from meltemi.model.services import Service
from meltemi.resolve import hosts, problems, targets
from meltemi.resolve.http_rules import MESH, qualified
from meltemi.resolve.targets import Lookup

Key = tuple[str, str]
Match = HttpMatchRequest | TlsMatchAttributes | L4MatchAttributes


def virtual_service(
    service: VirtualService,
    *,
    mesh: View[tuple[()], Mesh],
    gateways: View[Key, Gateway],
    services: View[Key, Service],
    destinations: View[Key, traffic.Destination],
) -> Iterator[Problem]:
    """The problems of a VirtualService's gateways and destinations. Makes no row."""
    lookup = Lookup(mesh.only(), services, destinations)
    for path, name in _gateways(service):
        (qualified_name,) = qualified((name,), service.namespace)
        if qualified_name != MESH:
            yield from _gateway(service, path, qualified_name, gateways, lookup)
    for path, destination in targets.named(service):
        yield from targets.check(destination, service, path, lookup)


def service_entry(entry: ServiceEntry, *, services: View[Key, Service]) -> Iterator[Problem]:
    """The problems of hosts that a Kubernetes Service of the namespace has, and keeps. Makes no row."""
    for position, host in enumerate(entry.spec.hosts):
        found = services.get((entry.namespace, host))
        if found is not None and found.ref.kind == "Service":
            yield problems.of(
                entry,
                f"spec.hosts[{position}]",
                "HostConflict",
                f"it is not in effect for {host}, which is the host of {found.ref}",
                "name another host, or add endpoints to the Service by a WorkloadEntry with the labels that it selects",
            )


def destination_rule(
    rule: DestinationRule, *, mesh: View[tuple[()], Mesh], services: View[Key, Service]
) -> Iterator[Problem]:
    """The problem of a DestinationRule for a host that no service has. Makes no row."""
    host = qualify(rule.spec.host, rule.namespace, mesh.only().domain)
    if not hosts.exists(services, host) and not any(services.keys_by("host", each) for each in hosts.patterns(host)):
        yield problems.warning(
            rule,
            "spec.host",
            "HostNotFound",
            f"no service is called {host}",
            "name a Service (of another namespace as <name>.<namespace>.svc.cluster.local) or declare a ServiceEntry",
        )


def _gateways(service: VirtualService) -> Iterator[tuple[str, str]]:
    for position, name in enumerate(service.spec.gateways):
        yield f"spec.gateways[{position}]", name
    for path, match in _matches(service):
        for position, name in enumerate(match.gateways):
            yield f"{path}.gateways[{position}]", name


def _matches(service: VirtualService) -> Iterator[tuple[str, Match]]:
    for i, http in enumerate(service.spec.http):
        yield from ((f"spec.http[{i}].match[{j}]", match) for j, match in enumerate(http.match))
    for i, tls in enumerate(service.spec.tls):
        yield from ((f"spec.tls[{i}].match[{j}]", match) for j, match in enumerate(tls.match))
    for i, tcp in enumerate(service.spec.tcp):
        yield from ((f"spec.tcp[{i}].match[{j}]", match) for j, match in enumerate(tcp.match))


def _gateway(
    service: VirtualService, path: str, name: str, gateways: View[Key, Gateway], lookup: Lookup
) -> Iterator[Problem]:
    namespace, _, short = name.partition("/")
    gateway = gateways.get((namespace, short))
    if gateway is None:
        yield problems.of(
            service,
            path,
            "GatewayNotFound",
            f"there is no Gateway {name}",
            "create it, or name one of another namespace as <namespace>/<name>",
        )
        return
    wanted = [qualify(host, service.namespace, lookup.mesh.domain) for host in service.spec.hosts]
    offered = [host for server in gateway.spec.servers for host in _offered(server.hosts, gateway, service)]
    for position, host in enumerate(wanted):
        if not any(overlaps(host, each) for each in offered):
            yield problems.warning(
                service,
                f"spec.hosts[{position}]",
                "HostNotInGateway",
                f"no server of {gateway.ref} has the host {host} for namespace {service.namespace}",
                "add the host to a server of the Gateway",
            )


def _offered(names: tuple[str, ...], gateway: Gateway, service: VirtualService) -> Iterator[str]:
    """The hosts of a server that VirtualServices of this namespace may use."""
    for name in names:
        place, slash, host = name.rpartition("/")
        if not slash or place in ("*", service.namespace) or (place == "." and gateway.namespace == service.namespace):
            yield qualify(host, gateway.namespace)
