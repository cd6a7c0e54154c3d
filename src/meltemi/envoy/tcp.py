"""Connections that are passed on as they come: the TCP proxy filter, and what stands before it in a chain.

Network filters run in the order in which they stand: first what labels the connection, then what may refuse it, last
the proxy that carries it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from meltemi.envoy import access_logs, actions, balancing, metadata, metrics, names
from meltemi.envoy.values import duration, timeout
from meltemi.model.mesh import Mesh
from meltemi.model.routes import WeightedTarget
from meltemi.model.traffic import ConnectionPool, TrafficPolicy, Tunnel
from meltemi.protos import any_of
from meltemi.protos.envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from meltemi.protos.envoy.config.core.v3.base_pb2 import Metadata
from meltemi.protos.envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter
from meltemi.protos.envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from meltemi.protos.envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import (
    Config as SetFilterState,
)
from meltemi.protos.envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy, UpstreamConnectMode

NAME = "envoy.filters.network.tcp_proxy"
SET_FILTER_STATE = "envoy.filters.network.set_filter_state"
APPLICATION_PROTOCOLS = "envoy.network.application_protocols"
UNLIMITED = ConnectionPool()
EARLY_DATA = 16 << 10  # bytes of the client's that are read while the connection to the server is being made


@functools.lru_cache(maxsize=4)
def outbound_loggers(mesh: Mesh) -> tuple[AccessLog, ...]:
    """How a client's sidecar tells of its connections. Made once: do not change them."""
    return (
        *metrics.tcp_loggers(
            metrics.Reporter.SOURCE,
            metrics.local("%UPSTREAM_LOCAL_URI_SAN%"),
            metrics.upstream(),
            metrics.called_service(http=False),
        ),
        *access_logs.loggers(mesh),
    )


def to_cluster(
    cluster: str,
    mesh: Mesh,
    loggers: Iterable[AccessLog] | None = None,
    *,
    after_handshake: bool = False,
    pool: ConnectionPool = UNLIMITED,
) -> Filter:
    """All connections to one cluster. `loggers` None: as a client's sidecar. `pool` says how long they may last."""
    proxy = TcpProxy(stat_prefix=names.stat_name(cluster), cluster=cluster, idle_timeout=timeout(pool.tcp_idle_timeout))
    if pool.max_connection_duration is not None:
        proxy.max_downstream_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    return finish(proxy, outbound_loggers(mesh) if loggers is None else loggers, after_handshake=after_handshake)


def to_named_cluster(name: str, mesh: Mesh) -> Filter:
    """Connections to the cluster that a filter before has chosen; not before the client has spoken and been let in."""
    proxy = TcpProxy(stat_prefix=names.stat_name(name), cluster=names.BLACK_HOLE)
    proxy.upstream_connect_mode = UpstreamConnectMode.ON_DOWNSTREAM_DATA
    proxy.max_early_data_bytes.value = EARLY_DATA
    return finish(proxy, outbound_loggers(mesh))


def to_targets(
    targets: Sequence[WeightedTarget],
    policy: TrafficPolicy,
    mesh: Mesh,
    *,
    only_address: str = "",
    after_handshake: bool = False,
) -> Filter:
    """Connections to targets by weight, under the policy of the first.

    `only_address`: to the endpoint of that address and no other (pods of headless services).
    """
    shares = [target for target in targets if target.weight > 0] or list(targets[:1])
    proxy = TcpProxy(
        idle_timeout=timeout(policy.pool.tcp_idle_timeout),
        hash_policy=balancing.tcp_hash_policies(policy.balancing.hash),
    )
    if policy.pool.max_connection_duration is not None:
        proxy.max_downstream_connection_duration.CopyFrom(duration(policy.pool.max_connection_duration))
    if policy.tunnel is not None:
        proxy.tunneling_config.CopyFrom(_tunneling(policy.tunnel))
    first = actions.cluster_of(shares[0].target) if shares else names.BLACK_HOLE
    proxy.stat_prefix = names.stat_name(first)
    if len(shares) > 1:
        for share in shares:
            proxy.weighted_clusters.clusters.add(name=actions.cluster_of(share.target), weight=share.weight)
    else:
        proxy.cluster = first
    if only_address:
        chosen = metadata.texts({metadata.ADDRESS: only_address})
        proxy.metadata_match.CopyFrom(Metadata(filter_metadata={metadata.BALANCING: chosen}))
    return finish(proxy, outbound_loggers(mesh), after_handshake=after_handshake)


def _tunneling(tunnel: Tunnel) -> TcpProxy.TunnelingConfig:
    host = f"[{tunnel.host}]" if ":" in tunnel.host else tunnel.host
    return TcpProxy.TunnelingConfig(hostname=f"{host}:{tunnel.port}", use_post=tunnel.post)


def finish(proxy: TcpProxy, loggers: Iterable[AccessLog], *, after_handshake: bool = False) -> Filter:
    """The filter of a finished TCP proxy, which reports when it has connected and when all is over.

    `after_handshake`: where the client's TLS is opened here, connect to nobody before the client has proven who it is.
    """
    if after_handshake:
        proxy.upstream_connect_mode = UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = EARLY_DATA
    proxy.access_log.extend(loggers)
    proxy.access_log_options.flush_access_log_on_connected = True
    return Filter(name=NAME, typed_config=any_of(proxy))


def offer_protocols(protocols: Iterable[str]) -> Filter:
    """Whatever cluster the connection leads to, its TLS offers these protocols (ALPN), and not the cluster's own."""
    text = SubstitutionFormatString()
    text.text_format_source.inline_string = ",".join(protocols)
    value = FilterStateValue(
        object_key=APPLICATION_PROTOCOLS, format_string=text, shared_with_upstream=FilterStateValue.ONCE
    )
    return Filter(name=SET_FILTER_STATE, typed_config=any_of(SetFilterState(on_new_connection=[value])))
