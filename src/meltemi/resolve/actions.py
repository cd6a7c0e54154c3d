"""What is done with a request: VirtualService HTTP rules, read into the model's actions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator

import msgspec

from meltemi.api.networking import virtual_service as api
from meltemi.base.durations import Timeout, parse_duration
from meltemi.base.problems import Problem
from meltemi.model.mesh import Mesh
from meltemi.model.routes import (
    NO_CHANGE,
    Action,
    Cors,
    Forward,
    HeaderChange,
    MatchKind,
    Mirror,
    PathRewrite,
    Redirect,
    Respond,
    RetryPolicy,
    TextMatch,
    WeightedTarget,
)
from meltemi.resolve import targets
from meltemi.resolve.matches import text_match
from meltemi.resolve.targets import Lookup
from meltemi.resolve.traffic_policies import duration

_DEFAULT_PORTS = {"http": 80, "https": 443}


def action(
    rule: api.HttpRoute, owner: api.VirtualService, path: str, port: int, lookup: Lookup
) -> Generator[Problem, None, Action]:
    """What becomes of the requests that came for `port` and fit the rule, which stands at `path` of `owner`."""
    if rule.redirect is not None:
        return _redirect(rule.redirect, port)
    if rule.direct_response is not None:
        return _respond(rule.direct_response)
    return (yield from _forward(rule, owner, path, port, lookup))


def _forward(
    rule: api.HttpRoute, owner: api.VirtualService, path: str, port: int, lookup: Lookup
) -> Generator[Problem, None, Forward]:
    weighted = []
    for position, each in enumerate(rule.route):
        where = f"{path}.route[{position}].destination"
        target = yield from targets.resolve(each.destination, owner, where, port, lookup)
        requests, responses = header_changes(each.headers)
        known = lookup.services.get((target.namespace, target.host))
        session = known.session if known is not None else None
        weighted.append(WeightedTarget(target, each.weight, requests, responses, session))
    return Forward(
        targets=shares(weighted),
        path=_rewrite(rule.rewrite),
        authority=rule.rewrite.authority if rule.rewrite is not None else "",
        timeout=Timeout.off() if rule.timeout is None else Timeout.of(parse_duration(rule.timeout)),
        retries=retry_policy(rule.retries, lookup.mesh),
        mirrors=(yield from _mirrors(rule, owner, path, port, lookup)),
    )


def shares(targets_: list[WeightedTarget]) -> tuple[WeightedTarget, ...]:
    """Those with a share of the traffic. One alone gets all of it, and so do all alike where nobody says a weight."""
    if any(each.weight for each in targets_):
        return tuple(each for each in targets_ if each.weight)
    return tuple(msgspec.structs.replace(each, weight=1) for each in targets_)


def retry_policy(settings: api.HttpRetry | None, mesh: Mesh) -> RetryPolicy:
    """The retries asked for: the mesh's where nothing is said, and Istio's conditions where none are named."""
    standard = mesh.default_retry or RetryPolicy()
    if settings is None:
        return standard
    asked = [each.strip() for each in settings.retry_on.split(",") if each.strip()]
    codes = tuple(int(each) for each in asked if each.isdigit())
    conditions = tuple(each for each in asked if not each.isdigit() and each != "retriable-status-codes")
    return RetryPolicy(
        attempts=max(settings.attempts, 0),
        per_try_timeout=duration(settings.per_try_timeout) or None,
        conditions=conditions if asked else standard.conditions,
        status_codes=codes if asked else standard.status_codes,
        backoff=duration(settings.backoff),
        other_localities=bool(settings.retry_remote_localities),
        avoid_previous_hosts=settings.retry_ignore_previous_hosts is not False,
    )


def header_changes(headers: api.Headers | None) -> tuple[HeaderChange, HeaderChange]:
    """What is done to the headers of requests and of responses."""
    return (NO_CHANGE, NO_CHANGE) if headers is None else (_change(headers.request), _change(headers.response))


def for_all(action: Action, rule: api.HttpRoute) -> tuple[Action, HeaderChange, HeaderChange]:
    """The action, and what is done to the headers of all requests and responses of the rule.

    A lone destination speaks for all of them: as in Istio its changes come after the rule's, where those of one among
    several come before. The authority is the rule's if both set one.
    """
    requests, responses = header_changes(rule.headers)
    if not isinstance(action, Forward) or len(rule.route) != 1:
        return action, requests, responses
    [target] = action.targets
    plain = msgspec.structs.replace(target, request_headers=NO_CHANGE, response_headers=NO_CHANGE)
    return (
        msgspec.structs.replace(action, targets=(plain,)),
        _followed(requests, target.request_headers),
        _followed(responses, target.response_headers),
    )


def _followed(first: HeaderChange, then: HeaderChange) -> HeaderChange:
    """Two changes as one: whatever goes, goes first; of values set, the later holds, but for the authority."""
    if any(_is_authority(name) for name, _ in (*first.set, *first.add)):
        then = HeaderChange(
            set=tuple(item for item in then.set if not _is_authority(item[0])),
            add=tuple(item for item in then.add if not _is_authority(item[0])),
            remove=then.remove,
        )
    return HeaderChange(first.set + then.set, first.add + then.add, first.remove + then.remove)


def _is_authority(header: str) -> bool:
    return header.lower() in (":authority", "host")


def cors(policy: api.CorsPolicy | None) -> Cors | None:
    """The cross-origin rules, or None."""
    if policy is None:
        return None
    exact = tuple(TextMatch(MatchKind.EXACT, origin) for origin in policy.allow_origin)
    return Cors(
        origins=tuple(text_match(origin) for origin in policy.allow_origins) or exact,
        methods=policy.allow_methods,
        headers=policy.allow_headers,
        expose=policy.expose_headers,
        max_age=duration(policy.max_age),
        credentials=policy.allow_credentials,
        forward_unmatched_preflights=policy.unmatched_preflights != "IGNORE",
    )


def _change(operations: api.HeaderOperations | None) -> HeaderChange:
    """The change. Of the headers that are none (`:path`, ...) only the authority may be set."""
    if operations is None:
        return NO_CHANGE
    return HeaderChange(
        set=tuple(item for item in sorted(operations.set.items()) if _may_be_set(item[0])),
        add=tuple(item for item in sorted(operations.add.items()) if _may_be_set(item[0])),
        remove=tuple(name for name in operations.remove if not name.startswith(":") and name.lower() != "host"),
    )


def _may_be_set(header: str) -> bool:
    return not header.startswith(":") or header.lower() == ":authority"


def _rewrite(rewrite: api.HttpRewrite | None) -> PathRewrite | None:
    if rewrite is None:
        return None
    if rewrite.uri_regex_rewrite is not None and rewrite.uri_regex_rewrite.match:
        return PathRewrite(regex=rewrite.uri_regex_rewrite.match, substitution=rewrite.uri_regex_rewrite.rewrite)
    return PathRewrite(prefix=rewrite.uri) if rewrite.uri else None


def _redirect(redirect: api.HttpRedirect, port: int) -> Redirect:
    """The redirect. As in Istio, the port that the scheme has by itself is not written; no scheme is taken for HTTP."""
    number = redirect.port or None
    if number is None and redirect.derive_port == "FROM_REQUEST_PORT":
        number = port
    elif number is None and redirect.derive_port == "FROM_PROTOCOL_DEFAULT" and redirect.scheme:
        number = None if redirect.authority else 0
    if number == _DEFAULT_PORTS.get(redirect.scheme or "http"):
        number = None
    return Redirect(
        authority=redirect.authority,
        scheme=redirect.scheme,
        port=number,
        path=_redirect_path(redirect),
        status=redirect.redirect_code or 301,
    )


def _redirect_path(redirect: api.HttpRedirect) -> PathRewrite | None:
    if redirect.uri:
        return PathRewrite(full=redirect.uri)
    return PathRewrite(prefix=redirect.prefix_rewrite) if redirect.prefix_rewrite else None


def _respond(response: api.HttpDirectResponse) -> Respond:
    body = response.body
    if body is None:
        return Respond(response.status)
    if body.bytes is None:
        return Respond(response.status, (body.string or "").encode())
    try:
        return Respond(response.status, base64.b64decode(body.bytes, validate=True))
    except binascii.Error:
        return Respond(response.status, body.bytes.encode())


def _mirrors(
    rule: api.HttpRoute, owner: api.VirtualService, path: str, port: int, lookup: Lookup
) -> Generator[Problem, None, tuple[Mirror, ...]]:
    wanted = [(f"{path}.mirrors[{i}].destination", each) for i, each in enumerate(rule.mirrors)]
    if rule.mirror is not None and not wanted:
        percentage = rule.mirror_percentage
        if percentage is None and rule.mirror_percent is not None:
            percentage = api.Percent(value=float(rule.mirror_percent))
        wanted = [(f"{path}.mirror", api.HttpMirrorPolicy(destination=rule.mirror, percentage=percentage))]
    found = []
    for where, each in wanted:
        target = yield from targets.resolve(each.destination, owner, where, port, lookup)
        percent = 100.0 if each.percentage is None else each.percentage.value
        if percent > 0:
            found.append(Mirror(target, percent))
    return tuple(found)
