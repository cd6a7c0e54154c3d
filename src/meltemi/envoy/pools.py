"""Limits and protocols of the connections to a destination: circuit breakers, keep-alive, outliers, HTTP options.

Between sidecars an HTTP/1.1 port is carried over HTTP/2: the cluster offers both by ALPN (`auto_config`) and speaks
HTTP/1.1 to endpoints without mTLS, which offer nothing. The mesh's Envoys therefore run with the runtime value
`config.do_not_validate_alpn_support` set to 100: Envoy would refuse a cluster in which one transport has no ALPN. A port whose
protocol was found by sniffing keeps the client's, because the application behind it may know no other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from meltemi.envoy import names
from meltemi.envoy.balancing import http_hash_policies
from meltemi.envoy.values import (
    UNLIMITED,
    duration,
    maybe_uint32,
    timeout,
    uint32,
)
from meltemi.model.mesh import Mesh
from meltemi.model.services import Protocol
from meltemi.model.traffic import (
    ConnectionPool,
    Http2Upgrade,
    KeepAlive,
    OutlierDetection,
    RetryBudget,
    TlsMode,
    TrafficPolicy,
)
from meltemi.protos import any_of
from meltemi.protos.envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import UpstreamConnectionOptions
from meltemi.protos.envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection as OutlierMessage
from meltemi.protos.envoy.config.common.matcher.v3.matcher_pb2 import HttpHeadersMatch, MatchPredicate
from meltemi.protos.envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from meltemi.protos.envoy.config.core.v3.address_pb2 import TcpKeepalive
from meltemi.protos.envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from meltemi.protos.envoy.config.core.v3.protocol_pb2 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    UpstreamHttpProtocolOptions,
)
from meltemi.protos.envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonOptions
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from meltemi.protos.envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation,
    Mutations,
)
from meltemi.protos.envoy.extensions.filters.http.upstream_codec.v3.upstream_codec_pb2 import UpstreamCodec
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpFilter,
)
from meltemi.protos.envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from meltemi.protos.envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher
from meltemi.protos.envoy.type.v3.percent_pb2 import Percent

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def circuit_breakers(pool: ConnectionPool, budget: RetryBudget | None = None) -> CircuitBreakers:
    """The limits of a pool; without a limit Istio means none at all, where Envoy's default would be 1024.

    A budget takes the place of the limit of retries.
    """

    def limit(value: int | None) -> int:
        return UNLIMITED if value is None else value

    return CircuitBreakers(
        thresholds=[
            CircuitBreakers.Thresholds(
                max_connections=uint32(limit(pool.max_connections)),
                max_pending_requests=uint32(limit(pool.max_pending_requests)),
                max_requests=uint32(limit(pool.max_requests)),
                max_retries=uint32(limit(pool.max_retries)),
                track_remaining=True,
                retry_budget=None if budget is None else _retry_budget(budget),
            )
        ]
    )


def _retry_budget(budget: RetryBudget) -> CircuitBreakers.Thresholds.RetryBudget:
    message = CircuitBreakers.Thresholds.RetryBudget(
        budget_percent=Percent(value=budget.percent), min_retry_concurrency=uint32(budget.min_concurrency)
    )
    if budget.interval is not None:
        message.budget_interval.CopyFrom(duration(budget.interval))
    return message


def connection_options(keepalive: KeepAlive | None) -> UpstreamConnectionOptions | None:
    """TCP keep-alive, if it was asked for."""
    if keepalive is None:
        return None
    message = TcpKeepalive(keepalive_probes=maybe_uint32(keepalive.probes))
    if keepalive.time is not None:
        message.keepalive_time.value = int(keepalive.time.total_seconds())
    if keepalive.interval is not None:
        message.keepalive_interval.value = int(keepalive.interval.total_seconds())
    return UpstreamConnectionOptions(tcp_keepalive=message)


def outlier_detection(settings: OutlierDetection) -> OutlierMessage:
    """Ejection of failing endpoints by what they answer; never by success rates, as in Istio."""
    message = OutlierMessage(enforcing_success_rate=uint32(0))
    if (count := settings.consecutive_5xx_errors) is not None:
        message.consecutive_5xx.value = count
        message.enforcing_consecutive_5xx.value = 100 if count else 0
    if (count := settings.consecutive_gateway_errors) is not None:
        message.consecutive_gateway_failure.value = count
        message.enforcing_consecutive_gateway_failure.value = 100 if count else 0
    if settings.split_external_local_origin_errors:
        message.split_external_local_origin_errors = True
        if (count := settings.consecutive_local_origin_failures) is not None:
            message.consecutive_local_origin_failure.value = count
            message.enforcing_consecutive_local_origin_failure.value = 100 if count else 0
        message.enforcing_local_origin_success_rate.value = 0
    if settings.interval is not None:
        message.interval.CopyFrom(duration(settings.interval))
    if settings.base_ejection_time is not None:
        message.base_ejection_time.CopyFrom(duration(settings.base_ejection_time))
    if settings.max_ejection_percent is not None:
        message.max_ejection_percent.value = settings.max_ejection_percent
    return message


def panic_threshold(settings: OutlierDetection | None) -> float:
    """The share of healthy endpoints below which all are used. Never, unless asked for: unready is not for use."""
    return float(settings.min_health_percent) if settings else 0.0


def carries_http2(protocol: Protocol, pool: ConnectionPool, mesh: Mesh) -> bool:
    """Whether requests go out over HTTP/2, come what may."""
    upgrade = pool.http2_upgrade
    return protocol.is_http2 or (
        protocol.is_http
        and (upgrade is Http2Upgrade.UPGRADE or (upgrade is Http2Upgrade.DEFAULT and mesh.upgrade_to_http2))
    )


def negotiates_http2(protocol: Protocol, pool: ConnectionPool, mesh: Mesh) -> bool:
    """Whether HTTP/2 is used with the endpoints that offer it (those of the mesh) and HTTP/1.1 with the others."""
    return (
        protocol.is_http
        and not carries_http2(protocol, pool, mesh)
        and pool.http2_upgrade is Http2Upgrade.DEFAULT
        and not pool.use_client_protocol
    )


def common_options(pool: ConnectionPool) -> CommonOptions:
    """What holds for connections of every version of HTTP: how long they are kept, and for how many requests."""
    common = CommonOptions(
        idle_timeout=timeout(pool.http_idle_timeout),
        max_requests_per_connection=maybe_uint32(pool.max_requests_per_connection),
    )
    if pool.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    return common


def http2_options(pool: ConnectionPool) -> Http2ProtocolOptions:
    """What holds for connections of HTTP/2, besides."""
    options = Http2ProtocolOptions(allow_connect=True, max_concurrent_streams=maybe_uint32(pool.max_concurrent_streams))
    if pool.pings is not None:
        options.connection_keepalive.interval.CopyFrom(duration(pool.pings.interval))
        options.connection_keepalive.timeout.CopyFrom(duration(pool.pings.timeout))
    return options


def http_options(
    protocol: Protocol,
    policy: TrafficPolicy,
    mesh: Mesh,
    *,
    secured: bool,
    addressed: bool = False,
) -> HttpProtocolOptions:
    """The HTTP side of a cluster.

    `secured`: its endpoints may speak the mesh's mTLS, which has ALPN, and are told who the client is;
    `addressed`: routes tell the balancer which endpoint the client chose, and the endpoint need not know.
    """
    pool = policy.pool
    options = HttpProtocolOptions(hash_policy=http_hash_policies(policy.balancing.hash))
    common = common_options(pool)
    if common.ByteSize():
        options.common_http_protocol_options.CopyFrom(common)
    http2 = http2_options(pool)
    if protocol is Protocol.AUTO or pool.use_client_protocol:
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(http2)
    elif carries_http2(protocol, pool, mesh):
        options.explicit_http_config.http2_protocol_options.CopyFrom(http2)
    elif secured and negotiates_http2(protocol, pool, mesh):
        options.auto_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
        options.auto_config.http2_protocol_options.CopyFrom(http2)
    else:
        options.explicit_http_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
    if policy.tls.mode in (TlsMode.SIMPLE, TlsMode.MUTUAL):
        options.upstream_http_protocol_options.CopyFrom(
            UpstreamHttpProtocolOptions(
                auto_sni=not policy.tls.sni,
                auto_san_validation=not (
                    policy.tls.sni
                    or policy.tls.subject_alt_names
                    or policy.tls.insecure_skip_verify
                    or not (mesh.verify_servers or policy.tls.ca_certificates or policy.tls.credential_name)
                ),
            )
        )
    if policy.outlier is not None and policy.outlier.error_statuses:
        options.outlier_detection.error_matcher.CopyFrom(_any_of_statuses(policy.outlier.error_statuses))
    if secured or addressed:
        options.http_filters.extend(upstream_filters(tell_peer=secured))
    return options


def _any_of_statuses(statuses: Iterable[int]) -> MatchPredicate:
    """A predicate of one rule, for any number of statuses: Envoy wants at least two in a set of rules."""
    pattern = RegexMatcher(regex="|".join(map(str, statuses)))
    status = HeaderMatcher(name=":status", string_match=StringMatcher(safe_regex=pattern))
    return MatchPredicate(http_response_headers_match=HttpHeadersMatch(headers=[status]))


@functools.cache
def upstream_filters(*, tell_peer: bool) -> tuple[HttpFilter, ...]:
    """What endpoints are told of the client, and what they are not: applied to what leaves for one cluster.

    Made once: do not change them.
    """
    peer = HeaderValueOption(
        header=HeaderValue(key=names.PEER_METADATA_HEADER, value="%ENVIRONMENT(MELTEMI_PEER_METADATA)%"),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    changes = [Mutation(remove=names.ORIGINAL_DESTINATION_HEADER)]
    if tell_peer:
        changes.append(Mutation(append=peer))
    mutations = Mutations(request_mutations=changes)
    return (
        HttpFilter(name="envoy.filters.http.header_mutation", typed_config=any_of(HeaderMutation(mutations=mutations))),
        HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=any_of(UpstreamCodec())),
    )
