"""Authorization: the policies of a workload as Envoy's RBAC filters, for requests and for connections.

Two filters stand in a chain, the one that denies before the one that allows; policies that are only tried out (dry run)
are the shadow rules of the same filters. A rule becomes one RBAC policy: what it says of the client becomes principals,
what it says of the request becomes permissions.

The filters for requests are in every chain but switched off; the routes switch them on and bring the rules. A change of
policy thus holds at once, for connections that are open already as well, and disturbs none of them. Rules for
connections stand in the listener: when they change, open connections are drained.

A condition that cannot be judged never widens access: the rule that rests on it allows nothing, and denies without it.
So it goes for what only requests have (a path, say) where there are only connections, and for values that cannot be read.

Envoy judges a connection when the client's first byte arrives. What a server says before that, unasked, a client that is
about to be refused has seen already.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from meltemi.base.problems import Problem, Severity
from meltemi.envoy import conditions
from meltemi.envoy.conditions import Undecidable
from meltemi.model.security import Authorization, Condition, Policy, Rule, Verdict
from meltemi.protos import any_of
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter
from meltemi.protos.envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Principal
from meltemi.protos.envoy.config.rbac.v3.rbac_pb2 import Policy as PolicyMessage
from meltemi.protos.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpFilter,
)
from meltemi.protos.envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac
from meltemi.protos.google.protobuf.any_pb2 import Any

HTTP = "envoy.filters.http.rbac"
NETWORK = "envoy.filters.network.rbac"

_STAT_PREFIX = "tcp."  # Istio's, for connections
_SHADOW_PREFIXES = {Verdict.DENY: "istio_dry_run_deny_", Verdict.ALLOW: "istio_dry_run_allow_"}
_ACTIONS = {Verdict.DENY: RBAC.DENY, Verdict.ALLOW: RBAC.ALLOW}
_FILTERS = {Verdict.DENY: HTTP, Verdict.ALLOW: f"{HTTP}.allow"}  # names: routes configure filters by them


@functools.cache
def http_filters() -> tuple[HttpFilter, ...]:
    """The filters that judge requests where a route has rules for them. Made once: do not change them."""
    return tuple(
        HttpFilter(
            name=name,
            typed_config=any_of(http_rbac.RBAC(shadow_rules_stat_prefix=_SHADOW_PREFIXES[verdict])),
            disabled=True,
        )
        for verdict, name in _FILTERS.items()
    )


def for_routes(authorization: Authorization) -> dict[str, Any]:
    """What routes say to the filters that judge requests, by the filter's name: nothing where no policy holds."""
    found = {}
    for verdict, name in _FILTERS.items():
        rules, shadow = _rules(authorization, verdict, http=True)
        if rules is None and shadow is None:
            continue
        config = http_rbac.RBAC(
            rules=rules,
            shadow_rules=shadow,
            shadow_rules_stat_prefix=_SHADOW_PREFIXES[verdict],
            track_per_rule_stats=True,
        )
        found[name] = any_of(http_rbac.RBACPerRoute(rbac=config))
    return found


def network(authorization: Authorization) -> list[Filter]:
    """The filters that judge connections, where nobody looks into them."""
    found = []
    for verdict in _ACTIONS:
        rules, shadow = _rules(authorization, verdict, http=False)
        if rules is None and shadow is None:
            continue
        config = network_rbac.RBAC(rules=rules, shadow_rules=shadow, stat_prefix=_STAT_PREFIX)
        if shadow is not None:
            config.shadow_rules_stat_prefix = _SHADOW_PREFIXES[verdict]
        found.append(Filter(name=NETWORK, typed_config=any_of(config)))
    return found


def problems(authorization: Authorization) -> Iterator[Problem]:
    """What of the policies is not in effect as it was written."""
    for policy in authorization.policies:
        if policy.verdict in _NOT_YET:
            message, hint = _NOT_YET[policy.verdict]
            yield Problem(ref=policy.ref, path="spec.action", message=message, hint=hint, code="Unsupported")
        for position, rule in enumerate(policy.rules):
            for condition in _conditions(rule):
                try:
                    conditions.check(condition)
                except Undecidable as reason:
                    yield _unreadable(policy, position, str(reason))


_NOT_YET = {  # message and hint
    Verdict.AUDIT: (
        "policies that audit are not supported yet: nothing is written down for this one",
        "remove the policy, or use the access log",
    ),
    Verdict.CUSTOM: (
        "external authorizers are not supported yet: whatever the rules of this policy fit is refused",
        "use ALLOW and DENY policies instead",
    ),
}


def _unreadable(policy: Policy, position: int, reason: str) -> Problem:
    allows = policy.verdict is Verdict.ALLOW
    effect = "the rule allows nothing" if allows else "the condition is left out and more is refused"
    return Problem(
        ref=policy.ref,
        path=f"spec.rules[{position}]",
        message=f"{reason}; {effect}",
        hint="correct the value",
        code="InvalidValue",
        severity=Severity.ERROR,
    )


def _rules(authorization: Authorization, verdict: Verdict, *, http: bool) -> tuple[RBAC | None, RBAC | None]:
    """The rules in force and those on trial of one verdict; None where there is nothing to judge."""
    in_force, on_trial = (_of_verdict(authorization, verdict, dry_run, http=http) for dry_run in (False, True))
    return in_force, on_trial


def _of_verdict(authorization: Authorization, verdict: Verdict, dry_run: bool, *, http: bool) -> RBAC | None:
    """The rules of one verdict. To allow nothing is something: it refuses everything."""
    policies = [each for each in authorization.policies if _effect(each) is verdict and each.dry_run is dry_run]
    rules = {rule.name: _policy(rule, verdict, http=http) for policy in policies for rule in policy.rules}
    found = {name: rule for name, rule in rules.items() if rule is not None}
    if not policies or (verdict is Verdict.DENY and not found):
        return None
    return RBAC(action=_ACTIONS[verdict], policies=found)


def _effect(policy: Policy) -> Verdict:
    """What a policy comes down to: while nobody can be asked, what a CUSTOM policy is about is refused."""
    return Verdict.DENY if policy.verdict is Verdict.CUSTOM else policy.verdict


def _policy(rule: Rule, verdict: Verdict, *, http: bool) -> PolicyMessage | None:
    """One rule; None where it would rest on a condition that cannot be judged and must not be left out."""
    try:
        permissions = [
            _all_permissions([*operation, *rule.when], verdict, http=http) for operation in rule.operations or ((),)
        ]
        principals = [_all_principals([*source, *rule.when], verdict, http=http) for source in rule.sources or ((),)]
    except Undecidable:
        return None
    return PolicyMessage(permissions=permissions, principals=principals)


def _all_permissions(wanted: list[Condition], verdict: Verdict, *, http: bool) -> Permission:
    """All that conditions say of the request or connection."""
    found: list[Permission] = []
    for condition in wanted:
        if not conditions.is_about_client(condition) and _decides(condition, verdict, http=http):
            found += _permissions(condition)
    if not found:
        return Permission(any=True)
    return found[0] if len(found) == 1 else Permission(and_rules=Permission.Set(rules=found))


def _permissions(condition: Condition) -> Iterator[Permission]:
    """One of the values, and none of the others."""
    for values, wanted in ((condition.values, True), (condition.not_values, False)):
        each = [conditions.permission(condition, value) for value in values]
        if each:
            one = each[0] if len(each) == 1 else Permission(or_rules=Permission.Set(rules=each))
            yield one if wanted else Permission(not_rule=one)


def _all_principals(wanted: list[Condition], verdict: Verdict, *, http: bool) -> Principal:
    """All that conditions say of the client."""
    found: list[Principal] = []
    for condition in wanted:
        if conditions.is_about_client(condition) and _decides(condition, verdict, http=http):
            found += _principals(condition)
    if not found:
        return Principal(any=True)
    return found[0] if len(found) == 1 else Principal(and_ids=Principal.Set(ids=found))


def _principals(condition: Condition) -> Iterator[Principal]:
    """One of the values, and none of the others."""
    for values, wanted in ((condition.values, True), (condition.not_values, False)):
        each = [conditions.principal(condition, value) for value in values]
        if each:
            one = each[0] if len(each) == 1 else Principal(or_ids=Principal.Set(ids=each))
            yield one if wanted else Principal(not_id=one)


def _decides(condition: Condition, verdict: Verdict, *, http: bool) -> bool:
    """Whether a condition has its part in a rule. Raises Undecidable where the rule is nothing without it."""
    try:
        if condition.attribute.is_http and not http:
            raise Undecidable(f"{condition.attribute} is known of requests only")
        conditions.check(condition)
    except Undecidable:
        if verdict is Verdict.ALLOW:
            raise
        return False
    return True


def _conditions(rule: Rule) -> Iterator[Condition]:
    for group in (*rule.sources, *rule.operations):
        yield from group
    yield from rule.when
