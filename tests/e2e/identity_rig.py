"""What the identity tests stand on: an authority, a small control plane, an agent process and real Envoys, on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx

from meltemi.agent.bootstrap import encode, secret_from_agent
from meltemi.agent.client import AgentClient
from meltemi.agent.command import envoy_binary, envoy_command, proxy_environment
from meltemi.agent.spec import Address, Ports, ProxySpec
from meltemi.ca.audit import AuditLog
from meltemi.ca.authentication import AUDIENCE, TokenAuthenticator
from meltemi.ca.authority import Authority, open_authority
from meltemi.ca.metrics import CaMetrics
from meltemi.ca.service import CertificateService, certificate_server
from meltemi.ca.serving import GRPC_OPTIONS, ServingCertificate, control_plane_identity
from meltemi.kube.client import TokenIdentity
from meltemi.protos import from_dict
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    Resource,
)
from meltemi.protos.google.protobuf.any_pb2 import Any as AnyMessage
from meltemi.protos.services import handler
from meltemi.testing.envoys import free_ports

Json = dict[str, Any]
TYPES = "type.googleapis.com"
DEADLINE = 30


def utc_now() -> datetime:
    return datetime.now(UTC)


def free_port() -> int:
    [port] = free_ports(1)
    return port


class ApiServer:
    """Reviews tokens of the form `<namespace>/<service account>`."""

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenIdentity:
        namespace, _, account = token.partition("/")
        return TokenIdentity(True, f"system:serviceaccount:{namespace}:{account}", audiences=(AUDIENCE,))


class ControlPlane:
    """An authority and a delta ADS server that gives every proxy the listeners and clusters told for it."""

    def __init__(self, directory: Path) -> None:
        self.authority: Authority = open_authority(directory / "ca", organization="cluster.local", now=utc_now())
        self.roots = directory / "root-cert.pem"
        self.roots.write_text(self.authority.trust_bundle)
        self.peers: list[str] = []
        self.configurations: dict[str, Mapping[str, Sequence[tuple[str, bytes]]]] = {}
        self.serving = ServingCertificate(self.authority, control_plane_identity("cluster.local"), utc_now)
        self.ca_port = 0
        self.xds_port = 0
        self._ca: grpc.aio.Server | None = None
        self._xds: grpc.aio.Server | None = None

    async def start(self) -> None:
        await self.start_ca()
        self._xds = grpc.aio.server(options=GRPC_OPTIONS)
        service = "envoy.service.discovery.v3.AggregatedDiscoveryService"
        self._xds.add_generic_rpc_handlers((handler(service, {"DeltaAggregatedResources": self._stream}),))
        self.xds_port = self._xds.add_secure_port("127.0.0.1:0", self.serving.credentials(require_client=True))
        await self._xds.start()

    async def start_ca(self) -> None:
        service = CertificateService(
            self.authority,
            TokenAuthenticator(ApiServer(), utc_now),
            trust_domain="cluster.local",
            metrics=CaMetrics(self.authority, utc_now),
            audit=AuditLog(None),
            clock=utc_now,
        )
        self._ca, self.ca_port = certificate_server(service, self.serving, f"127.0.0.1:{self.ca_port}")
        await self._ca.start()

    async def stop_ca(self) -> None:
        if self._ca is not None:
            await self._ca.stop(None)

    async def aclose(self) -> None:
        await self.stop_ca()
        if self._xds is not None:
            await self._xds.stop(None)

    async def _stream(
        self, requests: AsyncIterator[DeltaDiscoveryRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        configuration: Mapping[str, Sequence[tuple[str, bytes]]] = {}
        async for request in requests:
            if request.node.id:
                self.peers += (name.decode() for name in context.auth_context()["x509_subject_alternative_name"])
                configuration = self.configurations[request.node.id]
            assert not request.HasField("error_detail"), request.error_detail.message
            if not request.response_nonce:
                yield DeltaDiscoveryResponse(
                    type_url=request.type_url,
                    nonce="1",
                    resources=[
                        Resource(name=name, version="1", resource=AnyMessage(type_url=request.type_url, value=body))
                        for name, body in configuration.get(request.type_url, ())
                    ],
                )


class AgentProcess:
    """`python -m meltemi.agent`, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.control = directory / "agent" / "control.sock"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "meltemi.agent", "--control", str(self.control)]
        self.process = await asyncio.create_subprocess_exec(*command)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()

    def memory(self) -> float:
        """Resident memory in MB."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")


class Rig:
    """Everything of one test. Proxies are named by their service account in the namespace `shop`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control_plane = ControlPlane(directory)
        self.agent = AgentProcess(directory)
        self._stack = AsyncExitStack()
        self.client: AgentClient
        self.http: httpx.AsyncClient

    async def start(self) -> None:
        await self.control_plane.start()
        self._stack.push_async_callback(self.control_plane.aclose)
        await self.agent.start()
        self._stack.push_async_callback(self.agent.stop)
        self.client = AgentClient(self.agent.control)
        self._stack.push_async_callback(self.client.aclose)
        self.http = await self._stack.enter_async_context(httpx.AsyncClient(timeout=DEADLINE, trust_env=False))

    async def aclose(self) -> None:
        await self._stack.aclose()

    def spec(self, account: str, **fields: Any) -> ProxySpec:
        token = self.directory / f"{account}.token"
        token.write_text(f"shop/{account}\n")
        return ProxySpec(
            pod=f"{account}-1",
            namespace="shop",
            service_account=account,
            ip="127.0.0.1",
            sds_socket=str(self.directory / "agent" / account / "sds.sock"),
            token=str(token),
            roots=str(self.control_plane.roots),
            control_plane=Address("127.0.0.1", self.control_plane.xds_port),
            authority=Address("127.0.0.1", self.control_plane.ca_port),
            labels={"app": account},
            concurrency=1,
            mark=0,
            ports=Ports(admin=free_port(), agent=free_port(), health=free_port(), prometheus=free_port()),
            **fields,
        )

    async def envoy(self, spec: ProxySpec, *, listeners: Sequence[Json] = (), clusters: Sequence[Json] = ()) -> None:
        """Starts an Envoy that gets these from the control plane, and waits until it is ready."""
        self.control_plane.configurations[spec.node_id] = {
            f"{TYPES}/envoy.config.cluster.v3.Cluster": [
                (entry["name"], from_dict(Cluster, entry).SerializeToString()) for entry in clusters
            ],
            f"{TYPES}/envoy.config.listener.v3.Listener": [
                (entry["name"], from_dict(Listener, entry).SerializeToString()) for entry in listeners
            ],
        }
        config = self.directory / f"{spec.pod}.json"
        config.write_bytes(encode(spec))
        command = envoy_command(envoy_binary(), config, spec)
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **proxy_environment(spec)})
        self._stack.push_async_callback(_end, process)
        await self.until_ready(spec, process)

    async def until_ready(self, spec: ProxySpec, process: asyncio.subprocess.Process) -> None:
        """Asks until Envoy says that it is ready; each answer, or refused connection, is an event of its start."""
        async with asyncio.timeout(DEADLINE):
            while True:
                assert process.returncode is None, "Envoy ended"
                try:
                    answer = await self.http.get(f"http://127.0.0.1:{spec.ports.health}/healthz/ready")
                except httpx.TransportError:
                    await asyncio.sleep(0)
                    continue
                if answer.status_code == 200:
                    return


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


# === what the control plane tells the Envoys ===


def secret(name: str, dialect: str) -> Json:
    """A secret from the agent, over `GRPC` (state of the world) or `DELTA_GRPC`."""
    config = secret_from_agent(name)
    config["sds_config"]["api_config_source"]["api_type"] = dialect
    return config


def tls(kind: str, *, peer: str, dialect: str = "GRPC", **fields: Any) -> Json:
    """A transport socket with the workload's identity; the peer must be `spiffe://.../sa/<peer>`."""
    peer_id = f"spiffe://cluster.local/ns/shop/sa/{peer}"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}/envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificate_sds_secret_configs": [secret("default", dialect)],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer_id}}]
                    },
                    "validation_context_sds_secret_config": secret("ROOTCA", dialect),
                },
            },
            **fields,
        },
    }


def listener(name: str, port: int, route: Json, *, transport_socket: Json | None = None, **manager: Any) -> Json:
    connection_manager = {
        "@type": f"{TYPES}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
        **manager,
    }
    chain: Json = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}]
    }
    if transport_socket is not None:
        chain["transport_socket"] = transport_socket
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }


def cluster(name: str, port: int, transport_socket: Json, **options: Any) -> Json:
    """A cluster that speaks HTTP/2 and makes a connection, and so a handshake, per request."""
    http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    return {
        "name": name,
        "alt_stat_name": f"{name};",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": transport_socket,
        "typed_extension_protocol_options": {
            http: {
                "@type": f"{TYPES}/{http}",
                "common_http_protocol_options": {"max_requests_per_connection": 1},
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        **options,
    }
