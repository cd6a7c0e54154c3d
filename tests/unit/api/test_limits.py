"""Every limit of the tables is told by validation and stated in the schema, and every rule of CEL has its check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from msgspec import inspect

from meltemi.api.limits import LIMITS, RULES, Limit
from meltemi.api.registry import KINDS
from meltemi.api.schema import schema_of
from meltemi.api.shaping import core_of, fields_of
from meltemi.api.validation.structure import structure
from meltemi.base.problems import Severity

from .test_schema import schemas_within
from .test_validation import problems


def smallest(kind: inspect.Type) -> Any:
    """The wire form of a value of a type, with no more than it needs."""
    match core_of(kind):
        case inspect.StructType() as struct:
            return {wire: smallest(field.type) for wire, field in fields_of(struct.cls).items() if field.required}
        case inspect.VarTupleType() as several:
            return [smallest(several.item_type)]
        case inspect.LiteralType() as choice:
            return choice.values[0]
        case inspect.IntType():
            return 1
        case inspect.StrType() as text:
            return "1s" if text.pattern else "a"
    raise AssertionError(kind)


def several(kind: inspect.Type, values: list[Any]) -> Any:
    """A list of values, or a map with them."""
    mapping = core_of(kind)
    if isinstance(mapping, inspect.DictType):
        whole = isinstance(core_of(mapping.key_type), inspect.IntType)
        return {str(index + 1) if whole else f"k{index}": value for index, value in enumerate(values)}
    return values


def edges(kind: inspect.Type, limit: Limit) -> Iterator[tuple[Any, Any]]:
    """Values of a type just beyond each bound of a limit, and just within it."""
    kind = core_of(kind)
    if isinstance(kind, inspect.VarTupleType | inspect.DictType):
        inner = kind.item_type if isinstance(kind, inspect.VarTupleType) else kind.value_type
        few, many = limit.min_items or limit.min_properties, limit.max_items or limit.max_properties
        if few:
            yield several(kind, []), several(kind, [smallest(inner)] * few)
        if many:
            yield several(kind, [smallest(inner)] * (many + 1)), several(kind, [smallest(inner)] * many)
        if limit.each:
            for beyond, within in edges(inner, limit.each):
                yield several(kind, [beyond]), several(kind, [within])
    if limit.min_length:
        yield "", "a" * limit.min_length
    if limit.max_length:
        yield "a" * (limit.max_length + 1), "a" * limit.max_length
    if limit.pattern:
        yield "a b", "a"
    if limit.minimum is not None:
        yield limit.minimum - 1, limit.minimum
    if limit.shortest:
        yield "1us", "1ms"
        yield "-1s", "1s" if limit.shortest == "1ms" else "0s"


EDGES = [
    pytest.param(struct, wire, beyond, within, id=f"{struct.__name__}-{wire}-{number}")
    for struct, limits in LIMITS.items()
    for wire, field in fields_of(struct).items()
    if field.name in limits
    for number, (beyond, within) in enumerate(edges(field.type, limits[field.name]))
]


def schema_with(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of a struct, out of that of a kind which has it."""
    described = cleandoc(struct.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    for kind in KINDS:
        for schema in schemas_within(schema_of(kind)) if kind.mesh else ():
            if schema.get("description") == described:
                return schema
    raise AssertionError(f"no kind has {struct}")


@pytest.mark.parametrize(("struct", "wire", "beyond", "within"), EDGES)
def test_a_value_beyond_a_limit_is_told_and_the_schema_refuses_it(
    struct: type[msgspec.Struct], wire: str, beyond: Any, within: Any
) -> None:
    head = smallest(inspect.type_info(struct))
    bad, good = {**head, wire: beyond}, {**head, wire: within}
    schema = jsonschema_rs.validator_for(schema_with(struct))
    assert schema.is_valid(good)
    assert not list(structure(msgspec.json.decode(msgspec.json.encode(good), type=struct)))
    decoded = msgspec.json.decode(msgspec.json.encode(bad), type=struct)
    left_out = msgspec.to_builtins(decoded) == head and beyond in ("", [], {})
    faults = list(structure(decoded))
    assert left_out or [fault.path.split("[")[0] for fault in faults] == [wire]
    assert all(fault.hint for fault in faults)
    timed = any(fault.message.endswith("too short") for fault in faults)
    assert timed or not schema.is_valid(bad)


SELECTOR = "mtls: {mode: STRICT}\nselector: {matchLabels: {%s}}"
TARGET = "targetRef: {kind: Service, name: a%s}"
ENTRY = "hosts: [%s]\nports: [{number: 1, name: http, protocol: HTTP}]\n%s"
RULE = "rules: [{from: [{source: {%s}}]}]"
JWT = "jwtRules: [{issuer: i%s}]"
TLS = "servers: [{port: {number: 443, name: p, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH%s}}]"
SOURCE = "spec.rules[0].from[0].source"
TAG = "metrics: [{overrides: [{tagOverrides: {a: {%s}}}]}]"
POLICY = "host: a\ntrafficPolicy: {%s}"

CEL_CASES: list[tuple[str, str, str, str, str]] = [
    ("WorkloadSelector.matchLabels", "PeerAuthentication", SELECTOR % "'a*': b", "matchLabels[a*]", SELECTOR % "a: b"),
    ("WorkloadSelector.matchLabels", "PeerAuthentication", SELECTOR % "'': b", "matchLabels[]", SELECTOR % "a: ''"),
    (
        "WorkloadSelector.matchLabels.each",
        "PeerAuthentication",
        SELECTOR % "a: 'b*'",
        "matchLabels[a]",
        SELECTOR % "a: b",
    ),
    (
        "EntryWorkloadSelector.labels.each",
        "Sidecar",
        "workloadSelector: {labels: {a: 'b*'}}\negress: [{hosts: ['./*']}]",
        "labels[a]",
        "workloadSelector: {labels: {a: b}}\negress: [{hosts: ['./*']}]",
    ),
    ("PolicyTargetReference.namespace", "AuthorizationPolicy", TARGET % ", namespace: b", "namespace", TARGET % ""),
    ("ServiceEntrySpec.hosts.each", "ServiceEntry", ENTRY % ("'*'", ""), "hosts[0]", ENTRY % ("'*.a.org'", "")),
    (
        "ServiceEntrySpec.ports",
        "ServiceEntry",
        "hosts: [a.org]\nports: [{number: 1, name: http-a}, {number: 1, name: http-b}]",
        "ports[1].number",
        "hosts: [a.org]\nports: [{number: 1, name: http-a}, {number: 2, name: http-b}]",
    ),
    ("WorkloadEntrySpec.address", "WorkloadEntry", "address: unix://x", "address", "address: 'unix://@x'"),
    ("WorkloadEntrySpec.address", "WorkloadEntry", "address: unix:///x/", "address", "address: unix:///x"),
    (
        "WorkloadEntrySpec.ports",
        "WorkloadEntry",
        f"address: 10.0.0.1\nports: {{{'a' * 63}: 1}}",
        f"ports[{'a' * 63}]",
        f"address: 10.0.0.1\nports: {{{'a' * 62}: 1}}",
    ),
    (
        "PeerAuthenticationSpec.portLevelMtls",
        "PeerAuthentication",
        "selector: {matchLabels: {a: b}}\nportLevelMtls: {65536: {mode: STRICT}}",
        "portLevelMtls[65536]",
        "selector: {matchLabels: {a: b}}\nportLevelMtls: {65535: {mode: STRICT}}",
    ),
    (
        "JwtRule.jwksUri",
        "RequestAuthentication",
        JWT % ", jwksUri: 'ftp://a'",
        "jwksUri",
        JWT % ", jwksUri: 'http://a'",
    ),
    (
        "ServerTlsSettings",
        "Gateway",
        TLS % ", credentialName: a, credentialNames: [b]",
        "tls.credentialNames",
        TLS.replace("PASSTHROUGH", "SIMPLE") % ", credentialNames: [b]",
    ),
    (
        "LoadBalancerSettings",
        "DestinationRule",
        POLICY % "loadBalancer: {warmupDurationSecs: 1s, warmup: {duration: 1s}}",
        "warmupDurationSecs",
        POLICY % "loadBalancer: {warmup: {duration: 1s}}",
    ),
    (
        "ServiceEntrySpec",
        "ServiceEntry",
        ENTRY % ("a.org", "resolution: STATIC\nworkloadSelector: {labels: {a: b}}\nendpoints: [{address: 10.0.0.1}]"),
        "endpoints",
        ENTRY % ("a.org", "resolution: STATIC\nworkloadSelector: {labels: {a: b}}"),
    ),
    (
        "ServiceEntrySpec",
        "ServiceEntry",
        ENTRY % ("a.org", "resolution: DNS\naddresses: [10.0.0.0/8]"),
        "addresses[0]",
        ENTRY % ("a.org", "addresses: [10.0.0.0/8]"),
    ),
    (
        "ServiceEntrySpec",
        "ServiceEntry",
        ENTRY % ("a.org", "endpoints: [{address: 10.0.0.1}]"),
        "resolution",
        ENTRY % ("a.org", "resolution: STATIC\nendpoints: [{address: 10.0.0.1}]"),
    ),
    (
        "ServiceEntrySpec",
        "ServiceEntry",
        ENTRY % ("a.org", "resolution: DNS_ROUND_ROBIN\nendpoints: [{address: b.org}, {address: c.org}]"),
        "endpoints",
        ENTRY % ("a.org", "resolution: DNS_ROUND_ROBIN\nendpoints: [{address: b.org}]"),
    ),
    ("WorkloadEntrySpec", "WorkloadEntry", "labels: {a: b}", "address", "address: 10.0.0.1\nlabels: {a: b}"),
    ("WorkloadEntrySpec", "WorkloadEntry", "address: unix:///x\nports: {a: 1}", "ports", "address: unix:///x"),
    (
        "Source",
        "AuthorizationPolicy",
        RULE % "serviceAccounts: [a], principals: [b]",
        "serviceAccounts",
        RULE % "serviceAccounts: [a]",
    ),
    (
        "Source",
        "AuthorizationPolicy",
        RULE % "notServiceAccounts: [a], notNamespaces: [b]",
        "notServiceAccounts",
        RULE % "notServiceAccounts: [a]",
    ),
    (
        "PeerAuthenticationSpec",
        "PeerAuthentication",
        "portLevelMtls: {80: {mode: STRICT}}",
        "portLevelMtls",
        "selector: {matchLabels: {a: b}}\nportLevelMtls: {80: {mode: STRICT}}",
    ),
    *(
        (f"{kind}Spec", kind, f"selector: {{matchLabels: {{a: b}}}}\n{TARGET % ''}", "targetRef", TARGET % "")
        for kind in ("AuthorizationPolicy", "RequestAuthentication", "Telemetry")
    ),
    (
        "JwtRule",
        "RequestAuthentication",
        JWT % ", jwks: '{\"keys\": []}', jwksUri: 'http://a'",
        "jwks",
        JWT % ", jwks: '{\"keys\": []}'",
    ),
    (
        "TagOverride",
        "Telemetry",
        TAG % "operation: UPSERT",
        "tagOverrides[a].value",
        TAG % "operation: UPSERT, value: b",
    ),
    (
        "TagOverride",
        "Telemetry",
        TAG % "operation: REMOVE, value: b",
        "tagOverrides[a].value",
        TAG % "operation: REMOVE",
    ),
]
"""A rule's place, the kind in which it is tried, what breaks it, at which path (its end), and what keeps to it."""


@pytest.mark.parametrize(("owner", "kind", "bad", "path", "good"), CEL_CASES, ids=[f"{c[0]}-{c[3]}" for c in CEL_CASES])
def test_what_breaks_a_rule_is_refused(owner: str, kind: str, bad: str, path: str, good: str) -> None:
    def refused(spec: str) -> list[str]:
        return [problem.path for problem in problems(kind, spec) if problem.severity is Severity.ERROR]

    assert any(found.endswith(path) for found in refused(bad)), (owner, refused(bad))
    assert refused(good) == []


DECODED = {"ServicePort.number", "WorkloadEntrySpec.ports.each"}
"""Rules that say what the types of the fields say as well: a number out of range does not decode."""


def test_every_rule_is_tried() -> None:
    rules: Counter[str] = Counter()
    for struct, limits in LIMITS.items():
        wires = {field.name: wire for wire, field in fields_of(struct).items()}
        for name, limit in limits.items():
            if not limit.shortest:
                rules[f"{struct.__name__}.{wires[name]}"] += len(limit.rules)
            if limit.each:
                rules[f"{struct.__name__}.{wires[name]}.each"] += len(limit.each.rules)
    rules.update({struct.__name__: len(of_struct) for struct, of_struct in RULES.items()})
    tried = Counter(owner for owner, *_ in CEL_CASES)
    assert {owner for owner, count in rules.items() if count > tried[owner]} == DECODED
