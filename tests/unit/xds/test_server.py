"""The xDS server on loopback sockets with mutual TLS, asked by a client that is not ours (gRPC's)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meltemi.base.discovery import COMPANION, NAMES
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, load_authority, new_root, private_pem
from meltemi.ca.serving import ServingCertificate, control_plane_identity
from meltemi.envoy.resource import CLUSTER, LISTENER, Offer, Resource, offer
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.proxies import Placement, Proxy
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from meltemi.xds import link
from meltemi.xds.hub import Hub
from meltemi.xds.link import Listener
from meltemi.xds.server import PATH, XdsServer

CART = SpiffeId("cluster.local", "shop", "cart")
PROXY = "cart-1.shop"
TIMEOUT = 10

StreamCall = grpc.aio.StreamStreamCall[Any, DeltaDiscoveryResponse]


class Door:
    """An admission that can be kept waiting, or fail."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False
        self.inside: list[str] = []
        self.seen = asyncio.Event()

    async def admit(self, proxy: Proxy) -> Placement:
        self.inside.append(proxy.id)
        self.seen.set()
        await self.open.wait()
        if self.fails:
            raise RuntimeError("no room")
        return Placement(view="view", audience="audience")

    def dismiss(self, proxy: Proxy) -> None:
        self.inside.remove(proxy.id)
        self.seen.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a proxy's coming or going makes a condition true."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                await self.seen.wait()
                self.seen.clear()


class Rig:
    """A hub, its server, and certificates."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.hub.on_revision(
            0, audiences={"audience": Audience("audience", ProxyKind.SIDECAR, "shop")}, offers={}, placements={}
        )
        self.door = Door()
        self.authority = fresh_authority()
        self.serving = ServingCertificate(self.authority, control_plane_identity("cluster.local"), now)
        self.listener = Listener(XdsServer(self.hub, self.door).methods(), self.serving.context)
        self.port = 0

    def publish(self, number: int, *clusters: str, size: int = 10) -> None:
        """A revision with these clusters, each with its number in it."""
        offers: dict[object, Offer | None] = {
            name: offer(Resource(CLUSTER, name, str(number), b"\x0a" + bytes([size % 100]) + b"x" * size))
            for name in clusters
        }
        self.hub.on_revision(number, audiences={}, offers=offers, placements={})

    @asynccontextmanager
    async def call(
        self, identity: SpiffeId = CART, authority: Authority | None = None, path: str = PATH
    ) -> AsyncIterator[StreamCall]:
        """A stream of a client with a certificate of that identity."""
        issuer = authority or self.authority
        key = ec.generate_private_key(ec.SECP256R1())
        chain = "".join(issuer.issue(key.public_key(), identity, timedelta(hours=1), now()).chain).encode()
        credentials = grpc.ssl_channel_credentials(self.authority.trust_bundle.encode(), private_pem(key), chain)
        options = [("grpc.ssl_target_name_override", "istiod.istio-system.svc"), ("grpc.use_local_subchannel_pool", 1)]
        options += [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            method = channel.stream_stream(
                path,
                request_serializer=DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=DeltaDiscoveryResponse.FromString,
            )
            yield method(timeout=TIMEOUT)


def now() -> datetime:
    return datetime.now(UTC)


def fresh_authority() -> Authority:
    return load_authority(new_root("test", now()), now())


def request(type_url: str = CLUSTER, **fields: object) -> DeltaDiscoveryRequest:
    message = DeltaDiscoveryRequest(type_url=type_url, **fields)  # type: ignore[arg-type]
    message.node.id = f"sidecar~10.0.0.1~{PROXY}~shop.svc.cluster.local"
    message.node.metadata.update({"NAMESPACE": "shop", "SERVICE_ACCOUNT": "cart"})
    return message


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.port = await rig.listener.open("127.0.0.1", 0)
    yield rig
    await rig.listener.close()


async def answer(
    call: StreamCall,
) -> DeltaDiscoveryResponse:
    found = await call.read()
    assert isinstance(found, DeltaDiscoveryResponse), found
    return found


async def status_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_a_proxy_is_sent_what_is_there_and_what_changes(rig: Rig) -> None:
    rig.publish(1, "a", "b")
    async with rig.call() as call:
        await call.write(request())
        first = await answer(call)
        assert sorted(each.name for each in first.resources) == ["a", "b"]
        await call.write(request(response_nonce=first.nonce))
        rig.publish(2, "b")
        second = await answer(call)
        assert [(each.name, each.version) for each in second.resources] == [("b", "2")]


async def test_what_does_not_fit_into_any_window_arrives(rig: Rig) -> None:
    rig.publish(1, *(f"cluster-{number}" for number in range(100)), size=200_000)
    async with rig.call() as call:
        await call.write(request())
        found = await answer(call)
    assert sum(len(each.resource.value) for each in found.resources) == 100 * 200_002


async def test_requests_that_come_before_a_proxy_is_let_in_are_kept(rig: Rig) -> None:
    rig.publish(1, "a")
    rig.door.open.clear()
    async with rig.call() as call:
        await call.write(request())
        await call.write(request(LISTENER))
        await rig.door.until(lambda: rig.door.inside == [PROXY])
        rig.door.open.set()
        first = await answer(call)
        assert [each.name for each in first.resources] == ["a"]
        await call.write(request(response_nonce=first.nonce))
        assert (await answer(call)).type_url == LISTENER
        assert len(rig.hub.connections) == 1


async def test_a_proxy_that_goes_is_forgotten(rig: Rig) -> None:
    async with rig.call() as call:
        await call.write(request())
        await answer(call)
        assert rig.door.inside == [PROXY]
    await rig.door.until(lambda: not rig.door.inside)
    assert not rig.hub.connections


async def test_an_agent_beside_its_proxy_is_not_counted_but_waited_for(rig: Rig) -> None:
    for ends_first in ("proxy", "agent"):
        async with rig.call() as call, rig.call() as other:
            await call.write(request())
            await call.write(request(response_nonce=(await answer(call)).nonce))
            opening = request(NAMES, resource_names_subscribe=["*"])
            opening.node.metadata[COMPANION] = "names"
            await other.write(opening)
            assert (await answer(other)).type_url == NAMES
            assert rig.door.inside == [PROXY, PROXY]
            assert [each.proxy.id for each in rig.hub.connections] == [PROXY]
            assert len(rig.hub.companions) == 1
            (call if ends_first == "proxy" else other).cancel()
            await rig.door.until(lambda: rig.door.inside == [PROXY])
            assert (len(rig.hub.connections), len(rig.hub.companions)) == ((0, 1) if ends_first == "proxy" else (1, 0))
        await rig.door.until(lambda: not rig.door.inside)


async def test_a_proxy_that_goes_while_it_is_let_in_is_forgotten(rig: Rig) -> None:
    rig.door.open.clear()
    async with rig.call() as call:
        await call.write(request())
        await rig.door.until(lambda: bool(rig.door.inside))
    rig.door.open.set()
    await rig.door.until(lambda: not rig.door.inside)
    assert not rig.hub.connections


async def test_a_proxy_that_cannot_be_let_in_is_told_so(rig: Rig) -> None:
    rig.door.fails = True
    async with rig.call() as call:
        await call.write(request())
        assert await status_of(call.read()) is grpc.StatusCode.INTERNAL
    assert not rig.door.inside


async def test_a_certificate_of_another_identity_is_not_enough(rig: Rig) -> None:
    async with rig.call(SpiffeId("cluster.local", "shop", "mallory")) as call:
        await call.write(request())
        assert await status_of(call.read()) is grpc.StatusCode.PERMISSION_DENIED
    assert not rig.door.inside


async def test_a_certificate_of_another_authority_is_not_even_spoken_with(rig: Rig) -> None:
    async with rig.call(authority=fresh_authority()) as call:
        assert await status_of(call.write(request())) is grpc.StatusCode.UNAVAILABLE
    assert not rig.door.inside


async def test_no_certificate_is_not_even_spoken_with(rig: Rig) -> None:
    context = ssl.create_default_context(cadata=rig.authority.trust_bundle)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=context, server_hostname="istiod.istio-system.svc"
    )
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        assert await reader.read(1) == b"never"
    writer.transport.abort()
    assert not rig.door.inside


async def test_other_methods_are_refused(rig: Rig) -> None:
    async with rig.call(
        path="/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    ) as call:
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_who_connects_and_says_nothing_is_hung_up_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    async with asyncio.timeout(TIMEOUT):
        assert await reader.read(1) == b""
    writer.close()
    assert not rig.listener.links


async def test_a_renewed_certificate_is_served_from_the_next_connection_on(rig: Rig) -> None:
    before = rig.serving.context()
    assert rig.serving.context() is before
    rig.serving._current = ServingCertificate(rig.authority, control_plane_identity("cluster.local"), now).current()
    assert rig.serving.context() is not before
    async with rig.call() as call:
        await call.write(request())
        await answer(call)
