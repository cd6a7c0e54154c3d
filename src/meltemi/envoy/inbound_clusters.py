"""Clusters of the server side: the ports of the proxy's own workload.

A captured connection has kept the address that it was for, so it goes on to just that address, from an address by which
capture knows it. Only a port that a Sidecar resource sends elsewhere has an endpoint of its own.

The application gets the protocol that its port declares, whatever the two sidecars spoke: HTTP/2 between them is not to
be noticed. Where the protocol was only found out, the client's is kept.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from meltemi.base.hosts import is_address
from meltemi.envoy import base, metadata, names, pools
from meltemi.envoy.values import address, duration
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import InboundPort
from meltemi.model.services import Protocol
from meltemi.model.traffic import ConnectionPool
from meltemi.protos import any_of
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions
from meltemi.protos.envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from meltemi.protos.google.protobuf.struct_pb2 import ListValue, Struct, Value

_KEPT = timedelta(days=1)  # addresses that nobody asked for lately: a workload has no more than a few of them
_ANY_ADDRESS = frozenset({"0.0.0.0", "::", "[::]"})


def cluster(port: InboundPort, mesh: Mesh) -> Cluster:
    """The cluster `inbound|<port>||`."""
    name = names.inbound_cluster(port.port)
    message = Cluster(
        name=name,
        alt_stat_name=names.stat_name(names.inbound_in_statistics(mesh.inbound_stat_name, port)),
        connect_timeout=duration(port.pool.connect_timeout or mesh.connect_timeout),
        circuit_breakers=pools.circuit_breakers(port.pool),
        upstream_connection_options=pools.connection_options(port.pool.keepalive or mesh.tcp_keepalive),
    )
    _describe(message, port)
    _lead(message, port)
    if not port.protocol.is_tcp:
        options = any_of(_http_options(port.protocol, port.pool))
        message.typed_extension_protocol_options[pools.HTTP_OPTIONS].CopyFrom(options)
    return message


def _describe(message: Cluster, port: InboundPort) -> None:
    """The service that the port stands for, for metrics and for tools that know Istio's list of services."""
    if not port.host:
        return
    known = metadata.of_route(port.host, port.service_name or port.host, port.service_namespace or metadata.UNKNOWN)
    fields = {"host": port.host, "name": port.service_name, "namespace": port.service_namespace}
    listed = Value(list_value=ListValue(values=[Value(struct_value=metadata.texts(fields))]))
    message.metadata.CopyFrom(known)
    message.metadata.filter_metadata["istio"].CopyFrom(Struct(fields={"services": listed}))


def _lead(message: Cluster, port: InboundPort) -> None:
    """Where connections go: to the address that they were for, or to the endpoint that a Sidecar resource names."""
    host, _, number = port.default_endpoint.rpartition(":")
    if port.default_endpoint.startswith("unix://"):
        _at(message, port.default_endpoint, 0)
    elif number.isdecimal() and is_address(host.strip("[]")) and host not in _ANY_ADDRESS:
        _at(message, host.strip("[]"), int(number))
    else:
        message.type = Cluster.ORIGINAL_DST
        message.lb_policy = Cluster.CLUSTER_PROVIDED
        message.cleanup_interval.CopyFrom(duration(_KEPT))
        message.upstream_bind_config.CopyFrom(base.to_own_workload())
        if number.isdecimal():
            message.original_dst_lb_config.upstream_port_override.value = int(number)


def _at(message: Cluster, host: str, number: int) -> None:
    """One endpoint. On localhost, which capture leaves alone, connections are opened like any others."""
    message.type = Cluster.STATIC
    if number and not ipaddress.ip_address(host).is_loopback:
        message.upstream_bind_config.CopyFrom(base.to_own_workload())
    message.load_assignment.cluster_name = message.name
    message.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(address(host, number))


def _http_options(protocol: Protocol, pool: ConnectionPool) -> HttpProtocolOptions:
    options = HttpProtocolOptions()
    common = pools.common_options(pool)
    if common.ByteSize():
        options.common_http_protocol_options.CopyFrom(common)
    http1 = Http1ProtocolOptions()
    http2 = pools.http2_options(pool)
    if protocol is Protocol.AUTO or pool.use_client_protocol:
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(http1)
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(http2)
    elif protocol.is_http2:
        options.explicit_http_config.http2_protocol_options.CopyFrom(http2)
    else:
        options.explicit_http_config.http_protocol_options.CopyFrom(http1)
    return options
