"""Aggregated delta xDS over gRPC: it carries what the hub decides.

One coroutine serves one proxy. It reads requests and answers them at once; a change from elsewhere starts a short task
that writes what the stream then has to say. Writing to a slow proxy holds up nobody else.

Source: `envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import grpc
import grpc.aio

from meltemi.base.spiffe import SpiffeId
from meltemi.model.proxies import Placement, Proxy
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from meltemi.xds.hub import Connection, Hub
from meltemi.xds.metrics import METRICS
from meltemi.xds.node import NotAllowedError, identify
from meltemi.xds.subscription import Response
from meltemi.xds.wire import Composer, read_request

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "DeltaAggregatedResources"

Context = grpc.aio.ServicerContext[DeltaDiscoveryRequest, bytes]


class Admission(Protocol):
    """Who lets proxies in: it finds the classes that a proxy belongs to, and hears when it leaves."""

    async def admit(self, proxy: Proxy) -> Placement:
        """Make the proxy known to the pipeline; returns when its configuration is there."""

    def dismiss(self, proxy: Proxy) -> None:
        """The proxy has disconnected."""


class XdsServer:
    """Serves delta ADS to proxies that show a certificate of the mesh."""

    def __init__(self, hub: Hub, admission: Admission, peer: Callable[[Context], SpiffeId] | None = None) -> None:
        self.hub = hub
        self._admission = admission
        self._peer = peer or peer_identity
        self._composer = Composer()
        self._tasks: set[asyncio.Task[None]] = set()

    def handler(self) -> grpc.GenericRpcHandler:
        """The gRPC service, to be added to a server."""
        method = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=DeltaDiscoveryRequest.FromString,
            response_serializer=_as_it_is,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def _serve(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: Context) -> None:
        """One proxy, from its first request until it leaves."""
        first = await anext(aiter(requests), None)
        if first is None:
            return
        try:
            proxy = identify(first.node, self._peer(context))
        except NotAllowedError as error:
            log.warning("refused a proxy: %s", error)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        placement = await self._admission.admit(proxy)
        writer = Writer(self, context)
        connection = self.hub.join(proxy, placement, writer.wake)
        writer.connection = connection
        METRICS.connected.inc()
        try:
            self.hub.on_request(connection, read_request(first))
            await writer.pump()
            async for request in requests:
                ask = read_request(request)
                if ask.error is not None:
                    METRICS.rejected(ask.type_url)
                    log.warning("%s refused %s: %s", proxy.id, ask.type_url, ask.error)
                self.hub.on_request(connection, ask)
                await writer.pump()
        finally:
            writer.close()
            self.hub.leave(connection)
            self._admission.dismiss(proxy)
            METRICS.connected.dec()

    def start(self, work: Awaitable[None]) -> None:
        """Run a short piece of work beside the others, and keep it alive until it is done."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def compose(self, response: Response) -> bytes:
        """The bytes of a response, shared by all who are due the same."""
        METRICS.pushed(response.type_url)
        return self._composer.compose(response)


class Writer:
    """Writes to one proxy, one response after the other, whoever asks for it."""

    __slots__ = ("_again", "_busy", "_closed", "_context", "_server", "_timer", "connection")

    def __init__(self, server: XdsServer, context: Context) -> None:
        self.connection: Connection | None = None
        self._server = server
        self._context = context
        self._busy = False
        self._again = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """The stream may have something to say."""
        if self._busy:
            self._again = True
        elif not self._closed:
            self._server.start(self.pump())

    async def pump(self) -> None:
        """Write all that is due. Where somebody is writing already, they go on with it."""
        self._again = True
        if self._busy or self.connection is None:
            return
        self._busy = True
        try:
            while self._again:
                self._again = False
                for response in self.connection.stream.responses(time.monotonic()):
                    await self._context.write(self._server.compose(response))
            self._set_timer(self.connection)
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            log.debug("a proxy went away while it was written to: %r", error)
        finally:
            self._busy = False

    def _set_timer(self, connection: Connection) -> None:
        """What waits for an earlier type is sent at the end of its patience, even if no answer comes."""
        now = time.monotonic()
        deadline = connection.stream.deadline(now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(deadline - now + 0.001, self.wake)

    def close(self) -> None:
        """The proxy has gone."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()


def peer_identity(context: Context) -> SpiffeId:
    """The SPIFFE identity in the client certificate of a connection. Raises NotAllowedError where there is none."""
    for key in ("peer_spiffe_id", "x509_subject_alternative_name"):
        for value in context.auth_context().get(key, ()):
            try:
                return SpiffeId.parse(value.decode())
            except ValueError:
                continue
    raise NotAllowedError("the connection shows no certificate with an identity of the mesh")


def _as_it_is(message: bytes) -> bytes:
    return message
