"""One proxy as whoever starts it describes it: which workload it stands beside, and where everything is.

Bootstrap, environment and agent are made from this one value. Invariant: nothing here is a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from meltemi.base.spiffe import SpiffeId
from meltemi.base.workloads import canonical_revision, canonical_service

CONTROL_PLANE = "meltemi"
_MAX_SOCKET_PATH = 107


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Where the proxy and its agent listen, in the pod's network namespace: Istio's numbers."""

    admin: int = 15000
    agent: int = 15020
    health: int = 15021
    names: int = 15053
    prometheus: int = 15090


class Address(msgspec.Struct, frozen=True):
    """A host (name or IP) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Naming(msgspec.Struct, frozen=True):
    """How a pod whose DNS its agent answers resolves names that the mesh does not know: IPv4 resolvers, search domains."""

    resolvers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()


class ProxySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A sidecar or gateway proxy of one pod.

    `token` is the file with the service account token that proves the workload's identity, `roots` the file with the
    mesh's roots (PEM), `control_plane` where Envoy gets its configuration (mutual TLS) and `authority` where the agent
    gets certificates (TLS and token). `resolver` is the DNS server that Envoy asks (None: those of the pod). `files` is
    the directory below which the paths of file secrets are looked up;
    empty serves none. `certificate_ttl` is the lifetime
    to ask for, in seconds (0: the authority's default). `merges_metrics`: the
    application's metrics stand beside Envoy's on the agent's page. `environment` has variables of the user's; those that begin with
    `ISTIO_META_` go into the node metadata too. For `drain_seconds` after a change of a listener, requests on its old
    connections are finished. Envoy writes its log files every `flush_seconds` or `flush_size` KiB (0: its own number). `mark` is the socket mark of Envoy's own connections, which capture rules exempt (0: none).
    `naming` is there if the agent answers the pod's DNS.
    """

    pod: str
    namespace: str
    service_account: str
    ip: str
    sds_socket: str
    token: str
    roots: str
    control_plane: Address
    authority: Address
    resolver: Address | None = None
    kind: Literal["sidecar", "router"] = "sidecar"
    workload: str = ""
    owner: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    proxy_config: Mapping[str, object] = msgspec.field(default_factory=dict)
    cluster_id: str = "Kubernetes"
    trust_domain: str = "cluster.local"
    domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    network: str = ""
    mesh_id: str = ""
    node: str = ""
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    revision: str = "default"
    files: str = ""
    certificate_ttl: float = 0
    concurrency: int = 2
    drain_seconds: int = 45
    flush_seconds: float = 1.0
    flush_size: int = 0
    merges_metrics: bool = True
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    mark: int = 1337
    naming: Naming | None = None
    max_downstream_connections: int = 1_000_000
    ports: Ports = Ports()

    def __post_init__(self) -> None:
        if len(self.sds_socket.encode()) > _MAX_SOCKET_PATH:
            raise ValueError(f"the path of a unix socket has at most {_MAX_SOCKET_PATH} bytes: {self.sds_socket}")

    @property
    def id(self) -> str:
        """`<pod>.<namespace>`, as proxies are called everywhere."""
        return f"{self.pod}.{self.namespace}"

    @property
    def node_id(self) -> str:
        """Envoy's node id in Istio's form."""
        return f"{self.kind}~{self.ip}~{self.id}~{self.namespace}.svc.{self.domain}"

    @property
    def identity(self) -> SpiffeId:
        """The identity of the workload, and so of its proxy."""
        return SpiffeId(self.trust_domain, self.namespace, self.service_account)

    @property
    def control_plane_identity(self) -> SpiffeId:
        """The identity that the control plane must prove."""
        return SpiffeId(self.trust_domain, self.root_namespace, CONTROL_PLANE)

    @property
    def workload_name(self) -> str:
        """The name of the Deployment or other owner; the pod's own where there is none."""
        return self.workload or self.pod

    @property
    def canonical_service(self) -> str:
        """Istio's canonical service: a label that says it, or the workload's name."""
        return canonical_service(self.labels, self.workload_name)

    @property
    def service_cluster(self) -> str:
        """Envoy's node cluster: the `serviceCluster` that was asked for, or a name of the form `tracingServiceName` says."""
        asked = self.proxy_config.get("serviceCluster")
        if asked:
            return str(asked)
        form = self.proxy_config.get("tracingServiceName")
        return self.canonical_service if form == "CANONICAL_NAME_ONLY" else f"{self.canonical_service}.{self.namespace}"

    @property
    def canonical_revision(self) -> str:
        """Istio's canonical revision: a label that says it, or `latest`."""
        return canonical_revision(self.labels)
