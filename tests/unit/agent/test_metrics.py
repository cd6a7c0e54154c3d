"""Port 15020: pages are renamed, merged and passed on in pieces; a source that fails does not hide the others."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import timedelta

import httpx
import msgspec
import pytest

from meltemi.agent.http import HttpError, HttpServer, Request, ask, dial
from meltemi.agent.identity import Identity
from meltemi.agent.metrics import Scrape, Status, application_scrape, standardise, whole_lines
from meltemi.agent.spec import Address, Ports, ProxySpec
from meltemi.ca.authority import Authority

from .conftest import CART, NOW

ENVOY_PAGE = b"""# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{response_code="200"} 3
# TYPE envoy_istio_istio_tcp_sent_bytes_total counter
envoy_istio_istio_tcp_sent_bytes_total{} 9
# TYPE envoy_cluster_upstream_cx_total counter
envoy_cluster_upstream_cx_total{cluster_name="xds-grpc"} 1
"""

Serve = Callable[[bytes], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncGenerator[Serve, None]:
    """Serves the same bytes to every request, and tells the port."""
    servers: list[asyncio.Server] = []

    async def start(answer: bytes) -> int:
        async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        servers.append(await asyncio.start_server(respond, "127.0.0.1", 0))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("prefix", [b"envoy_istio_", b"envoy_istio_istio_"])
def test_standard_metrics_get_istios_names_and_others_keep_theirs(prefix: bytes) -> None:
    page = b'# TYPE %srequests_total counter\n%srequests_total{a="envoy_istio_x"} 1\nenvoy_cluster_x 1\n'
    assert standardise(page % (prefix, prefix)) == (
        b'# TYPE istio_requests_total counter\nistio_requests_total{a="envoy_istio_x"} 1\nenvoy_cluster_x 1\n'
    )


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (b'source_workload=""', b'source_workload="unknown"'),
        (b'source_principal="-"', b'source_principal="unknown"'),
        (b'source_canonical_revision=""', b'source_canonical_revision="latest"'),
        (b'response_flags="-"', b'response_flags="-"'),
        (b'reporter="source"', b'reporter="source"'),
    ],
)
def test_labels_that_nothing_was_found_for_say_so(label: bytes, told: bytes) -> None:
    page = b'envoy_istio_requests_total{%s,a="b"} 1\nenvoy_cluster_x{%s} 1\n'
    assert standardise(page % (label, label)) == page.replace(b"envoy_istio", b"istio") % (told, label)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_pages_are_cut_at_ends_of_lines_however_they_arrive(size: int) -> None:
    pieces = [ENVOY_PAGE[start : start + size] for start in range(0, len(ENVOY_PAGE), size)]
    cut = [lines async for lines in whole_lines(pieces_of(*pieces))]
    assert b"".join(cut) == ENVOY_PAGE
    assert all(lines.endswith(b"\n") for lines in cut)


async def test_a_last_line_without_an_end_gets_one() -> None:
    assert [lines async for lines in whole_lines(pieces_of(b"a 1\nb", b" 2"))] == [b"a 1\n", b"b 2\n"]


@pytest.mark.parametrize(
    ("annotations", "scrape"),
    [
        ({}, None),
        ({"prometheus.io/scrape": "false", "prometheus.io/port": "1"}, None),
        ({"prometheus.io/scrape": "true"}, Scrape(Address("127.0.0.1", 80), "/metrics")),
        (
            {"prometheus.io/scrape": "true", "prometheus.io/port": "9100", "prometheus.io/path": "stats"},
            Scrape(Address("127.0.0.1", 9100), "/stats"),
        ),
        ({"prometheus.io/scrape": "true", "prometheus.io/port": "http"}, None),
        ({"prometheus.io/scrape": "true", "prometheus.io/scheme": "https"}, None),
        ({"prometheus.io/scrape": "true", "prometheus.istio.io/merge-metrics": "false"}, None),
    ],
)
def test_annotations_say_whether_and_where_the_application_is_scraped(
    annotations: dict[str, str], scrape: Scrape | None
) -> None:
    assert application_scrape(annotations) == scrape


class Pod:
    """Port 15020 of a pod whose Envoy and application are at these ports."""

    def __init__(self, spec: ProxySpec, identity: Identity, envoy: int, application: int | None = None) -> None:
        annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(application)} if application else {}
        ports = Ports(prometheus=envoy, health=envoy, admin=envoy)
        described = msgspec.structs.replace(spec, ports=ports, annotations=annotations)
        self.server = HttpServer(Status(described, identity, dial, lambda: NOW).answer)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    async def request(self, path: str, method: str = "GET") -> httpx.Response:
        await self.server.listen(self.listener)
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return await client.request(method, f"http://127.0.0.1:{self.port}{path}")
            finally:
                await self.server.aclose()


async def test_one_page_has_everything(spec: ProxySpec, identity: Identity, authority: Authority, serve: Serve) -> None:
    identity.issued(authority.sign(identity.begin(), CART, timedelta(hours=1), NOW).chain, NOW)
    page = await Pod(spec, identity, await serve(ok(ENVOY_PAGE)), await serve(ok(b"sold 7\n# EOF\n"))).request(
        "/stats/prometheus"
    )
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = page.text.splitlines()
    assert 'istio_requests_total{response_code="200"} 3' in lines
    assert "sold 7" in lines
    assert "# EOF" not in lines
    assert 'istio_agent_cert_expiry_seconds{resource_name="default"} 3600' in lines
    assert 'istio_agent_scrape_failures_total{type="application"} 0' in lines
    samples = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z_]+(\{.*\})? [0-9.e+]+", sample) for sample in samples)


@pytest.mark.parametrize(
    "broken",
    [b"", b"HTTP/1.1 500 Oops\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx 1\n"],
)
async def test_a_broken_application_hides_nothing_else(
    spec: ProxySpec, identity: Identity, serve: Serve, broken: bytes
) -> None:
    page = await Pod(spec, identity, await serve(ok(ENVOY_PAGE)), await serve(broken)).request("/stats/prometheus")
    assert 'istio_requests_total{response_code="200"} 3' in page.text
    assert 'istio_agent_scrape_failures_total{type="application"} 1' in page.text


async def test_readiness_is_envoys(spec: ProxySpec, identity: Identity, serve: Serve) -> None:
    ready = await Pod(spec, identity, await serve(ok(b"LIVE\n"))).request("/healthz/ready")
    assert (ready.status_code, ready.text) == (200, "LIVE\n")
    draining = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\nDRAINING\n"
    assert (await Pod(spec, identity, await serve(draining)).request("/healthz/ready")).status_code == 503


async def test_without_envoy_a_pod_is_not_ready(spec: ProxySpec, identity: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = int(unused.getsockname()[1])
    answer = await Pod(spec, identity, port).request("/healthz/ready")
    assert answer.status_code == 503
    assert "cannot read" in answer.text


async def test_a_pod_whose_dns_is_answered_is_ready_when_names_are_known(spec: ProxySpec, identity: Identity) -> None:
    status = Status(spec, identity, dial, lambda: NOW, knows_names=lambda: False)
    assert (await status.answer(Request("GET", "/healthz/ready", local=False))).status == 503


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/quitquitquit"), ("DELETE", "/healthz/ready")])
async def test_anything_else_is_not_found(spec: ProxySpec, identity: Identity, method: str, path: str) -> None:
    assert (await Pod(spec, identity, 1).request(path, method)).status_code == 404


async def test_chunks_and_bodies_without_a_length_are_read(serve: Serve) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nb\r\n0123456789a\r\n0\r\n\r\n"
    for answer, body in ((chunked, b"abc0123456789a"), (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end")):
        async with ask(dial, "127.0.0.1", await serve(answer), "/") as response:
            assert b"".join([piece async for piece in response.body]) == body


async def test_a_server_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(HttpError):
        async with ask(dial, "127.0.0.1", silent.getsockname()[1], "/", seconds=0.05):
            pass
