"""Makes services reachable where no sidecar does it: by name, by virtual address, and from the machine outside.

    names             cluster DNS on 10.96.0.10, and on 10.96.0.11 for pods with a sidecar
    virtual address   a forwarder on <cluster IP>:<port>, for pods without a sidecar (with one, Envoy takes the connection)
    LoadBalancer      a forwarder on 127.0.0.1 of the machine; which port, the service's status says

A service's port becomes the machine's port if an ordinary user may have it, else 8000 more (80 is 8080, 443 is 8443), else
any that is free. UDP is carried to the same port, where the service has the port for UDP as well. All of it follows from
services and endpoints, and is made anew when they change.
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

from msgspec.structs import replace

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
from meltemi.local.datagrams import DatagramForwarder
from meltemi.local.dns import NamedEndpoint, NamedPort, NamedService, NameTable, Resolver
from meltemi.local.door import Door
from meltemi.local.following import follow
from meltemi.local.forward import Address, Forwarder, ForwardTable, listen_here
from meltemi.local.news import Reachable
from meltemi.resolve.allocation import standing
from meltemi.sources.kubernetes import resource_of

_log = logging.getLogger(__name__)

# Whom one asks tells who one is. Addresses that the mesh gave are for pods with a sidecar that captures connections to
# them; a proxy itself, which looks for what stands behind a host, would come back to itself by any virtual address.
DNS = Address("10.96.0.10", 53)
CAPTURED_DNS = Address("10.96.0.11", 53)
PROXY_DNS = Address("10.96.0.10", 5353)
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
        self._resolvers = {place: Resolver() for place in (DNS, CAPTURED_DNS, PROXY_DNS)}
        self._inside = ForwardTable(listen_here)
        self._outside: dict[Outside, tuple[int, Forwarder]] = {}
        self._datagrams: dict[Outside, DatagramForwarder] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        upstream = Upstream(host_resolvers(), self._door.dial)
        servers = {place: DnsServer(resolver, upstream) for place, resolver in self._resolvers.items()}
        for place, server in servers.items():
            await server.start(place.ip, place.port)
        try:
            async with asyncio.TaskGroup() as group:
                for resource in (SERVICES, ENDPOINT_SLICES, resource_of(kind_of(ServiceEntry))):
                    group.create_task(self._follow(resource))
                group.create_task(self._keep())
        finally:
            self._inside.close()
            for _, forwarder in self._outside.values():
                forwarder.close()
            for datagrams in self._datagrams.values():
                datagrams.close()
            for server in servers.values():
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
            named = name_table(services, slices)
            self._resolvers[PROXY_DNS].update(named)
            self._resolvers[DNS].update(replace(named, hosts=written_addresses(entries)))
            self._resolvers[CAPTURED_DNS].update(replace(named, hosts=all_addresses(entries)))
            refused = self._inside.update(inside(services, slices))
            for address, error in refused.items():
                _log.warning("%s cannot be served: %s", address, error)
            await self._keep_outside(services, slices)
            self._keep_datagrams(services, slices)

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

    def _keep_datagrams(self, services: Mapping[Key, Service], slices: Slices) -> None:
        """Take datagrams at the ports that are open for TCP, where a service has the port for UDP as well (HTTP/3)."""
        wanted: dict[Outside, ServicePort] = {
            (key, port.port): port
            for key, service in services.items()
            for port in service.spec.ports
            if port.protocol == "UDP" and (key, port.port) in self._outside
        }
        for place in [place for place in self._datagrams if place not in wanted]:
            self._datagrams.pop(place).close()
        for place, port in wanted.items():
            if place not in self._datagrams:
                try:
                    self._datagrams[place] = DatagramForwarder(self._door.bind(self._outside[place][0]))
                except OSError as error:
                    _log.warning("port %d/UDP of %s cannot be reached from outside: %s", port.port, place[0], error)
                    continue
            self._datagrams[place].endpoints = tuple(targets(port, slices.get(place[0], ())))

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


def name_table(services: Mapping[Key, Service], slices: Slices) -> NameTable:
    """The names of services."""
    return NameTable(tuple(_named(service, slices.get(key, ())) for key, service in services.items()))


def written_addresses(entries: Sequence[ServiceEntry]) -> dict[str, tuple[str, ...]]:
    """The hosts of ServiceEntries with the addresses that their authors wrote. For a host of several the oldest answers."""
    return _hosts(entries, lambda entry, host: ())


def all_addresses(entries: Sequence[ServiceEntry]) -> dict[str, tuple[str, ...]]:
    """The same, and with those that the mesh gave to hosts without any."""
    return _hosts(entries, standing)


def _hosts(
    entries: Sequence[ServiceEntry], given: Callable[[ServiceEntry, str], tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    hosts: dict[str, tuple[str, ...]] = {}
    for entry in sorted(entries, key=seniority):
        written = tuple(filter(is_address, entry.spec.addresses))
        for host in entry.spec.hosts:
            addresses = written or given(entry, host)
            if addresses and not is_wildcard(host):
                hosts.setdefault(host.lower(), addresses)
    return hosts


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
