"""Rules that a VirtualService leaves to another: its own and its delegates', as one list in order.

A rule with `delegate` stands for the rules of a VirtualService without hosts. Each of them holds where both its own
match and the delegating rule's match; what it does not say, the delegating rule says for it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from meltemi.api.networking.virtual_service import HttpMatchRequest, HttpRoute, StringMatch, VirtualService
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.clients import EVERYWHERE
from meltemi.resolve import problems
from meltemi.resolve.hosts import exported

VirtualServices = View[tuple[str, str], VirtualService]

_INHERITED = (
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirror_percent",
    "mirror_percentage",
    "cors_policy",
    "headers",
    "direct_response",
)


class Rule(msgspec.Struct, frozen=True):
    """One HTTP rule: the object and path where it stands, and the name that its routes begin with."""

    http: HttpRoute
    owner: VirtualService
    path: str
    name: str


def rules(service: VirtualService, virtual: VirtualServices) -> Generator[Problem, None, tuple[Rule, ...]]:
    """The HTTP rules of a VirtualService in order, with those of its delegates in their places."""
    found: list[Rule] = []
    for position, http in enumerate(service.spec.http):
        rule = Rule(http, service, f"spec.http[{position}]", http.name or f"{service.name}-{position}")
        if http.delegate is None:
            found.append(rule)
        else:
            found += yield from _delegated(rule, virtual)
    return tuple(found)


def _delegated(rule: Rule, virtual: VirtualServices) -> Generator[Problem, None, list[Rule]]:
    delegate = rule.http.delegate
    assert delegate is not None
    root = rule.owner
    namespace = delegate.namespace or root.namespace
    service = virtual.get((namespace, delegate.name))
    if service is None or service.spec.hosts:
        yield _not_a_delegate(rule, namespace, delegate.name, service)
        return []
    if not exported(service.spec.export_to, namespace, EVERYWHERE).includes(root.namespace):
        yield problems.of(
            root,
            f"{rule.path}.delegate",
            "DelegateNotVisible",
            f"{service.ref} is not exported to namespace {root.namespace}",
            f"add {root.namespace!r} to its exportTo",
        )
        return []
    found = []
    for position, leaf in enumerate(service.spec.http):
        path = f"spec.http[{position}]"
        if leaf.delegate is not None:
            yield problems.of(
                service,
                f"{path}.delegate",
                "NestedDelegate",
                "a delegate may not delegate",
                "name the last one at once",
            )
        elif (merged := _merge(rule.http, leaf)) is not None:
            name = "-".join(each for each in (rule.http.name, leaf.name) if each) or f"{service.name}-{position}"
            found.append(Rule(merged, service, path, name))
        else:
            yield problems.warning(
                service,
                path,
                "UnreachableRule",
                f"no request fits both this rule and {rule.path} of {root.ref}, which delegates to it",
                "narrow the match of the delegating rule, not beyond it",
            )
    return found


def _not_a_delegate(rule: Rule, namespace: str, name: str, service: VirtualService | None) -> Problem:
    return problems.of(
        rule.owner,
        f"{rule.path}.delegate",
        "DelegateNotFound",
        f"there is no VirtualService {namespace}/{name}" if service is None else f"{service.ref} has hosts of its own",
        "a delegate is a VirtualService without hosts",
    )


def _merge(root: HttpRoute, leaf: HttpRoute) -> HttpRoute | None:
    """The delegate's rule within the delegating one, or None if no request could fit both."""
    match = leaf.match or root.match
    if root.match and leaf.match:
        both = [_both(one, other) for one in root.match for other in leaf.match]
        match = tuple(each for each in both if each is not None)
        if not match:
            return None
    inherited = {field: getattr(root, field) for field in _INHERITED if getattr(leaf, field) in (None, ())}
    return msgspec.structs.replace(leaf, match=match, **inherited)


def _both(root: HttpMatchRequest, leaf: HttpMatchRequest) -> HttpMatchRequest | None:
    """What fits both matches, as far as it can be said in one; None where nothing does."""
    merged: dict[str, Any] = {}
    for field in ("uri", "scheme", "method", "authority"):
        one, other = getattr(root, field), getattr(leaf, field)
        merged[field] = _narrower(one, other)
        if merged[field] is None and (one or other):
            return None
    if root.port and leaf.port and root.port != leaf.port:
        return None
    if root.source_namespace and leaf.source_namespace and root.source_namespace != leaf.source_namespace:
        return None
    for field in ("headers", "without_headers", "query_params", "source_labels"):
        one, other = getattr(root, field), getattr(leaf, field)
        if any(other.get(key, value) != value for key, value in one.items()):
            return None
        merged[field] = {**one, **other}
    return HttpMatchRequest(
        name="-".join(each for each in (root.name, leaf.name) if each),
        port=leaf.port or root.port,
        gateways=leaf.gateways or root.gateways,
        ignore_uri_case=leaf.ignore_uri_case or root.ignore_uri_case,
        source_namespace=leaf.source_namespace or root.source_namespace,
        stat_prefix=leaf.stat_prefix or root.stat_prefix,
        **merged,
    )


def _narrower(one: StringMatch | None, other: StringMatch | None) -> StringMatch | None:
    """The narrower of two comparisons, if one lies within the other."""
    if one is None or other is None or one == other:
        return other or one
    for wide, narrow in ((one, other), (other, one)):
        text = narrow.exact if narrow.exact is not None else narrow.prefix
        if wide.prefix is not None and text is not None and text.startswith(wide.prefix):
            return narrow
    return None
