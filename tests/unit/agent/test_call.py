"""A call goes only to a server that proves the right identity, and ends, one way or another, in time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from meltemi.agent.call import CallError, Target, unary
from meltemi.agent.csr import CertificateClient, read_from
from meltemi.agent.framing import MAX_MESSAGE, Deframer, MalformedError, frame
from meltemi.agent.keys import Key
from meltemi.agent.spec import Address
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, load_authority, new_root
from meltemi.ca.serving import ServingCertificate, control_plane_identity
from meltemi.protos.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from meltemi.protos.services import handler

CONTROL_PLANE = control_plane_identity("cluster.local")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Server:
    """An authority's front: it answers with what it was asked, or as `behaviour` says."""

    def __init__(self) -> None:
        self.authority: Authority = load_authority(new_root("cluster.local", utc_now()), utc_now())
        self.behaviour = "answer"
        self.requests: list[IstioCertificateRequest] = []
        self.tokens: list[str] = []
        self.server = grpc.aio.server()
        service = handler("istio.v1.auth.IstioCertificateService", {"CreateCertificate": self.create})
        self.server.add_generic_rpc_handlers((service,))
        credentials = ServingCertificate(self.authority, CONTROL_PLANE, utc_now).credentials(require_client=False)
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)

    async def create(
        self, request: IstioCertificateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> IstioCertificateResponse:
        self.requests.append(request)
        self.tokens.append(str(dict(context.invocation_metadata() or ())["authorization"]))
        match self.behaviour:
            case "refuse":
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not good: 100 % expired, café")
            case "hang":
                await asyncio.Event().wait()
        return IstioCertificateResponse(cert_chain=["leaf", "root" * 20_000])

    def target(self, **changed: Any) -> Target:
        fields = {
            "address": Address("127.0.0.1", self.port),
            "server_name": "meltemi.istio-system.svc",
            "identity": CONTROL_PLANE,
            "roots": self.authority.trust_bundle.encode(),
        }
        return Target(**{**fields, **changed})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.server.start()
    yield server
    await server.server.stop(None)


def client_of(server: Server, tmp_path: Path, **fields: Any) -> CertificateClient:
    (tmp_path / "token").write_text("abc\n")
    return CertificateClient(
        Address("127.0.0.1", server.port),
        CONTROL_PLANE,
        token=read_from(str(tmp_path / "token")),
        roots=server.authority.trust_bundle.encode,
        cluster_id="local",
        **fields,
    )


async def test_the_authority_gets_request_lifetime_and_token(server: Server, tmp_path: Path) -> None:
    csr = Key().csr(SpiffeId("cluster.local", "shop", "cart"))
    chain = await client_of(server, tmp_path).sign(csr, timedelta(hours=2))
    assert chain == ("leaf", "root" * 20_000)
    (request,) = server.requests
    assert (request.csr.encode(), request.validity_duration) == (csr, 7200)
    assert dict(request.metadata) == {"ClusterID": "local"}
    assert server.tokens == ["Bearer abc"]


async def test_the_token_is_read_anew_each_time(server: Server, tmp_path: Path) -> None:
    client = client_of(server, tmp_path)
    await client.sign(b"csr", timedelta())
    (tmp_path / "token").write_text("newer")
    await client.sign(b"csr", timedelta())
    assert server.tokens == ["Bearer abc", "Bearer newer"]


async def test_without_a_token_nobody_is_called(server: Server, tmp_path: Path) -> None:
    client = client_of(server, tmp_path)
    (tmp_path / "token").unlink()
    with pytest.raises(CallError, match=r"cannot read .*token: No such file"):
        await client.sign(b"csr", timedelta())
    assert server.requests == []


async def test_a_refusal_is_told_with_its_reason(server: Server, tmp_path: Path) -> None:
    server.behaviour = "refuse"
    with pytest.raises(CallError, match=r"100 % expired, café") as caught:
        await client_of(server, tmp_path).sign(b"csr", timedelta())
    assert caught.value.status == grpc.StatusCode.UNAUTHENTICATED.value[0]


async def test_a_server_of_another_mesh_is_not_told_the_token(server: Server) -> None:
    other = load_authority(new_root("other", utc_now()), utc_now())
    with pytest.raises(CallError, match=r"not vouched for"):
        await unary(server.target(roots=other.trust_bundle.encode()), "/a.B/C", b"")
    assert server.tokens == []


async def test_a_workload_that_poses_as_the_control_plane_is_not_told_the_token(server: Server) -> None:
    with pytest.raises(CallError, match=r"is spiffe://cluster.local/ns/istio-system/sa/meltemi instead of"):
        await unary(server.target(identity=SpiffeId("cluster.local", "a", "b")), "/a.B/C", b"")
    assert server.tokens == []


async def test_roots_that_cannot_be_read_are_an_error_of_the_call(server: Server) -> None:
    with pytest.raises(CallError, match=r"roots cannot be read"):
        await unary(server.target(roots=b"\xff"), "/a.B/C", b"")


async def test_a_method_that_is_not_there(server: Server) -> None:
    with pytest.raises(CallError) as caught:
        await unary(server.target(), "/a.B/C", b"")
    assert caught.value.status == grpc.StatusCode.UNIMPLEMENTED.value[0]


async def test_an_authority_that_does_not_answer_is_given_up(server: Server, tmp_path: Path) -> None:
    server.behaviour = "hang"
    with pytest.raises(CallError, match=r"did not answer within 0.2 seconds"):
        await client_of(server, tmp_path, seconds=0.2).sign(b"csr", timedelta())


async def test_an_authority_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(CallError, match=r"cannot call 127.0.0.1"):
        await unary(Target(Address("127.0.0.1", port), "x", CONTROL_PLANE, _some_roots()), "/a.B/C", b"")


async def test_a_server_that_hangs_up_in_the_middle(server: Server, tmp_path: Path) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    served = ServingCertificate(server.authority, CONTROL_PLANE, utc_now).current()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "server.pem"
    pem.write_bytes(served.key + served.chain)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as broken:
        port = broken.sockets[0].getsockname()[1]
        with pytest.raises(CallError):
            await unary(server.target(address=Address("127.0.0.1", port)), "/a.B/C", b"")


def _some_roots() -> bytes:
    return load_authority(new_root("cluster.local", utc_now()), utc_now()).trust_bundle.encode()


# === framing ===


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_come_out_as_they_went_in_however_they_are_cut(size: int) -> None:
    messages = [b"", b"a", b"b" * 300]
    wire = b"".join(map(frame, messages))
    deframer = Deframer()
    found = [message for start in range(0, len(wire), size) for message in deframer.feed(wire[start : start + size])]
    assert found == messages


@pytest.mark.parametrize("head", [b"\x01\x00\x00\x00\x01", b"\x00" + (MAX_MESSAGE + 1).to_bytes(4, "big")])
def test_compressed_and_oversized_messages_are_refused(head: bytes) -> None:
    with pytest.raises(MalformedError):
        Deframer().feed(head)
