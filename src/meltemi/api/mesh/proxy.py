"""ProxyConfig: how one proxy is run. Source: Istio `mesh/v1alpha1/proxy.proto`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from meltemi.api.core.pods import Probe
from meltemi.api.meta import Part
from meltemi.api.networking.destination_rule import ClientTlsSettings, TcpKeepalive
from meltemi.api.networking.proxy_config import ProxyImage
from meltemi.api.scalars import Duration, Int32, Percentage, PortOrZero, UInt32

ForwardClientCertDetails = Literal[
    "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
]


class TagLiteral(Part, frozen=True, kw_only=True):
    """A fixed value."""

    value: str = ""


class TagSource(Part, frozen=True, kw_only=True):
    """A header of the request or a variable of the proxy's environment."""

    name: str = ""
    default_value: str = ""


class CustomTag(Part, frozen=True, kw_only=True):
    """Where the value of a span's tag comes from: exactly one of these."""

    literal: TagLiteral | None = None
    environment: TagSource | None = None
    header: TagSource | None = None
    formatter: TagLiteral | None = None


class TracerAddress(Part, frozen=True, kw_only=True):
    """The address of a tracer (`host:port`)."""

    address: str = ""
    access_token: str = ""


class ProxyTracing(Part, frozen=True, kw_only=True):
    """Tracing as proxies were configured before Telemetry: where to send spans and how many. Sampling is in percent."""

    zipkin: TracerAddress | None = None
    lightstep: TracerAddress | None = None
    datadog: TracerAddress | None = None
    stackdriver: dict[str, Any] | None = None
    open_census_agent: dict[str, Any] | None = None
    custom_tags: dict[str, CustomTag] = {}
    max_path_tag_length: UInt32 = 0
    sampling: Percentage | None = None
    tls_settings: ClientTlsSettings | None = None
    enable_istio_tags: bool | None = None


class RemoteService(Part, frozen=True, kw_only=True):
    """A service that proxies report to (`host:port`)."""

    address: str = ""
    tls_settings: ClientTlsSettings | None = None
    tcp_keepalive: TcpKeepalive | None = None


class GatewayTopology(Part, frozen=True, kw_only=True):
    """What stands in front of a gateway."""

    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: ForwardClientCertDetails = "UNDEFINED"
    proxy_protocol: dict[str, Any] | None = None


class ProxyStatsMatcher(Part, frozen=True, kw_only=True):
    """Statistics of Envoy that are kept besides the usual ones."""

    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class HeaderSwitch(Part, frozen=True, kw_only=True):
    """Whether a header that proxies add is left out, or what it says."""

    disabled: bool | None = None
    enabled: bool | None = None
    value: str = ""


class MetadataExchangeHeaders(Part, frozen=True, kw_only=True):
    """To whom a proxy tells who it is."""

    mode: Literal["UNDEFINED", "IN_MESH"] = "UNDEFINED"


class ClientCertDetails(Part, frozen=True, kw_only=True):
    """What of a client's certificate goes into X-Forwarded-Client-Cert."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ProxyHeaders(Part, frozen=True, kw_only=True):
    """The headers that proxies add."""

    forwarded_client_cert: ForwardClientCertDetails = "UNDEFINED"
    set_current_client_cert_details: ClientCertDetails | None = None
    request_id: HeaderSwitch | None = None
    server: HeaderSwitch | None = None
    attempt_count: HeaderSwitch | None = None
    envoy_debug_headers: HeaderSwitch | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    preserve_http1_header_case: bool | None = None
    x_forwarded_host: HeaderSwitch | None = None
    x_forwarded_port: HeaderSwitch | None = None


class ProxyConfig(Part, frozen=True, kw_only=True):
    """How a proxy is run: threads, ports, draining, statistics, tracing.

    Deprecated: `zipkin_address`, `discovery_refresh_delay`, `envoy_metrics_service_address`, `availability_zone`, `sds`.
    """

    config_path: str = ""
    binary_path: str = ""
    service_cluster: str | None = None
    tracing_service_name: (
        Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"] | None
    ) = None
    drain_duration: Duration | None = None
    parent_shutdown_duration: Duration | None = None
    discovery_address: str = ""
    discovery_refresh_delay: Duration | None = None
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: PortOrZero = 0
    availability_zone: str = ""
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS", "INHERIT"] = "NONE"
    custom_config_file: str = ""
    stat_name_length: Int32 = 0
    concurrency: Int32 | None = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    tracing: ProxyTracing | None = None
    sds: dict[str, Any] | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    proxy_metadata: dict[str, str] = {}
    runtime_values: dict[str, str] = {}
    status_port: PortOrZero = 0
    extra_stat_tags: tuple[str, ...] = ()
    gateway_topology: GatewayTopology | None = None
    termination_drain_duration: Duration | None = None
    mesh_id: str = ""
    readiness_probe: Probe | None = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    hold_application_until_proxy_starts: bool | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: dict[str, Any] | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: UInt32 | None = field(name="fileFlushMinSizeKb", default=None)
    stats_compression: bool | None = None
    connection_settings: dict[str, Any] | None = None
