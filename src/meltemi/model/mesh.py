"""The settings that hold for the whole mesh (from Istio's MeshConfig)."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from meltemi.base.durations import Timeout
from meltemi.model.clients import EVERYWHERE, LET_THROUGH, OutboundPolicy, Visibility
from meltemi.model.routes import RetryPolicy
from meltemi.model.traffic import ConnectionPool, KeepAlive, OutlierDetection


class TlsLimits(msgspec.Struct, frozen=True):
    """What TLS may use. Empty: the usual. The suites are for TLS 1.2 alone; those of 1.3 are not to be chosen."""

    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """Mesh-wide settings, with Istio's defaults. Durations and sizes as in MeshConfig.

    `system_roots` is the file with the roots that the system trusts, where proxies run. `mutual_tls` limits the mesh's own
    TLS and `tls_defaults` all other. `default_pool` and `default_outlier` hold where no rule has limits of its own.
    Names of clusters in statistics are patterns with Istio's `%SERVICE%` and the like.
    """

    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    cluster: str = "local"
    network: str = ""
    auto_mtls: bool = True
    outbound: OutboundPolicy = LET_THROUGH
    inbound_to_localhost: bool = False
    default_service_visibility: Visibility = EVERYWHERE
    default_virtual_service_visibility: Visibility = EVERYWHERE
    default_destination_rule_visibility: Visibility = EVERYWHERE
    connect_timeout: timedelta = timedelta(seconds=10)
    protocol_detection_timeout: Timeout = Timeout.off()
    tcp_keepalive: KeepAlive | None = None
    upgrade_to_http2: bool = False
    default_retry: RetryPolicy | None = None
    dns_refresh_rate: timedelta = timedelta(seconds=60)
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_json: bool = False
    mutual_tls: TlsLimits = TlsLimits()
    tls_defaults: TlsLimits = TlsLimits()
    verify_servers: bool = True
    listener_logs: bool = True
    inbound_stat_name: str = ""
    outbound_stat_name: str = ""
    default_pool: ConnectionPool | None = None
    default_outlier: OutlierDetection | None = None
    system_roots: str = "/etc/ssl/certs/ca-certificates.crt"
    path_normalization: str = "BASE"
    outbound_listener_port: int = 15001
    inbound_listener_port: int = 15006
    proxy_http_port: int = 0
