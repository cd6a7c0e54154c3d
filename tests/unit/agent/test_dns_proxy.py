"""The agent's DNS end to end: a control plane that tells of names, a resolver that knows others, and an independent client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from random import Random

import dns.message
import dns.query
import dns.rcode
import msgspec
import pytest

from meltemi.agent import bootstrap
from meltemi.agent.call import Target
from meltemi.agent.discovery import Discovery
from meltemi.agent.dns_proxy import DnsProxy
from meltemi.agent.dns_server import DnsServer, Upstream
from meltemi.agent.identity import Certificate, Identity, Renewal
from meltemi.agent.names import Names
from meltemi.agent.spec import Address, Naming, ProxySpec
from meltemi.agent.wire import NameInfo
from meltemi.base.discovery import NAMES
from meltemi.base.protobuf import data
from meltemi.ca.authority import load_authority, new_root
from meltemi.ca.serving import ServingCertificate, control_plane_identity
from meltemi.envoy.resource import Offer, offer, sealed
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.proxies import Placement, Proxy
from meltemi.xds.hub import Hub
from meltemi.xds.link import Listener
from meltemi.xds.server import XdsServer

DEADLINE = 20


def now() -> datetime:
    return datetime.now(UTC)


class Door:
    """Lets everybody in."""

    async def admit(self, proxy: Proxy) -> Placement:
        return Placement(view="view", audience="audience")

    def dismiss(self, proxy: Proxy) -> None:
        pass


class Rig:
    """A control plane that can go away, and the agent's DNS of one proxy."""

    def __init__(self, spec: ProxySpec) -> None:
        self.hub = Hub()
        audience = Audience("audience", ProxyKind.SIDECAR, "shop")
        self.hub.on_revision(0, audiences={"audience": audience}, offers={}, placements={})
        authority = load_authority(new_root("cluster.local", now()), now())
        self._serving = ServingCertificate(authority, control_plane_identity("cluster.local"), now)
        self._listener = Listener(XdsServer(self.hub, Door()).methods(), self._serving.context)
        self.port = 0
        self.spec = spec
        identity = Identity(spec.identity, Renewal(), Random(7), now())
        identity.begin()
        key = identity._asking  # the rig plays the authority, which sees the signing request only
        assert key is not None
        chain = authority.issue(key._key.public_key(), spec.identity, timedelta(hours=1), now()).chain
        identity.issued(chain, now())

        async def certificate() -> Certificate:
            assert identity.certificate is not None
            return identity.certificate

        self.names = Names("shop", "cluster.local", "shop.svc.cluster.local", Random(7))
        self.discovery = Discovery(
            self.names,
            bootstrap.node(spec),
            target=lambda: Target(
                Address("127.0.0.1", self.port),
                "meltemi.istio-system.svc",
                spec.control_plane_identity,
                authority.trust_bundle.encode(),
            ),
            certificate=certificate,
            random=Random(7),
        )

    async def start(self) -> None:
        self.port = await self._listener.open("127.0.0.1", self.port)

    async def stop(self) -> None:
        await self._listener.close()
        self._listener = Listener(XdsServer(self.hub, Door()).methods(), self._serving.context)

    def publish(self, number: int, **hosts: str) -> None:
        """A revision in which hosts (`_` stands for `.`) have these addresses; "" takes one away."""
        offers: dict[object, Offer | None] = {}
        for name, address in hosts.items():
            host = name.replace("_", ".")
            offers[host] = offer(sealed(NAMES, host, data(2, data(1, address)))) if address else None
        self.hub.on_revision(number, audiences={}, offers=offers, placements={})

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(DEADLINE * 100):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError


@pytest.fixture
async def rig(spec: ProxySpec) -> AsyncIterator[Rig]:
    rig = Rig(spec)
    await rig.start()
    following = asyncio.create_task(rig.discovery.run())
    yield rig
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await rig.stop()


async def test_names_follow_the_control_plane(rig: Rig) -> None:
    rig.publish(1, a_example="192.0.2.1", b_example="192.0.2.2")
    await rig.until(lambda: rig.names.versions.keys() == {"a.example", "b.example"})
    assert len(rig.hub.companions) == 1
    assert not rig.hub.connections
    assert rig.discovery.synced.is_set()
    rig.publish(2, a_example="192.0.2.3", b_example="")
    await rig.until(lambda: rig.names.versions.keys() == {"a.example"})
    await rig.until(lambda: all(each.stream.settled == 2 for each in rig.hub.companions))


async def test_more_names_than_a_window_has_room_for_arrive(rig: Rig) -> None:
    rig.publish(1, **{f"host{number}_example": "192.0.2.1" for number in range(10_000)})
    await rig.until(lambda: len(rig.names.versions) == 10_000)


async def test_names_stay_while_the_control_plane_is_away_and_only_news_are_sent_when_it_is_back(rig: Rig) -> None:
    rig.publish(1, a_example="192.0.2.1", b_example="192.0.2.2", c_example="192.0.2.3")
    await rig.until(lambda: len(rig.names.versions) == 3)
    await rig.stop()
    await rig.until(lambda: not rig.hub.companions)
    rig.publish(2, a_example="192.0.2.9", b_example="")
    assert rig.names.versions.keys() == {"a.example", "b.example", "c.example"}
    await rig.start()
    await rig.until(lambda: rig.names.versions.keys() == {"a.example", "c.example"})
    (companion,) = rig.hub.companions
    assert companion.stream.sent_resources == 1


async def test_known_names_are_answered_and_others_passed_on_unchanged_over_the_same_protocol(spec: ProxySpec) -> None:
    outside = Names("", "", "", Random(7))
    outside.put("many.example", "1", NameInfo(tuple(f"192.0.2.{number}" for number in range(100))))
    upstream = DnsServer(outside, Upstream((), _nowhere))
    resolvers, own = _bound(), _bound()
    port, resolver_port = own[0].getsockname()[1], resolvers[0].getsockname()[1]
    await upstream.take_over(*resolvers)
    names = Names("shop", "cluster.local", "", Random(7))
    names.put("api.example", "1", NameInfo(("192.0.2.1",)))
    server = DnsServer(names, Upstream([IPv4Address("127.0.0.1")], _dial_port(resolver_port)))
    await server.take_over(*own)
    try:
        for exchange in (dns.query.udp, dns.query.tcp):
            query = dns.message.make_query("api.example", "A")
            answer = await asyncio.to_thread(exchange, query, "127.0.0.1", DEADLINE, port)
            assert [str(record) for record in answer.answer[0]] == ["192.0.2.1"]
            query = dns.message.make_query("api.example", "TXT")
            answer = await asyncio.to_thread(exchange, query, "127.0.0.1", DEADLINE, port)
            assert answer.rcode() == dns.rcode.SERVFAIL  # the other resolver knows nobody to ask
        query = dns.message.make_query("many.example", "A")
        answer, was_cut = await asyncio.to_thread(dns.query.udp_with_fallback, query, "127.0.0.1", DEADLINE, port)
        assert (was_cut, len(answer.answer[0])) == (True, 100)
    finally:
        await server.aclose()
        await upstream.aclose()


async def test_the_sockets_can_be_given_anew(rig: Rig) -> None:
    proxy = DnsProxy(msgspec.structs.replace(rig.spec, mark=0), Naming(), rig.discovery)
    try:
        rig.publish(1, a_example="192.0.2.1")
        await rig.until(lambda: bool(rig.names.versions))
        for _ in range(2):
            sockets = _bound()
            port = sockets[0].getsockname()[1]
            await proxy.listen(sockets, None)
            query = dns.message.make_query("a.example", "A")
            answer = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", DEADLINE, port)
            assert str(answer.answer[0][0]) == "192.0.2.1"
    finally:
        await proxy.aclose()


def _bound() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port of the loopback address."""
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())
    for each in (udp, tcp):
        each.setblocking(False)
    return udp, tcp


def _nowhere(protocol: str, address: IPv4Address, port: int) -> socket.socket:
    raise OSError("there is nobody")


def _dial_port(number: int) -> Callable[[str, IPv4Address, int], socket.socket]:
    def dial(protocol: str, address: IPv4Address, _port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
        made.connect((str(address), number))
        made.setblocking(False)
        return made

    return dial
