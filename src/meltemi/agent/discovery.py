"""Follows what the control plane tells of names, over a delta ADS stream of the agent's own.

The stream shows the proxy's certificate and says that it is the proxy, with a mark (`base.discovery`). It is opened anew
whenever it breaks, after a pause that doubles, and then says what is known already, so that only differences are sent.
Invariant: what is known stays known while the control plane is away, and every response is answered once.

Source: `envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from meltemi.agent import wire
from meltemi.agent.call import CallError, Target, check_identity, client_context
from meltemi.agent.framing import CONTENT_TYPE, Deframer, MalformedError, frame
from meltemi.agent.identity import Certificate
from meltemi.agent.names import Names
from meltemi.base.discovery import COMPANION, NAMES
from meltemi.base.protobuf import WireError

log = logging.getLogger(__name__)

Json = Mapping[str, Any]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 3.0
"""Between attempts to connect, in seconds."""

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_PIECE = 64 * 1024
_MAX_MESSAGE = 64 * 1024 * 1024
_CONNECT_SECONDS = 10


class Discovery:
    """Keeps one proxy's names as the control plane tells them. `target` and `certificate` are asked for at every attempt.

    `synced` is set when all names were told for the first time.
    """

    def __init__(
        self,
        names: Names,
        node: Json,
        *,
        target: Callable[[], Target],
        certificate: Callable[[], Awaitable[Certificate]],
        random: Random,
    ) -> None:
        self.names = names
        self.synced = asyncio.Event()
        self._node = wire.node({**node, "metadata": {**node["metadata"], COMPANION: "names"}})
        self._name = str(node["id"])
        self._target = target
        self._certificate = certificate
        self._random = random

    def __repr__(self) -> str:
        return f"<Discovery of {self._name}: {self.names!r}{'' if self.synced.is_set() else ', not told yet'}>"

    async def run(self) -> None:
        """Works until cancelled."""
        pause = FIRST_PAUSE
        while True:
            heard = asyncio.Event()
            try:
                await self._follow(heard)
            except (OSError, TimeoutError, ProtocolError, MalformedError, WireError, CallError) as error:
                level = logging.INFO if heard.is_set() else logging.DEBUG  # once for each time that it goes away
                log.log(level, "%s: names: %s", self._name, error)
            pause = FIRST_PAUSE if heard.is_set() else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause * self._random.uniform(0.5, 1))

    async def _follow(self, heard: asyncio.Event) -> None:
        """One stream, until it breaks; `heard` is set when something came over it."""
        certificate = await self._certificate()
        target = self._target()
        context = client_context(target.roots)
        _show(context, certificate)
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                target.address.host, target.address.port, ssl=context, server_hostname=target.server_name
            )
        try:
            check_identity(writer.get_extra_info("ssl_object"), target)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            stream = _Stream(target.server_name)
            stream.send(
                wire.delta_discovery_request(NAMES, node=self._node, subscribe=("*",), versions=self.names.versions)
            )
            writer.write(stream.due())
            while data := await reader.read(_PIECE):
                for message in stream.receive(data):
                    heard.set()
                    stream.send(self._take(message))
                writer.write(stream.due())
        finally:
            writer.transport.abort()

    def _take(self, message: bytes) -> bytes:
        """Takes a response in; what to answer. Raises WireError."""
        response = wire.DeltaResponse.parse(message)
        told = [(each.name, each.version, wire.NameInfo.parse(each.body)) for each in response.resources]
        for name, version, info in told:
            self.names.put(name, version, info)
        self.names.drop(response.removed)
        self.synced.set()
        return wire.delta_discovery_request(NAMES, nonce=response.nonce)


def _show(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Lets a context show a certificate. `ssl` reads files only; this one is in memory, and nobody else can open it."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(certificate.key.pem() + certificate.chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise CallError(f"the certificate cannot be shown: {error}") from error
    finally:
        os.close(descriptor)


class _Stream:
    """The HTTP/2 side of one call with any number of messages in both directions."""

    def __init__(self, server_name: str) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._deframer = Deframer(_MAX_MESSAGE)
        self._unsent = b""
        self._h2.initiate_connection()
        self._id = self._h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":authority", server_name), (":path", _METHOD)]
        self._h2.send_headers(self._id, [*headers, ("te", "trailers"), CONTENT_TYPE])

    def send(self, message: bytes) -> None:
        """Sends a message, as soon as flow control allows."""
        self._unsent += frame(message)

    def due(self) -> bytes:
        """What is to be written to the connection now."""
        while room := min(
            len(self._unsent), self._h2.local_flow_control_window(self._id), self._h2.max_outbound_frame_size
        ):
            self._h2.send_data(self._id, self._unsent[:room])
            self._unsent = self._unsent[room:]
        return self._h2.data_to_send()

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that are complete with this piece. Raises CallError when the call has ended."""
        messages: list[bytes] = []
        for event in self._h2.receive_data(data):
            messages += self._handle(event)
        return messages

    def _handle(self, event: Event) -> list[bytes]:
        match event:
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                return self._deframer.feed(event.data)
            case ResponseReceived():
                headers = dict(cast("list[tuple[str, str]]", event.headers))
                if headers.get("grpc-status", "0") != "0":
                    raise CallError(headers.get("grpc-message", "") or "the control plane refused the stream")
            case StreamEnded() | StreamReset() | ConnectionTerminated():
                raise CallError("the control plane ended the stream")
            case _:
                pass
        return []
