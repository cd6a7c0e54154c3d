"""The xDS server and one real Envoy: what it takes, what it refuses, and what it is not sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.envoy.resource import VIRTUAL_HOST, Offer, finish, offer
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.proxies import Placement, Proxy
from meltemi.model.routes import Source
from meltemi.protos import from_dict, message_class
from meltemi.testing.envoys import ADS, bootstrap, envoy, free_ports, served
from meltemi.xds.hub import Hub

pytestmark = pytest.mark.e2e

IDENTITY = SpiffeId("cluster.local", "shop", "cart")
DEADLINE = 20.0


class Everyone:
    """Lets every proxy into one class."""

    async def admit(self, proxy: Proxy) -> Placement:
        return Placement(view="view", audience="audience")

    def dismiss(self, proxy: Proxy) -> None:
        pass


class Rig:
    """A hub with a server, an Envoy that asks it, and clients of both."""

    def __init__(self, hub: Hub, http: aiohttp.ClientSession, admin: int, data: int) -> None:
        self.hub = hub
        self.http = http
        self.admin = admin
        self.data = data
        self.number = 0

    def publish(self, *offers: Offer, gone: tuple[str, ...] = ()) -> None:
        """Make one revision of these offers."""
        self.number += 1
        changed: dict[Any, Offer | None] = {each.name: each for each in offers} | dict.fromkeys(gone)
        self.hub.on_revision(self.number, audiences={}, offers=changed, placements={})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the hub to come to a state."""
        changed = asyncio.Event()
        self.hub.on_progress = changed.set
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await changed.wait()
                changed.clear()

    async def settled(self) -> None:
        """Wait until the Envoy has asked for everything and taken it."""
        await self.until(lambda: self.is_subscribed and not self.hub.behind(self.number))

    @property
    def is_subscribed(self) -> bool:
        """Whether an Envoy is connected and has come as far as to ask for virtual hosts."""
        return any(VIRTUAL_HOST in connection.stream.types for connection in self.hub.connections)

    async def get(self, host: str, path: str = "/") -> tuple[int, str]:
        """A request through the Envoy's listener."""
        url = f"http://127.0.0.1:{self.data}{path}"
        async with self.http.get(url, headers={"host": host}) as response:
            return response.status, await response.text()

    @property
    def sent(self) -> int:
        """How many resources were sent over the present connection."""
        return sum(connection.stream.sent_resources for connection in self.hub.connections)


def resource(kind: str, name: str, content: dict[str, Any], source: str = "") -> Offer:
    """An offer of a message given as JSON."""
    sources = (Source(Ref("VirtualService", "shop", source), "spec.http[0]"),) if source else ()
    return offer(finish(name, from_dict(message_class(kind), content), sources))


def listener(port: int, name: str = "in") -> Offer:
    """A listener whose routes come by RDS."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "rds": {"route_config_name": "80", "config_source": dict(ADS)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return resource(
        "envoy.config.listener.v3.Listener", name, {"name": name, "address": address, "filter_chains": [chain]}
    )


def routes() -> Offer:
    """A route configuration without virtual hosts of its own."""
    content = {"name": "80", "vhds": {"config_source": dict(ADS)}}
    return resource("envoy.config.route.v3.RouteConfiguration", "80", content)


def virtual_host(host: str, body: str, status: int = 200) -> Offer:
    """A virtual host that answers by itself."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": body}}}
    content = {"name": f"80/{host}", "domains": [host], "routes": [route]}
    return resource("envoy.config.route.v3.VirtualHost", f"80/{host}", content, host)


def with_audience(hub: Hub) -> Hub:
    """A hub that knows one class of proxies."""
    audience = Audience(key="audience", kind=ProxyKind.SIDECAR, namespace="shop")
    hub.on_revision(0, audiences={"audience": audience}, offers={}, placements={})
    return hub


@pytest.fixture
def hub() -> Hub:
    return with_audience(Hub())


@asynccontextmanager
async def rig(hub: Hub, directory: Path) -> AsyncIterator[Rig]:
    """Everything running, with one listener and its routes taken."""
    admin, data = free_ports(2)
    async with (
        served(hub, Everyone(), IDENTITY) as port,
        envoy(bootstrap(port, admin, IDENTITY), directory),
        aiohttp.ClientSession() as http,
    ):
        rig = Rig(hub, http, admin, data)
        rig.publish(listener(data), routes(), virtual_host("cart", "one"))
        await rig.settled()
        yield rig


async def test_virtual_hosts_come_go_and_change_one_by_one(hub: Hub, tmp_path: Path) -> None:
    async with rig(hub, tmp_path) as mesh:
        assert await mesh.get("cart") == (200, "one")
        before = mesh.sent

        mesh.publish(virtual_host("cart", "two"), virtual_host("pay", "paid"))
        await mesh.settled()
        assert mesh.sent == before + 2
        assert await mesh.get("cart") == (200, "two")
        assert await mesh.get("pay") == (200, "paid")

        mesh.publish(gone=("80/pay",))
        await mesh.settled()
        assert mesh.sent == before + 2
        assert (await mesh.get("pay"))[0] == 404


async def test_a_refused_resource_leaves_the_last_good_one_in_force(hub: Hub, tmp_path: Path) -> None:
    async with rig(hub, tmp_path) as mesh:
        mesh.publish(virtual_host("cart", "bad", status=99), virtual_host("pay", "paid"))
        await mesh.until(lambda: bool(hub.problems()))
        await mesh.settled()
        assert await mesh.get("cart") == (200, "one")
        assert await mesh.get("pay") == (200, "paid")
        [problem] = hub.problems()
        assert problem.ref == Ref("VirtualService", "shop", "cart")
        assert "Status" in problem.message

        mesh.publish(virtual_host("cart", "mended"))
        await mesh.settled()
        assert hub.problems() == []
        assert await mesh.get("cart") == (200, "mended")


async def test_a_listener_that_is_refused_is_named_and_the_others_flow_on(hub: Hub, tmp_path: Path) -> None:
    async with rig(hub, tmp_path) as mesh:
        [other] = free_ports(1)
        broken = resource(
            "envoy.config.listener.v3.Listener",
            "broken",
            {"name": "broken", "address": {"socket_address": {"address": "not an address", "port_value": 1}}},
            "broken",
        )
        mesh.publish(broken, listener(other, "out"))
        await mesh.until(lambda: bool(hub.problems()))
        await mesh.settled()
        [problem] = hub.problems()
        assert problem.ref.name == "broken"
        async with mesh.http.get(f"http://127.0.0.1:{other}/", headers={"host": "cart"}) as response:
            assert await response.text() == "one"


async def test_after_a_restart_of_the_control_plane_nothing_is_sent_again(tmp_path: Path) -> None:
    admin, data, port = free_ports(3)
    offers = (listener(data), routes(), virtual_host("cart", "one"))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        first = Rig(with_audience(Hub()), http, admin, data)
        async with served(first.hub, Everyone(), IDENTITY, port):
            await stack.enter_async_context(envoy(bootstrap(port, admin, IDENTITY), tmp_path))
            first.publish(*offers)
            await first.settled()
            assert first.sent == len(offers)
        assert await first.get("cart") == (200, "one")

        second = Rig(with_audience(Hub()), http, admin, data)
        second.publish(*offers)
        async with served(second.hub, Everyone(), IDENTITY, port):
            await second.settled()
            assert second.sent == 0
            second.publish(virtual_host("cart", "two"))
            await second.settled()
            assert second.sent == 1
            assert await second.get("cart") == (200, "two")
