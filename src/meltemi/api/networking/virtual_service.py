"""VirtualService: where requests and connections for a host go. Source: Istio `networking/v1alpha3/virtual_service.proto`."""

from __future__ import annotations

from typing import Literal

from meltemi.api.meta import MeshResource, Part
from meltemi.api.scalars import Duration, HttpStatus, Int32, Percentage, Port, PortOrZero, UInt32, Weight


class StringMatch(Part, frozen=True, kw_only=True):
    """Exactly one way to compare a text. All absent: the text must be present (headers only)."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class PortSelector(Part, frozen=True, kw_only=True):
    """A port of a service, by number."""

    number: Port


class Destination(Part, frozen=True, kw_only=True):
    """A service, and optionally a subset and a port of it."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Part, frozen=True, kw_only=True):
    """What is done to the headers of a request or response: `set` replaces, `add` appends, `remove` drops."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Part, frozen=True, kw_only=True):
    """Header operations on the request and on the response."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class Percent(Part, frozen=True, kw_only=True):
    """A percentage from 0 to 100."""

    value: Percentage = 0.0


class HttpMatchRequest(Part, frozen=True, kw_only=True):
    """What a request must look like; all that is said must hold (Istio `HTTPMatchRequest`)."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    port: PortOrZero = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    without_headers: dict[str, StringMatch] = {}
    source_namespace: str = ""
    stat_prefix: str = ""


class HttpRouteDestination(Part, frozen=True, kw_only=True):
    """A destination with its share of the requests (Istio `HTTPRouteDestination`)."""

    destination: Destination
    weight: Weight = 0
    headers: Headers | None = None


class HttpRedirect(Part, frozen=True, kw_only=True):
    """An answer that sends the client elsewhere (Istio `HTTPRedirect`). `port` and `derive_port` exclude each other."""

    uri: str = ""
    authority: str = ""
    port: PortOrZero | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    prefix_rewrite: str = ""
    redirect_code: UInt32 = 0


class HttpBody(Part, frozen=True, kw_only=True):
    """The body of a direct response: text, or bytes in base64."""

    string: str | None = None
    bytes: str | None = None


class HttpDirectResponse(Part, frozen=True, kw_only=True):
    """An answer that the proxy gives itself (Istio `HTTPDirectResponse`)."""

    status: HttpStatus
    body: HttpBody | None = None


class Delegate(Part, frozen=True, kw_only=True):
    """Another VirtualService, without hosts, that has the routes."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Part, frozen=True, kw_only=True):
    """A rewrite of the path by a regular expression (RE2) and a substitution with `\\1` for groups."""

    match: str = ""
    rewrite: str = ""


class HttpRewrite(Part, frozen=True, kw_only=True):
    """A rewrite of the path and the authority before the request is forwarded (Istio `HTTPRewrite`)."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HttpRetry(Part, frozen=True, kw_only=True):
    """How often and when a failed request is tried again (Istio `HTTPRetry`)."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class Delay(Part, frozen=True, kw_only=True):
    """Requests that are held back (Istio `HTTPFaultInjection.Delay`). `percent` and `exponential_delay` are deprecated."""

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class Abort(Part, frozen=True, kw_only=True):
    """Requests that are answered with an error (Istio `HTTPFaultInjection.Abort`)."""

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HttpFaultInjection(Part, frozen=True, kw_only=True):
    """Faults made on purpose (Istio `HTTPFaultInjection`)."""

    delay: Delay | None = None
    abort: Abort | None = None


class HttpMirrorPolicy(Part, frozen=True, kw_only=True):
    """A destination that gets a copy of the requests (Istio `HTTPMirrorPolicy`). No percentage: all of them."""

    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Part, frozen=True, kw_only=True):
    """Cross-origin resource sharing (Istio `CorsPolicy`). `allow_origin` is deprecated."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HttpRoute(Part, frozen=True, kw_only=True):
    """One rule for HTTP: which requests, and what becomes of them (Istio `HTTPRoute`).

    `match` has alternatives; none means every request. `mirror_percent` is deprecated.
    """

    name: str = ""
    match: tuple[HttpMatchRequest, ...] = ()
    route: tuple[HttpRouteDestination, ...] = ()
    redirect: HttpRedirect | None = None
    direct_response: HttpDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HttpRewrite | None = None
    timeout: Duration | None = None
    retries: HttpRetry | None = None
    fault: HttpFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HttpMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class TlsMatchAttributes(Part, frozen=True, kw_only=True):
    """What a TLS connection must look like (Istio `TLSMatchAttributes`)."""

    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: PortOrZero = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class L4MatchAttributes(Part, frozen=True, kw_only=True):
    """What a connection must look like (Istio `L4MatchAttributes`). `source_subnet` was never implemented by Istio."""

    destination_subnets: tuple[str, ...] = ()
    port: PortOrZero = 0
    source_subnet: str = ""
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class RouteDestination(Part, frozen=True, kw_only=True):
    """A destination with its share of the connections."""

    destination: Destination
    weight: Weight = 0


class TlsRoute(Part, frozen=True, kw_only=True):
    """One rule for TLS that is passed through, by SNI (Istio `TLSRoute`)."""

    match: tuple[TlsMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


class TcpRoute(Part, frozen=True, kw_only=True):
    """One rule for TCP (Istio `TCPRoute`)."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Part, frozen=True, kw_only=True):
    """Hosts, the gateways at which the rules hold, and the rules."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[TlsRoute, ...] = ()
    tcp: tuple[TcpRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(MeshResource, frozen=True, kw_only=True):
    """Traffic rules for one or more hosts."""

    spec: VirtualServiceSpec = VirtualServiceSpec()
