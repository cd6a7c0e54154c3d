"""Ports of Services: the protocols that their names tell, and services that disagree about one workload."""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.analyze import messages
from meltemi.analyze.snapshot import SYSTEM_NAMESPACES, Snapshot, Workload
from meltemi.api import core
from meltemi.api.core.services import ServicePort
from meltemi.api.security import RequestAuthentication
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.model.services import Protocol
from meltemi.resolve import protocols

Pair = tuple[core.Service, int, ServicePort]


def names(snapshot: Snapshot) -> Iterator[Problem]:
    """Ports that do not tell their protocol."""
    for service in snapshot.of(core.Service):
        if service.namespace in SYSTEM_NAMESPACES:
            continue
        external = service.spec.type == "ExternalName"
        for index, port in enumerate(service.spec.ports):
            path = f"spec.ports[{index}]"
            unknown = _protocol(port) is Protocol.AUTO
            if external and (unknown or port.name == "tcp"):
                yield messages.EXTERNAL_NAME_PORT.of(
                    service,
                    path,
                    f"the name {port.name!r} tells no protocol by which requests for the name could be told apart",
                    "name the port after its protocol, such as http or tls",
                )
            elif unknown:
                yield messages.PORT_NAME.of(
                    service,
                    path,
                    f"the port {port.port}, named {port.name!r}, tells no protocol: it is found out by sniffing",
                    "name the port after its protocol (http, grpc, tcp, ...), or set appProtocol",
                )


def deployments(snapshot: Snapshot) -> Iterator[Problem]:
    """Services that give one port of a workload two protocols, or lead two ports to it."""
    for workload in snapshot.workloads:
        if not snapshot.in_mesh(workload):
            continue
        pairs = [
            (service, _target(port, workload), port)
            for service in _services(snapshot, workload)
            for port in service.spec.ports
        ]
        yield from _protocols(workload, pairs)
        yield from _numbers(workload, pairs)


def _protocols(workload: Workload, pairs: list[Pair]) -> Iterator[Problem]:
    """One number, several protocols."""
    for number in sorted({port.port for _, _, port in pairs}):
        found = {(service.name, _protocol(port)) for service, _, port in pairs if port.port == number}
        if len({name for name, _ in found}) > 1 and len({protocol for _, protocol in found}) > 1:
            told = ", ".join(f"{name} says {protocol}" for name, protocol in sorted(found))
            yield messages.MULTIPLE_SERVICES.of(
                workload.owner,
                f"{workload.path}.labels",
                f"services that select it give port {number} several protocols: {told}",
                "let them agree, or select different pods",
            )


def _numbers(workload: Workload, pairs: list[Pair]) -> Iterator[Problem]:
    """One port of the workload, several numbers."""
    for target in sorted({target for _, target, _ in pairs if target}):
        found = {(service.name, port.port) for service, each, port in pairs if each == target}
        if len({name for name, _ in found}) > 1 and len({number for _, number in found}) > 1:
            told = ", ".join(f"{name}:{number}" for name, number in sorted(found))
            yield messages.CONFLICTING_PORTS.of(
                workload.owner,
                f"{workload.path}.labels",
                f"services lead several ports to its port {target}: {told}",
                "let all services use one port number for it",
            )


def tokens(snapshot: Snapshot) -> Iterator[Problem]:
    """Ports on which tokens are asked for although they are not known to speak HTTP."""
    for authentication in snapshot.of(RequestAuthentication):
        selector = authentication.spec.selector
        labels = selector.match_labels if selector else {}
        told = set()
        for workload in snapshot.selected(snapshot.reach(authentication.namespace), labels) if labels else ():
            for service in _services(snapshot, workload):
                for index, port in enumerate(service.spec.ports):
                    key = (service.ref, index)
                    if _protocol(port) is Protocol.AUTO and key not in told:
                        told.add(key)
                        yield messages.JWT_PORT.of(
                            service,
                            f"spec.ports[{index}]",
                            f"{authentication.ref} asks for tokens, but port {port.port} does not tell that it is HTTP",
                            "name the port http, http2 or grpc, or set appProtocol",
                        )


def _services(snapshot: Snapshot, workload: Workload) -> list[core.Service]:
    return [
        service
        for service in snapshot.of(core.Service)
        if service.namespace == workload.namespace
        and service.spec.selector
        and workload.labels.contains(LabelSet.of(service.spec.selector))
    ]


def _protocol(port: ServicePort) -> Protocol:
    return protocols.of_port(port.port, port.name, port.app_protocol, port.protocol)


def _target(port: ServicePort, workload: Workload) -> int:
    """The port of the workload; 0 if its containers do not have the name."""
    if isinstance(port.target_port, str):
        named = (each for container in workload.spec.containers for each in container.ports)
        return next((each.container_port for each in named if each.name == port.target_port), 0)
    return port.target_port or port.port
