"""Two real Envoys talk mutual TLS with certificates from the agent, which renews them under way."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from meltemi.agent.control import ControlError
from meltemi.agent.spec import ProxySpec

from .identity_rig import DEADLINE, TYPES, Json, Rig, cluster, free_port, listener, tls

pytestmark = pytest.mark.e2e

REPLY = {
    "match": {"prefix": "/"},
    "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
    "response_headers_to_add": [
        {"header": {"key": "x-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"}},
        {"header": {"key": "x-serial", "value": "%DOWNSTREAM_PEER_SERIAL%"}},
        {"header": {"key": "x-local", "value": "%DOWNSTREAM_LOCAL_URI_SAN%"}},
    ],
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.aclose()


class Pair:
    """A client's sidecar `web` before a server's sidecar `cart`."""

    def __init__(self, rig: Rig, **fields: object) -> None:
        self.rig = rig
        self.web = rig.spec("web", **fields)
        self.cart = rig.spec("cart", **fields)
        self.door = free_port()
        self.inner = free_port()

    async def start(self, *, allowed: str = "web", dialect: str = "GRPC", **manager: object) -> None:
        for spec in (self.web, self.cart):
            with socket.create_server(("127.0.0.1", spec.ports.agent)) as scrape:
                await self.rig.client.add(spec, listeners=[scrape])
            await self.rig.client.wait_ready(spec.id)
        server_side = tls("Downstream", peer=allowed, dialect=dialect, require_client_certificate=True)
        await self.rig.envoy(
            self.cart, listeners=[listener("inbound", self.inner, REPLY, transport_socket=server_side, **manager)]
        )
        to_cart = {"match": {"prefix": "/"}, "route": {"cluster": "cart"}}
        await self.rig.envoy(
            self.web,
            listeners=[listener("outbound", self.door, to_cart)],
            clusters=[cluster("cart", self.inner, tls("Upstream", peer="cart", dialect=dialect))],
        )

    async def get(self) -> httpx.Response:
        return await self.rig.http.get(f"http://127.0.0.1:{self.door}/")


async def is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def test_both_ends_see_each_others_identity_and_so_does_the_control_plane(rig: Rig) -> None:
    pair = Pair(rig)
    await pair.start()
    answer = await pair.get()
    assert (answer.status_code, answer.text) == (200, "hello")
    assert answer.headers["x-peer"] == "spiffe://cluster.local/ns/shop/sa/web"
    assert answer.headers["x-local"] == "spiffe://cluster.local/ns/shop/sa/cart"
    assert set(rig.control_plane.peers) == {
        "spiffe://cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/cart",
    }


async def test_another_identity_is_turned_away(rig: Rig) -> None:
    pair = Pair(rig)
    await pair.start(allowed="checkout")
    assert (await pair.get()).status_code == 503


@pytest.mark.parametrize("dialect", ["GRPC", "DELTA_GRPC"])
async def test_certificates_of_four_seconds_are_renewed_without_a_lost_request(rig: Rig, dialect: str) -> None:
    pair = Pair(rig, certificate_ttl=4)
    await pair.start(dialect=dialect)
    serials: set[str] = set()
    requests = 0
    async with asyncio.timeout(DEADLINE):
        while len(serials) < 4:
            answers = await asyncio.gather(*(pair.get() for _ in range(4)))
            assert [answer.status_code for answer in answers] == [200] * 4, f"after {requests} requests"
            serials |= {answer.headers["x-serial"] for answer in answers}
            requests += len(answers)
    assert requests > 100
    assert min(status.rotations for status in await rig.client.list()) >= 3


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_envoys_outlive_the_agent_and_come_back_to_it(rig: Rig, how: signal.Signals) -> None:
    pair = Pair(rig)
    await pair.start()
    before = (await pair.get()).headers["x-serial"]
    await rig.agent.stop(how)
    assert (await pair.get()).headers["x-serial"] == before
    await rig.agent.start()
    async with asyncio.timeout(DEADLINE):
        await rig.client.wait_ready(pair.web.id)
        while (answer := await pair.get()).headers.get("x-serial") == before:
            assert answer.status_code == 200
    assert answer.status_code == 200
    page = await rig.http.get(f"http://127.0.0.1:{pair.web.ports.agent}/healthz/ready")
    assert page.status_code == 200


async def test_an_authority_that_is_away_costs_nothing_but_attempts(rig: Rig) -> None:
    pair = Pair(rig, certificate_ttl=4)
    await pair.start()
    await rig.control_plane.stop_ca()
    async with asyncio.timeout(DEADLINE):
        while not all(status.failures for status in await rig.client.list()):
            assert (await pair.get()).status_code == 200
    seen = (await pair.get()).headers["x-serial"]
    await rig.control_plane.start_ca()
    async with asyncio.timeout(DEADLINE):
        while (answer := await pair.get()).headers.get("x-serial") == seen:
            assert answer.status_code == 200
    assert answer.status_code == 200


async def test_one_page_has_the_metrics_of_envoy_under_istios_names_of_the_agent_and_of_the_application(
    rig: Rig,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"f\r\nbooks_sold 7\n# \r\n4\r\nEOF\n\r\n0\r\n\r\n")
        writer.close()

    application = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = application.sockets[0].getsockname()[1]
    stats: Json = {
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": f"{TYPES}/envoy.extensions.access_loggers.stats.v3.Config",
            "stat_prefix": "istio",
            "counters": [
                {
                    "stat": {
                        "name": "requests_total",
                        "tags": [
                            {"name": "response_code", "value_format": "%RESPONSE_CODE%"},
                            {"name": "source_principal", "value_format": "%DOWNSTREAM_PEER_URI_SAN%"},
                            {"name": "destination_workload", "value_format": "%ENVIRONMENT(MELTEMI_WORKLOAD_NAME)%"},
                        ],
                    },
                    "value_fixed": 1,
                }
            ],
        },
    }
    pair = Pair(rig, annotations={"prometheus.io/scrape": "true", "prometheus.io/port": str(port)})
    await pair.start(access_log=[stats])
    await pair.get()
    url = f"http://127.0.0.1:{pair.cart.ports.agent}/stats/prometheus"
    async with asyncio.timeout(DEADLINE):
        while "istio_requests_total{" not in (page := await rig.http.get(url)).text:
            pass
    application.close()
    lines = page.text.splitlines()
    counted = next(line for line in lines if line.startswith("istio_requests_total{"))
    assert 'source_principal="spiffe://cluster.local/ns/shop/sa/web"' in counted
    assert 'response_code="200"' in counted
    assert 'destination_workload="cart-1"' in counted
    assert "# TYPE istio_requests_total counter" in lines
    assert not [line for line in lines if "envoy_istio_" in line]
    assert "books_sold 7" in lines
    assert "# EOF" not in lines
    assert any(line.startswith('istio_agent_cert_expiry_seconds{resource_name="default"} 8') for line in lines)
    assert any(line.startswith('envoy_cluster_upstream_cx_total{cluster_name="xds-grpc"}') for line in lines)


async def test_the_pod_can_end_its_own_proxy(rig: Rig) -> None:
    pair = Pair(rig)
    await pair.start()
    url = f"http://127.0.0.1:{pair.web.ports.agent}/quitquitquit"
    assert (await rig.http.get(url)).status_code == 404
    assert (await rig.http.post(url)).status_code == 200
    async with asyncio.timeout(DEADLINE):
        while await is_listening(pair.door):
            pass


async def test_only_the_owner_can_reach_the_sockets(rig: Rig) -> None:
    spec = rig.spec("web")
    await rig.client.add(spec)
    secret_socket = Path(spec.sds_socket)
    assert stat.S_IMODE(secret_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret_socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(rig.agent.control.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.agent.control.parent.stat().st_mode) == 0o700


async def test_a_proxy_that_is_removed_is_served_no_longer(rig: Rig) -> None:
    spec = rig.spec("web")
    await rig.client.add(spec)
    await rig.client.remove(spec.id)
    assert not Path(spec.sds_socket).exists()
    assert await rig.client.list() == ()
    with pytest.raises(ControlError, match="no proxy"):
        await rig.client.wait_ready(spec.id)


async def test_the_agent_stays_small_with_one_proxy_and_with_many(rig: Rig) -> None:
    async def serve(spec: ProxySpec) -> None:
        await rig.client.add(spec)
        await rig.client.wait_ready(spec.id)

    await serve(rig.spec("web"))
    one = rig.agent.memory()
    await asyncio.gather(*(serve(rig.spec(f"app{number}")) for number in range(50)))
    many = rig.agent.memory()
    assert one < 45, f"{one:.1f} MB"
    assert (many - one) / 50 < 0.5, f"{one:.1f} MB with one proxy, {many:.1f} MB with 51"
