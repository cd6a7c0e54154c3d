"""The filter chains of the server side: how a port tells mutual TLS from plaintext, and requests from mere bytes.

What a port accepts (its mTLS mode) and what it speaks decide which chains it has. `SHAPES` is the whole of that: a
client of the mesh offers a protocol of Istio's by ALPN, which no other client does, so that a port that is open to both
can still tell an application's own TLS, which is passed on unopened, from the mesh's.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Sequence

import msgspec

from meltemi.envoy import access_logs, authorization, http, metrics, names, peer, server_tls, tcp
from meltemi.envoy.chains import OPENED_HTTP, PLAIN_HTTP
from meltemi.envoy.values import uint32
from meltemi.model.gateways import ServerTls
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import InboundPort
from meltemi.model.security import MutualTls
from meltemi.model.services import Protocol
from meltemi.model.traffic import ConnectionPool
from meltemi.protos.envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

BLACK_HOLE = "virtualInbound-blackhole"
PASSTHROUGH_HTTP = "virtualInbound-catchall-http"
PASSTHROUGH_TCP = "virtualInbound"

TLS, PLAIN = "tls", "raw_buffer"
MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH = ("istio", *MESH_HTTP)

_RETRIES = 2


class Spoken(enum.Enum):
    """What goes over a port, as far as a proxy is concerned."""

    HTTP = "http"
    TCP = "tcp"
    EITHER = "either"  # found out from the first bytes


class Shape(msgspec.Struct, frozen=True):
    """One chain of a port: what it matches, whether it looks at requests, and whether it opens the TLS it matched."""

    transport: str
    protocols: tuple[str, ...] = ()
    http: bool = False
    opens_tls: bool = False


_MUTUAL_HTTP = Shape(TLS, MESH_HTTP, http=True, opens_tls=True)
_ANY_MUTUAL_TCP = Shape(TLS, opens_tls=True)
_PLAIN_HTTP = Shape(PLAIN, PLAIN_HTTP, http=True)
_PLAIN_TCP = Shape(PLAIN)
_FOREIGN_TLS = Shape(TLS)

SHAPES: dict[tuple[MutualTls, Spoken], tuple[Shape, ...]] = {
    (MutualTls.PERMISSIVE, Spoken.EITHER): (
        _MUTUAL_HTTP,
        _PLAIN_HTTP,
        Shape(TLS, ("istio",), opens_tls=True),
        _PLAIN_TCP,
        _FOREIGN_TLS,
    ),
    (MutualTls.PERMISSIVE, Spoken.HTTP): (Shape(TLS, MESH, http=True, opens_tls=True), Shape(PLAIN, http=True)),
    (MutualTls.PERMISSIVE, Spoken.TCP): (Shape(TLS, MESH, opens_tls=True), _FOREIGN_TLS, _PLAIN_TCP),
    (MutualTls.STRICT, Spoken.EITHER): (_MUTUAL_HTTP, _ANY_MUTUAL_TCP),
    (MutualTls.STRICT, Spoken.HTTP): (Shape(TLS, http=True, opens_tls=True),),
    (MutualTls.STRICT, Spoken.TCP): (_ANY_MUTUAL_TCP,),
    (MutualTls.DISABLE, Spoken.EITHER): (_PLAIN_HTTP, _PLAIN_TCP),
    (MutualTls.DISABLE, Spoken.HTTP): (Shape(PLAIN, http=True),),
    (MutualTls.DISABLE, Spoken.TCP): (_PLAIN_TCP,),
}

OWN_TLS: dict[Spoken, tuple[Shape, ...]] = {
    Spoken.EITHER: (Shape(TLS, OPENED_HTTP, http=True, opens_tls=True), _ANY_MUTUAL_TCP),
    Spoken.HTTP: (Shape(TLS, http=True, opens_tls=True),),
    Spoken.TCP: (_ANY_MUTUAL_TCP,),
}
"""The chains of a port that ends TLS of its own: nothing of the mesh is expected there."""


def spoken(protocol: Protocol) -> Spoken:
    """What a proxy looks for on a port of that protocol."""
    if protocol is Protocol.AUTO:
        return Spoken.EITHER
    return Spoken.HTTP if protocol.is_http else Spoken.TCP


def shapes(mode: MutualTls, protocol: Protocol) -> tuple[Shape, ...]:
    """The chains of a port that accepts that and speaks that."""
    return SHAPES[mode, spoken(protocol)]


class Door(msgspec.Struct, frozen=True):
    """A port, or (port 0) all ports that no service declares, and what its chains lead to.

    Where it is not `captured`, its listener is its own. `tls` is TLS that it ends in place of the mesh's.
    """

    port: int
    mode: MutualTls
    protocol: Protocol
    cluster: str
    names: tuple[str, str]  # of chains for requests, of chains for connections
    prefix: str
    host: str = ""
    service_port: int = 0
    bind: str = ""
    captured: bool = True
    tls: ServerTls | None = None
    pool: ConnectionPool = ConnectionPool()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Its chains."""
        return shapes(self.mode, self.protocol) if self.tls is None else OWN_TLS[spoken(self.protocol)]

    def knows_peer(self, shape: Shape) -> bool:
        """Whether whoever comes in by that chain has shown to be of the mesh."""
        return shape.opens_tls and self.tls is None


def of_port(port: InboundPort) -> Door:
    """A port that a service declares."""
    name = names.listener(port.bind or names.WILDCARD, port.port)
    return Door(
        port=port.port,
        mode=port.mutual_tls,
        protocol=port.protocol,
        cluster=names.inbound_cluster(port.port),
        names=(name, name),
        prefix=f"inbound_{name};",
        host=port.host,
        service_port=port.service_port,
        bind=port.bind,
        captured=port.captured,
        tls=port.tls,
        pool=port.pool,
    )


def undeclared(number: int, mode: MutualTls) -> Door:
    """A port (0: every port) that no service declares; what is spoken there is found out."""
    return Door(
        port=number,
        mode=mode,
        protocol=Protocol.AUTO,
        cluster=names.INBOUND_PASSTHROUGH,
        names=(PASSTHROUGH_HTTP, PASSTHROUGH_TCP),
        prefix=names.stat_name(names.INBOUND_PASSTHROUGH),
    )


def chains(door: Door, guards: Sequence[Filter], mesh: Mesh) -> Iterator[FilterChain]:
    """The filter chains of a door. `guards` are the filters that judge connections."""
    for shape in door.shapes:
        match = FilterChainMatch(transport_protocol=shape.transport, application_protocols=shape.protocols)
        if door.port and door.captured:
            match.destination_port.value = door.port
        made = _http_filters(door, shape, mesh) if shape.http else _tcp_filters(door, shape, guards, mesh)
        chain = FilterChain(name=door.names[0 if shape.http else 1], filter_chain_match=match, filters=made)
        if shape.opens_tls:
            opened = server_tls.mutual(mesh) if door.tls is None else server_tls.server(door.tls, mesh, http=shape.http)
            chain.transport_socket.CopyFrom(opened)
        yield chain


def black_hole(mesh: Mesh) -> FilterChain:
    """A connection to the listener's own port would come back for ever, so it goes nowhere."""
    return FilterChain(
        name=BLACK_HOLE,
        filter_chain_match=FilterChainMatch(destination_port=uint32(mesh.inbound_listener_port)),
        filters=[tcp.to_cluster(names.BLACK_HOLE, mesh, access_logs.loggers(mesh))],
    )


# === requests ===


def _http_filters(door: Door, shape: Shape, mesh: Mesh) -> list[Filter]:
    filters = http.common_filters(grpc_web=door.protocol is Protocol.GRPC_WEB)
    filters[authorization.HTTP] = authorization.http_filters()
    secured = door.knows_peer(shape)
    if secured:
        filters[peer.NAME] = peer.believed()
    else:
        filters[peer.REMOVAL] = peer.ignored()
    loggers = http_loggers(mesh, secured=secured)
    manager = http.connection_manager(door.prefix, http.rds(door.cluster), filters, loggers, mesh)
    forward_identity(manager)
    return [http.as_filter(manager)]


def forward_identity(manager: HttpConnectionManager) -> None:
    """The application may read in `x-forwarded-client-cert` who called it, and on whose behalf."""
    manager.forward_client_cert_details = HttpConnectionManager.APPEND_FORWARD
    shown = manager.set_current_client_cert_details
    shown.subject.value = True
    shown.uri = True
    shown.dns = True


@functools.lru_cache(maxsize=8)
def http_loggers(mesh: Mesh, *, secured: bool) -> tuple[AccessLog, ...]:
    """How a server's sidecar tells of requests. Made once: do not change them."""
    return (
        *metrics.http_loggers(
            metrics.Reporter.DESTINATION,
            metrics.peer() if secured else metrics.stranger(),
            metrics.local(_own_identity(secured)),
            metrics.called_service(http=False),
            security=_policy(secured),
        ),
        *access_logs.loggers(mesh),
    )


def _own_identity(secured: bool) -> str:
    return "%DOWNSTREAM_LOCAL_URI_SAN%" if secured else "unknown"


def _policy(secured: bool) -> str:
    """Istio's label for how the connection was secured."""
    return "mutual_tls" if secured else "none"


# === connections ===


def _tcp_filters(door: Door, shape: Shape, guards: Sequence[Filter], mesh: Mesh) -> list[Filter]:
    loggers = tcp_loggers(mesh, secured=door.knows_peer(shape))
    carried = tcp.to_cluster(door.cluster, mesh, loggers, after_handshake=shape.opens_tls, pool=door.pool)
    return [*guards, carried]


@functools.lru_cache(maxsize=8)
def tcp_loggers(mesh: Mesh, *, secured: bool) -> tuple[AccessLog, ...]:
    """How a server's sidecar tells of connections. Made once: do not change them."""
    return (
        *metrics.tcp_loggers(
            metrics.Reporter.DESTINATION,
            metrics.stranger("%DOWNSTREAM_PEER_URI_SAN%" if secured else "unknown"),
            metrics.local(_own_identity(secured)),
            metrics.called_service(http=False),
            security=_policy(secured),
        ),
        *access_logs.loggers(mesh),
    )
