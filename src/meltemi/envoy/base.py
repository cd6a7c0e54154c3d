"""What every sidecar has before it knows of any service: where captured connections arrive, and where the rest goes."""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.base.problems import Problem
from meltemi.envoy import access_logs, chains, metadata, names, pools, tcp
from meltemi.envoy.resource import LISTENER, Offer, Resource, Variant, finish, offer
from meltemi.envoy.unknown import EgressProxies, outbound_policies
from meltemi.envoy.values import address, boolean, duration, uint32
from meltemi.envoy.virtual_hosts import SIDECARS
from meltemi.model.clients import OutboundPolicy
from meltemi.model.mesh import Mesh
from meltemi.model.traffic import ConnectionPool
from meltemi.protos import any_of
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.address_pb2 import BindConfig
from meltemi.protos.envoy.config.core.v3.base_pb2 import TrafficDirection
from meltemi.protos.envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions
from meltemi.protos.envoy.config.core.v3.socket_option_pb2 import SocketOption
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain, FilterChainMatch
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

Key = tuple[str, str]  # resource name, "" (they are nobody's)

LOOPBACK_SOURCE = "127.0.0.6"  # where connections to the own workload come from: capture lets them through
SOCKET_MARK = 1337  # on all connections that a proxy opens itself: capture lets them through
_SOL_SOCKET, _SO_MARK = 1, 36  # Linux


def base(mesh: Mesh, *, egress_proxies: EgressProxies) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of what does not depend on any service."""
    for message in (passthrough(mesh), black_hole(mesh), inbound_passthrough(mesh)):
        yield (message.name, ""), offer(finish(message.name, message), clients=SIDECARS)
    choices = [
        Variant(clients, _virtual_outbound(mesh, policy))
        for clients, policy in outbound_policies(mesh, egress_proxies.only())
    ]
    yield (names.VIRTUAL_OUTBOUND, ""), Offer(LISTENER, names.VIRTUAL_OUTBOUND, tuple(choices))


def _virtual_outbound(mesh: Mesh, policy: OutboundPolicy) -> Resource:
    return finish(names.VIRTUAL_OUTBOUND, virtual_outbound(mesh, policy))


def virtual_outbound(mesh: Mesh, policy: OutboundPolicy) -> Listener:
    """The listener that all captured outbound connections arrive at.

    It hands each to the listener of its original destination; what has none is treated as unknown traffic is. A
    connection to the port itself would come back for ever, so it goes nowhere.
    """
    port = mesh.outbound_listener_port
    return Listener(
        name=names.VIRTUAL_OUTBOUND,
        address=address(names.WILDCARD, port),
        use_original_dst=boolean(True),
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[
            FilterChain(
                name="virtualOutbound-blackhole",
                filter_chain_match=FilterChainMatch(destination_port=uint32(port)),
                filters=[tcp.to_cluster(names.BLACK_HOLE, mesh)],
            ),
            FilterChain(name="virtualOutbound-catchall-tcp", filters=chains.to_unknown(policy, mesh)),
        ],
        access_log=access_logs.loggers(mesh, only_unrouted=True),
    )


def passthrough(mesh: Mesh) -> Cluster:
    """Where the client was going, whatever that is, in the protocol it speaks."""
    message = _original_destination(names.PASSTHROUGH, mesh)
    message.metadata.CopyFrom(metadata.of_route(names.PASSTHROUGH, names.PASSTHROUGH, metadata.UNKNOWN))
    return message


def inbound_passthrough(mesh: Mesh) -> Cluster:
    """The own workload, on ports that no service declares. The source address keeps capture from catching it again."""
    message = _original_destination(names.INBOUND_PASSTHROUGH, mesh)
    message.upstream_bind_config.CopyFrom(to_own_workload())
    message.metadata.CopyFrom(metadata.of_route(names.INBOUND_PASSTHROUGH, names.INBOUND_PASSTHROUGH, metadata.UNKNOWN))
    return message


def to_own_workload() -> BindConfig:
    """How connections to the own workload are opened. A cluster's own settings replace the bootstrap's, mark and all."""
    message = BindConfig(socket_options=[marked()])
    message.source_address.address = LOOPBACK_SOURCE
    message.source_address.port_value = 0
    return message


def marked() -> SocketOption:
    """The mark by which capture knows the proxy's own connections."""
    return SocketOption(
        description="the mesh's mark",
        level=_SOL_SOCKET,
        name=_SO_MARK,
        int_value=SOCKET_MARK,
        state=SocketOption.STATE_PREBIND,
    )


def black_hole(mesh: Mesh) -> Cluster:
    """Nowhere: a cluster that has no endpoints."""
    return Cluster(
        name=names.BLACK_HOLE,
        alt_stat_name=names.stat_name(names.BLACK_HOLE),
        type=Cluster.STATIC,
        connect_timeout=duration(mesh.connect_timeout),
        metadata=metadata.of_route(names.BLACK_HOLE, names.BLACK_HOLE, metadata.UNKNOWN),
    )


def _original_destination(name: str, mesh: Mesh) -> Cluster:
    message = Cluster(
        name=name,
        alt_stat_name=names.stat_name(name),
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=duration(mesh.connect_timeout),
        circuit_breakers=pools.circuit_breakers(mesh.default_pool or ConnectionPool()),
        upstream_connection_options=pools.connection_options(mesh.tcp_keepalive),
    )
    options = HttpProtocolOptions()
    options.use_downstream_protocol_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
    options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(Http2ProtocolOptions(allow_connect=True))
    message.typed_extension_protocol_options[pools.HTTP_OPTIONS].CopyFrom(any_of(options))
    return message
