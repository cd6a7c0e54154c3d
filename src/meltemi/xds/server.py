"""Aggregated delta xDS over gRPC: it carries what the hub decides.

A proxy's stream is a `Conversation`: what the proxy says is answered at once, and a change from elsewhere wakes it to say
what there is to say. Nothing here waits, but for the pipeline to make room for a proxy that is new. Writing to a slow
proxy holds up nobody else: what it does not take is queued, and one response of a type is under way at most.

Source: `envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from meltemi.base.spiffe import SpiffeId
from meltemi.model.proxies import Placement, Proxy
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from meltemi.xds.frames import FaultyCall, Status
from meltemi.xds.http2 import Call, Method
from meltemi.xds.hub import Connection, Hub
from meltemi.xds.metrics import METRICS
from meltemi.xds.node import NotAllowedError, identify, is_companion
from meltemi.xds.subscription import Response
from meltemi.xds.wire import Composer, read_request

log = logging.getLogger(__name__)

PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Admission(Protocol):
    """Who lets proxies in: it finds the classes that a proxy belongs to, and hears when it leaves."""

    async def admit(self, proxy: Proxy) -> Placement:
        """Make the proxy known to the pipeline; returns when its configuration is there."""

    def dismiss(self, proxy: Proxy) -> None:
        """The proxy has disconnected."""


class XdsServer:
    """Serves delta ADS to proxies that show a certificate of the mesh."""

    def __init__(self, hub: Hub, admission: Admission, peer: Callable[[Call], SpiffeId] | None = None) -> None:
        self.hub = hub
        self.admission = admission
        self.peer = peer or peer_identity
        self._composer = Composer()
        self._tasks: set[asyncio.Task[None]] = set()

    def methods(self) -> Mapping[str, Method]:
        """The gRPC methods, to be served by a `Listener`."""
        return {PATH: partial(Conversation, self)}

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a short piece of work beside the others, and keep it alive until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def compose(self, response: Response) -> tuple[bytes, ...]:
        """The bytes of a response in pieces, shared by all who are due the same."""
        METRICS.pushed(response.type_url)
        return self._composer.compose(response)


class Conversation:
    """One proxy, from its first request until it leaves."""

    __slots__ = ("_call", "_connection", "_early", "_is_companion", "_proxy", "_server", "_timer")

    def __init__(self, server: XdsServer, call: Call) -> None:
        self._server = server
        self._call: Call | None = call
        self._proxy: Proxy | None = None
        self._is_companion = False  # the agent's connection beside its proxy's own
        self._connection: Connection | None = None
        self._early: list[DeltaDiscoveryRequest] = []  # what it said before it was let in
        self._timer: asyncio.TimerHandle | None = None

    def received(self, message: bytes) -> None:
        """The proxy says something."""
        try:
            request = DeltaDiscoveryRequest.FromString(message)
        except DecodeError as error:
            raise FaultyCall(Status.INTERNAL, f"not a DeltaDiscoveryRequest: {error}") from error
        if self._connection is not None:
            self._on_request(self._connection, request)
            self.speak()
            return
        self._early.append(request)
        if self._proxy is None:
            self._introduce(request)

    def _introduce(self, request: DeltaDiscoveryRequest) -> None:
        assert self._call is not None
        try:
            self._proxy = identify(request.node, self._server.peer(self._call))
            self._is_companion = is_companion(request.node)
        except NotAllowedError as error:
            log.warning("refused a proxy: %s", error)
            raise FaultyCall(Status.PERMISSION_DENIED, str(error)) from error
        self._server.start(self._admit(self._proxy))

    async def _admit(self, proxy: Proxy) -> None:
        """Let the proxy in; by then it may have gone again."""
        try:
            placement = await self._server.admission.admit(proxy)
        except Exception:
            log.exception("could not let %s in", proxy.id)
            self._server.admission.dismiss(proxy)
            if self._call is not None:
                self._call.end(Status.INTERNAL, "the control plane could not let the proxy in")
            return
        if self._call is None:
            self._server.admission.dismiss(proxy)
            return
        self._connection = self._server.hub.join(proxy, placement, self.speak, is_companion=self._is_companion)
        if not self._is_companion:
            METRICS.connected.inc()
        early, self._early = self._early, []
        for request in early:
            self._on_request(self._connection, request)
        self.speak()

    def _on_request(self, connection: Connection, request: DeltaDiscoveryRequest) -> None:
        ask = read_request(request)
        if ask.error is not None:
            METRICS.rejected(ask.type_url)
            log.warning("%s refused %s: %s", connection.proxy.id, ask.type_url, ask.error)
        self._server.hub.on_request(connection, ask)

    def speak(self) -> None:
        """Say all that is due."""
        call, connection = self._call, self._connection
        if call is None or connection is None:
            return
        now = time.monotonic()
        for response in connection.stream.responses(now):
            call.send(*self._server.compose(response))
        deadline = connection.stream.deadline(now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            # What waits for an earlier type is sent at the end of its patience, even if no answer comes.
            self._timer = asyncio.get_running_loop().call_later(deadline - now + 0.001, self.speak)

    def closed(self) -> None:
        """The proxy has gone."""
        self._call = None
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._server.hub.leave(self._connection)
            self._server.admission.dismiss(self._connection.proxy)
            if not self._is_companion:
                METRICS.connected.dec()


def peer_identity(call: Call) -> SpiffeId:
    """The SPIFFE identity in the client certificate of a connection. Raises NotAllowedError where there is none."""
    names = (call.certificate or {}).get("subjectAltName", ())
    identities = [value for kind, value in names if kind == "URI"]
    try:
        (identity,) = identities
        return SpiffeId.parse(identity)
    except ValueError:
        raise NotAllowedError("the connection shows no certificate with one identity of the mesh") from None
