"""The certificate service over a real TLS connection on loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry, generate_latest

from meltemi.ca.audit import AuditLog
from meltemi.ca.authentication import AUDIENCE, TokenAuthenticator
from meltemi.ca.authority import Authority, load_authority, new_root
from meltemi.ca.metrics import CaMetrics
from meltemi.ca.service import SERVICE, CertificateService, certificate_server
from meltemi.ca.serving import ServingCertificate, control_plane_identity
from meltemi.kube.client import TokenIdentity
from meltemi.protos.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from meltemi.protos.services import method

from .conftest import csr_of, leaf_of

TOKENS = {
    "cart": TokenIdentity(True, "system:serviceaccount:shop:cart", audiences=(AUDIENCE,), pod="cart-1", pod_uid="7f"),
    "other-audience": TokenIdentity(True, "system:serviceaccount:shop:cart", audiences=("vault",)),
    "expired": TokenIdentity(False, error="service account token has expired"),
}


class ApiServer:
    async def review_token(self, token: str, audiences: object) -> TokenIdentity:
        if token == "away":
            raise OSError("connection refused")
        return TOKENS[token]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Door:
    """A served authority, and a client of it that trusts its root."""

    def __init__(self, directory: Path, ttl: timedelta = timedelta(hours=1)) -> None:
        now = utc_now()
        self.authority: Authority = load_authority(new_root("cluster.local", now), now)
        self.metrics = CaMetrics(self.authority, utc_now)
        self.audit = directory / "audit.jsonl"
        service = CertificateService(
            self.authority,
            TokenAuthenticator(ApiServer(), utc_now),
            trust_domain="cluster.local",
            metrics=self.metrics,
            audit=AuditLog(self.audit),
            clock=utc_now,
        )
        self.time = now - timedelta(minutes=40)
        serving = ServingCertificate(
            self.authority, control_plane_identity("cluster.local"), lambda: self.time, ttl=ttl
        )
        self.server, self.port = certificate_server(service, serving, "127.0.0.1:0")

    def channel(self) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.authority.trust_bundle.encode())
        options = [("grpc.ssl_target_name_override", "istiod.istio-system.svc"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)

    async def ask(self, token: str, csr: bytes | None = None, **fields: object) -> IstioCertificateResponse:
        csr = csr if csr is not None else csr_of(ec.generate_private_key(ec.SECP256R1()))
        request = IstioCertificateRequest(csr=csr.decode(), validity_duration=600)
        if "metadata" in fields:
            request.metadata.update(fields["metadata"])  # type: ignore[arg-type]
        async with self.channel() as channel:
            call = method(SERVICE, "CreateCertificate").on(channel)
            answer = await call(request, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            assert isinstance(answer, IstioCertificateResponse)
            return answer


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    door = Door(tmp_path)
    await door.server.start()
    yield door
    await door.server.stop(None)


async def refusal(door: Door, token: str, csr: bytes | None = None, **fields: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.ask(token, csr, **fields)
    return caught.value.code(), caught.value.details() or ""


async def test_a_workload_gets_the_certificate_of_its_service_account(door: Door) -> None:
    foreign = csr_of(ec.generate_private_key(ec.SECP256R1()), uris=["spiffe://cluster.local/ns/bank/sa/vault"])
    chain = list((await door.ask("cart", foreign)).cert_chain)
    san = leaf_of(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [uri.value for uri in san] == ["spiffe://cluster.local/ns/shop/sa/cart"]
    assert chain[-1] == door.authority.trust_bundle
    assert door.metrics.value("success_cert_issuance_count") == 1


async def test_every_certificate_leaves_a_line_that_only_the_owner_can_read(door: Door) -> None:
    chain = (await door.ask("cart")).cert_chain
    (line,) = map(json.loads, door.audit.read_text().splitlines())
    assert int(line["serial"], 16) == leaf_of(chain).serial_number
    assert line["identity"] == "spiffe://cluster.local/ns/shop/sa/cart"
    assert (line["pod"], line["pod_uid"]) == ("cart-1", "7f")
    assert "127.0.0.1" in line["peer"]
    assert stat.S_IMODE(door.audit.stat().st_mode) == 0o600


async def test_without_an_audit_line_there_is_no_certificate(door: Door) -> None:
    door.audit.mkdir()
    assert await refusal(door, "cart") == (grpc.StatusCode.INTERNAL, "the authority cannot sign now")


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        ("expired", grpc.StatusCode.UNAUTHENTICATED, "has expired"),
        ("other-audience", grpc.StatusCode.UNAUTHENTICATED, "audience 'istio-ca'"),
        ("away", grpc.StatusCode.UNAVAILABLE, "cannot be reviewed now"),
    ],
)
async def test_unproven_callers_are_told_why(door: Door, token: str, code: grpc.StatusCode, reason: str) -> None:
    found, details = await refusal(door, token)
    assert found is code
    assert reason in details
    assert door.metrics.value("authentication_failure_count") == 1
    assert door.metrics.value("success_cert_issuance_count") == 0


async def test_requests_that_cannot_be_read_are_invalid_arguments(door: Door) -> None:
    assert (await refusal(door, "cart", b"garbage"))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert door.metrics.value("csr_parsing_err_count") == 1


async def test_nobody_can_ask_in_the_name_of_another(door: Door) -> None:
    metadata = {"ImpersonatedIdentity": "spiffe://cluster.local/ns/bank/sa/vault"}
    assert (await refusal(door, "cart", metadata=metadata))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_oversized_requests_are_turned_away(door: Door) -> None:
    assert (await refusal(door, "cart", b"x" * 100_000))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_servers_certificate_is_renewed_without_a_restart(door: Door) -> None:
    first = await _served_serial(door)
    assert await _served_serial(door) == first
    door.time += timedelta(minutes=40)
    assert await _served_serial(door) != first


async def _served_serial(door: Door) -> int:
    context = ssl.create_default_context(cadata=door.authority.trust_bundle)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(
        "127.0.0.1", door.port, ssl=context, server_hostname="istiod.istio-system.svc"
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    certificate = x509.load_der_x509_certificate(der)
    uris = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert uris.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/istio-system/sa/meltemi"
    ]
    return certificate.serial_number


def test_counts_have_istios_names(tmp_path: Path) -> None:
    now = utc_now()
    metrics = CaMetrics(load_authority(new_root("cluster.local", now), now), lambda: now)
    metrics.count("csr_count")
    registry = CollectorRegistry()
    metrics.register(registry)
    lines = generate_latest(registry).decode().splitlines()
    assert "citadel_server_csr_count 1.0" in lines
    assert "citadel_server_success_cert_issuance_count 0.0" in lines
    assert any(line.startswith("citadel_server_root_cert_expiry_timestamp 2.1") for line in lines)
    assert any(line.startswith("citadel_server_cert_chain_expiry_seconds 3.15") for line in lines)
