"""Listeners and the filter chains in them: what sidecars' listeners, of whichever direction, are put together from.

An inspector holds a connection back until the client has said something, so a listener has one only where a chain asks
for what it finds out. That is what lets a server speak first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

from meltemi.base.durations import Timeout
from meltemi.envoy import access_logs, names, tcp, tls
from meltemi.envoy.unknown import cluster as unknown_cluster
from meltemi.envoy.values import address, boolean, timeout
from meltemi.model.clients import OutboundPolicy
from meltemi.model.mesh import Mesh
from meltemi.protos import any_of
from meltemi.protos.envoy.config.core.v3.base_pb2 import TrafficDirection
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
)
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from meltemi.protos.envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from meltemi.protos.envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from meltemi.protos.google.protobuf.duration_pb2 import Duration

HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
ORIGINAL_DESTINATION = "envoy.filters.listener.original_dst"

PLAIN_HTTP1 = ("http/1.1",)  # what the HTTP inspector calls what it finds
PLAIN_HTTP2 = ("h2c",)
PLAIN_HTTP = (*PLAIN_HTTP1, *PLAIN_HTTP2)
OPENED_HTTP = ("http/1.1", "h2")  # what clients of TLS call it, before it is opened


def http_chain(name: str, filters: Iterable[Filter], protocols: Iterable[str] = PLAIN_HTTP) -> FilterChain:
    """Plaintext HTTP, as the HTTP inspector recognises it."""
    match = FilterChainMatch(transport_protocol="raw_buffer", application_protocols=protocols)
    return FilterChain(name=name, filter_chain_match=match, filters=filters)


def unknown_destinations(policy: OutboundPolicy, mesh: Mesh) -> FilterChain:
    """Connections nothing else takes: they go where the policy sends them."""
    return FilterChain(name=names.PASSTHROUGH_CHAIN, filters=to_unknown(policy, mesh))


def to_unknown(policy: OutboundPolicy, mesh: Mesh) -> list[Filter]:
    """Where the client was going, to the service that takes all such connections, or nowhere.

    That service may speak HTTP at its port. Its cluster would then offer HTTP/2, which these connections need not be.
    """
    carried = [tcp.to_cluster(unknown_cluster(policy), mesh)]
    return [tcp.offer_protocols(tls.ALPN_TCP), *carried] if policy.proxy is not None else carried


def taking_all(chain: FilterChain) -> FilterChain:
    """A chain as the default of its listener: a default has no match."""
    message = FilterChain()
    message.CopyFrom(chain)
    message.ClearField("filter_chain_match")
    return message


def inspector(name: str) -> ListenerFilter:
    """A listener filter by its name."""
    config: dict[str, Message] = {
        HTTP_INSPECTOR: HttpInspector(),
        TLS_INSPECTOR: TlsInspector(),
        ORIGINAL_DESTINATION: OriginalDst(),
    }
    return ListenerFilter(name=name, typed_config=any_of(config[name]))


def outbound_listener(
    bind: str,
    port: int,
    filter_chains: Sequence[FilterChain],
    default: FilterChain,
    mesh: Mesh,
) -> Listener:
    """A listener that `virtualOutbound` hands captured connections to, by their destination.

    It binds no port. `default` takes what no chain matches.
    """
    message = Listener(
        name=names.listener(bind, port),
        address=address(bind, port),
        filter_chains=filter_chains,
        default_filter_chain=default,
        bind_to_port=boolean(False),
        traffic_direction=TrafficDirection.OUTBOUND,
        continue_on_listener_filters_timeout=True,
        listener_filters=[inspector(name) for name in needed_inspectors(filter_chains)],
        access_log=access_logs.loggers(mesh, only_unrouted=True),
    )
    message.listener_filters_timeout.CopyFrom(detection_timeout(mesh, bool(message.listener_filters)))
    return message


def needed_inspectors(filter_chains: Iterable[FilterChain]) -> list[str]:
    """The inspectors that some chain's match rests on, in the order in which they must run."""
    matches = [chain.filter_chain_match for chain in filter_chains]
    found = []
    if any(match.server_names or match.transport_protocol == "tls" for match in matches):
        found.append(TLS_INSPECTOR)
    if any(match.application_protocols for match in matches):
        found.append(HTTP_INSPECTOR)
    return found


def detection_timeout(mesh: Mesh, inspects: bool) -> Duration:
    """How long the inspectors wait for the client to speak first; zero: for ever, which is Istio's default."""
    if not inspects:
        return Duration()
    return timeout(mesh.protocol_detection_timeout.or_else(Timeout.off())) or Duration()
