"""gRPC methods are served and called from their descriptors alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from meltemi.protos import services
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from meltemi.protos.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
CA = "istio.v1.auth.IstioCertificateService"


def test_a_method_is_known_by_its_descriptor() -> None:
    method = services.method(ADS, "DeltaAggregatedResources")
    assert method.path == f"/{ADS}/DeltaAggregatedResources"
    assert (method.service, method.name, method.kind) == (ADS, "DeltaAggregatedResources", "stream_stream")
    assert (method.request, method.response) == (DeltaDiscoveryRequest, DeltaDiscoveryResponse)


def test_all_four_kinds_are_told_apart() -> None:
    kinds = {
        services.method(service, name).kind
        for service, name in [
            (CA, "CreateCertificate"),
            (ADS, "StreamAggregatedResources"),
            ("envoy.service.accesslog.v3.AccessLogService", "StreamAccessLogs"),
            ("grpc.health.v1.Health", "Watch"),
        ]
    }
    assert kinds == {"unary_unary", "stream_stream", "stream_unary", "unary_stream"}


def test_the_methods_of_a_service_are_listed() -> None:
    assert [method.name for method in services.methods(ADS)] == [
        "StreamAggregatedResources",
        "DeltaAggregatedResources",
    ]


@pytest.mark.parametrize(("service", "name"), [("example.Nothing", "Do"), (CA, "Do")])
def test_what_is_not_in_the_api_is_a_key_error(service: str, name: str) -> None:
    with pytest.raises(KeyError):
        services.method(service, name)


async def _create(request: IstioCertificateRequest, _context: Any) -> IstioCertificateResponse:
    return IstioCertificateResponse(cert_chain=[request.csr, "root"])


async def _discover(requests: AsyncIterator[DeltaDiscoveryRequest], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield DeltaDiscoveryResponse(nonce=request.type_url).SerializeToString()


async def test_services_are_served_and_called(tmp_path: Path) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            services.handler(CA, {"CreateCertificate": _create}),
            services.handler(ADS, {"DeltaAggregatedResources": _discover}, raw_responses={"DeltaAggregatedResources"}),
        )
    )
    address = f"unix:{tmp_path / 'grpc.sock'}"
    server.add_insecure_port(address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            create = services.method(CA, "CreateCertificate")
            assert await create.on(channel)(IstioCertificateRequest(csr="leaf"), timeout=10) == (
                IstioCertificateResponse(cert_chain=["leaf", "root"])
            )
            assert await create.on(channel, raw=True)(b"", timeout=10) == b"\x0a\x00\x0a\x04root"

            discover = services.method(ADS, "DeltaAggregatedResources").on(channel)
            answers = discover(
                iter([DeltaDiscoveryRequest(type_url="a"), DeltaDiscoveryRequest(type_url="b")]), timeout=10
            )
            assert [answer.nonce async for answer in answers] == ["a", "b"]

            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await services.method("grpc.health.v1.Health", "Check").on(channel, raw=True)(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop(None)
