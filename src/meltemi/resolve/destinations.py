"""How clients treat a service: which DestinationRules hold for whom, merged and with all defaults filled in.

A client looks for rules about a service in its own namespace, then in that of the service, then in the root namespace,
and takes the first place that has any; there the most specific host wins. Several rules for one host in one namespace
are one rule in parts. A rule that selects workloads goes before those that hold for all, in its own namespace only.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from meltemi.api.networking.destination_rule import DestinationRule, Subset, TrafficPolicy
from meltemi.base.hosts import qualify, specificity
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import traffic
from meltemi.model.clients import Clients, Visibility
from meltemi.model.mesh import Mesh
from meltemi.model.services import Service
from meltemi.resolve import problems
from meltemi.resolve.clients import by_namespace
from meltemi.resolve.hosts import exported, localised, patterns
from meltemi.resolve.traffic_policies import Sections, filled_in, overlay

Rules = tuple[DestinationRule, ...]

_SELECTORLESS = LabelSet()


class Choice(msgspec.Struct, frozen=True):
    """The rules that clients with these labels take, merged: all have one namespace, host and selector."""

    labels: LabelSet
    rules: Rules


def destination(
    service: Service, *, mesh: View[tuple[()], Mesh], rules: View[tuple[str, str], DestinationRule]
) -> Iterator[traffic.Destination | Problem]:
    """The policies of one service, one variant for each group of clients that sees it alike."""
    settings = mesh.only()
    found = [rule for pattern in patterns(service.host) for rule in rules.by("host", pattern)]
    variants: list[traffic.DestinationVariant] = []
    for clients, choices in by_namespace(_named(found, settings), lambda ns: _choose(service, found, ns, settings)):
        for choice in choices:
            who = msgspec.structs.replace(clients, labels=choice.labels) if choice.labels else clients
            yield from _conflicts(choice.rules)
            variants.append(_variant(service, who, choice.rules, settings))
    yield traffic.Destination(service.namespace, service.host, tuple(variants))


def _named(rules: list[DestinationRule], mesh: Mesh) -> set[str]:
    """The namespaces whose clients may see other rules than the rest: where rules stand, and those they are exported to."""
    named = {rule.namespace for rule in rules} | {mesh.root_namespace} if rules else set()
    for rule in rules:
        named |= _visibility(rule, mesh).namespaces or frozenset()
    return named


def _choose(service: Service, rules: list[DestinationRule], client: str | None, mesh: Mesh) -> tuple[Choice, ...]:
    """What clients of a namespace (None: of any that no rule names) choose: those for some labels first, then for all."""
    seen = [rule for rule in rules if _is_visible(rule, client, mesh)]
    choices = []
    for labels in sorted({_selector(rule) for rule in seen} - {_SELECTORLESS}):
        choices.append(Choice(labels, _most_specific([rule for rule in seen if _selector(rule) == labels], mesh)))
    for place in (client, service.namespace, mesh.root_namespace):
        there = [rule for rule in seen if rule.namespace == place and not _selector(rule)]
        if there:
            return (*choices, Choice(_SELECTORLESS, _most_specific(there, mesh)))
    return (*choices, Choice(_SELECTORLESS, ()))


def _most_specific(rules: list[DestinationRule], mesh: Mesh) -> Rules:
    """The rules whose host fits best, the oldest first."""
    best = min((_host(rule, mesh) for rule in rules), key=specificity)
    return tuple(sorted((rule for rule in rules if _host(rule, mesh) == best), key=seniority))


def _is_visible(rule: DestinationRule, client: str | None, mesh: Mesh) -> bool:
    visibility = _visibility(rule, mesh)
    return visibility.namespaces is None if client is None else visibility.includes(client)


def _visibility(rule: DestinationRule, mesh: Mesh) -> Visibility:
    if _selector(rule):
        return Visibility(frozenset({rule.namespace}))
    default = localised(mesh.default_destination_rule_visibility, rule.namespace)
    return exported(rule.spec.export_to, rule.namespace, default)


def _selector(rule: DestinationRule) -> LabelSet:
    selector = rule.spec.workload_selector
    return LabelSet.of(selector.match_labels) if selector else _SELECTORLESS


def _host(rule: DestinationRule, mesh: Mesh) -> str:
    return qualify(rule.spec.host, rule.namespace, mesh.domain)


def _variant(service: Service, clients: Clients, rules: Rules, mesh: Mesh) -> traffic.DestinationVariant:
    policy = _policy(rules)
    below = {port.number: overlay(Sections(), policy, port.number) for port in service.ports}
    return traffic.DestinationVariant(
        clients=clients,
        ports=tuple((port, filled_in(sections, mesh, service.external)) for port, sections in below.items()),
        subsets=tuple(_subset(subset, below, service, mesh) for subset in _subsets(rules).values()),
        refs=tuple(rule.ref for rule in rules),
    )


def _subset(subset: Subset, below: dict[int, Sections], service: Service, mesh: Mesh) -> traffic.Subset:
    return traffic.Subset(
        name=subset.name,
        labels=LabelSet.of(subset.labels),
        ports=tuple(
            (port, filled_in(overlay(sections, subset.traffic_policy, port), mesh, service.external))
            for port, sections in below.items()
        ),
    )


def _policy(rules: Rules) -> TrafficPolicy | None:
    return next((rule.spec.traffic_policy for rule in rules if rule.spec.traffic_policy is not None), None)


def _subsets(rules: Rules) -> dict[str, Subset]:
    """The subsets of all rules by name; the older rule's stands where two have one."""
    found: dict[str, Subset] = {}
    for rule in rules:
        for subset in rule.spec.subsets:
            found.setdefault(subset.name, subset)
    return found


def _conflicts(rules: Rules) -> Iterator[Problem]:
    """What younger rules say in vain, because an older one for the same host has said it."""
    policy: DestinationRule | None = None
    subsets: dict[str, DestinationRule] = {}
    for rule in rules:
        if rule.spec.traffic_policy is not None:
            if policy is not None:
                yield _conflict(rule, "spec.trafficPolicy", "the traffic policy", policy)
            policy = policy or rule
        for position, subset in enumerate(rule.spec.subsets):
            senior = subsets.setdefault(subset.name, rule)
            if senior is not rule:
                yield _conflict(rule, f"spec.subsets[{position}]", f"subset {subset.name!r}", senior)


def _conflict(rule: DestinationRule, path: str, what: str, senior: DestinationRule) -> Problem:
    return problems.warning(
        rule,
        path,
        "DestinationRuleConflict",
        f"{what} is not in effect: {senior.ref}, which is older, has one for {rule.spec.host!r}",
        "put it into one DestinationRule for the host, or give it to another host",
    )
