"""MeshConfig: settings that hold for the whole mesh. Source: Istio `mesh/v1alpha1/config.proto`.

Users write it as a bare document (`mesh.yaml`), as the key `mesh` of a ConfigMap `istio`, or as an object of kind
`MeshConfig` of `meltemi.dev/v1alpha1`, whose `spec` has the same fields. Where nothing is said the field is empty here:
the defaults belong to those who act on the settings.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from meltemi.api.mesh.providers import DefaultProviders, ExtensionProvider
from meltemi.api.mesh.proxy import ProxyConfig
from meltemi.api.meta import LabelSelector, MeshResource, Part
from meltemi.api.networking.destination_rule import (
    ClientTlsSettings,
    LocalityLoadBalancerSetting,
    TcpKeepalive,
    TrafficPolicy,
    ZoneAwareLoadBalancerSetting,
)
from meltemi.api.networking.virtual_service import HttpRetry
from meltemi.api.scalars import Duration, PortOrZero


class OutboundTrafficPolicy(Part, frozen=True, kw_only=True):
    """What happens to traffic for hosts that nobody has declared (Istio's default: ALLOW_ANY)."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    tls: ClientTlsSettings | None = None


class InboundTrafficPolicy(Part, frozen=True, kw_only=True):
    """Whether the sidecar reaches the application at the pod's address or at localhost."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class ConfigSource(Part, frozen=True, kw_only=True):
    """A store that configuration is read from."""

    address: str = ""
    tls_settings: ClientTlsSettings | None = None
    subscribed_resources: tuple[str, ...] = ()


class CertificateData(Part, frozen=True, kw_only=True):
    """A trust anchor: in PEM, or a SPIFFE bundle by URL."""

    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class ServiceSettings(Part, frozen=True, kw_only=True):
    """Settings for the services that some hosts name."""

    settings: dict[str, Any] = {}
    hosts: tuple[str, ...] = ()


class ServiceScopeConfig(Part, frozen=True, kw_only=True):
    """Whether the services selected are known beyond their cluster."""

    services_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    scope: Literal["LOCAL", "GLOBAL"] = "LOCAL"


class ExternalCa(Part, frozen=True, kw_only=True):
    """A certificate authority elsewhere."""

    address: str = ""
    tls_settings: ClientTlsSettings | None = None
    request_timeout: Duration | None = None
    istiod_side: bool = False


class PathNormalization(Part, frozen=True, kw_only=True):
    """What is done to paths before anything looks at them."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class MeshTlsConfig(Part, frozen=True, kw_only=True):
    """Limits of TLS."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class DnsCertificate(Part, frozen=True, kw_only=True):
    """A certificate to be provided in a Secret (deprecated by Istio)."""

    secret_name: str = ""
    dns_names: tuple[str, ...] = ()


class MeshConfigSpec(Part, frozen=True, kw_only=True):
    """Istio's `MeshConfig` message. Deprecated: `certificates`, `verify_certificate_at_client`."""

    proxy_listen_port: PortOrZero = 0
    proxy_inbound_listen_port: PortOrZero = 0
    proxy_http_port: PortOrZero = 0
    connect_timeout: Duration | None = None
    protocol_detection_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    ingress_class: str = ""
    ingress_service: str = ""
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "UNSPECIFIED"
    ingress_selector: str = ""
    enable_tracing: bool = False
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    default_config: ProxyConfig | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_traffic_policy: InboundTrafficPolicy | None = None
    config_sources: tuple[ConfigSource, ...] = ()
    enable_auto_mtls: bool | None = None
    trust_domain: str = ""
    trust_domain_aliases: tuple[str, ...] = ()
    ca_certificates: tuple[CertificateData, ...] = ()
    default_service_export_to: tuple[str, ...] = ()
    default_virtual_service_export_to: tuple[str, ...] = ()
    default_destination_rule_export_to: tuple[str, ...] = ()
    root_namespace: str = ""
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    dns_refresh_rate: Duration | None = None
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    certificates: tuple[DnsCertificate, ...] = ()
    service_settings: tuple[ServiceSettings, ...] = ()
    service_scope_configs: tuple[ServiceScopeConfig, ...] = ()
    service_entry_visibility: dict[str, Any] | None = None
    enable_prometheus_merge: bool | None = None
    verify_certificate_at_client: bool | None = None
    ca: ExternalCa | None = None
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders | None = None
    default_traffic_policy: TrafficPolicy | None = None
    discovery_selectors: tuple[LabelSelector, ...] = ()
    path_normalization: PathNormalization | None = None
    default_http_retry_policy: HttpRetry | None = None
    mesh_mtls: MeshTlsConfig | None = field(name="meshMTLS", default=None)
    tls_defaults: MeshTlsConfig | None = None
    hbone_idle_timeout: Duration | None = None


class MeshConfig(MeshResource, frozen=True, kw_only=True):
    """The settings of the mesh as an object. It has no namespace; the oldest one holds."""

    spec: MeshConfigSpec = MeshConfigSpec()
