"""Which virtual host a request is for: the names that each host has for a sidecar, and the most specific that fits.

A host that somebody wrote down goes before names that are only derived from others (short names, addresses, what a
headless service has below it); of several services with one address the oldest has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from meltemi.base.hosts import is_address, is_wildcard
from meltemi.base.ordering import seniority
from meltemi.explain.rewriting import split_port
from meltemi.model.clients import Audience
from meltemi.model.routes import HostRoutes, Route, RouteVariant, VirtualHost
from meltemi.model.services import Protocol, Service

_ORPHAN_PORT = 80  # where hosts are routed that no service has, as in Istio


def find(hosts: Iterable[VirtualHost], authority: str) -> tuple[VirtualHost, str] | None:
    """The virtual host for an authority, and the domain by which it has it; None if nobody has.

    The port does not count, nor do upper and lower case. A whole name goes before wildcards; of these the longest
    `*rest` goes before the longest `rest*`, and `*` comes last (Envoy, VirtualHost `domains`).
    """
    name = split_port(authority)[0].lower()
    fitting = [
        (rank, host, domain)
        for host in hosts
        for domain in host.domains
        if (rank := _rank(domain.lower(), name)) is not None
    ]
    if not fitting:
        return None
    _, host, domain = max(fitting, key=lambda each: each[0])
    return host, domain


def _rank(domain: str, name: str) -> tuple[int, int] | None:
    """How specifically a domain means a name; None if it does not. A wildcard stands for one character at least."""
    if domain == name:
        return (3, 0)
    if domain == "*":
        return (0, 0)
    if domain.startswith("*") and name.endswith(domain[1:]) and len(name) >= len(domain):
        return (2, len(domain))
    if domain.endswith("*") and name.startswith(domain[:-1]) and len(name) >= len(domain):
        return (1, len(domain))
    return None


class Names(msgspec.Struct, frozen=True):
    """What a service is called: as it was written, and what follows from that for a client."""

    written: tuple[str, ...]
    derived: tuple[str, ...]


def of_sidecar(
    client: Audience, port: int, services: Iterable[Service], routes: Mapping[tuple[str, str], HostRoutes], domain: str
) -> tuple[VirtualHost, ...]:
    """The virtual hosts that a sidecar knows at a port whose HTTP is shared. `routes` are by namespace and host.

    `services` are all there are; the client sees those that are exported to it. `domain` is the cluster's.
    """
    all_services = sorted(services, key=seniority)
    here = [service for service in all_services if _shares_http(service, port)]
    written = {name for service in here for name in _names(service, client, domain).written}
    claimed = set(written)
    known = {service.key for service in all_services}
    found: dict[str, VirtualHost] = {}
    for service in here:
        names = _names(service, client, domain)
        derived = [name for name in names.derived if name not in claimed]
        claimed.update(derived)
        if service.visibility.includes(client.namespace) and (row := routes.get(service.key)) is not None:
            found.setdefault(service.host, _host(row, (*names.written, *derived), client, port))
    if port == _ORPHAN_PORT:
        for key, row in routes.items():
            if key not in known and row.host not in claimed and row.host != "*":
                host = _host(row, (row.host,), client, port)
                if host.routes:
                    found.setdefault(row.host, host)
    return tuple(found.values())


def _host(row: HostRoutes, domains: tuple[str, ...], client: Audience, port: int) -> VirtualHost:
    variant = next((each for each in row.variants if each.clients.includes(client)), None)
    return VirtualHost(f"{row.host}:{port}", domains, _routes(variant, port))


def _routes(variant: RouteVariant | None, port: int) -> tuple[Route, ...]:
    return () if variant is None else variant.routes(port)


def _names(service: Service, client: Audience, domain: str) -> Names:
    host = service.host
    plain = not is_wildcard(host) and not is_address(host)
    written = (host, f"{host}.") if plain else (host,)
    return Names(written, tuple(_derived(service, client, domain)))


def _derived(service: Service, client: Audience, domain: str) -> Iterator[str]:
    name, _, rest = service.host.partition(".")
    if rest == f"{service.namespace}.svc.{domain}":
        yield f"{name}.{service.namespace}"
        yield f"{name}.{service.namespace}.svc"
        if client.namespace == service.namespace:
            yield name
    if service.headless and not is_wildcard(service.host):
        yield f"*.{service.host}"
    for address in service.addresses:
        if is_address(address) and address != service.host:
            yield f"[{address}]" if ":" in address else address


def _shares_http(service: Service, number: int) -> bool:
    """Whether requests to that port of the service are told apart by their host."""
    port = service.port(number)
    if port is None:
        return False
    own = service.headless or any(is_address(address) for address in service.addresses)
    return port.protocol.is_http or (port.protocol is Protocol.AUTO and not own)
