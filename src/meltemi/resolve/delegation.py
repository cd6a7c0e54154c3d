"""Rules that a VirtualService leaves to another: its own and its delegates', as one list in order.

A rule with `delegate` stands for the rules of a VirtualService without hosts. Each of them holds where both its own
match and the delegating rule's match; what it does not say, the delegating rule says for it. As in Istio, a rule of which
a match goes beyond the delegating rule's does not hold at all, and its author is told.
"""

from __future__ import annotations

from collections.abc import Generator

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
                f"a match of this rule lies within none of {rule.path} of {root.ref}, which delegates to it",
                "let each match say the same as one of the delegating rule's, or narrow it by an exact text or a prefix",
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
    """The delegate's rule within the delegating one, or None if one of its matches lies within none of the other's."""
    match = leaf.match or root.match
    if root.match and leaf.match:
        within = [(inner, [outer for outer in root.match if _lies_within(inner, outer)]) for inner in leaf.match]
        if not all(outers for _, outers in within):
            return None
        match = tuple(_both(outer, inner) for inner, outers in within for outer in outers)
    inherited = {field: getattr(root, field) for field in _INHERITED if getattr(leaf, field) in (None, ())}
    return msgspec.structs.replace(leaf, match=match, **inherited)


def _lies_within(leaf: HttpMatchRequest, root: HttpMatchRequest) -> bool:
    """Whether Istio takes a match for one within the other: for each thing that both speak of, the narrower or the same.

    Of the clients' namespace and of upper and lower case in paths, both must say the same.
    """
    texts = ("uri", "scheme", "method", "authority")
    named = ("headers", "without_headers", "query_params")
    return (
        all(_is_narrower(getattr(leaf, field), getattr(root, field)) for field in texts)
        and all(
            _is_narrower(wanted, getattr(root, field).get(key))
            for field in named
            for key, wanted in getattr(leaf, field).items()
        )
        and leaf.ignore_uri_case == root.ignore_uri_case
        and (not leaf.port or root.port in (0, leaf.port))
        and root.source_namespace in ("", leaf.source_namespace)
        and all(root.source_labels.get(key, value) == value for key, value in leaf.source_labels.items())
        and (not root.gateways or set(leaf.gateways) <= set(root.gateways))
    )


def _both(root: HttpMatchRequest, leaf: HttpMatchRequest) -> HttpMatchRequest:
    """What fits both matches, of which the one lies within the other."""
    return HttpMatchRequest(
        name="-".join(each for each in (root.name, leaf.name) if each),
        uri=leaf.uri or root.uri,
        scheme=leaf.scheme or root.scheme,
        method=leaf.method or root.method,
        authority=leaf.authority or root.authority,
        headers={**root.headers, **leaf.headers},
        without_headers={**root.without_headers, **leaf.without_headers},
        query_params={**root.query_params, **leaf.query_params},
        source_labels={**root.source_labels, **leaf.source_labels},
        port=leaf.port or root.port,
        gateways=leaf.gateways or root.gateways,
        ignore_uri_case=leaf.ignore_uri_case,
        source_namespace=leaf.source_namespace,
        stat_prefix=leaf.stat_prefix or root.stat_prefix,
    )


def _is_narrower(leaf: StringMatch | None, root: StringMatch | None) -> bool:
    """Whether a comparison lies within another. Of regular expressions nobody can tell, so that they never do."""
    if leaf is None or root is None:
        return True
    if root.exact is not None:
        return leaf.exact == root.exact
    text = leaf.exact if leaf.exact is not None else leaf.prefix
    return root.prefix is not None and text is not None and text.startswith(root.prefix)
