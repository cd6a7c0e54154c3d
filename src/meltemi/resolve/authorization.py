"""AuthorizationPolicies, read into the model's: which hold for a workload, and what their rules say.

A policy of the root namespace holds for all namespaces, any other for its own; both only for the workloads that they
select. A condition that cannot be understood never widens access: it drops its rule from an ALLOW policy, and itself
alone from a DENY policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator

from meltemi.api import security as api
from meltemi.api.security import AuthorizationPolicy
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.mesh import Mesh
from meltemi.model.security import Attribute, Authorization, Condition, Policy, Rule, ValueMatch, Verdict
from meltemi.resolve import problems

Policies = View[tuple[str, str], AuthorizationPolicy]

DRY_RUN = "istio.io/dry-run"

_KEY = re.compile(r"([^\[]+)((?:\[[^\]]+\])*)")
_PLAIN_KEYS = {
    "source.ip": Attribute.PEER_ADDRESS,
    "remote.ip": Attribute.REMOTE_ADDRESS,
    "source.namespace": Attribute.NAMESPACE,
    "source.serviceAccount": Attribute.SERVICE_ACCOUNT,
    "source.principal": Attribute.PRINCIPAL,
    "request.auth.principal": Attribute.REQUEST_PRINCIPAL,
    "request.auth.audiences": Attribute.AUDIENCES,
    "request.auth.presenter": Attribute.PRESENTER,
    "destination.ip": Attribute.DESTINATION_ADDRESS,
    "destination.port": Attribute.DESTINATION_PORT,
    "connection.sni": Attribute.SNI,
}
_KEYS_WITH_NAMES = {
    "request.headers": Attribute.HEADER,
    "request.auth.claims": Attribute.CLAIM,
}
_FILTERS = "experimental.envoy.filters."


def authorization(
    policies: Policies, namespace: str, labels: LabelSet, mesh: Mesh
) -> Generator[Problem, None, Authorization]:
    """All policies that hold for the workload of a namespace with these labels, the oldest first."""
    places = dict.fromkeys((mesh.root_namespace, namespace))
    found = [each for place in places for each in policies.by("namespace", place) if _holds_for(each, labels)]
    made = []
    for each in sorted(found, key=seniority):
        made.append((yield from policy(each, mesh)))
    return Authorization(tuple(made))


def policy(row: AuthorizationPolicy, mesh: Mesh) -> Generator[Problem, None, Policy]:
    """One policy with its rules."""
    verdict = Verdict(row.spec.action)
    rules = []
    for position, rule in enumerate(row.spec.rules):
        name = f"ns[{row.namespace}]-policy[{row.name}]-rule[{position}]"
        made = yield from _rule(rule, name, row, f"spec.rules[{position}]", mesh)
        if made is not None:
            rules.append(made)
    return Policy(
        ref=row.ref,
        verdict=verdict,
        rules=tuple(rules),
        dry_run=row.annotations.get(DRY_RUN, "").lower() == "true",
        provider=row.spec.provider.name if row.spec.provider else "",
    )


def _holds_for(row: AuthorizationPolicy, labels: LabelSet) -> bool:
    """Whether a workload is meant. Policies attached to other objects (`targetRefs`) are for their proxies alone."""
    spec = row.spec
    if spec.target_ref is not None or spec.target_refs:
        return False
    return spec.selector is None or labels.contains(LabelSet.of(spec.selector.match_labels))


def _rule(
    rule: api.Rule, name: str, row: AuthorizationPolicy, path: str, mesh: Mesh
) -> Generator[Problem, None, Rule | None]:
    """A rule, or None if it must be dropped because a condition is not understood."""
    when: list[Condition] = []
    for position, condition in enumerate(rule.when):
        made = _when(condition, row.namespace, mesh)
        if made is not None:
            when.append(made)
            continue
        yield _unknown_key(row, f"{path}.when[{position}].key", condition.key)
        if row.spec.action == "ALLOW":
            return None
    return Rule(
        name=name,
        sources=tuple(tuple(_source(each.source or api.Source(), row.namespace, mesh)) for each in rule.from_),
        operations=tuple(tuple(_operation(each.operation or api.Operation())) for each in rule.to),
        when=tuple(when),
    )


def _source(source: api.Source, namespace: str, mesh: Mesh) -> Iterator[Condition]:
    def accounts(text: str) -> list[ValueMatch]:
        return [_account(text, namespace)]

    def principals(text: str) -> list[ValueMatch]:
        return [_text(each) for each in with_aliases(text, mesh)]

    yield from _condition(Attribute.PRINCIPAL, source.principals, source.not_principals, principals)
    yield from _condition(Attribute.REQUEST_PRINCIPAL, source.request_principals, source.not_request_principals, _texts)
    yield from _condition(Attribute.NAMESPACE, source.namespaces, source.not_namespaces, _texts)
    yield from _condition(Attribute.SERVICE_ACCOUNT, source.service_accounts, source.not_service_accounts, accounts)
    yield from _condition(Attribute.PRINCIPAL, source.trust_domains, source.not_trust_domains, _trust_domain)
    yield from _condition(Attribute.PEER_ADDRESS, source.ip_blocks, source.not_ip_blocks, _block)
    yield from _condition(Attribute.REMOTE_ADDRESS, source.remote_ip_blocks, source.not_remote_ip_blocks, _block)


def _operation(operation: api.Operation) -> Iterator[Condition]:
    yield from _condition(Attribute.HOST, operation.hosts, operation.not_hosts, _host)
    yield from _condition(Attribute.DESTINATION_PORT, operation.ports, operation.not_ports, _port)
    yield from _condition(Attribute.METHOD, operation.methods, operation.not_methods, _texts)
    yield from _condition(Attribute.PATH, operation.paths, operation.not_paths, _path)


def _when(condition: api.RuleCondition, namespace: str, mesh: Mesh) -> Condition | None:
    """A `when` condition, or None if its key is not known."""
    attribute, key = _attribute(condition.key)
    if attribute is None:
        return None
    read = _READERS.get(attribute, _texts)
    if attribute is Attribute.PRINCIPAL:
        read = lambda text: [_text(each) for each in with_aliases(text, mesh)]  # noqa: E731
    elif attribute is Attribute.SERVICE_ACCOUNT:
        read = lambda text: [_account(text, namespace)]  # noqa: E731
    return next(_condition(attribute, condition.values, condition.not_values, read, key), Condition(attribute, key=key))


def _attribute(text: str) -> tuple[Attribute | None, tuple[str, ...]]:
    """The attribute that a key names, and the header, claim or filter within it."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None, ()
    name, brackets = match.groups()
    key = tuple(brackets[1:-1].split("][")) if brackets else ()
    if not key:
        return _PLAIN_KEYS.get(name), ()
    if name.startswith(_FILTERS):
        return Attribute.FILTER_METADATA, (name.removeprefix("experimental."), *key)
    return _KEYS_WITH_NAMES.get(name), key


Reader = Callable[[str], list[ValueMatch]]


def _condition(
    attribute: Attribute, values: tuple[str, ...], not_values: tuple[str, ...], read: Reader, key: tuple[str, ...] = ()
) -> Iterator[Condition]:
    """A condition, if anything is said about the attribute."""
    if values or not_values:
        yield Condition(
            attribute,
            tuple(each for value in values for each in read(value)),
            tuple(each for value in not_values for each in read(value)),
            key,
        )


def _text(value: str, ignore_case: bool = False) -> ValueMatch:
    """`*` is presence; a `*` at one end leaves that end open; anything else is the whole text."""
    if value == "*":
        return ValueMatch("", "present", ignore_case)
    if value.startswith("*"):
        return ValueMatch(value[1:], "suffix", ignore_case)
    if value.endswith("*"):
        return ValueMatch(value[:-1], "prefix", ignore_case)
    return ValueMatch(value, "exact", ignore_case)


def _texts(value: str) -> list[ValueMatch]:
    return [_text(value)]


def _host(value: str) -> list[ValueMatch]:
    return [_text(value, ignore_case=True)]


def _path(value: str) -> list[ValueMatch]:
    """A path, or a template of one with `{*}` for a segment and `{**}` for any number of them."""
    return [ValueMatch(value, "template")] if "{*}" in value or "{**}" in value else [_text(value)]


def _port(value: str) -> list[ValueMatch]:
    return [ValueMatch(value, "port")]


def _block(value: str) -> list[ValueMatch]:
    return [ValueMatch(value, "cidr")]


def _trust_domain(value: str) -> list[ValueMatch]:
    if value.endswith("*") or value.startswith("*"):
        inner = re.escape(value.strip("*"))
        pattern = f"{'[^/]*' if value.startswith('*') else ''}{inner}{'[^/]*' if value.endswith('*') else ''}"
        return [ValueMatch(f"{pattern}/.*", "regex")]
    return [ValueMatch(f"{value}/", "prefix")]


def _account(value: str, namespace: str) -> ValueMatch:
    """A service account, `namespace/name`; a name alone is one of the policy's own namespace."""
    return ValueMatch(value if "/" in value else f"{namespace}/{value}", "exact")


_READERS: dict[Attribute, Reader] = {
    Attribute.PEER_ADDRESS: _block,
    Attribute.REMOTE_ADDRESS: _block,
    Attribute.DESTINATION_ADDRESS: _block,
    Attribute.DESTINATION_PORT: _port,
}


def with_aliases(principal: str, mesh: Mesh) -> list[str]:
    """A principal in the mesh's trust domain and in each of its aliases, if it names one of them."""
    domains = list(dict.fromkeys((mesh.trust_domain, *mesh.trust_domain_aliases)))
    domain, slash, rest = principal.partition("/")
    if slash and domain in (*domains, "cluster.local"):
        return [f"{each}/{rest}" for each in domains]
    return [principal]


def _unknown_key(row: AuthorizationPolicy, path: str, key: str) -> Problem:
    allows = row.spec.action == "ALLOW"
    return problems.of(
        row,
        path,
        "UnknownKey",
        f"{key!r} is not an attribute of requests, so that the {'rule allows nothing' if allows else 'condition is void'}",
        f"use one of {', '.join(_PLAIN_KEYS)}, request.headers[NAME] or request.auth.claims[NAME]",
    )
