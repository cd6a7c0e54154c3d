"""Which service a host name means, and which patterns cover it.

Users name hosts in three ways: shortly (`reviews`), fully, and as wildcards. A rule is found by looking up the host
itself and then each wildcard that could cover it, so that a service reads only the few index buckets that may hold
rules about it, and never a whole table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meltemi.base.hosts import is_wildcard
from meltemi.base.ordering import seniority
from meltemi.flow import View
from meltemi.model.clients import Visibility
from meltemi.model.services import Service

Services = View[tuple[str, str], Service]


def patterns(host: str) -> Iterator[str]:
    """Every pattern that covers a host, the most specific first: the host itself, then wildcards down to `*`.

    A wildcard stands for the left-most label or for its beginning (`*.example.org`, `*-v1.example.org`).
    """
    yield host
    rest = host.removeprefix("*")
    first = True
    for position, character in enumerate(rest):
        if character == ".":
            first = False
        elif character != "-" or not first:
            continue
        pattern = f"*{rest[position:]}"
        if pattern != host:
            yield pattern
    if host != "*":
        yield "*"


def find(services: Services, host: str, namespace: str) -> Service | None:
    """The service that a resource of `namespace` means by a fully qualified host, of those it may see.

    Several namespaces may declare one host: the own namespace goes before others, Kubernetes' Services go before
    ServiceEntries, the older before the younger.
    """
    seen = [service for service in services.by("host", host) if service.visibility.includes(namespace)]
    return min(seen, key=lambda service: _precedence(service, namespace), default=None)


def meant(services: Services, service: Service) -> Service:
    """The service of the mesh that a Service of type ExternalName stands for, if it does; else the service itself."""
    if not service.external_name:
        return service
    other = find(services, service.external_name, service.namespace)
    return service if other is None or other.external_name else other


def exists(services: Services, host: str) -> bool:
    """Whether any service is called so, or is covered by the host if that is a wildcard. Rests on names alone."""
    if is_wildcard(host):
        return bool(services.keys_by("pattern", host))
    return bool(services.keys_by("host", host))


def exported(export_to: tuple[str, ...] | list[str], namespace: str, default: Visibility) -> Visibility:
    """The visibility that `exportTo` asks for: `*` everywhere, `.` the own namespace, `~` nowhere, or names."""
    if not export_to:
        return default
    if "*" in export_to:
        return Visibility()
    return Visibility(frozenset(namespace if each == "." else each for each in export_to if each != "~"))


def localised(visibility: Visibility, namespace: str) -> Visibility:
    """A mesh-wide default as it holds for resources of one namespace: `.` in it stands for that namespace."""
    if visibility.namespaces is None or "." not in visibility.namespaces:
        return visibility
    return Visibility(visibility.namespaces - {"."} | {namespace})


def _precedence(service: Service, namespace: str) -> tuple[Any, ...]:
    return (service.namespace != namespace, service.ref.kind != "Service", seniority(service))
