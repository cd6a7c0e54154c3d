"""The settings that hold for the whole mesh (from Istio's MeshConfig)."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from meltemi.base.durations import Timeout
from meltemi.model.clients import EVERYWHERE, Visibility
from meltemi.model.routes import RetryPolicy
from meltemi.model.traffic import KeepAlive


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """Mesh-wide settings, with Istio's defaults. Durations and sizes as in MeshConfig.

    `system_roots` is the file with the roots that the system trusts, where proxies run.
    """

    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    cluster: str = "local"
    network: str = ""
    auto_mtls: bool = True
    outbound_registry_only: bool = False
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
    min_tls_version: str = ""
    system_roots: str = "/etc/ssl/certs/ca-certificates.crt"
    path_normalization: str = "BASE"
    outbound_listener_port: int = 15001
    inbound_listener_port: int = 15006
    proxy_http_port: int = 0
