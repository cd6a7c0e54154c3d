"""DestinationRule traffic policies, read section by section into the model's.

Sections override one another whole: a subset's load balancer replaces the rule's, and whatever nobody sets takes the
mesh's or Envoy's default. A port's settings stand in place of the policy that they are in: they replace all four of
their sections at once, and what else the policy says does not hold for the port, except for a tunnel. A tunnel, in turn,
is not handed down: a subset has one if it says so itself.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from meltemi.api.networking import destination_rule as api
from meltemi.base.durations import Timeout, parse_duration
from meltemi.model.mesh import Mesh
from meltemi.model.traffic import (
    Balancer,
    Balancing,
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    HashRing,
    HashSource,
    Http2Upgrade,
    KeepAlive,
    OutlierDetection,
    Pings,
    RetryBudget,
    TlsMode,
    TrafficPolicy,
    Tunnel,
    Utilization,
    Warmup,
)

_SIMPLE = {
    "UNSPECIFIED": Balancer.LEAST_REQUEST,
    "LEAST_CONN": Balancer.LEAST_REQUEST,
    "LEAST_REQUEST": Balancer.LEAST_REQUEST,
    "ROUND_ROBIN": Balancer.ROUND_ROBIN,
    "RANDOM": Balancer.RANDOM,
    "PASSTHROUGH": Balancer.PASSTHROUGH,
}


class Sections(msgspec.Struct, frozen=True):
    """The sections of a policy for one port, as users wrote them."""

    load_balancer: api.LoadBalancerSettings | None = None
    connection_pool: api.ConnectionPoolSettings | None = None
    outlier_detection: api.OutlierDetection | None = None
    tls: api.ClientTlsSettings | None = None
    proxy_protocol: str = ""
    retry_budget: api.RetryBudget | None = None
    tunnel: api.TunnelSettings | None = None


def overlay(below: Sections, policy: api.TrafficPolicy | None, port: int) -> Sections:
    """What a policy makes of the sections below it, for one port of the service."""
    if policy is None:
        return msgspec.structs.replace(below, tunnel=None)
    for each in policy.port_level_settings:
        if each.port is not None and each.port.number == port:
            return Sections(
                each.load_balancer,
                each.connection_pool,
                each.outlier_detection,
                each.tls,
                below.proxy_protocol,
                below.retry_budget,
                policy.tunnel,
            )
    return Sections(
        policy.load_balancer or below.load_balancer,
        policy.connection_pool or below.connection_pool,
        policy.outlier_detection or below.outlier_detection,
        policy.tls or below.tls,
        policy.proxy_protocol.version if policy.proxy_protocol else below.proxy_protocol,
        policy.retry_budget or below.retry_budget,
        policy.tunnel,
    )


def filled_in(sections: Sections, mesh: Mesh, external: bool) -> TrafficPolicy:
    """The policy with every default in its place. mTLS is automatic where nobody says otherwise, but not to outsiders."""
    pool = mesh.default_pool if sections.connection_pool is None else None
    return TrafficPolicy(
        balancing=_balancing(sections.load_balancer),
        pool=pool or _pool(sections.connection_pool, mesh),
        outlier=_outlier(sections.outlier_detection) or mesh.default_outlier,
        tls=_tls(sections.tls, mesh, external),
        proxy_protocol=sections.proxy_protocol,
        retry_budget=_retry_budget(sections.retry_budget),
        tunnel=_tunnel(sections.tunnel),
    )


def _balancing(settings: api.LoadBalancerSettings | None) -> Balancing:
    if settings is None:
        return Balancing()
    simple = _SIMPLE[settings.simple] if settings.simple else Balancer.LEAST_REQUEST
    return Balancing(
        simple=simple,
        hash=_hash(settings.consistent_hash),
        warmup=_warmup(settings),
        utilization=_utilization(settings.backend_utilization),
    )


def _utilization(settings: api.BackendUtilization | None) -> Utilization | None:
    if settings is None:
        return None
    return Utilization(
        blackout=duration(settings.blackout_period),
        expiration=duration(settings.weight_expiration_period),
        update=duration(settings.weight_update_period),
        error_penalty=settings.error_utilization_penalty,
        metrics=settings.metric_names_for_computing_utilization,
    )


def _hash(settings: api.ConsistentHashLb | None) -> ConsistentHash | None:
    if settings is None:
        return None
    maglev, ring = settings.maglev, settings.ring_hash
    size = (ring.minimum_ring_size if ring else 0) or settings.minimum_ring_size or 1024
    shape = ConsistentHash(
        source=HashSource.SOURCE_IP,
        ring=HashRing.MAGLEV if maglev else HashRing.RING_HASH,
        minimum_ring_size=size,
        table_size=(maglev.table_size if maglev else 0) or 65537,
    )
    replace = msgspec.structs.replace
    if settings.http_header_name:
        return replace(shape, source=HashSource.HEADER, name=settings.http_header_name)
    if settings.http_query_parameter_name:
        return replace(shape, source=HashSource.QUERY_PARAMETER, name=settings.http_query_parameter_name)
    if settings.http_cookie:
        cookie = settings.http_cookie
        return replace(
            shape,
            source=HashSource.COOKIE,
            name=cookie.name,
            path=cookie.path,
            ttl=duration(cookie.ttl),
            attributes=tuple((each.name, each.value) for each in cookie.attributes),
        )
    return shape if settings.use_source_ip else None


def _warmup(settings: api.LoadBalancerSettings) -> Warmup | None:
    warmup = settings.warmup
    if warmup is None:
        old = duration(settings.warmup_duration_secs)
        return Warmup(old) if old else None
    return Warmup(
        parse_duration(warmup.duration),
        10.0 if warmup.minimum_percent is None else warmup.minimum_percent,
        1.0 if warmup.aggression is None else warmup.aggression,
    )


def _pool(settings: api.ConnectionPoolSettings | None, mesh: Mesh) -> ConnectionPool:
    tcp = (settings.tcp if settings else None) or api.TcpSettings()
    http = (settings.http if settings else None) or api.HttpSettings()
    upgrade = Http2Upgrade(http.h2_upgrade_policy)
    if upgrade is Http2Upgrade.DEFAULT and mesh.upgrade_to_http2:
        upgrade = Http2Upgrade.UPGRADE
    return ConnectionPool(
        max_connections=_limit(tcp.max_connections),
        connect_timeout=duration(tcp.connect_timeout) or mesh.connect_timeout,
        keepalive=keepalive(tcp.tcp_keepalive) or mesh.tcp_keepalive,
        tcp_idle_timeout=timeout(tcp.idle_timeout),
        max_connection_duration=duration(tcp.max_connection_duration),
        max_pending_requests=_limit(http.http1_max_pending_requests),
        max_requests=_limit(http.http2_max_requests),
        max_requests_per_connection=_limit(http.max_requests_per_connection),
        max_retries=_limit(http.max_retries),
        http_idle_timeout=timeout(tcp.idle_timeout if http.idle_timeout is None else http.idle_timeout),
        http2_upgrade=upgrade,
        use_client_protocol=http.use_client_protocol,
        max_concurrent_streams=_limit(http.max_concurrent_streams),
        pings=_pings(http.http2_keep_alive),
    )


def _pings(settings: api.ConnectionKeepalive | None) -> Pings | None:
    return None if settings is None else Pings(parse_duration(settings.interval), parse_duration(settings.timeout))


def _retry_budget(settings: api.RetryBudget | None) -> RetryBudget | None:
    if settings is None:
        return None
    return RetryBudget(
        percent=20.0 if settings.percent is None else settings.percent,
        min_concurrency=settings.min_retry_concurrency or 3,
        interval=duration(settings.budget_interval) or None,
    )


def _tunnel(settings: api.TunnelSettings | None) -> Tunnel | None:
    if settings is None:
        return None
    return Tunnel(settings.target_host, settings.target_port, post=settings.protocol == "POST")


def _outlier(settings: api.OutlierDetection | None) -> OutlierDetection | None:
    if settings is None:
        return None
    gateway = settings.consecutive_gateway_errors
    if gateway is None and settings.consecutive_errors > 0:
        gateway = settings.consecutive_errors
    return OutlierDetection(
        consecutive_gateway_errors=gateway,
        consecutive_5xx_errors=settings.consecutive_5xx_errors,
        split_external_local_origin_errors=settings.split_external_local_origin_errors,
        consecutive_local_origin_failures=settings.consecutive_local_origin_failures,
        interval=duration(settings.interval),
        base_ejection_time=duration(settings.base_ejection_time),
        max_ejection_percent=settings.max_ejection_percent or None,
        min_health_percent=settings.min_health_percent,
        error_statuses=tuple(sorted(set(settings.outlier_detection_http_error_codes))),
    )


def _tls(settings: api.ClientTlsSettings | None, mesh: Mesh, external: bool) -> ClientTls:
    if settings is None:
        return ClientTls(mode=TlsMode.AUTO if mesh.auto_mtls and not external else TlsMode.DISABLE)
    return ClientTls(
        mode=TlsMode(settings.mode),
        client_certificate=settings.client_certificate,
        private_key_file=settings.private_key,
        ca_certificates=settings.ca_certificates,
        credential_name=_credential(settings.credential_name),
        subject_alt_names=settings.subject_alt_names,
        sni=settings.sni,
        insecure_skip_verify=bool(settings.insecure_skip_verify),
        ca_crl=settings.ca_crl,
    )


def _credential(name: str) -> str:
    """The name by which a proxy asks for a Secret of its own namespace; one with a scheme is such a name already."""
    return f"kubernetes://{name}" if name and "://" not in name else name


def keepalive(settings: api.TcpKeepalive | None) -> KeepAlive | None:
    """TCP keep-alive as it was asked for, or None."""
    if settings is None:
        return None
    return KeepAlive(settings.probes or None, duration(settings.time), duration(settings.interval))


def duration(text: str | None) -> timedelta | None:
    """A duration, or None where none was written."""
    return None if text is None else parse_duration(text)


def timeout(text: str | None) -> Timeout:
    """A timeout: the default where none was written, off for zero."""
    return Timeout.default() if text is None else Timeout.of(parse_duration(text))


def _limit(number: int) -> int | None:
    return number if number > 0 else None
