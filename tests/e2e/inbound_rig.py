"""A workload behind a real Envoy, others that call it through Envoys of their own, and a gateway; in one network.

Everything runs in a sandbox's network namespace. The workload's address is `WORKLOAD`: a rule redirects connections to
it to the inbound listener, as capture does in a pod, except for those that come from the listener's own source address.
The Envoys get what the translation makes of model values, over delta ADS, and certificates of one authority.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from meltemi.agent.command import proxy_environment
from meltemi.agent.spec import Address, ProxySpec
from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, private_pem
from meltemi.envoy import base, gateways, http, inbound, routing, tcp
from meltemi.envoy.resource import Offer, finish, offer
from meltemi.envoy.values import address
from meltemi.flow import View
from meltemi.local.capture import OUTPUT, Match, Redirect, Return, Rule
from meltemi.local.links import LOOPBACK, Links
from meltemi.local.nftables import write_rules
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.gateways import GatewayConfig, GatewayServer
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Inbound, InboundPort, Placement, Proxy
from meltemi.model.proxies import View as ProxyView
from meltemi.model.security import Authorization, MutualTls, PeerPolicy
from meltemi.model.services import Endpoint, Protocol, ServiceAccounts, ServiceEndpoints, WorkloadName
from meltemi.model.traffic import Destination
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.testing.echo.orders import Order, Reply
from meltemi.testing.envoys import bootstrap, envoy, free_ports, served
from meltemi.testing.models import Scene, service
from meltemi.testing.secrets import authority
from meltemi.xds.hub import Hub

WORKLOAD = "10.244.0.2"
HTTP, GRPC, AUTO, BYTES, GREETS, OWN_TLS = 8080, 8081, 8082, 9000, 9001, 9002  # the workload's ports
PROTOCOLS = {
    HTTP: Protocol.HTTP,
    GRPC: Protocol.GRPC,
    AUTO: Protocol.AUTO,
    BYTES: Protocol.TCP,
    GREETS: Protocol.TCP,
    OWN_TLS: Protocol.TLS,
}
UNDECLARED = 7000
ORDERS = 7001  # where the application that calls and serves gRPC takes orders
GREETING = b"HELLO\n"
HOST = "pay.shop.svc.cluster.local"
DEADLINE = 15.0

PAY = SpiffeId("cluster.local", "shop", "pay")
CART = SpiffeId("cluster.local", "shop", "cart")
THIEF = SpiffeId("cluster.local", "dark", "thief")
EDGE = SpiffeId("cluster.local", "istio-system", "gateway")


class ByName:
    """Lets every proxy into the view and the audience that its service account names."""

    async def admit(self, proxy: Proxy) -> Placement:
        return Placement(view=proxy.identity.service_account, audience=proxy.identity.service_account)

    def dismiss(self, proxy: Proxy) -> None:
        pass


def settings(server: MutualTls, authorization: Authorization) -> Inbound:
    """The workload's server side."""
    ports = [
        InboundPort(number, protocol, server, HOST, number, service_name="pay", service_namespace="shop")
        for number, protocol in PROTOCOLS.items()
    ]
    return Inbound("pay", tuple(ports), PeerPolicy(server), authorization)


class InboundRig:
    """All of it. Enter it as an asynchronous context."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.issuer: Authority = authority()
        self.mesh = Mesh()
        self.admin: dict[str, int] = {}
        self.ports: dict[tuple[str, int], int] = {}  # of a client's Envoy, by workload port
        self.seen: list[Mapping[str, str]] = []  # headers of the requests that reached the application
        self.directory = Path(tempfile.mkdtemp(dir="."))
        self._stack = AsyncExitStack()
        self._revision = 0
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> InboundRig:
        links = Links()
        links.set_up(LOOPBACK)
        links.make_local(IPv4Network(f"{WORKLOAD}/32"))
        links.close()
        write_rules(
            [
                Rule(OUTPUT, Match(source=IPv4Network("127.0.0.6/32")), Return()),
                Rule(OUTPUT, Match(destination=IPv4Network(f"{WORKLOAD}/32")), Redirect(15006)),
            ]
        )
        self.http = await self._stack.enter_async_context(aiohttp.ClientSession())
        await self._start_application()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # === the application ===

    async def _start_application(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        for port in (HTTP, AUTO, UNDECLARED):
            await web.TCPSite(runner, "0.0.0.0", port).start()
        await web.TCPSite(runner, "0.0.0.0", OWN_TLS, ssl_context=self._own_tls()).start()
        for port, greeting in ((BYTES, b""), (GREETS, GREETING)):
            server = await asyncio.start_server(self._echo(greeting), "0.0.0.0", port)
            self._stack.callback(server.close)
        await self._start_grpc()

    async def _start_grpc(self) -> None:
        """gRPC's library must not run here: this process was forked, maybe from one in which it ran."""
        command = [sys.executable, "-m", "meltemi.testing.echo", "--http", str(GRPC), "--control", str(ORDERS)]
        process = await asyncio.create_subprocess_exec(*command)

        async def end() -> None:
            process.kill()
            await process.wait()

        self._stack.push_async_callback(end)
        async with asyncio.timeout(DEADLINE):
            while not await _listens(ORDERS):
                pass

    async def call_grpc(self, client: str, *headers: tuple[str, str]) -> int:
        """A gRPC call of a client through its Envoy; the status."""
        order = Order(url=f"grpc://127.0.0.1:{self.ports[client, GRPC]}/", headers=headers)
        async with self.http.post(f"http://127.0.0.1:{ORDERS}/orders", data=msgspec.json.encode(order)) as response:
            [reply] = msgspec.json.decode(await response.read(), type=list[Reply])
        assert not reply.error, reply.error
        return reply.status

    def _own_tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_certificate(context, self.credential(PAY, "own.example"), self.directory)
        return context

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(dict(request.headers))
        if request.headers.get("upgrade") == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(f"echo {message.data}")
            return socket
        return web.Response(text=f"HTTP/{request.version.major}.{request.version.minor}")

    @staticmethod
    def _echo(greeting: bytes) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)
            while data := await reader.read(1024):
                writer.write(data)
            writer.close()

        return serve

    # === Envoys and what they get ===

    async def start(self, identity: SpiffeId, kind: ProxyKind = ProxyKind.SIDECAR) -> None:
        """Start the Envoy of a workload. It is ready when `publish` returns."""
        name = identity.service_account
        directory = self.directory / name
        directory.mkdir()
        [self.admin[name]] = free_ports(1)
        port = await self._stack.enter_async_context(served(self.hub, ByName(), identity, issuer=self.issuer))
        spec = ProxySpec(
            pod=f"{name}-1",
            namespace=identity.namespace,
            service_account=name,
            ip=WORKLOAD,
            sds_socket="/unused",
            token="/unused",
            roots="/unused",
            control_plane=Address("127.0.0.1", port),
            authority=Address("127.0.0.1", port),
            workload=f"{name}-v2",
            labels={"app": name, "version": "v2"},
            cluster_id="local",
        )
        config = bootstrap(port, self.admin[name], identity, kind=kind.value)
        await self._stack.enter_async_context(envoy(config, directory, proxy_environment(spec)))

    async def publish(self, *offers: tuple[object, Offer]) -> None:
        """Make a revision of offers, and wait until all Envoys that are running have taken it."""
        self._revision += 1
        names = list(self.admin)
        audiences = {
            name: Audience(name, ProxyKind.GATEWAY if name == "gateway" else ProxyKind.SIDECAR, "shop")
            for name in names
            if self._revision == 1 or name not in self.hub.catalogue.shelves
        }
        self.hub.on_revision(self._revision, audiences=audiences, offers=dict(offers), placements={})
        changed = asyncio.Event()
        self.hub.on_progress = changed.set
        try:
            async with asyncio.timeout(DEADLINE):
                while len(self.hub.connections) < len(names) or self.hub.behind(self._revision):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            logs = "".join((self.directory / name / "envoy.log").read_text() for name in names)
            raise AssertionError(f"not all Envoys took revision {self._revision}: {self.hub!r}\n{logs}") from None
        assert not self.hub.problems(), self.hub.problems()
        async with asyncio.timeout(DEADLINE):
            for name in names:
                while not await self._is_warm(name):
                    pass

    async def _is_warm(self, name: str) -> bool:
        """Whether an Envoy uses what it has taken: it accepts a listener before it has its certificates."""
        url = f"http://127.0.0.1:{self.admin[name]}"
        async with self.http.get(f"{url}/ready") as response:
            if response.status != 200:
                return False
        async with self.http.get(f"{url}/stats?filter=warming") as response:
            return all(line.endswith(": 0") for line in (await response.text()).splitlines())

    def server_side(
        self, mode: MutualTls = MutualTls.PERMISSIVE, rules: Authorization | None = None
    ) -> list[tuple[object, Offer]]:
        """The workload's resources, and the clusters that all sidecars have."""
        view = proxy_view(PAY)
        made = inbound.inbound(
            settings(mode, rules or Authorization()), mesh=View.of({(): self.mesh}), views=View.of({"pay": view})
        )
        found = [item for item in made if isinstance(item, tuple)]
        common = [finish(each.name, each) for each in (base.inbound_passthrough(self.mesh), base.black_hole(self.mesh))]
        return [*found, *((("pay", each.name), offer(each, view="pay")) for each in common)]

    def client_side(self, identity: SpiffeId) -> list[tuple[object, Offer]]:
        """A client's resources: a listener on loopback for each port of the workload, and clusters with mTLS to it."""
        name = identity.service_account
        found: list[tuple[object, Offer]] = []
        for resource in scene().resources(Audience(name, ProxyKind.SIDECAR, identity.namespace)):
            if resource.name.startswith("outbound|"):
                found.append(((name, resource.type_url, resource.name), offer(resource, view=name)))
        for number, protocol in PROTOCOLS.items():
            [self.ports[name, number]] = free_ports(1)
            listening = client_listener(number, self.ports[name, number], protocol, self.mesh)
            found.append(((name, listening.name), offer(finish(listening.name, listening), view=name)))
        return found

    def edge_side(self, *servers: GatewayServer, rules: Authorization | None = None) -> list[tuple[object, Offer]]:
        """A gateway's resources, and the clusters behind it."""
        found: list[tuple[object, Offer]] = []
        for resource in scene().resources(Audience("gateway", ProxyKind.GATEWAY, "istio-system")):
            if resource.name.startswith("outbound|"):
                found.append((("edge", resource.type_url, resource.name), offer(resource, view="gateway")))
        destinations: View[tuple[str, str], Destination] = View.of({("shop", HOST): Destination("shop", HOST)})
        made = gateways.gateway(
            GatewayConfig("gateway", tuple(sorted(servers, key=lambda each: (each.bind, each.port)))),
            mesh=View.of({(): self.mesh}),
            views=View.of({"gateway": proxy_view(EDGE, ProxyKind.GATEWAY)}),
            destinations=destinations,
            inbound=View.of({"gateway": Inbound("gateway", (), PeerPolicy(), rules or Authorization())}),
        )
        return [*found, *(item for item in made if isinstance(item, tuple))]

    # === what tests do ===

    async def get(self, client: str, path: str = "/", port: int = HTTP, **request: Any) -> tuple[int, str]:
        """A request of a client through its Envoy (`""`: in plaintext to the workload's address)."""
        where = f"127.0.0.1:{self.ports[client, port]}" if client else f"{WORKLOAD}:{port}"
        method = request.pop("method", "GET")
        async with self.http.request(method, f"http://{where}{path}", **request) as response:
            return response.status, await response.text()

    async def connect(self, client: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of a client through its Envoy (`""`: in plaintext to the workload's address)."""
        where = ("127.0.0.1", self.ports[client, port]) if client else (WORKLOAD, port)
        return await asyncio.open_connection(*where)

    async def statistics(self, name: str, prefix: str) -> list[tuple[str, dict[str, str], float]]:
        """The samples of an Envoy whose name begins like that, with their labels."""
        url = f"http://127.0.0.1:{self.admin[name]}/stats/prometheus"
        async with self.http.get(url) as response:
            lines = (await response.text()).splitlines()
        return [sample(line) for line in lines if line.startswith(prefix)]

    async def count(self, name: str, counter: str) -> int:
        """A counter of an Envoy, by its whole name."""
        async with self.http.get(f"http://127.0.0.1:{self.admin[name]}/stats?usedonly") as response:
            lines = dict(line.rpartition(": ")[::2] for line in (await response.text()).splitlines())
        return int(lines.get(counter, "0"))

    def credential(self, identity: SpiffeId, *dns_names: str) -> tuple[bytes, bytes]:
        """A certificate chain and its key (PEM) from the mesh's authority."""
        return certificate(self.issuer, identity, *dns_names)


def sample(line: str) -> tuple[str, dict[str, str], float]:
    """A line of Prometheus' text format."""
    head, _, value = line.rpartition(" ")
    name, _, labels = head.partition("{")
    pairs = (pair.partition("=") for pair in labels.rstrip("}").split(",") if pair)
    return name, {key: text.strip('"') for key, _, text in pairs}, float(value)


def certificate(issuer: Authority, identity: SpiffeId, *dns_names: str) -> tuple[bytes, bytes]:
    """A certificate chain and its key (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issuer.issue(key.public_key(), identity, timedelta(hours=1), datetime.now(UTC), dns_names)
    return "".join(issued.chain[:-1]).encode(), private_pem(key)


def client_context(
    roots: str, own: tuple[bytes, bytes] | None = None, protocols: Sequence[str] = (), folder: Path = Path()
) -> ssl.SSLContext:
    """TLS of a client that trusts these roots, with a certificate of its own if one is given."""
    context = ssl.create_default_context(cadata=roots)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if own:
        load_certificate(context, own, folder)
    return context


def load_certificate(context: ssl.SSLContext, pair: tuple[bytes, bytes], folder: Path) -> None:
    """Give a context a certificate chain and its key: Python takes them from files only."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(pair[0] + pair[1])
        file.flush()
        context.load_cert_chain(file.name)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def proxy_view(identity: SpiffeId, kind: ProxyKind = ProxyKind.SIDECAR) -> ProxyView:
    """The view of a workload, under the name of its service account."""
    name = identity.service_account
    return ProxyView(
        key=name,
        kind=kind,
        namespace=identity.namespace,
        labels=LabelSet.of({"app": name}),
        identity=identity,
        names=WorkloadName(),
        audience=name,
    )


def scene() -> Scene:
    """The service `pay` as clients know it."""
    declared = service("pay", "shop", http=HTTP, grpc=GRPC, auto=AUTO, tcp=(BYTES, GREETS), tls=OWN_TLS)
    behind = tuple(
        (number, (Endpoint(WORKLOAD, number, meshed=True, identity=PAY, names=names()),)) for number in PROTOCOLS
    )
    return Scene(
        services=[declared],
        endpoints=[ServiceEndpoints("shop", HOST, behind)],
        accounts=[ServiceAccounts("shop", HOST, (str(PAY),))],
    )


def names() -> WorkloadName:
    return WorkloadName("pay-v2", "shop", "pay", "v2", "pay", "v2", "local")


def client_listener(number: int, port: int, protocol: Protocol, mesh: Mesh) -> Listener:
    """What a client's outbound listener comes down to, on a port of loopback."""
    cluster = f"outbound|{number}||{HOST}"
    name = f"client_{number}"
    if protocol.is_tcp:
        filters = [tcp.to_cluster(cluster, mesh)]
    else:
        host = routing.virtual_host("all", ["*"], [], mesh)
        route = host.routes.add()
        route.match.prefix = "/"
        route.route.cluster = cluster
        route.route.timeout.SetInParent()
        filters = [http.outbound(name, routing.configuration(name, [host]), mesh)]
        if protocol is Protocol.AUTO:
            filters.insert(0, tcp.offer_protocols(("istio-http/1.1", "istio", "http/1.1")))
    return Listener(name=name, address=address("127.0.0.1", port), filter_chains=[FilterChain(filters=filters)])
