"""What crosses the bridge while the bookshop is being read: ciphertext; and plaintext once mTLS is switched off."""

from __future__ import annotations

import asyncio

from .capture import Capture
from .load import get
from .rig import Mesh

TITLES = [b"The Etesian Sea", b"A Field Guide to Winds", b"Salt on the Pages"]
WORDS = [b"A sea one does not want to leave.", b"GET /", b"PRI * HTTP/2.0", b"bookshop till", b"TOTAL", b"x-request-id"]

PLAINTEXT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: bookshop}
spec: {mtls: {mode: DISABLE}}
"""

_HANDSHAKE, _APPLICATION_DATA = b"\x16\x03", b"\x17\x03"


async def read_the_shop(mesh: Mesh, pages: int) -> None:
    """Look at some pages, so that every service is called."""
    door = f"http://127.0.0.1:{await mesh.host_port('istio-ingress', 'gateway')}/"
    for _ in range(pages):
        page = await get(door)
        assert page.status == 200
        assert TITLES[0].decode() in page.text


async def test_between_meshed_workloads_nothing_is_readable(bookshop: Mesh) -> None:
    async with Capture(bookshop.control_plane().pid) as capture:
        await read_the_shop(bookshop, 10)
    assert sum(len(flow.payload) for flow in capture.flows) > 20_000
    assert len({flow.destination for flow in capture.flows}) > 5
    for word in (*TITLES, *WORDS):
        assert not capture.holding(word), word
    # TLS records and nothing else: connections begin with a handshake, those from before go on with application data.
    assert all(flow.payload.startswith((_HANDSHAKE, _APPLICATION_DATA)) for flow in capture.flows)


async def test_without_mutual_tls_the_same_capture_reads_along(bookshop: Mesh) -> None:
    applied = await asyncio.to_thread(bookshop.meltemi, "apply", "--wait", "-f", "-", typed=PLAINTEXT)
    assert "live" in applied.text
    try:
        async with Capture(bookshop.control_plane().pid) as capture:
            await read_the_shop(bookshop, 10)
    finally:
        await asyncio.to_thread(bookshop.meltemi, "delete", "-f", "-", typed=PLAINTEXT)
    assert capture.holding(TITLES[0])
    assert capture.holding(b"GET /")
