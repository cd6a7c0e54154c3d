"""Services, the workloads behind them, and the endpoints at which they are reached."""

from __future__ import annotations

import enum

import msgspec

from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.model.clients import EVERYWHERE, Locality, Visibility


class Protocol(enum.StrEnum):
    """What is spoken on a port, as Istio's protocol selection decides it; AUTO is found out by sniffing."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    HTTP_PROXY = "HTTP_PROXY"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "Mongo"
    REDIS = "Redis"
    MYSQL = "MySQL"
    UDP = "UDP"
    AUTO = "Auto"

    @property
    def is_http(self) -> bool:
        """Whether requests are seen one by one."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        """Whether HTTP/2 is spoken from the first byte."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """Whether the application brings its own TLS, which can be routed by SNI only."""
        return self in (Protocol.HTTPS, Protocol.TLS)

    @property
    def is_tcp(self) -> bool:
        """Whether only bytes are seen (TLS of the application's own included)."""
        return self in _TCP


_HTTP = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTP_PROXY})
_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_TCP = frozenset({Protocol.TCP, Protocol.TLS, Protocol.HTTPS, Protocol.MONGO, Protocol.REDIS, Protocol.MYSQL})


class Resolution(enum.StrEnum):
    """How the addresses of a service are found."""

    ENDPOINTS = "endpoints"  # known to the control plane (Envoy: EDS)
    DNS = "dns"  # by DNS, all answers (Envoy: STRICT_DNS)
    DNS_ROUND_ROBIN = "dns-round-robin"  # by DNS, the first answer (Envoy: LOGICAL_DNS)
    ORIGINAL = "original"  # wherever the client was going (Envoy: ORIGINAL_DST)
    DYNAMIC_DNS = "dynamic-dns"  # by the name in the request (Envoy: dynamic forward proxy)


class ServicePort(msgspec.Struct, frozen=True, order=True):
    """A port of a service. `target` is the port number or port name on the workload."""

    number: int
    name: str
    protocol: Protocol
    target: int | str = 0


class Session(msgspec.Struct, frozen=True, order=True):
    """What keeps a client at the endpoint that it was first sent to: a cookie with a path, or a header."""

    cookie: str = ""
    path: str = "/"
    header: str = ""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be called by a host name. `key` in its table: (namespace, host).

    `addresses` are the virtual addresses (or CIDR blocks) under which clients reach it; `allocated`: its author named
    none, and the mesh gives it one, which may not stand yet. `selector` chooses workloads of
    its own namespace; `identities` are the SANs to be expected where the user named them (ServiceEntry
    `subjectAltNames`); `external` says that it is not part of the mesh, so that neither mTLS nor peer metadata go to it.
    `headless`: its endpoints are known, but clients choose among them by DNS, and connections must go where they wanted.
    `external_name` is the DNS name that a Service of type ExternalName stands for. `session`: clients stay at their endpoint.
    """

    host: str
    namespace: str
    name: str
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...] = ()
    allocated: bool = False
    resolution: Resolution = Resolution.ENDPOINTS
    headless: bool = False
    external: bool = False
    external_name: str = ""
    visibility: Visibility = EVERYWHERE
    identities: tuple[str, ...] = ()
    selector: LabelSet = LabelSet()
    session: Session | None = None
    created: str = ""
    ref: Ref

    @property
    def key(self) -> tuple[str, str]:
        """Its key in the table of services."""
        return (self.namespace, self.host)

    def port(self, number: int) -> ServicePort | None:
        """The port with that number."""
        return next((port for port in self.ports if port.number == number), None)


class WorkloadName(msgspec.Struct, frozen=True, order=True):
    """Who a workload is in metrics and topologies: Istio's workload, app, version and canonical names."""

    workload: str = ""
    namespace: str = ""
    app: str = ""
    version: str = ""
    canonical_service: str = ""
    canonical_revision: str = "latest"
    cluster: str = ""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A running instance: a pod, or a WorkloadEntry. `key` in its table: (namespace, name).

    `meshed` says that a proxy of the mesh stands before it, so that mTLS can be spoken to it. `ports` are its named
    ports. `terminating` says that it has been told to stop.
    """

    namespace: str
    name: str
    addresses: tuple[str, ...]
    labels: LabelSet
    identity: SpiffeId | None
    meshed: bool
    ports: tuple[tuple[str, int], ...] = ()
    names: WorkloadName = WorkloadName()
    locality: Locality = Locality()
    network: str = ""
    weight: int = 0
    ready: bool = True
    terminating: bool = False
    ref: Ref


class Health(enum.StrEnum):
    """Whether an endpoint takes new requests, finishes old ones, or neither."""

    HEALTHY = "healthy"
    DRAINING = "draining"
    UNHEALTHY = "unhealthy"


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One address behind one port of a service: an IP address, a DNS name, or `unix://` and a path.

    `hostname` is the name of its own under which DNS knows it (`<pod>.<service host>` of a headless service).
    """

    address: str
    port: int
    labels: LabelSet = LabelSet()
    meshed: bool = False
    identity: SpiffeId | None = None
    names: WorkloadName = WorkloadName()
    locality: Locality = Locality()
    network: str = ""
    weight: int = 1
    health: Health = Health.HEALTHY
    hostname: str = ""


class ServiceEndpoints(msgspec.Struct, frozen=True):
    """The endpoints of one service by port number, each tuple sorted. `key` in its table: that of the service."""

    namespace: str
    host: str
    ports: tuple[tuple[int, tuple[Endpoint, ...]], ...] = ()

    def of(self, port: int) -> tuple[Endpoint, ...]:
        """The endpoints of one port."""
        return next((endpoints for number, endpoints in self.ports if number == port), ())


class ServiceAccounts(msgspec.Struct, frozen=True):
    """The identities that the workloads of a service run under: what clients must see in its certificates.

    Kept apart from the endpoints so that a cluster changes only when the set of identities does. `meshed`: it has
    endpoints, and every one of them can speak mTLS (which decides for services whose endpoints the client chooses).
    """

    namespace: str
    host: str
    identities: tuple[str, ...] = ()
    meshed: bool = False
