"""What is done with a request that a route matched: passed on, sent elsewhere, answered, or let through.

Defaults are Istio's: no timeout, and two retries for what cannot have reached the application.
"""

from __future__ import annotations

from collections.abc import Iterable

from meltemi.envoy import headers, matches, names, sessions
from meltemi.envoy.values import duration, runtime_fraction, timeout, uint32
from meltemi.model.routes import (
    Forward,
    HeaderChange,
    MatchKind,
    Mirror,
    PathRewrite,
    Redirect,
    Respond,
    RetryPolicy,
    Target,
    TextMatch,
    WeightedTarget,
)
from meltemi.model.services import Session
from meltemi.protos import any_of
from meltemi.protos.envoy.config.core.v3.base_pb2 import DataSource
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    RedirectAction,
    RouteAction,
    WeightedCluster,
)
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import RetryPolicy as RetryMessage
from meltemi.protos.envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from meltemi.protos.envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2 import (
    PreviousPrioritiesConfig,
)
from meltemi.protos.envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher
from meltemi.protos.google.protobuf.duration_pb2 import Duration

_HOST_ATTEMPTS = 5  # how often a retry looks for an endpoint that was not tried before
_REDIRECTS = {
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}


def cluster_of(target: Target) -> str:
    """The cluster of a target. Port 0 gives a name that no cluster has, so that requests fail with 503."""
    return names.outbound_cluster(target.port, target.host, target.subset)


def forward(action: Forward, path: TextMatch | None, request: HeaderChange, default: RetryPolicy) -> RouteAction:
    """Pass the request on. `path` is what the route matched, `request` the route's own header changes.

    No `max_stream_duration`: where there is one, Envoy does not look at `timeout`. A gRPC client whose deadline
    (`grpc-timeout`) comes first cancels the request itself.
    """
    message = RouteAction(
        timeout=timeout(action.timeout) or Duration(),
        retry_policy=retry(action.retries or default),
        request_mirror_policies=[_mirror(mirror) for mirror in action.mirrors],
    )
    _set_targets(message, action.targets)
    authority = action.authority or headers.authority(request)
    if authority:
        message.host_rewrite_literal = authority
        message.append_x_forwarded_host = bool(action.authority)
    if action.path is not None:
        prefix, pattern = _rewrite(action.path, path)
        message.prefix_rewrite = prefix
        if pattern is not None:
            message.regex_rewrite.CopyFrom(pattern)
    return message


def _set_targets(message: RouteAction, targets: Iterable[WeightedTarget]) -> None:
    """One cluster, or several by weight. A share of nothing is left out; a lone target gets all."""
    found = _wanted(targets)
    if not found:
        message.cluster = names.UNKNOWN_SERVICE
    elif len(found) == 1 and not _changes(found[0]):
        message.cluster = cluster_of(found[0].target)
    else:
        message.weighted_clusters.CopyFrom(WeightedCluster(clusters=[_share(target) for target in found]))


def session(action: Forward) -> Session | None:
    """The sessions of a route as a whole: those of its lone target. Several targets have theirs each."""
    found = _wanted(action.targets)
    return found[0].session if len(found) == 1 and not _changes(found[0]) else None


def _wanted(targets: Iterable[WeightedTarget]) -> tuple[WeightedTarget, ...]:
    found = tuple(targets)
    return found if len(found) == 1 else tuple(target for target in found if target.weight > 0)


def _changes(target: WeightedTarget) -> bool:
    return target.request_headers != HeaderChange() or target.response_headers != HeaderChange()


def _share(target: WeightedTarget) -> WeightedCluster.ClusterWeight:
    message = WeightedCluster.ClusterWeight(
        name=cluster_of(target.target),
        weight=uint32(max(target.weight, 1)),
        request_headers_to_add=headers.additions(target.request_headers),
        request_headers_to_remove=target.request_headers.remove,
        response_headers_to_add=headers.additions(target.response_headers),
        response_headers_to_remove=target.response_headers.remove,
    )
    if authority := headers.authority(target.request_headers):
        message.host_rewrite_literal = authority
    if target.session is not None:
        message.typed_per_filter_config[sessions.NAME].CopyFrom(any_of(sessions.per_route(target.session)))
    return message


def retry(policy: RetryPolicy) -> RetryMessage | None:
    """When a request is tried again; None where it never is."""
    if policy.attempts <= 0:
        return None
    conditions = list(policy.conditions)
    if policy.status_codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    message = RetryMessage(
        retry_on=",".join(conditions),
        num_retries=uint32(policy.attempts),
        retriable_status_codes=policy.status_codes,
        per_try_timeout=None if policy.per_try_timeout is None else duration(policy.per_try_timeout),
    )
    if policy.avoid_previous_hosts:
        message.host_selection_retry_max_attempts = _HOST_ATTEMPTS
        message.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts", typed_config=any_of(PreviousHostsPredicate())
        )
    if policy.other_localities:
        message.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        message.retry_priority.typed_config.CopyFrom(any_of(PreviousPrioritiesConfig(update_frequency=2)))
    if policy.backoff is not None:
        message.retry_back_off.base_interval.CopyFrom(duration(policy.backoff))
        if policy.max_backoff is not None:
            message.retry_back_off.max_interval.CopyFrom(duration(policy.max_backoff))
    return message


def _mirror(mirror: Mirror) -> RouteAction.RequestMirrorPolicy:
    return RouteAction.RequestMirrorPolicy(
        cluster=cluster_of(mirror.target), runtime_fraction=runtime_fraction(mirror.percent)
    )


def _rewrite(rewrite: PathRewrite, path: TextMatch | None) -> tuple[str, RegexMatchAndSubstitute | None]:
    """A new path as Envoy has it: in place of the matched prefix, or by a regular expression."""
    if rewrite.full is not None:
        return "", _substitute(".*", _escaped(rewrite.full))
    if rewrite.regex is not None:
        return "", _substitute(rewrite.regex, rewrite.substitution)
    new = rewrite.prefix or "/"
    if path is not None and path.kind is MatchKind.SEGMENTS and new.endswith("/"):
        # The slash after the prefix belongs to the rest: `/a` to `/` must make `/b` of `/a/b`, and `/` of `/a`.
        matched = matches.literal(path.value.rstrip("/"))
        return "", _substitute(f"^{matched}(/?)(.*)", f"{_escaped(new)}\\2")
    return new, None


def _substitute(pattern: str, substitution: str) -> RegexMatchAndSubstitute:
    return RegexMatchAndSubstitute(pattern=RegexMatcher(regex=pattern), substitution=substitution)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


def redirect(action: Redirect, path: TextMatch | None) -> RedirectAction:
    """Send the client elsewhere."""
    message = RedirectAction(
        host_redirect=action.authority,
        response_code=_REDIRECTS.get(action.status, RedirectAction.MOVED_PERMANENTLY),
    )
    if action.scheme:
        message.scheme_redirect = action.scheme
    if action.port is not None:
        message.port_redirect = action.port or (443 if action.scheme == "https" else 80)
    if action.path is not None:
        if action.path.full is not None:
            message.path_redirect = action.path.full
        else:
            prefix, pattern = _rewrite(action.path, path)
            if pattern is not None:
                message.regex_rewrite.CopyFrom(pattern)
            else:
                message.prefix_rewrite = prefix
    return message


def respond(action: Respond) -> DirectResponseAction:
    """Answer by itself."""
    return DirectResponseAction(
        status=action.status, body=DataSource(inline_bytes=action.body) if action.body else None
    )


def to_unknown(cluster: str) -> RouteAction:
    """Let a request of which nothing is known go to a cluster."""
    return RouteAction(cluster=cluster, timeout=Duration())
