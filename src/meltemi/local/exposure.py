"""Makes services reachable where no sidecar does it: by name, by virtual address, and from the machine outside.

    names             cluster DNS on 10.96.0.10
    virtual address   a forwarder on <cluster IP>:<port>, for pods without a sidecar (with one, Envoy takes the connection)
    LoadBalancer      a forwarder on 127.0.0.1 of the machine; which port, the service's status says

A service's port becomes the machine's port if an ordinary user may have it, else 8000 more (80 is 8080, 443 is 8443), else
any that is free. All of it follows from services and endpoints, and is made anew when they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from meltemi.agent.dns_server import DnsServer, Upstream
from meltemi.api.core import EndpointSlice, Service
from meltemi.api.core.services import ServicePort
from meltemi.api.networking import ServiceEntry
from meltemi.api.registry import kind_of
from meltemi.base.hosts import is_address, is_wildcard
from meltemi.base.ordering import seniority
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError
from meltemi.kube.reflector import What
from meltemi.kube.resources import ENDPOINT_SLICES, SERVICES, Key, Resource
from meltemi.local.dns import NamedEndpoint, NamedPort, NamedService, NameTable, Resolver
from meltemi.local.door import Door
from meltemi.local.following import follow
from meltemi.local.forward import Address, Forwarder, ForwardTable, listen_here
from meltemi.local.news import Reachable
from meltemi.sources.kubernetes import resource_of

_log = logging.getLogger(__name__)

DNS_ADDRESS = "10.96.0.10"
_UNPRIVILEGED = 1024
_SHIFT = 8000

Outside = tuple[Key, int]  # a service and the number of one of its ports


class Exposure:
    """Follows services and endpoints, and keeps names and forwarders as they say."""

    def __init__(self, client: Client, door: Door, tell: Callable[[Reachable], None]) -> None:
        self._client = client
        self._door = door
        self._tell = tell
        self._objects: dict[str, dict[Key, Any]] = {}
        self._resolver = Resolver()
        self._inside = ForwardTable(listen_here)
        self._outside: dict[Outside, tuple[int, Forwarder]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        server = DnsServer(self._resolver, Upstream(host_resolvers(), self._door.dial))
        await server.start(DNS_ADDRESS)
        try:
            async with asyncio.TaskGroup() as group:
                for resource in (SERVICES, ENDPOINT_SLICES, resource_of(kind_of(ServiceEntry))):
                    group.create_task(self._follow(resource))
                group.create_task(self._keep())
        finally:
            self._inside.close()
            for _, forwarder in self._outside.values():
                forwarder.close()
            await server.aclose()

    async def _follow(self, resource: Resource) -> None:
        known = self._objects.setdefault(resource.kind, {})
        async with contextlib.aclosing(follow(self._client, resource)) as changes:
            async for change in changes:
                if change.what is What.DELETED:
                    known.pop(change.key, None)
                elif change.value is not None:
                    known[change.key] = change.value
                self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            services: dict[Key, Service] = self._objects.get("Service", {})
            slices = slices_by_service(list(self._objects.get("EndpointSlice", {}).values()))
            entries = list(self._objects.get("ServiceEntry", {}).values())
            self._resolver.update(name_table(services, slices, entries))
            refused = self._inside.update(inside(services, slices))
            for address, error in refused.items():
                _log.warning("%s cannot be served: %s", address, error)
            await self._keep_outside(services, slices)

    async def _keep_outside(self, services: Mapping[Key, Service], slices: Slices) -> None:
        wanted: dict[Outside, ServicePort] = {
            (key, port.port): port
            for key, service in services.items()
            if service.spec.type == "LoadBalancer"
            for port in tcp_ports(service)
        }
        for place in [place for place in self._outside if place not in wanted]:
            self._outside.pop(place)[1].close()
        for place, port in wanted.items():
            endpoints = tuple(targets(port, slices.get(place[0], ())))
            if place in self._outside:
                self._outside[place][1].endpoints = endpoints
            else:
                await self._open_outside(place, services[place[0]], port, endpoints)

    async def _open_outside(
        self, place: Outside, service: Service, port: ServicePort, endpoints: Sequence[Address]
    ) -> None:
        """Open a port of the machine, write it into the service's status, and tell the person at the terminal."""
        candidates = dict.fromkeys((port.node_port or port.port, port.port + _SHIFT, 0))
        for candidate in (each for each in candidates if each == 0 or each >= _UNPRIVILEGED):
            try:
                listener = self._door.listen(candidate)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES) and candidate:
                    continue
                _log.warning("port %d of %s cannot be reached from outside: %s", port.port, place[0], error)
                return
            break
        host_port = listener.getsockname()[1]
        self._outside[place] = (host_port, Forwarder(listener, endpoints))
        key = place[0]
        ports = [
            {"port": number, "protocol": "TCP"}
            for (owner, _), (number, _) in sorted(self._outside.items())
            if owner == key
        ]
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1", "ports": ports}]}}}
        try:
            await self._client.patch(SERVICES, service.name, status, namespace=service.namespace, subresource="status")
        except ApiError as error:
            _log.warning("the status of %s was not written: %s", key, error)
        is_http = port.name.partition("-")[0] in ("http", "http2") or port.app_protocol == "http"
        self._tell(Reachable(str(key), port.name, host_port, is_http))


def host_resolvers(path: Path = Path("/etc/resolv.conf")) -> tuple[IPv4Address, ...]:
    """The IPv4 resolvers that a resolv.conf names; none if it cannot be read. Read the host's before entering a pod."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(IPv4Address(words[1]))
    return tuple(found)


Slices = Mapping[Key, Sequence[EndpointSlice]]


def slices_by_service(slices: Sequence[EndpointSlice]) -> Slices:
    """EndpointSlices by the service that they belong to."""
    found: dict[Key, list[EndpointSlice]] = {}
    for each in slices:
        found.setdefault(Key(each.namespace, each.service_name), []).append(each)
    return found


def tcp_ports(service: Service) -> list[ServicePort]:
    """The ports of a service that carry TCP."""
    return [port for port in service.spec.ports if port.protocol in ("", "TCP")]


def targets(port: ServicePort, slices: Sequence[EndpointSlice]) -> Iterator[Address]:
    """The endpoints behind a port that are ready."""
    for each in slices:
        numbers = [own.port for own in each.ports if own.name == port.name and own.port]
        for endpoint in each.endpoints:
            if endpoint.conditions is None or endpoint.conditions.ready is not False:
                yield from (Address(ip, number) for ip in endpoint.addresses for number in numbers)


def inside(services: Mapping[Key, Service], slices: Slices) -> dict[Address, tuple[Address, ...]]:
    """The virtual addresses of services, and the endpoints behind each."""
    return {
        Address(service.spec.cluster_ip, port.port): tuple(targets(port, slices.get(key, ())))
        for key, service in services.items()
        if service.spec.cluster_ip and not service.spec.headless
        for port in tcp_ports(service)
    }


def name_table(services: Mapping[Key, Service], slices: Slices, entries: Sequence[ServiceEntry]) -> NameTable:
    """The names of services, and those of ServiceEntries that have addresses. For a host of several the oldest answers."""
    hosts: dict[str, tuple[str, ...]] = {}
    for entry in sorted(entries, key=seniority):
        for host in entry.spec.hosts:
            addresses = tuple(_addresses(entry, host))
            if addresses and not is_wildcard(host):
                hosts.setdefault(host.lower(), addresses)
    named = tuple(_named(service, slices.get(key, ())) for key, service in services.items())
    return NameTable(named, hosts)


def _addresses(entry: ServiceEntry, host: str) -> Iterator[str]:
    """The addresses that a ServiceEntry gives a host, or else those that its status says it was given."""
    yield from filter(is_address, entry.spec.addresses)
    if not entry.spec.addresses and entry.status:
        yield from (each.value for each in entry.status.addresses if each.host in ("", host) and is_address(each.value))


def _named(service: Service, slices: Sequence[EndpointSlice]) -> NamedService:
    spec = service.spec
    endpoints: tuple[NamedEndpoint, ...] = ()
    if spec.headless:
        endpoints = tuple(
            NamedEndpoint(ip, endpoint.hostname)
            for each in slices
            for endpoint in each.endpoints
            if endpoint.conditions is None or endpoint.conditions.ready is not False
            for ip in endpoint.addresses
        )
    return NamedService(
        name=service.name,
        namespace=service.namespace,
        addresses=(spec.cluster_ip,) if spec.cluster_ip and not spec.headless else (),
        endpoints=endpoints,
        ports=tuple(NamedPort(port.name, (port.protocol or "TCP").lower(), port.port) for port in spec.ports),
        external_name=spec.external_name,
    )
