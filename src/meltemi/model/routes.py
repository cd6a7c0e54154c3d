"""Where a request goes: matches, actions, and what happens to the request on the way.

A VirtualService and an HTTPRoute become the same `Route` values. A route that holds only for some clients says so in
`clients`; one that holds for all carries `ANYONE`. The order of routes is their precedence: the first match decides.
"""

from __future__ import annotations

import enum
from datetime import timedelta

import msgspec

from meltemi.base.durations import Timeout
from meltemi.base.refs import Ref
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.services import Session


class MatchKind(enum.StrEnum):
    """How a text is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"  # the whole text, RE2
    PRESENT = "present"
    SEGMENTS = "segments"  # paths only: a prefix of whole path segments (Gateway API PathPrefix)


class TextMatch(msgspec.Struct, frozen=True, order=True):
    """A comparison of a text with a value."""

    kind: MatchKind
    value: str = ""
    ignore_case: bool = False


class NamedMatch(msgspec.Struct, frozen=True, order=True):
    """A comparison of a header or query parameter. `invert`: it must not match (a missing one then counts as empty)."""

    name: str
    match: TextMatch
    invert: bool = False


class ClaimMatch(msgspec.Struct, frozen=True, order=True):
    """A comparison of a claim of the request's verified token, or of one of its elements where the claim is a list.

    `path` leads to it through nested objects. A request without a verified token has no claims. `invert`: it must not
    match, which a missing claim does not.
    """

    path: tuple[str, ...]
    match: TextMatch
    invert: bool = False


class HttpMatch(msgspec.Struct, frozen=True):
    """What a request must look like. All that is said must hold; an empty match fits every request.

    `headers` may name the pseudo headers `:method`, `:authority` and `:scheme`. `claims` are seen by gateways only.
    """

    path: TextMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()
    grpc: bool = False
    claims: tuple[ClaimMatch, ...] = ()


class HeaderChange(msgspec.Struct, frozen=True):
    """What is done to headers: `set` replaces, `add` appends, `remove` drops. Values may hold Envoy's command operators."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


NO_CHANGE = HeaderChange()


class Target(msgspec.Struct, frozen=True, order=True):
    """A port of a service, or of a subset of it. `port` 0: the destination could not be resolved (requests fail with 503)."""

    namespace: str
    host: str
    port: int
    subset: str = ""


class WeightedTarget(msgspec.Struct, frozen=True):
    """A target and its share of the requests, relative to the sum of all shares. `session`: clients stay at an endpoint."""

    target: Target
    weight: int = 1
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    session: Session | None = None


class RetryPolicy(msgspec.Struct, frozen=True):
    """When a request is tried again (Istio `HTTPRetry`). `attempts` 0 switches retries off."""

    attempts: int = 2
    per_try_timeout: timedelta | None = None
    conditions: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    status_codes: tuple[int, ...] = ()
    backoff: timedelta | None = None
    max_backoff: timedelta | None = None
    other_localities: bool = False
    avoid_previous_hosts: bool = True


class PathRewrite(msgspec.Struct, frozen=True):
    """A new path: the matched prefix (or exact path) replaced, the whole replaced, or a regex substitution."""

    prefix: str | None = None
    full: str | None = None
    regex: str | None = None
    substitution: str = ""


class Mirror(msgspec.Struct, frozen=True):
    """A copy of requests is sent there and its answer thrown away. Percent in 0..100."""

    target: Target
    percent: float = 100.0


class Forward(msgspec.Struct, frozen=True):
    """The request is passed on."""

    targets: tuple[WeightedTarget, ...]
    path: PathRewrite | None = None
    authority: str = ""
    timeout: Timeout = Timeout.off()
    retries: RetryPolicy | None = None
    mirrors: tuple[Mirror, ...] = ()


class Redirect(msgspec.Struct, frozen=True):
    """The client is sent elsewhere. `port` None keeps it; 0 derives it from the scheme."""

    authority: str = ""
    scheme: str = ""
    port: int | None = None
    path: PathRewrite | None = None
    status: int = 301


class Respond(msgspec.Struct, frozen=True):
    """The proxy answers by itself."""

    status: int
    body: bytes = b""


class Passthrough(msgspec.Struct, frozen=True):
    """The request goes wherever the client was going (catch-all of ALLOW_ANY)."""


Action = Forward | Redirect | Respond | Passthrough


class Delay(msgspec.Struct, frozen=True):
    """A share of the requests waits before it goes on. Percent in 0..100."""

    duration: timedelta
    percent: float = 100.0


class Abort(msgspec.Struct, frozen=True):
    """A share of the requests is refused with an HTTP status, or with a gRPC status code where `grpc` is set."""

    status: int = 0
    grpc: int | None = None
    percent: float = 100.0


class Fault(msgspec.Struct, frozen=True):
    """Faults put in on purpose."""

    delay: Delay | None = None
    abort: Abort | None = None


class Cors(msgspec.Struct, frozen=True):
    """Cross-origin rules (Istio `CorsPolicy`)."""

    origins: tuple[TextMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: timedelta | None = None
    credentials: bool | None = None
    forward_unmatched_preflights: bool = True


class Source(msgspec.Struct, frozen=True, order=True):
    """The part of a user's object that something was made of: the object and the path of the field within it."""

    ref: Ref
    path: str = ""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One match and what is done with the requests it fits."""

    name: str
    match: HttpMatch
    action: Action
    clients: Clients = ANYONE
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    fault: Fault | None = None
    cors: Cors | None = None
    stat_prefix: str = ""
    source: Source | None = None


class VirtualHost(msgspec.Struct, frozen=True):
    """The routes of one host on one port. `domains` are the names clients may use (no port), most specific first."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    require_tls: bool = False
    sources: tuple[Source, ...] = ()


class RouteVariant(msgspec.Struct, frozen=True):
    """The routes of a host as one group of clients sees them, by service port number."""

    clients: Clients
    ports: tuple[tuple[int, tuple[Route, ...]], ...]
    sources: tuple[Source, ...] = ()

    def routes(self, port: int) -> tuple[Route, ...]:
        """The routes of one port."""
        return dict(self.ports).get(port, ())


class HostRoutes(msgspec.Struct, frozen=True):
    """All HTTP routes of one service in the mesh. The first variant that includes a client applies; the last includes all.

    `key` in its table: that of the service.
    """

    namespace: str
    host: str
    variants: tuple[RouteVariant, ...]


class TcpMatch(msgspec.Struct, frozen=True):
    """What a connection must look like: its destination (CIDR blocks) and, for TLS, the server name asked for."""

    destination_subnets: tuple[str, ...] = ()
    sni_hosts: tuple[str, ...] = ()


class TcpRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Connections that match go to the targets, by weight."""

    match: TcpMatch = TcpMatch()
    targets: tuple[WeightedTarget, ...]
    clients: Clients = ANYONE
    source: Source | None = None


class TcpRouteVariant(msgspec.Struct, frozen=True):
    """The connection routes of a host as one group of clients sees them, by service port number."""

    clients: Clients
    ports: tuple[tuple[int, tuple[TcpRoute, ...]], ...]


class HostTcpRoutes(msgspec.Struct, frozen=True):
    """All connection routes (VirtualService `tcp` and `tls`) of one service. `key` in its table: that of the service."""

    namespace: str
    host: str
    variants: tuple[TcpRouteVariant, ...]
