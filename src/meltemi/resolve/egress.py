"""Addresses that a Sidecar gives to services for its workloads alone (`egress[].bind` and `captureMode`).

An application that cannot be captured, or is not to be, talks to its own proxy at an address that the Sidecar names:
`captureMode: NONE` has the proxy listen there. What is called so is not looked for at the services' own addresses. A
listener without a port stands for one on each port of the services.

Invariant: no such listener has the address of all that is captured (0.0.0.0). Envoy 1.40 ends with a segmentation fault
when a listener that it has a socket for is updated to one of that name that it has none for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meltemi.api.networking import Sidecar
from meltemi.api.networking.sidecar import EgressListener
from meltemi.base.hosts import is_wildcard, matches
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.clients import Audience, EgressHost
from meltemi.model.egress import BoundListener, Egress, Reached
from meltemi.model.mesh import Mesh
from meltemi.model.services import Protocol, Service, ServicePort
from meltemi.resolve import problems, protocols
from meltemi.resolve.ingress import ANY_ADDRESS, LOCALHOST
from meltemi.resolve.sidecars import egress_host, is_bound

Services = View[tuple[str, str], Service]
Target = tuple[Service, ServicePort]


def egress(
    audience: Audience,
    *,
    mesh: View[tuple[()], Mesh],
    sidecars: View[tuple[str, str], Sidecar],
    services: Services,
) -> Iterator[Egress | Problem]:
    """The listeners that the Sidecar of an audience binds, if it binds any."""
    ref = audience.scope.ref
    sidecar = sidecars.get((ref.namespace, ref.name)) if ref else None
    if sidecar is None:
        return
    own = sidecar.namespace if sidecar.namespace != mesh.only().root_namespace else audience.namespace
    found: dict[tuple[str, int], BoundListener] = {}
    for index, listener in enumerate(sidecar.spec.egress):
        if not is_bound(listener):
            continue
        entries = [entry for host in listener.hosts if (entry := egress_host(host, own, 0)) is not None]
        seen = _seen(entries, audience.namespace, services)
        numbers = [listener.port.number] if listener.port else sorted({port.number for port in _ports(seen)})
        for number in numbers:
            reached = [(each, port) for each in seen for port in _reached(each, number, bool(listener.port))]
            made = _listener(listener, number, reached, entries)
            found.setdefault((made.bind, number), made)
            yield from _check(sidecar, f"spec.egress[{index}].port", number, made, reached)
        yield from _check_bind(sidecar, f"spec.egress[{index}].bind", listener.bind)
    listeners = tuple(listener for listener in found.values() if listener.targets)
    if listeners:
        yield Egress(audience.key, sidecar.ref, listeners)


def _listener(listener: EgressListener, number: int, reached: list[Target], entries: list[EgressHost]) -> BoundListener:
    declared = protocols.declared(listener.port.protocol) if listener.port else Protocol.AUTO
    known = bool(reached) and all(port.protocol.is_http for _, port in reached)
    return BoundListener(
        LOCALHOST if listener.bind in ANY_ADDRESS else listener.bind,
        number,
        declared.is_http or (declared is Protocol.AUTO and known),
        listener.capture_mode != "NONE",
        tuple(Reached(service.namespace, service.host, port.number) for service, port in reached),
        len(reached) == len(entries) == 1 and not is_wildcard(entries[0].host),
    )


def _check(
    sidecar: Sidecar, path: str, number: int, listener: BoundListener, reached: list[Target]
) -> Iterator[Problem]:
    if not reached:
        yield problems.warning(
            sidecar,
            f"{path}.number",
            "PortNotFound",
            f"nothing listens there: no service that is seen has port {number}, or has one port only",
            "write the number of a service's port, or check hosts",
        )
    plain = [service for service, port in reached if not port.protocol.is_tls]
    if not listener.http and len(plain) > 1:
        yield problems.warning(
            sidecar,
            path,
            "PortConflict",
            f"connections to port {number} cannot be told apart: all go to {plain[0].host}, the oldest of"
            f" {len(plain)} services",
            "give each service a listener of its own, or declare the protocol HTTP",
        )


def _check_bind(sidecar: Sidecar, path: str, bind: str) -> Iterator[Problem]:
    if bind and bind in ANY_ADDRESS:
        yield problems.warning(
            sidecar,
            path,
            "BindNarrowed",
            f"the proxy listens on {LOCALHOST}: {bind} is where it takes what is captured",
            f"write {LOCALHOST}, or the address that applications call",
        )


def _reached(service: Service, number: int, chosen: bool) -> Iterator[ServicePort]:
    """The ports of a service that a listener's port stands for: all for a socket that has none.

    Where the Sidecar has `chosen` the listener's port, a service with a single port is reached whatever its number is.
    """
    ports = _ports([service])
    if number == 0:
        yield from ports
    elif len(ports) == 1 and chosen:
        yield ports[0]
    else:
        yield from (port for port in ports if port.number == number)


def _ports(services: Iterable[Service]) -> list[ServicePort]:
    return [port for service in services for port in service.ports if port.protocol is not Protocol.UDP]


def _seen(entries: Iterable[EgressHost], namespace: str, services: Services) -> list[Service]:
    """The services that clients of a namespace may call by these entries, the oldest first; of one host, their own."""
    found: dict[str, Service] = {}
    candidates = {service.key: service for entry in entries for service in _matching(entry, services)}
    for service in sorted(candidates.values(), key=lambda each: (each.namespace != namespace, seniority(each))):
        if service.visibility.includes(namespace):
            found.setdefault(service.host, service)
    return sorted(found.values(), key=seniority)


def _matching(entry: EgressHost, services: Services) -> Iterator[Service]:
    if not is_wildcard(entry.host):
        yield from (each for each in services.by("host", entry.host) if entry.namespace in ("*", each.namespace))
    elif entry.namespace != "*":
        yield from (each for each in services.by("namespace", entry.namespace) if matches(entry.host, each.host))
    else:
        yield from services.by("pattern", entry.host)
