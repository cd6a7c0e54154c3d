"""Services: what can be called by a host name, from Kubernetes' Services and from ServiceEntries.

ServiceEntries of one namespace may declare one host in parts; together they are one service, to which the oldest gives
everything that cannot be added up.
"""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.api.core import Service as CoreService
from meltemi.api.core.services import ServicePort as CoreServicePort
from meltemi.api.networking import ServiceEntry
from meltemi.base.hosts import is_wildcard
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.clients import Visibility
from meltemi.model.mesh import Mesh
from meltemi.model.services import Protocol, Resolution, Service, ServicePort
from meltemi.resolve import allocation, problems, protocols, sessions
from meltemi.resolve.hosts import exported, localised

EXPORT_TO = "networking.istio.io/exportTo"

Key = tuple[str, str]

_RESOLUTION = {
    "NONE": Resolution.ORIGINAL,
    "STATIC": Resolution.ENDPOINTS,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC_DNS,
}


def from_core(service: CoreService, *, mesh: View[tuple[()], Mesh]) -> Iterator[tuple[Key, Service]]:
    """A Kubernetes Service under its fully qualified name. One of type ExternalName is outside of the mesh."""
    settings = mesh.only()
    spec = service.spec
    host = f"{service.name}.{service.namespace}.svc.{settings.domain}"
    external = spec.type == "ExternalName"
    asked = tuple(each.strip() for each in service.annotations.get(EXPORT_TO, "").split(",") if each.strip())
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    row = Service(
        host=host,
        namespace=service.namespace,
        name=service.name,
        ports=tuple(
            ServicePort(
                port.port,
                port.name,
                protocols.of_port(port.port, port.name, port.app_protocol, port.protocol),
                port.port if port.target_port in (None, 0, "") else port.target_port,
            )
            for port in _told_apart(spec.ports)
        ),
        addresses=tuple(address for address in addresses if address != "None"),
        resolution=Resolution.DNS if external else Resolution.ENDPOINTS,
        headless=spec.headless,
        external=external,
        external_name=spec.external_name if external else "",
        visibility=exported(asked, service.namespace, _default(settings, service.namespace)),
        selector=LabelSet.of(spec.selector),
        session=sessions.of_labels(service.labels),
        created=service.created,
        ref=service.ref,
    )
    yield row.key, row


def from_entry(
    entry: ServiceEntry, *, mesh: View[tuple[()], Mesh], entries: View[Key, ServiceEntry]
) -> Iterator[tuple[Key, Service] | Problem]:
    """The services of a ServiceEntry, one for each host of which it is the oldest declaration in its namespace."""
    settings = mesh.only()
    yield from _without_address(entry)
    for host in dict.fromkeys(entry.spec.hosts):
        parts = sorted(entries.by("host", (entry.namespace, host)), key=seniority)
        senior = parts[0] if parts else entry
        if senior.ref != entry.ref:
            yield from _differences(entry, senior, host)
            continue
        row = _service(entry, host, parts, settings)
        yield row.key, row


def _service(entry: ServiceEntry, host: str, parts: list[ServiceEntry], mesh: Mesh) -> Service:
    spec = entry.spec
    ports: dict[int, ServicePort] = {}
    for part in parts or [entry]:
        for port in part.spec.ports:
            target = port.target_port or port.number
            ports.setdefault(
                port.number, ServicePort(port.number, port.name, protocols.declared(port.protocol), target)
            )
    return Service(
        host=host,
        namespace=entry.namespace,
        name=host,
        ports=tuple(ports[number] for number in sorted(ports)),
        addresses=spec.addresses or allocation.standing(entry, host),
        allocated=allocation.wants_addresses(entry),
        resolution=_RESOLUTION[spec.resolution],
        external=spec.location == "MESH_EXTERNAL",
        visibility=exported(spec.export_to, entry.namespace, _default(mesh, entry.namespace)),
        identities=spec.subject_alt_names,
        session=sessions.of_labels(entry.labels),
        created=entry.created,
        ref=entry.ref,
    )


def _told_apart(ports: tuple[CoreServicePort, ...]) -> list[CoreServicePort]:
    """A Service's ports, of which UDP and TCP may share a number: that of UDP is left out then, as no proxy takes it."""
    taken = {port.port for port in ports if port.protocol != "UDP"}
    return [port for port in ports if port.protocol != "UDP" or port.port not in taken]


def _default(mesh: Mesh, namespace: str) -> Visibility:
    return localised(mesh.default_service_visibility, namespace)


def _differences(entry: ServiceEntry, senior: ServiceEntry, host: str) -> Iterator[Problem]:
    """Where a part of a service says something else than the oldest part."""
    mine, theirs = entry.spec, senior.spec
    for path, differs in (
        ("spec.resolution", mine.resolution != theirs.resolution),
        ("spec.location", mine.location != theirs.location),
    ):
        if differs:
            yield problems.of(
                entry,
                path,
                "ServiceEntryConflict",
                f"it is not in effect for {host}: {senior.ref}, which is older, says otherwise",
                "let all ServiceEntries of a host agree, or write one",
            )
    protocols_ = {port.number: port.protocol.upper() for port in theirs.ports}
    for position, port in enumerate(mine.ports):
        if protocols_.get(port.number, port.protocol.upper()) != port.protocol.upper():
            yield problems.of(
                entry,
                f"spec.ports[{position}].protocol",
                "ServiceEntryConflict",
                f"port {port.number} of {host} is {protocols_[port.number]} in {senior.ref}, which is older",
                "let both name the same protocol",
            )


def _without_address(entry: ServiceEntry) -> Iterator[Problem]:
    """Connections that say no host can be told apart by their address only."""
    spec = entry.spec
    if not spec.addresses and not allocation.wants_addresses(entry) and spec.resolution not in ("NONE", "DYNAMIC_DNS"):
        for position, port in enumerate(spec.ports):
            protocol = protocols.declared(port.protocol)
            if (protocol.is_tcp and not protocol.is_tls) or protocol is Protocol.AUTO:
                yield problems.warning(
                    entry,
                    f"spec.ports[{position}]",
                    "AddressesRequired",
                    f"all connections to port {port.number} that no other service claims are taken for this host's",
                    "add addresses, or use protocol HTTP or TLS so that the host can be seen",
                )
    if spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and not spec.endpoints and any(map(is_wildcard, spec.hosts)):
        yield problems.of(
            entry,
            "spec.resolution",
            "WildcardByDns",
            "a wildcard host cannot be looked up in DNS, so that it has no endpoints",
            "use resolution NONE or DYNAMIC_DNS, or list endpoints",
        )
