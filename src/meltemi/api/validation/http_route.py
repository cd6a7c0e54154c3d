"""Whether an HTTP rule can mean anything: what it matches, the one thing it does, and how."""

from __future__ import annotations

import re

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.virtual_service import (
    CorsPolicy,
    Destination,
    Headers,
    HttpDirectResponse,
    HttpFaultInjection,
    HttpMatchRequest,
    HttpRedirect,
    HttpRetry,
    HttpRewrite,
    HttpRoute,
    StringMatch,
)
from meltemi.api.validation import terms
from meltemi.api.validation.regexes import regex
from meltemi.base.durations import parse_duration
from meltemi.base.grpc_status import STATUSES

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})

RETRY_CONDITIONS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
"""Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`. Status codes may stand beside them."""

CLAIMS = "@request.auth.claims"
"""What the names of matches on JWT claims begin with."""

_CLAIM = re.compile(rf"{CLAIMS}((\.[^.\[\]]+)+|(\[[^\[\]]+\])+)")
_AUTHORITY = ("host", ":authority")
_LARGE_BODY = 100 * 1024
_LARGEST_BODY = 1024 * 1024
_STATUS = re.compile(r"[1-5]\d\d")


def http_route(path: str, route: HttpRoute, *, delegate: bool = False) -> Faults:
    """What is wrong with an HTTP rule. `delegate`: it belongs to a VirtualService without hosts."""
    for index, match in enumerate(route.match):
        yield from _match(paths.item(f"{path}.match", index), match)
    yield from _action(path, route, delegate=delegate)
    if route.headers:
        yield from _headers(f"{path}.headers", route.headers)
    yield from _authority(path, route)
    if route.direct_response:
        yield from _direct_response(f"{path}.directResponse", route.direct_response)
    if route.retries:
        yield from retries(f"{path}.retries", route.retries)
    if route.fault:
        yield from _fault_injection(f"{path}.fault", route.fault)
    if route.cors_policy:
        yield from _cors(f"{path}.corsPolicy", route.cors_policy)
    yield from _mirrors(path, route)


def _action(path: str, route: HttpRoute, *, delegate: bool) -> Faults:
    """Exactly one of route, redirect, directResponse and delegate, and nothing beside it that would have no effect."""
    given = [
        name
        for name, value in (
            ("route", route.route),
            ("redirect", route.redirect),
            ("directResponse", route.direct_response),
            ("delegate", route.delegate),
        )
        if value
    ]
    if not given:
        yield Fault(path, "the rule does nothing", "add route, redirect, directResponse or delegate", "RequiredField")
    for name in given[1:]:
        yield Fault(f"{path}.{name}", f"a rule has either {given[0]} or {name}", "keep one of the two", "Conflict")
    if route.redirect or route.direct_response:
        for name, value in (("rewrite", route.rewrite), ("fault", route.fault), ("mirror", route.mirror)):
            if value:
                yield Fault(f"{path}.{name}", f"{given[0]} leaves nothing for {name} to act on", f"remove {name}")
    if route.delegate and delegate:
        yield Fault(f"{path}.delegate", "a delegate cannot delegate further", "write the route here")
    if route.redirect:
        yield from _redirect(f"{path}.redirect", route.redirect)
    if route.rewrite:
        yield from _rewrite(f"{path}.rewrite", route.rewrite)
    for index, target in enumerate(route.route):
        where = paths.item(f"{path}.route", index)
        yield from destination(f"{where}.destination", target.destination)
        if target.headers:
            yield from _headers(f"{where}.headers", target.headers)
    yield from weights(f"{path}.route", tuple(target.weight for target in route.route))


def destination(path: str, value: Destination) -> Faults:
    """A destination: a host. Whether it exists, and the subset, is known only where all objects meet."""
    if value.host == "*":
        yield Fault(f"{path}.host", "'*' is not a host here", "name a service", "InvalidHost")
    else:
        yield from terms.host(f"{path}.host", value.host)
    if value.subset:
        yield from terms.dns_label(f"{path}.subset", value.subset.lower(), "the name of a subset")


def _authority(path: str, route: HttpRoute) -> Faults:
    """The authority is written in one place only."""
    request = route.headers.request if route.headers else None
    places = [f"{path}.rewrite.authority"] if route.rewrite and route.rewrite.authority else []
    for name, entries in (("set", request.set), ("add", request.add)) if request else ():
        places += [paths.key(f"{path}.headers.request.{name}", key) for key in entries if key.lower() in _AUTHORITY]
    for place in places[1:]:
        yield Fault(place, "the authority is written twice", f"keep {places[0].removeprefix(f'{path}.')}", "Conflict")


def _direct_response(path: str, response: HttpDirectResponse) -> Faults:
    if response.status < 200:
        yield Fault(f"{path}.status", f"{response.status} ends no request", "write 200 to 599", "OutOfRange")
    body = response.body
    size = len((body.string or body.bytes or "").encode()) if body else 0
    if size > _LARGEST_BODY:
        yield Fault(f"{path}.body", f"the body has {size} bytes", "write less than a megabyte", "OutOfRange")
    elif size > _LARGE_BODY:
        yield warning(f"{path}.body", f"each proxy holds the {size} bytes of the body", "let a service answer")


def weights(path: str, shares: tuple[int, ...]) -> Faults:
    """Shares, of which at least one must be above 0 where there are several."""
    if len(shares) > 1 and sum(shares) == 0:
        yield Fault(path, "the weights are all 0", "give each destination a weight", "InvalidWeights")


def _match(path: str, match: HttpMatchRequest) -> Faults:
    for name, value in (
        ("uri", match.uri),
        ("scheme", match.scheme),
        ("method", match.method),
        ("authority", match.authority),
    ):
        if value is not None:
            yield from string_match(f"{path}.{name}", value, empty=name == "uri")
            if value == StringMatch():
                yield Fault(f"{path}.{name}", "nothing is said to compare with", "write exact, prefix or regex")
    for name, entries in (
        ("headers", match.headers),
        ("withoutHeaders", match.without_headers),
        ("queryParams", match.query_params),
    ):
        for key, value in entries.items():
            where = paths.key(f"{path}.{name}", key)
            if name != "queryParams" and key.startswith(CLAIMS):
                yield from _claim(where, key)
            elif name != "queryParams":
                yield from terms.header_name(where, key)
            elif not key:
                yield Fault(where, "the parameter's name is empty", "write a name")
            yield from string_match(where, value, presence=name != "queryParams")
    yield from terms.labels(f"{path}.sourceLabels", match.source_labels)
    if match.source_namespace:
        yield from terms.dns_label(f"{path}.sourceNamespace", match.source_namespace, "a namespace")


def claims(match: HttpMatchRequest) -> list[tuple[str, str]]:
    """The matches on JWT claims among those on headers: the field, and the key in it."""
    fields = (("headers", match.headers), ("withoutHeaders", match.without_headers))
    return [(name, key) for name, entries in fields for key in entries if key.startswith(CLAIMS)]


def _claim(path: str, name: str) -> Faults:
    if not _CLAIM.fullmatch(name):
        yield Fault(path, f"{name!r} names no claim", f"write {CLAIMS}.group or {CLAIMS}[group][name]", "InvalidValue")


def string_match(path: str, match: StringMatch, *, empty: bool = False, presence: bool = False) -> Faults:
    """The expression of a comparison. That there is only one way to compare is seen elsewhere.

    `empty`: the prefix may be empty. `presence`: the regular expression may be `*`, which then asks for presence alone.
    """
    if match.prefix == "" and not empty:
        yield Fault(f"{path}.prefix", "an empty prefix fits everything", "write a prefix, or leave the match out")
    if match.regex is not None and not (presence and match.regex == "*"):
        yield from regex(f"{path}.regex", match.regex)


def _headers(path: str, headers: Headers) -> Faults:
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for name, entries in (("set", operations.set), ("add", operations.add)):
            for header, value in entries.items():
                where = paths.key(f"{path}.{side}.{name}", header)
                yield from terms.header_name(where, header)
                yield from terms.header_value(where, value)
                if side == "response" and header.lower() in _AUTHORITY:
                    yield Fault(where, f"a response has no {header!r}", "set it on the request")
                elif header.startswith(":") and header != ":authority":
                    yield Fault(where, f"the pseudo header {header!r} cannot be changed", "use rewrite")
        for index, header in enumerate(operations.remove):
            where = paths.item(f"{path}.{side}.remove", index)
            yield from terms.header_name(where, header)
            if header.startswith(":") or header.lower() == "host":
                yield Fault(where, f"the header {header!r} cannot be removed", "leave it out")


def _redirect(path: str, redirect: HttpRedirect) -> Faults:
    changes = (redirect.uri, redirect.authority, redirect.scheme, redirect.port, redirect.derive_port)
    if not any(changes) and not redirect.redirect_code and not redirect.prefix_rewrite:
        yield Fault(path, "the redirect leads nowhere", "add uri, authority, scheme or port", "RequiredField")
    if redirect.redirect_code and redirect.redirect_code not in (301, 302, 303, 307, 308):
        yield Fault(
            f"{path}.redirectCode",
            f"{redirect.redirect_code} does not redirect",
            "write 301, 302, 303, 307 or 308",
            "OutOfRange",
        )
    if redirect.scheme and redirect.scheme not in ("http", "https"):
        yield Fault(f"{path}.scheme", f"{redirect.scheme!r} is neither http nor https", "write http or https")
    if redirect.uri and redirect.prefix_rewrite:
        yield Fault(f"{path}.prefixRewrite", "uri and prefixRewrite exclude each other", "keep one", "Conflict")


def _rewrite(path: str, rewrite: HttpRewrite) -> Faults:
    if not (rewrite.uri or rewrite.authority or rewrite.uri_regex_rewrite):
        yield Fault(path, "nothing is rewritten", "add uri, uriRegexRewrite or authority", "RequiredField")
    if rewrite.uri and rewrite.uri_regex_rewrite:
        yield Fault(f"{path}.uriRegexRewrite", "uri and uriRegexRewrite exclude each other", "keep one", "Conflict")
    if rewrite.uri_regex_rewrite:
        yield from regex(f"{path}.uriRegexRewrite.match", rewrite.uri_regex_rewrite.match)
        if not rewrite.uri_regex_rewrite.rewrite:
            yield Fault(f"{path}.uriRegexRewrite.rewrite", "there is no substitution", "add rewrite", "RequiredField")


def retries(path: str, policy: HttpRetry) -> Faults:
    """What is wrong with a retry policy."""
    yield from terms.not_negative(f"{path}.attempts", policy.attempts)
    if policy.attempts == 0 and (
        policy.per_try_timeout or policy.retry_on or policy.backoff or policy.retry_remote_localities is not None
    ):
        yield Fault(f"{path}.attempts", "0 attempts switch retries off", "write how often to try again")
    for condition in policy.retry_on.split(",") if policy.retry_on else ():
        name = condition.strip()
        if name not in RETRY_CONDITIONS and not _STATUS.fullmatch(name):
            yield Fault(
                f"{path}.retryOn",
                f"{name!r} is not a condition to retry on",
                f"write statuses or some of {', '.join(sorted(RETRY_CONDITIONS))}",
            )


def _fault_injection(path: str, fault: HttpFaultInjection) -> Faults:
    if not (fault.delay or fault.abort):
        yield Fault(path, "there is no fault", "add delay or abort", "RequiredField")
    if fault.delay:
        if fault.delay.fixed_delay is None:
            if fault.delay.exponential_delay is not None:
                yield Fault(f"{path}.delay.exponentialDelay", "Envoy has no exponential delays", "use fixedDelay")
            else:
                yield warning(f"{path}.delay.fixedDelay", "the delay has no length", "add fixedDelay")
        if not 0 <= fault.delay.percent <= 100:
            yield Fault(f"{path}.delay.percent", f"{fault.delay.percent} is not a percentage", "write 0 to 100")
    if fault.abort:
        abort = fault.abort
        if abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
            yield warning(f"{path}.abort", "the abort has no status", "add httpStatus or grpcStatus")
        if abort.http_status is not None and not 200 <= abort.http_status <= 599:
            yield Fault(
                f"{path}.abort.httpStatus", f"{abort.http_status} is not a status", "write 200 to 599", "OutOfRange"
            )
        if abort.grpc_status is not None and abort.grpc_status not in STATUSES:
            yield Fault(
                f"{path}.abort.grpcStatus",
                f"{abort.grpc_status!r} is not a gRPC status",
                f"write one of {', '.join(STATUSES[1:])}",
            )
        if abort.http2_error is not None:
            yield Fault(f"{path}.abort.http2Error", "Envoy cannot make HTTP/2 errors", "use httpStatus")


def _cors(path: str, cors: CorsPolicy) -> Faults:
    for index, method in enumerate(cors.allow_methods):
        if method not in _METHODS:
            yield Fault(
                paths.item(f"{path}.allowMethods", index), f"{method!r} is not a method", "write it as GET, POST ..."
            )
    for index, origin in enumerate(cors.allow_origins):
        where = paths.item(f"{path}.allowOrigins", index)
        yield from string_match(where, origin)
        if not (origin.exact or origin.prefix or origin.regex):
            yield Fault(where, "nothing is said to compare with", "write exact, prefix or regex")
    for name, headers in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for index, header in enumerate(headers):
            if header != "*":
                yield from terms.header_name(paths.item(f"{path}.{name}", index), header)
    if cors.max_age is not None and parse_duration(cors.max_age).microseconds:
        yield Fault(f"{path}.maxAge", f"{cors.max_age} is not a number of seconds", "write whole seconds")


def _mirrors(path: str, route: HttpRoute) -> Faults:
    if route.mirror:
        yield from destination(f"{path}.mirror", route.mirror)
        if route.mirrors:
            yield Fault(f"{path}.mirrors", "mirror and mirrors exclude each other", "keep mirrors", "Conflict")
    elif route.mirror_percentage or route.mirror_percent is not None:
        name = "mirrorPercentage" if route.mirror_percentage else "mirrorPercent"
        yield warning(f"{path}.{name}", "there is no mirror for it", "add mirror, or remove it")
    if route.mirror_percent is not None:
        where = f"{path}.mirrorPercent"
        yield warning(where, "the field is deprecated", "use mirrorPercentage", "DeprecatedField")
        if route.mirror_percent > 100:
            yield Fault(where, f"{route.mirror_percent} is not a percentage", "write 0 to 100", "OutOfRange")
    for index, mirror in enumerate(route.mirrors):
        yield from destination(f"{paths.item(f'{path}.mirrors', index)}.destination", mirror.destination)
