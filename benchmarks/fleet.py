"""Hundreds of clients that ask as Envoy does, in one process: each with a connection, a certificate and a stream.

A pretender subscribes to everything (clusters and listeners by wildcard, endpoints for the clusters it was sent, route
configurations for its listeners, virtual hosts by an empty list), or on demand (a few clusters by name, and their
endpoints). It acknowledges at once, and coming back it says what it holds. What follows from a resource (route names
in a listener, say) is found once and remembered for all, by version.

Run as `python -m benchmarks.fleet`: it obeys commands, a JSON object a line, and answers each with a line.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.http2_client import Call
from benchmarks.processes import serve_commands
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.base_pb2 import Node
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_MANAGER = "envoy.filters.network.http_connection_manager"
_SECONDS = 240.0

Held = dict[str, dict[str, str]]  # type -> name -> version


class Knowledge:
    """What follows from resources, by version: which endpoints and route configurations an Envoy would ask for."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, ...]] = {}

    def follow(self, type_url: str, version: str, body: Any) -> tuple[str, ...]:
        """The names that a resource makes an Envoy ask for."""
        found = self._found.get(version)
        if found is None:
            found = self._found[version] = tuple(dict.fromkeys(_follow(type_url, body.value)))
        return found


def _follow(type_url: str, body: bytes) -> Iterable[str]:
    if type_url == CLUSTER:
        cluster = Cluster.FromString(body)
        if cluster.type == Cluster.EDS:
            yield cluster.eds_cluster_config.service_name or cluster.name
    elif type_url == LISTENER:
        listener = Listener.FromString(body)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for each in chain.filters:
                if each.name == _MANAGER:
                    manager = HttpConnectionManager.FromString(each.typed_config.value)
                    if manager.HasField("rds"):
                        yield manager.rds.route_config_name
    elif type_url == ROUTES and RouteConfiguration.FromString(body).HasField("vhds"):
        yield "vhds"


class Pretender:
    """One proxy."""

    def __init__(self, fleet: Fleet, node: Node, context: ssl.SSLContext) -> None:
        self.fleet = fleet
        self.node = node
        self.context = context
        self.wanted: tuple[str, ...] = ()  # clusters asked for by name; none: everything
        self.base: Mapping[str, Mapping[str, str]] = {}  # held at first, shared with others
        self.own: dict[str, dict[str, str | None]] = {}  # taken since then; None: removed
        self._asked: dict[str, set[str]] = {}
        self._call: Call | None = None
        self._said_node = False

    # === what is held ===

    def held(self) -> Held:
        """Everything held, by type and name."""
        found: Held = {}
        for type_url in {*self.base, *self.own}:
            both = {**self.base.get(type_url, {}), **self.own.get(type_url, {})}
            found[type_url] = {name: version for name, version in both.items() if version is not None}
        return found

    # === talking ===

    async def connect(self, port: int) -> None:
        """Open the stream, saying what is held already."""
        self._call, self._said_node, self._asked = Call(PATH, self._on_message, self._on_end), False, {}
        call = self._call
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: call, "127.0.0.1", port, ssl=self.context, server_hostname="")
        held = self.held()
        if self.wanted:
            self._ask(CLUSTER, self.wanted, held=held.get(CLUSTER, {}))
            self._ask(ENDPOINTS, self.wanted, held=held.get(ENDPOINTS, {}))
            return
        self._ask(CLUSTER, (), held=held.get(CLUSTER, {}))
        if held.get(ENDPOINTS):
            self._ask(ENDPOINTS, held[ENDPOINTS], held=held[ENDPOINTS])
        self._ask(LISTENER, (), held=held.get(LISTENER, {}))
        if held.get(ROUTES):
            self._ask(ROUTES, held[ROUTES], held=held[ROUTES])
        if VIRTUAL_HOST in held:
            self._ask(VIRTUAL_HOST, (), held=held[VIRTUAL_HOST])

    def disconnect(self) -> None:
        """Drop the connection; what is held stays."""
        if self._call is not None:
            self._call.close()

    def _on_end(self, reason: str) -> None:
        self.fleet.failures.append(f"{self.node.id}: {reason}")

    def _ask(self, type_url: str, names: Iterable[str], *, held: Mapping[str, str]) -> None:
        """The first request of a type, or a further subscription."""
        names = list(names)
        self._asked.setdefault(type_url, set()).update(names)
        request = DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names, initial_resource_versions=held
        )
        if not self._said_node:
            self._said_node = True
            request.node.CopyFrom(self.node)
        assert self._call is not None
        self._call.send(request.SerializeToString())

    def _on_message(self, message: bytes) -> None:
        response = DeltaDiscoveryResponse.FromString(message)
        fleet, type_url = self.fleet, response.type_url
        taken = self.own.setdefault(type_url, {})
        follow: list[str] = []
        for resource in response.resources:
            name = sys.intern(resource.name)
            version = taken[name] = sys.intern(resource.version)
            if type_url != ENDPOINTS and type_url != VIRTUAL_HOST and not self.wanted:
                follow += fleet.knowledge.follow(type_url, version, resource.resource)
        for name in response.removed_resources:
            taken[name] = None
        fleet.messages += 1
        fleet.resources += len(response.resources)
        fleet.removed += len(response.removed_resources)
        fleet.bytes += len(message)
        # Envoy subscribes to what follows before it acknowledges.
        if follow:
            self._subscribe(type_url, follow)
        assert self._call is not None
        self._call.send(_acknowledgement(type_url, response.nonce))

    def _subscribe(self, type_url: str, follow: list[str]) -> None:
        kind = {CLUSTER: ENDPOINTS, LISTENER: ROUTES, ROUTES: VIRTUAL_HOST}[type_url]
        if kind == VIRTUAL_HOST:
            if kind not in self._asked:
                self._ask(kind, (), held={})
            return
        asked = self._asked.get(kind, set())
        new = [name for name in dict.fromkeys(follow) if name not in asked]
        if new:
            self._ask(kind, new, held={})


def _acknowledgement(type_url: str, nonce: str) -> bytes:
    """A DeltaDiscoveryRequest with only `type_url` (2) and `response_nonce` (6)."""
    url, word = type_url.encode(), nonce.encode()
    return b"\x12" + bytes([len(url)]) + url + b"\x32" + bytes([len(word)]) + word


class Fleet:
    """All pretenders of this process, and the commands that it obeys."""

    def __init__(self) -> None:
        self.knowledge = Knowledge()
        self.pretenders: list[Pretender] = []
        self.failures: list[str] = []
        self.messages = self.resources = self.removed = self.bytes = 0

    async def muster(self, directory: str) -> dict[str, Any]:
        """Make the pretenders whose nodes and certificates stand in a directory."""
        root = Path(directory)
        for entry in json.loads((root / "fleet.json").read_text()):
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(root / "roots.pem"))
            context.check_hostname = False
            context.set_alpn_protocols(["h2"])
            context.load_cert_chain(str(root / entry["certificate"]))
            node = Node(id=entry["id"], cluster=entry["account"])
            node.metadata.update(entry["metadata"])
            self.pretenders.append(Pretender(self, node, context))
        return {"pretenders": len(self.pretenders)}

    async def connect(self, port: int, first: int = 0, count: int | None = None, spacing: float = 0) -> dict[str, Any]:
        """Connect some of them, all at once, or `spacing` seconds apart."""
        chosen = self.pretenders[first : None if count is None else first + count]
        async with asyncio.timeout(_SECONDS):
            if spacing:
                for each in chosen:
                    await each.connect(port)
                    await asyncio.sleep(spacing)
            else:
                await asyncio.gather(*(each.connect(port) for each in chosen))
        return {"connected": len(chosen)}

    async def disconnect(self) -> dict[str, Any]:
        """Drop all connections."""
        for each in self.pretenders:
            each.disconnect()
        return {}

    async def imitate(self, seeds: int) -> dict[str, Any]:
        """Let the others hold what those who connected first hold, in turn: they come as if they had been here before."""
        held = [each.held() for each in self.pretenders[:seeds]]
        for number, each in enumerate(self.pretenders[seeds:]):
            each.base = held[number % seeds]
        return {}

    async def demand(self, clusters: list[list[str]]) -> dict[str, Any]:
        """From now on, want nothing but these clusters (for each in turn), and hold nothing."""
        for number, each in enumerate(self.pretenders):
            each.wanted = tuple(clusters[number % len(clusters)])
            each.base, each.own = {}, {}
        return {}

    async def statistics(self) -> dict[str, Any]:
        """What came since this was last asked."""
        found = {
            "messages": self.messages,
            "resources": self.resources,
            "removed": self.removed,
            "bytes": self.bytes,
            "failures": self.failures,
            "cpu": time.process_time(),
        }
        self.messages = self.resources = self.removed = self.bytes = 0
        self.failures = []
        return found


if __name__ == "__main__":
    uvloop.run(serve_commands(Fleet()))
