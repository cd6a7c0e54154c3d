"""Where a destination leads: from the host, port and subset that a rule names to a port of a service.

A destination that leads nowhere is a problem of the rule, told at its field. The rule stays: its requests fail with 503,
because to send them by the next rule would be to do what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import msgspec

from meltemi.api.meta import Resource
from meltemi.api.networking.virtual_service import Destination, TcpRoute, TlsRoute, VirtualService
from meltemi.base.hosts import qualify
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import traffic
from meltemi.model.mesh import Mesh
from meltemi.model.routes import Target
from meltemi.model.services import Service
from meltemi.resolve import hosts, problems

PORT_REQUIRED = "PortRequired"
ANY_PORT = 0


class Lookup(msgspec.Struct, frozen=True):
    """What rules are resolved against. Destinations are read for the existence of subsets alone."""

    mesh: Mesh
    services: View[tuple[str, str], Service]
    destinations: View[tuple[str, str], traffic.Destination]


def resolve(
    destination: Destination, rule: Resource, path: str, port: int, lookup: Lookup
) -> Generator[Problem, None, Target]:
    """The target of a destination of `rule` (at `path` within it), for requests that came for `port`."""
    host = qualify(destination.host, rule.namespace, lookup.mesh.domain)
    service = hosts.find(lookup.services, host, rule.namespace)
    if service is None:
        yield _not_found(rule, f"{path}.host", host, lookup)
        return Target(rule.namespace, host, 0, destination.subset)
    service = hosts.meant(lookup.services, service)
    number = _port(destination, service, port)
    if number is None:
        yield _no_port(rule, path, destination, service)
        return Target(service.namespace, service.host, 0, destination.subset)
    if destination.subset:
        yield from _check_subset(destination.subset, rule, path, service, lookup)
    return Target(service.namespace, service.host, number, destination.subset)


def check(destination: Destination, rule: VirtualService, path: str, lookup: Lookup) -> Generator[Problem, None, None]:
    """What is wrong with a destination wherever the rule holds: all but a port that is missing and that some need not say."""
    port = destination.port.number if destination.port is not None else ANY_PORT
    for problem in resolve(destination, rule, path, port, lookup):
        if problem.code != PORT_REQUIRED:
            yield problem


def _port(destination: Destination, service: Service, port: int) -> int | None:
    """The port meant: the one named, the only one there is, or else that for which the request came."""
    if destination.port is None and len(service.ports) == 1:
        return service.ports[0].number
    wanted = destination.port.number if destination.port is not None else port
    return wanted if service.port(wanted) else None


def _not_found(rule: Resource, path: str, host: str, lookup: Lookup) -> Problem:
    if hosts.exists(lookup.services, host):
        return problems.of(
            rule,
            path,
            "HostNotVisible",
            f"{host} is not exported to namespace {rule.namespace}",
            f"add {rule.namespace!r} to the exportTo of the service",
        )
    return problems.of(
        rule,
        path,
        "HostNotFound",
        f"there is no service {host}",
        "name a Service (of another namespace as <name>.<namespace>.svc.cluster.local) or declare a ServiceEntry",
    )


def _no_port(rule: Resource, path: str, destination: Destination, service: Service) -> Problem:
    known = ", ".join(str(port.number) for port in service.ports) or "none"
    if destination.port is None:
        return problems.of(
            rule,
            path,
            PORT_REQUIRED,
            f"{service.host} has several ports ({known}) and the destination does not say which",
            "add port.number to the destination",
        )
    return problems.of(
        rule,
        f"{path}.port.number",
        "PortNotFound",
        f"{service.host} has no port {destination.port.number}",
        f"use one of its ports: {known}",
    )


def _check_subset(
    subset: str, rule: Resource, path: str, service: Service, lookup: Lookup
) -> Generator[Problem, None, None]:
    row = lookup.destinations.get(service.key)
    known = sorted({each.name for variant in row.variants for each in variant.subsets}) if row else []
    if subset not in known:
        yield problems.of(
            rule,
            f"{path}.subset",
            "SubsetNotFound",
            f"{service.host} has no subset {subset!r}" + (f" (it has: {', '.join(known)})" if known else ""),
            f"declare it under subsets of a DestinationRule for {service.host}",
        )


def named(rule: VirtualService) -> Iterator[tuple[str, Destination]]:
    """Every destination that a VirtualService names, with its path."""
    for i, http in enumerate(rule.spec.http):
        for j, each in enumerate(http.route):
            yield f"spec.http[{i}].route[{j}].destination", each.destination
        if http.mirror is not None:
            yield f"spec.http[{i}].mirror", http.mirror
        for j, mirror in enumerate(http.mirrors):
            yield f"spec.http[{i}].mirrors[{j}].destination", mirror.destination
    kinds: tuple[tuple[str, Sequence[TlsRoute | TcpRoute]], ...] = (
        ("tls", rule.spec.tls),
        ("tcp", rule.spec.tcp),
    )
    for kind, rules in kinds:
        for i, each_rule in enumerate(rules):
            for j, share in enumerate(each_rule.route):
                yield f"spec.{kind}[{i}].route[{j}].destination", share.destination
