"""Istio's standard metrics, counted by Envoy's own stats access logger.

A metric's labels are format strings. What is the same for all requests of one proxy (who it is) comes from its
environment, so that all proxies share one configuration; who is at the other end stands in the metadata of cluster
and endpoint. Envoy shows `istio.requests_total` as `envoy_istio_requests_total`, and a label nothing was found for as
empty: the agent that merges metrics takes `envoy_` away and writes `unknown`.

TCP bytes are counted when a connection ends: Envoy's byte operators are totals, and counting them on the way would
count them over and over. Istio's counters of gRPC messages are missing: the numbers are to be had as text only, which this logger
does not add up. Source: Istio's metric names and labels.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping

import msgspec

from meltemi.envoy import metadata
from meltemi.envoy.values import uint64
from meltemi.protos import any_of
from meltemi.protos.envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    HeaderFilter,
    LogTypeFilter,
)
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from meltemi.protos.envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from meltemi.protos.envoy.extensions.access_loggers.stats.v3.stats_pb2 import Config
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher
from meltemi.protos.envoy.type.v3.scope_pb2 import Scope

PREFIX = "istio"
NAME = "envoy.access_loggers.stats"

Labels = Mapping[str, str]  # label -> format string


class Reporter(enum.StrEnum):
    """Which side of a request tells of it."""

    SOURCE = "source"
    DESTINATION = "destination"


class Party(msgspec.Struct, frozen=True):
    """Who one side of a request is: format strings for the eight labels that describe it."""

    workload: str
    namespace: str
    principal: str
    app: str
    version: str
    canonical_service: str
    canonical_revision: str
    cluster: str

    def labels(self, side: str) -> dict[str, str]:
        """The labels of this party as `source` or `destination`."""
        return {
            f"{side}_workload": self.workload,
            f"{side}_workload_namespace": self.namespace,
            f"{side}_principal": self.principal,
            f"{side}_app": self.app,
            f"{side}_version": self.version,
            f"{side}_canonical_service": self.canonical_service,
            f"{side}_canonical_revision": self.canonical_revision,
            f"{side}_cluster": self.cluster,
        }


def local(principal: str) -> Party:
    """The workload that this proxy stands beside. `principal` is the format string of its identity on the connection."""
    return Party(
        workload="%ENVIRONMENT(MELTEMI_WORKLOAD_NAME)%",
        namespace="%ENVIRONMENT(MELTEMI_WORKLOAD_NAMESPACE)%",
        principal=principal,
        app="%ENVIRONMENT(MELTEMI_APP)%",
        version="%ENVIRONMENT(MELTEMI_VERSION)%",
        canonical_service="%ENVIRONMENT(MELTEMI_CANONICAL_SERVICE)%",
        canonical_revision="%ENVIRONMENT(MELTEMI_CANONICAL_REVISION)%",
        cluster="%ENVIRONMENT(MELTEMI_CLUSTER_ID)%",
    )


def upstream() -> Party:
    """The endpoint that a request or connection went to."""

    def of(key: str) -> str:
        return f"%METADATA(UPSTREAM_HOST:{metadata.MESH}:{key})%"

    return Party(
        workload=of("workload"),
        namespace=of("namespace"),
        principal="%UPSTREAM_PEER_URI_SAN%",
        app=of("app"),
        version=of("version"),
        canonical_service=of("canonical_service"),
        canonical_revision=of("canonical_revision"),
        cluster=of("cluster"),
    )


def peer() -> Party:
    """The client of a request that came over mutual TLS: what it says of itself, and whom its certificate shows."""

    def of(key: str) -> str:
        return f"%DYNAMIC_METADATA({metadata.MESH}:{metadata.PEER}:{key})%"

    return Party(
        workload=of("workload"),
        namespace=of("namespace"),
        principal="%DOWNSTREAM_PEER_URI_SAN%",
        app=of("app"),
        version=of("version"),
        canonical_service=of("canonical_service"),
        canonical_revision=of("canonical_revision"),
        cluster=of("cluster"),
    )


def stranger(principal: str = metadata.UNKNOWN) -> Party:
    """A client that has not said who it is; on a connection its certificate may have."""
    unknown = metadata.UNKNOWN
    return Party(
        workload=unknown,
        namespace=unknown,
        principal=principal,
        app=unknown,
        version=unknown,
        canonical_service=unknown,
        canonical_revision=metadata.LATEST,
        cluster=unknown,
    )


def called_service(*, http: bool) -> Labels:
    """The service that was called: the cluster's, or for HTTP, where none was chosen, the virtual host's."""
    return {
        "destination_service": _meant("service_host", http),
        "destination_service_name": _meant("service_name", http),
        "destination_service_namespace": _meant("service_namespace", http),
    }


def _meant(key: str, http: bool) -> str:
    if not http:
        return f"%METADATA(CLUSTER:{metadata.MESH}:{key})%"
    operators = [
        {"command": "METADATA", "param": f"{kind}:{metadata.MESH}:{key}"} for kind in ("CLUSTER", "VIRTUAL_HOST")
    ]
    return f"%COALESCE({json.dumps({'operators': operators}, separators=(',', ':'))})%"


def http_loggers(
    reporter: Reporter, source: Party, destination: Party, service: Labels, *, security: str = "unknown"
) -> list[AccessLog]:
    """The loggers of requests: one for gRPC and one for the rest, which differ in protocol and status labels."""
    labels = {
        "reporter": reporter.value,
        **source.labels("source"),
        **destination.labels("destination"),
        **service,
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": security,
    }
    grpc = {**labels, "request_protocol": "grpc", "grpc_response_status": "%GRPC_STATUS_NUMBER%"}
    http = {**labels, "request_protocol": "http"}
    return [
        _logger(_requests(http), _is_grpc(False)),
        _logger(_requests(grpc), _is_grpc(True)),
    ]


def _requests(labels: Labels) -> Config:
    return Config(
        counters=[_counter("requests_total", labels)],
        histograms=[
            _histogram("request_duration_milliseconds", labels, "%DURATION%", Config.Histogram.Milliseconds),
            _histogram("request_bytes", labels, "%DOWNSTREAM_WIRE_BYTES_RECEIVED%", Config.Histogram.Bytes),
            _histogram("response_bytes", labels, "%DOWNSTREAM_WIRE_BYTES_SENT%", Config.Histogram.Bytes),
        ],
    )


def tcp_loggers(
    reporter: Reporter, source: Party, destination: Party, service: Labels, *, security: str = "unknown"
) -> list[AccessLog]:
    """The loggers of connections: one for those opened, one for those closed and the bytes they carried."""
    labels = {
        "reporter": reporter.value,
        **source.labels("source"),
        **destination.labels("destination"),
        **service,
        "request_protocol": "tcp",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": security,
    }
    opened = Config(counters=[_counter("tcp_connections_opened_total", labels)])
    closed = Config(
        counters=[
            _counter("tcp_connections_closed_total", labels),
            _counter("tcp_received_bytes_total", labels, "%BYTES_RECEIVED%"),
            _counter("tcp_sent_bytes_total", labels, "%BYTES_SENT%"),
        ]
    )
    return [
        _logger(opened, _on(AccessLogType.TcpUpstreamConnected)),
        _logger(closed, _on(AccessLogType.TcpConnectionEnd)),
    ]


def _logger(config: Config, condition: AccessLogFilter) -> AccessLog:
    config.stats_scope.CopyFrom(Scope(prefix=PREFIX, enable_eviction=True))
    return AccessLog(name=NAME, filter=condition, typed_config=any_of(config))


def _is_grpc(wanted: bool) -> AccessLogFilter:
    header = HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix="application/grpc"),
        invert_match=not wanted,
        treat_missing_header_as_empty=True,
    )
    return AccessLogFilter(header_filter=HeaderFilter(header=header))


def _on(kind: AccessLogType.ValueType) -> AccessLogFilter:
    return AccessLogFilter(log_type_filter=LogTypeFilter(types=[kind]))


def _stat(name: str, labels: Labels) -> Config.Stat:
    return Config.Stat(name=name, tags=_tags(labels.items()))


def _tags(labels: Iterable[tuple[str, str]]) -> list[Config.Tag]:
    return [Config.Tag(name=name, value_format=value) for name, value in labels]


def _counter(name: str, labels: Labels, value: str = "") -> Config.Counter:
    stat = _stat(name, labels)
    return Config.Counter(stat=stat, value_format=value) if value else Config.Counter(stat=stat, value_fixed=uint64(1))


def _histogram(name: str, labels: Labels, value: str, unit: Config.Histogram.Unit.ValueType) -> Config.Histogram:
    return Config.Histogram(stat=_stat(name, labels), value_format=value, unit=unit)
