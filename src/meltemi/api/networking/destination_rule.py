"""DestinationRule: how clients treat a service. Source: Istio `networking/v1alpha3/destination_rule.proto`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from meltemi.api.meta import MeshResource, Part, WorkloadSelector
from meltemi.api.networking.virtual_service import PortSelector
from meltemi.api.scalars import Duration, HttpStatus, Int32, Percentage, PercentInt, Port, UInt32, UInt64

SimpleLb = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]
H2UpgradePolicy = Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]
ClientTlsMode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]


class CookieAttribute(Part, frozen=True, kw_only=True):
    """One attribute of a cookie, such as `SameSite=Strict`."""

    name: str
    value: str = ""


class HttpCookie(Part, frozen=True, kw_only=True):
    """A cookie to hash by. With a `ttl` the proxy sets it if it is missing (zero: a session cookie).

    `attributes` are further attributes of the cookie that is set.
    """

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Part, frozen=True, kw_only=True):
    """Ketama hashing onto a ring of at least this many virtual nodes (0: Istio's 1024)."""

    minimum_ring_size: UInt64 = 0


class MagLev(Part, frozen=True, kw_only=True):
    """Maglev hashing with a table of this prime size (0: 65537)."""

    table_size: UInt64 = 0


class ConsistentHashLb(Part, frozen=True, kw_only=True):
    """Session affinity by hashing exactly one property of the request. `minimum_ring_size` is deprecated."""

    http_header_name: str | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


class LocalityDistribute(Part, frozen=True, kw_only=True):
    """Shares (percent) of the traffic of one locality that other localities get."""

    from_: str = field(name="from", default="")
    to: dict[str, UInt32] = {}


class LocalityFailover(Part, frozen=True, kw_only=True):
    """The region to use when `from` is unhealthy."""

    from_: str = field(name="from", default="")
    to: str = ""


class LocalityLoadBalancerSetting(Part, frozen=True, kw_only=True):
    """Locality weights or failover; at most one of `distribute`, `failover`, `failover_priority`."""

    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLoadBalancerSetting(Part, frozen=True, kw_only=True):
    """Preference for the client's own zone, as far as its endpoints can carry the load."""

    enabled: bool | None = None
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: UInt32 | None = None


class WarmupConfiguration(Part, frozen=True, kw_only=True):
    """New endpoints get their share of the traffic only gradually (Envoy `SlowStartConfig`)."""

    duration: Duration
    minimum_percent: Percentage | None = None
    aggression: Annotated[float, Meta(ge=1)] | None = None


class BackendUtilization(Part, frozen=True, kw_only=True):
    """Shares by the load that endpoints report of themselves (ORCA, in headers or trailers of their responses).

    Envoy `ClientSideWeightedRoundRobin`, whose defaults hold.
    """

    blackout_period: Duration | None = None
    weight_expiration_period: Duration | None = None
    weight_update_period: Duration | None = None
    error_utilization_penalty: Annotated[float, Meta(ge=0)] | None = None
    metric_names_for_computing_utilization: tuple[str, ...] = ()


class LoadBalancerSettings(Part, frozen=True, kw_only=True):
    """How an endpoint is chosen: `simple`, `consistent_hash` or `backend_utilization`.

    `warmup_duration_secs` is deprecated.
    """

    simple: SimpleLb | None = None
    consistent_hash: ConsistentHashLb | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    backend_utilization: BackendUtilization | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None


class TcpKeepalive(Part, frozen=True, kw_only=True):
    """SO_KEEPALIVE: how many probes, after how long, how far apart."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Part, frozen=True, kw_only=True):
    """Limits of connections, for HTTP and TCP alike."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class ConnectionKeepalive(Part, frozen=True, kw_only=True):
    """HTTP/2 PING frames: how far apart, and how long an answer is waited for before the connection is closed."""

    interval: Duration
    timeout: Duration


class HttpSettings(Part, frozen=True, kw_only=True):
    """Limits of HTTP requests and connections."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: H2UpgradePolicy = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: ConnectionKeepalive | None = None


class ConnectionPoolSettings(Part, frozen=True, kw_only=True):
    """Limits of the pool of connections to a service."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


class OutlierDetection(Part, frozen=True, kw_only=True):
    """When an endpoint that fails is set aside, and for how long. `consecutive_errors` is deprecated.

    `outlier_detection_http_error_codes`: what counts as an error, in place of every 5xx.
    """

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = field(name="consecutive5xxErrors", default=None)
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: PercentInt = 0
    min_health_percent: PercentInt = 0
    outlier_detection_http_error_codes: tuple[HttpStatus, ...] = ()


class ClientTlsSettings(Part, frozen=True, kw_only=True):
    """TLS towards the service (Istio `ClientTLSSettings`). Files, or `credential_name`, not both."""

    mode: ClientTlsMode = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class TunnelSettings(Part, frozen=True, kw_only=True):
    """TCP carried through an HTTP proxy. `protocol`: CONNECT (default) or POST."""

    protocol: str = ""
    target_host: str
    target_port: Port


class ProxyProtocol(Part, frozen=True, kw_only=True):
    """The PROXY protocol header sent to the service."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Part, frozen=True, kw_only=True):
    """Retries in flight, as a percentage of the requests in flight."""

    percent: Percentage | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class PortTrafficPolicy(Part, frozen=True, kw_only=True):
    """The policy of one port. What it leaves out takes the defaults: nothing is inherited from the whole service's."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None


class TrafficPolicy(Part, frozen=True, kw_only=True):
    """Load balancing, pools, outlier detection and TLS, for all ports or port by port."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Part, frozen=True, kw_only=True):
    """The endpoints of a service that carry all these labels, under a name."""

    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Part, frozen=True, kw_only=True):
    """A host, the policy towards it, and its subsets."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


class DestinationRule(MeshResource, frozen=True, kw_only=True):
    """How clients treat a service after routing has chosen it."""

    spec: DestinationRuleSpec
