"""How clients treat a destination: balancing, connection pools, outlier detection, TLS, and named subsets.

The fields follow Istio's DestinationRule `TrafficPolicy`, whose defaults are Envoy's unless said otherwise.
"""

from __future__ import annotations

import enum
from datetime import timedelta

import msgspec

from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.model.clients import ANYONE, Clients


class Balancer(enum.StrEnum):
    """The choice among endpoints (Istio `LoadBalancerSettings.simple`)."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"


class HashRing(enum.StrEnum):
    """The consistent hashing algorithm."""

    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"


class HashSource(enum.StrEnum):
    """What of a request is hashed."""

    HEADER = "header"
    COOKIE = "cookie"
    SOURCE_IP = "source-ip"
    QUERY_PARAMETER = "query-parameter"


class ConsistentHash(msgspec.Struct, frozen=True):
    """Requests that hash alike go to the same endpoint. `ttl` None: a session cookie is only read, never set."""

    source: HashSource
    name: str = ""
    path: str = ""
    ttl: timedelta | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    ring: HashRing = HashRing.RING_HASH
    minimum_ring_size: int = 1024
    table_size: int = 65537


class Warmup(msgspec.Struct, frozen=True):
    """New endpoints get their share of requests step by step (Envoy `slow_start`). Percent in 0..100."""

    duration: timedelta
    minimum_percent: float = 10.0
    aggression: float = 1.0


class Utilization(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of requests by the load that endpoints report; None: Envoy's default.

    A report counts `blackout` after the first, and no longer than `expiration`. `metrics` are looked at where an endpoint
    does not report how utilized its application is; `error_penalty` is how much errors add to the load.
    """

    blackout: timedelta | None = None
    expiration: timedelta | None = None
    update: timedelta | None = None
    error_penalty: float | None = None
    metrics: tuple[str, ...] = ()


class Balancing(msgspec.Struct, frozen=True):
    """How an endpoint is chosen: by `hash`, by `utilization`, or as `simple` says."""

    simple: Balancer = Balancer.LEAST_REQUEST
    hash: ConsistentHash | None = None
    warmup: Warmup | None = None
    utilization: Utilization | None = None


class KeepAlive(msgspec.Struct, frozen=True):
    """TCP keep-alive probes; None leaves the operating system's value."""

    probes: int | None = None
    time: timedelta | None = None
    interval: timedelta | None = None


class Pings(msgspec.Struct, frozen=True):
    """HTTP/2 PING frames, and how long an answer is waited for before the connection is closed."""

    interval: timedelta
    timeout: timedelta


class Http2Upgrade(enum.StrEnum):
    """Whether HTTP/1.1 requests are carried over HTTP/2."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class ConnectionPool(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on connections and requests to a destination. None: no limit, or Envoy's default."""

    max_connections: int | None = None
    connect_timeout: timedelta | None = None
    keepalive: KeepAlive | None = None
    tcp_idle_timeout: Timeout = Timeout.default()
    max_connection_duration: timedelta | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    http_idle_timeout: Timeout = Timeout.default()
    http2_upgrade: Http2Upgrade = Http2Upgrade.DEFAULT
    use_client_protocol: bool = False
    max_concurrent_streams: int | None = None
    pings: Pings | None = None


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True):
    """How many retries may be under way: a share of the requests under way, but always some. Percent in 0..100.

    With an `interval`, requests of that long ago still count (Envoy `RetryBudget.budget_interval`).
    """

    percent: float = 20.0
    min_concurrency: int = 3
    interval: timedelta | None = None


class OutlierDetection(msgspec.Struct, frozen=True, kw_only=True):
    """When an endpoint is set aside for a time (Istio `OutlierDetection`). Percent in 0..100.

    `error_statuses` are the HTTP statuses that count as errors; empty: every 5xx.
    """

    consecutive_gateway_errors: int | None = None
    consecutive_5xx_errors: int | None = None
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: int | None = None
    interval: timedelta | None = None
    base_ejection_time: timedelta | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int = 0
    error_statuses: tuple[int, ...] = ()


class TlsMode(enum.StrEnum):
    """How connections to a destination are secured. AUTO: mTLS wherever the endpoint can speak it."""

    AUTO = "AUTO"
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ClientTls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS towards a destination. Files are paths that the client's proxy can read; keys never stand here.

    `credential_name` is a secret as the xDS server serves it: `kubernetes://<name>`, in the client's own namespace.
    """

    mode: TlsMode = TlsMode.AUTO
    client_certificate: str = ""
    private_key_file: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool = False
    ca_crl: str = ""


class Tunnel(msgspec.Struct, frozen=True):
    """Connections are carried through an HTTP proxy (RFC 9110, 9.3.6), which connects to `host` and `port`.

    `post`: for a proxy that takes POST in place of CONNECT.
    """

    host: str
    port: int
    post: bool = False


class TrafficPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that clients heed about one port of a destination, defaults filled in."""

    balancing: Balancing = Balancing()
    pool: ConnectionPool = ConnectionPool()
    outlier: OutlierDetection | None = None
    tls: ClientTls = ClientTls()
    proxy_protocol: str = ""
    retry_budget: RetryBudget | None = None
    tunnel: Tunnel | None = None


class Subset(msgspec.Struct, frozen=True):
    """A named part of a service's endpoints: those whose labels contain `labels`, with the policy of its ports."""

    name: str
    labels: LabelSet
    ports: tuple[tuple[int, TrafficPolicy], ...]


class DestinationVariant(msgspec.Struct, frozen=True):
    """The policy of a destination as one group of clients sees it: per port number, and subsets.

    `refs` are the DestinationRules it rests on (none: the defaults).
    """

    clients: Clients
    ports: tuple[tuple[int, TrafficPolicy], ...]
    subsets: tuple[Subset, ...] = ()
    refs: tuple[Ref, ...] = ()

    def policy(self, port: int, subset: str = "") -> TrafficPolicy | None:
        """The policy of one port, of the whole service or of a subset. None where either does not exist."""
        if not subset:
            return dict(self.ports).get(port)
        found = next((each for each in self.subsets if each.name == subset), None)
        return None if found is None else dict(found.ports).get(port)

    def for_connections(self, port: int, subset: str, *, shared: bool) -> TrafficPolicy:
        """The policy under which connections are made.

        `shared`: other targets get a part of them. One tunnel is for all, so that it is the service's and no subset's.
        """
        found = self.policy(port, subset) or TrafficPolicy()
        if not (shared and subset):
            return found
        whole = self.policy(port) or TrafficPolicy()
        return msgspec.structs.replace(found, tunnel=whole.tunnel)


class Destination(msgspec.Struct, frozen=True):
    """The client side of one service. The first variant that includes a client applies; the last includes all.

    `key` in its table: that of the service.
    """

    namespace: str
    host: str
    variants: tuple[DestinationVariant, ...] = (DestinationVariant(ANYONE, ()),)
