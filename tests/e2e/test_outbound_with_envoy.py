"""Requests of a client through a real sidecar's outbound side, on loopback: what only Envoy itself can tell.

The sidecar takes its configuration from an xDS server in this process. Its listeners bind their ports here, for nothing
captures connections; the far side is another Envoy that tells in response headers what it has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority
from meltemi.envoy.resource import LISTENER, VIRTUAL_HOST, Offer, Variant, finish
from meltemi.model.clients import ANYONE, REFUSED, Audience, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Placement, Proxy
from meltemi.model.routes import (
    Abort,
    Fault,
    Forward,
    HostRoutes,
    HttpMatch,
    MatchKind,
    Respond,
    Route,
    RouteVariant,
    Target,
    TextMatch,
    WeightedTarget,
)
from meltemi.model.services import ServiceAccounts, ServiceEndpoints
from meltemi.model.traffic import Destination, DestinationVariant, Subset, TrafficPolicy
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.testing.envoys import bootstrap, envoy, free_ports, loopback, served
from meltemi.testing.models import Scene, endpoint, service
from meltemi.testing.secrets import authority, identity_secrets
from meltemi.xds.hub import Hub

pytestmark = pytest.mark.e2e

CLIENT = SpiffeId("cluster.local", "default", "client")
SERVER = SpiffeId("cluster.local", "default", "reviews")
AUDIENCE = Audience("sidecars", ProxyKind.SIDECAR, "default")
DEADLINE = 20.0

TYPES = "type.googleapis.com/envoy.extensions"
MANAGER = f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
SEEN = {
    "x-seen-protocol": "%PROTOCOL%",
    "x-seen-peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "x-seen-name": "%REQUESTED_SERVER_NAME%",
    "x-seen-metadata": "%REQ(X-ENVOY-PEER-METADATA)%",
}


class Ports(msgspec.Struct, frozen=True):
    """The ports of one run."""

    http: int
    tcp: int
    sniffed: int
    mutual: int
    plain: int
    speaks_first: int
    client_admin: int
    server_admin: int


class Admission:
    """Lets everybody in, as one class."""

    async def admit(self, proxy: Proxy) -> Placement:
        return Placement("view", AUDIENCE.key)

    def dismiss(self, proxy: Proxy) -> None:
        pass


class Client:
    """What a test does: change the mesh, and call through the sidecar."""

    def __init__(self, hub: Hub, ports: Ports, session: aiohttp.ClientSession) -> None:
        self.ports = ports
        self._hub = hub
        self._session = session
        self._offers: dict[Any, Offer] = {}
        self._number = 0
        self._progress = asyncio.Event()
        hub.on_progress = self._progress.set

    async def apply(self, scene: Scene) -> None:
        """Give the sidecar this mesh, and wait until it has it."""
        now = dict(enumerate_offers(scene))
        changed: dict[Any, Offer | None] = {key: offer for key, offer in now.items() if self._offers.get(key) != offer}
        changed.update(dict.fromkeys(self._offers.keys() - now.keys()))
        self._offers, self._number = now, self._number + 1
        audiences = {AUDIENCE.key: AUDIENCE} if self._number == 1 else {}
        self._hub.on_revision(self._number, audiences=audiences, offers=changed, placements={})
        async with asyncio.timeout(DEADLINE):
            while not self._has_asked or self._hub.behind(self._number):
                await self._progress.wait()
                self._progress.clear()
        assert not self._hub.problems()

    @property
    def _has_asked(self) -> bool:
        """Whether the sidecar is connected and has come as far as to ask for virtual hosts."""
        return any(VIRTUAL_HOST in connection.stream.types for connection in self._hub.connections)

    async def get(self, path: str, host: str, port: int = 0) -> aiohttp.ClientResponse:
        """An HTTP request to the sidecar."""
        url = f"http://127.0.0.1:{port or self.ports.http}{path}"
        async with self._session.get(url, headers={"Host": host}, allow_redirects=False) as response:
            await response.read()
            return response


def enumerate_offers(scene: Scene) -> list[tuple[Any, Offer]]:
    """The offers of a scene by key, their listeners made to bind their ports."""
    found: list[tuple[Any, Offer]] = []
    for item in scene.everything():
        assert isinstance(item, tuple), item
        key, offer = item
        if offer.type_url == LISTENER and offer.name != "virtualOutbound":
            offer = _bound(offer)
        found.append(((offer.type_url, key), offer))
    return found


def _bound(offer: Offer) -> Offer:
    variants = []
    for variant in offer.variants:
        assert variant.resource is not None
        message = Listener.FromString(variant.resource.body)
        message.bind_to_port.value = True
        message.address.socket_address.address = "127.0.0.1"
        variants.append(Variant(variant.clients, finish(offer.name, message)))
    return msgspec.structs.replace(offer, variants=tuple(variants))


def server(ports: Ports, issuer: Authority) -> dict[str, Any]:
    """The far side: HTTP over mTLS on one port and in plaintext on another, and a TCP server behind mTLS."""
    secrets = identity_secrets(issuer, SERVER)
    certificate = secrets["default"].tls_certificate
    roots = secrets["ROOTCA"].validation_context.trusted_ca
    tls = {
        "name": "tls",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"inline_string": certificate.certificate_chain.inline_bytes.decode()},
                        "private_key": {"inline_string": certificate.private_key.inline_bytes.decode()},
                    }
                ],
                "validation_context": {"trusted_ca": {"inline_string": roots.inline_bytes.decode()}},
            },
        },
    }
    http = {
        "name": "http",
        "typed_config": {
            "@type": MANAGER,
            "stat_prefix": "server",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                        "response_headers_to_add": [
                            {"header": {"key": key, "value": value}, "keep_empty_value": True}
                            for key, value in SEEN.items()
                        ],
                    }
                ]
            },
            "http_filters": [
                {"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}},
            ],
        },
    }
    tcp = {
        "name": "tcp",
        "typed_config": {
            "@type": f"{TYPES}.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "server",
            "cluster": "speaks-first",
        },
    }
    inspector = {
        "name": "tls_inspector",
        "typed_config": {"@type": f"{TYPES}.filters.listener.tls_inspector.v3.TlsInspector"},
    }

    def chain(protocols: list[str], filter_: dict[str, Any]) -> dict[str, Any]:
        match = {"transport_protocol": "tls", "application_protocols": protocols}
        return {"filter_chain_match": match, "transport_socket": tls, "filters": [filter_]}

    return {
        "admin": {"address": loopback(ports.server_admin)},
        "static_resources": {
            "clusters": [
                {
                    "name": "speaks-first",
                    "load_assignment": {
                        "cluster_name": "speaks-first",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": loopback(ports.speaks_first)}}]}],
                    },
                }
            ],
            "listeners": [
                {
                    "name": "mutual",
                    "address": loopback(ports.mutual),
                    "listener_filters": [inspector],
                    "filter_chains": [chain(["istio-http/1.1", "istio-h2"], http), chain(["istio"], tcp)],
                },
                {"name": "plain", "address": loopback(ports.plain), "filter_chains": [{"filters": [http]}]},
            ],
        },
    }


def mesh_of(ports: Ports, *routes: Route, mesh: Mesh | None = None) -> Scene:
    """Three services: `reviews` (HTTP, one endpoint of the mesh and one that is not), `db` (TCP), `auto` (sniffed)."""
    reviews = service("reviews", http=ports.http)
    db = service("db", tcp=ports.tcp, addresses=("127.0.0.1",))
    auto = service("auto", auto=ports.sniffed, addresses=("127.0.0.1",))
    meshed = endpoint("127.0.0.1", ports.mutual, labels={"in": "mesh"})
    outside = endpoint("127.0.0.1", ports.plain, labels={"in": "none"}, meshed=False)
    subsets = tuple(
        Subset(name, LabelSet.of({"in": name}), ((ports.http, TrafficPolicy()),)) for name in ("mesh", "none")
    )
    services = [reviews, db, auto]
    return Scene(
        services=services,
        endpoints=[
            ServiceEndpoints(*reviews.key, ((ports.http, (meshed, outside)),)),
            ServiceEndpoints(*db.key, ((ports.tcp, (meshed,)),)),
            ServiceEndpoints(*auto.key, ((ports.sniffed, (meshed,)),)),
        ],
        accounts=[ServiceAccounts(*each.key, (str(SERVER),)) for each in services],
        destinations=[
            Destination(*reviews.key, (DestinationVariant(ANYONE, ((ports.http, TrafficPolicy()),), subsets),))
        ],
        routes=[HostRoutes(*reviews.key, (RouteVariant(ANYONE, ((ports.http, routes),)),))] if routes else [],
        mesh=mesh or Mesh(),
    )


def to_subset(ports: Ports, name: str, *, path: str = "/", fault: Fault | None = None) -> Route:
    """A route of `reviews` to one of its subsets."""
    target = Target("default", "reviews.default.svc.cluster.local", ports.http, name)
    match = HttpMatch(path=TextMatch(MatchKind.PREFIX, path))
    return Route(name=name, match=match, action=Forward((WeightedTarget(target),)), fault=fault)


async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that greets before the client has said anything."""
    writer.write(b"welcome\n")
    await writer.drain()
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def listening(port: int) -> None:
    """Wait until somebody listens on a port of 127.0.0.1."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    ports, hub, issuer = Ports(*free_ports(8)), Hub(), authority()
    for name in ("client", "server"):
        (tmp_path / name).mkdir()
    async with AsyncExitStack() as stack:
        greeter = await asyncio.start_server(speak_first, "127.0.0.1", ports.speaks_first)
        await stack.enter_async_context(greeter)
        xds = await stack.enter_async_context(served(hub, Admission(), CLIENT, issuer=issuer))
        await stack.enter_async_context(envoy(server(ports, issuer), tmp_path / "server"))
        await listening(ports.plain)
        config = bootstrap(xds, ports.client_admin, CLIENT)
        await stack.enter_async_context(envoy(config, tmp_path / "client", {"MELTEMI_PEER_METADATA": "it is me"}))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Client(hub, ports, session)


async def test_requests_find_their_service_by_every_name_of_it(client: Client) -> None:
    await client.apply(mesh_of(client.ports, to_subset(client.ports, "mesh")))
    host = "reviews.default.svc.cluster.local"
    for name in (
        host,
        f"{host}.",
        "reviews",
        "reviews.default",
        "REVIEWS",
        "10.96.0.10",
        f"{host}:{client.ports.http}",
    ):
        assert (await client.get("/", name)).status == 200, name


async def test_http_is_carried_over_http2_and_mtls_between_sidecars(client: Client) -> None:
    await client.apply(mesh_of(client.ports, to_subset(client.ports, "mesh")))
    seen = (await client.get("/", "reviews")).headers
    assert seen["x-seen-protocol"] == "HTTP/2"
    assert seen["x-seen-peer"] == str(CLIENT)
    assert seen["x-seen-metadata"] == "it is me"
    assert seen["x-seen-name"] == f"outbound_.{client.ports.http}_.mesh_.reviews.default.svc.cluster.local"


async def test_an_endpoint_without_a_sidecar_gets_plain_http1(client: Client) -> None:
    await client.apply(mesh_of(client.ports, to_subset(client.ports, "none")))
    seen = (await client.get("/", "reviews")).headers
    assert seen["x-seen-protocol"] == "HTTP/1.1"
    assert seen["x-seen-peer"] in ("", "-")


async def test_one_cluster_reaches_endpoints_of_both_kinds(client: Client) -> None:
    await client.apply(mesh_of(client.ports))
    seen = {(await client.get("/", "reviews")).headers["x-seen-protocol"] for _ in range(40)}
    assert seen == {"HTTP/2", "HTTP/1.1"}


async def test_a_fault_acts_on_the_route_that_asks_for_it_and_no_other(client: Client) -> None:
    fault = to_subset(client.ports, "mesh", path="/fault", fault=Fault(abort=Abort(status=418)))
    await client.apply(mesh_of(client.ports, fault, to_subset(client.ports, "mesh")))
    assert (await client.get("/fault", "reviews")).status == 418
    assert (await client.get("/", "reviews")).status == 200


async def test_routes_change_and_go_without_a_listener_being_sent_again(client: Client) -> None:
    await client.apply(mesh_of(client.ports, Route(name="a", match=HttpMatch(), action=Respond(201))))
    assert (await client.get("/", "reviews")).status == 201
    await client.apply(mesh_of(client.ports, Route(name="b", match=HttpMatch(), action=Respond(202))))
    assert (await client.get("/", "reviews")).status == 202


async def test_unknown_hosts_are_refused_once_only_the_registry_may_be_called(client: Client) -> None:
    await client.apply(mesh_of(client.ports, mesh=Mesh(outbound=REFUSED)))
    assert (await client.get("/", "unknown.example")).status == 502
    assert (await client.get("/", "reviews")).status == 200


async def test_a_server_may_listen_on_a_unix_socket(client: Client, tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(headers={"x-from": "socket"})

    path = tmp_path / "app.sock"
    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        local = service("local", http=client.ports.http)
        behind = ServiceEndpoints(*local.key, ((client.ports.http, (endpoint(f"unix://{path}", 0, meshed=False),)),))
        await client.apply(Scene(services=[local], endpoints=[behind]))
        response = await client.get("/", "local")
        assert (response.status, response.headers["x-from"]) == (200, "socket")
    finally:
        await runner.cleanup()


async def test_a_server_may_speak_first(client: Client) -> None:
    await client.apply(mesh_of(client.ports))
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.ports.tcp)
        assert await reader.readline() == b"welcome\n"
        writer.close()
        await writer.wait_closed()


async def test_a_sniffed_port_tells_http_from_other_bytes_and_keeps_its_version(client: Client) -> None:
    await client.apply(mesh_of(client.ports))
    assert (await client.get("/", "anything", client.ports.sniffed)).headers["x-seen-protocol"] == "HTTP/1.1"
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.ports.sniffed)
        writer.write(b"\x00\x01 not HTTP\r\n\r\n")
        assert await reader.readline() == b"welcome\n"
        writer.close()
        await writer.wait_closed()
