"""Makes services reachable where no sidecar does it: by name, by virtual address, and from the machine outside.

    names             cluster DNS on 10.96.0.10
    virtual address   a forwarder on <cluster IP>:<port>, for pods without a sidecar (with one, Envoy takes the connection)
    LoadBalancer      a forwarder on 127.0.0.1 of the machine; which port, the service's status says

A service's port becomes the machine's port if an ordinary user may have it, else 8000 more (80 is 8080, 443 is 8443), else
any that is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from meltemi.api.core import EndpointSlice, Service
from meltemi.api.core.services import ServicePort
from meltemi.api.networking import ServiceEntry
from meltemi.api.registry import kind_of
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError
from meltemi.kube.reflector import What
from meltemi.kube.resources import ENDPOINT_SLICES, SERVICES, Key, Resource
from meltemi.local.dns import PORT, DnsServer, Zone, resolvers, zone_of
from meltemi.local.door import Door
from meltemi.local.following import follow
from meltemi.local.forward import Forwarder, Target
from meltemi.local.news import Reachable
from meltemi.sources.kubernetes import resource_of

_log = logging.getLogger(__name__)

DNS_ADDRESS = "10.96.0.10"
_UNPRIVILEGED = 1024
_SHIFT = 8000

Place = tuple[Key, int, str]  # service, port number, and "inside" or "outside"


class Exposure:
    """Follows services and endpoints, and keeps names and forwarders as they say."""

    def __init__(self, client: Client, door: Door, tell: Callable[[Reachable], None]) -> None:
        self._client = client
        self._door = door
        self._tell = tell
        self._objects: dict[str, dict[Key, Any]] = {}
        self._forwarders: dict[Place, Forwarder] = {}
        self._addresses: dict[Place, Target] = {}
        self._zone = Zone()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((DNS_ADDRESS, PORT))
        server = DnsServer(lambda: self._zone, resolvers(), self._door.dial)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(server.run(datagrams, _listen(DNS_ADDRESS, PORT)))
                for resource in (SERVICES, ENDPOINT_SLICES, resource_of(kind_of(ServiceEntry))):
                    group.create_task(self._follow(resource))
                group.create_task(self._keep())
        finally:
            for forwarder in self._forwarders.values():
                await forwarder.stop()

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
            services = self._services()
            slices = list(self._objects.get("EndpointSlice", {}).values())
            self._zone = zone_of(services.values(), slices, self._objects.get("ServiceEntry", {}).values())
            wanted = {place: service for service in services.values() for place in _places(service)}
            for place in [place for place in self._forwarders if not self._is_wanted(place, wanted)]:
                await self._forwarders.pop(place).stop()
                del self._addresses[place]
            for place, service in wanted.items():
                if place not in self._forwarders:
                    await self._open(place, service)

    def _services(self) -> dict[Key, Service]:
        return self._objects.get("Service", {})

    def _is_wanted(self, place: Place, wanted: dict[Place, Service]) -> bool:
        service = wanted.get(place)
        return service is not None and (place[2] == "outside" or self._addresses[place][0] == service.spec.cluster_ip)

    async def _open(self, place: Place, service: Service) -> None:
        key, number, where = place
        try:
            if where == "inside":
                listener = _listen(service.spec.cluster_ip, number)
            else:
                listener = self._listen_outside(service, number)
        except OSError as error:
            _log.warning("port %d of %s cannot be served: %s", number, key, error)
            return
        forwarder = Forwarder(listener, lambda: self._targets(key, number))
        await forwarder.start()
        self._forwarders[place] = forwarder
        self._addresses[place] = listener.getsockname()[:2]
        if where == "outside":
            await self._tell_reachable(service, number)

    def _listen_outside(self, service: Service, number: int) -> socket.socket:
        port = _port(service, number)
        asked = (port.node_port if port else 0) or number
        candidates = dict.fromkeys(each for each in (asked, number + _SHIFT, 0) if each == 0 or each >= _UNPRIVILEGED)
        for candidate in candidates:
            try:
                return self._door.listen(candidate)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES) or candidate == 0:
                    raise
        raise OSError(errno.EADDRINUSE, "no port is free")

    async def _tell_reachable(self, service: Service, number: int) -> None:
        """Write the machine's ports into the service's status, and tell the person at the terminal."""
        key = Key(service.namespace, service.name)
        ports = [
            {"port": address[1], "protocol": "TCP"}
            for (owner, _, where), address in sorted(self._addresses.items())
            if owner == key and where == "outside"
        ]
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1", "ports": ports}]}}}
        try:
            await self._client.patch(SERVICES, service.name, status, namespace=service.namespace, subresource="status")
        except ApiError as error:
            _log.warning("the status of %s was not written: %s", key, error)
        port = _port(service, number)
        name = port.name if port else ""
        is_http = name.partition("-")[0] in ("http", "http2", "") and number != 443
        self._tell(Reachable(str(key), name, self._addresses[(key, number, "outside")][1], is_http))

    def _targets(self, key: Key, number: int) -> list[Target]:
        """The ready endpoints behind a port of a service."""
        service = self._services().get(key)
        port = _port(service, number) if service else None
        if port is None:
            return []
        found: list[Target] = []
        slices: list[EndpointSlice] = list(self._objects.get("EndpointSlice", {}).values())
        for each in slices:
            if (each.namespace, each.service_name) != (key.namespace, key.name):
                continue
            numbers = [own.port for own in each.ports if own.name == port.name and own.port]
            ready = [one for one in each.endpoints if one.conditions is None or one.conditions.ready is not False]
            found += [(address, target) for one in ready for address in one.addresses for target in numbers]
        return found


def _places(service: Service) -> list[Place]:
    """Where a service is to be reached."""
    key = Key(service.namespace, service.name)
    ports = [port.port for port in service.spec.ports if port.protocol in ("", "TCP")]
    places: list[Place] = []
    if service.spec.cluster_ip and not service.spec.headless:
        places += [(key, port, "inside") for port in ports]
    if service.spec.type == "LoadBalancer":
        places += [(key, port, "outside") for port in ports]
    return places


def _port(service: Service, number: int) -> ServicePort | None:
    return next((port for port in service.spec.ports if port.port == number), None)


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(256)
    listener.setblocking(False)
    return listener
