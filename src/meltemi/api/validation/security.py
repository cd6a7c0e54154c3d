"""Whether policies on identity and access can mean what their author thinks: a policy that says nothing is dangerous."""

from __future__ import annotations

import re

import msgspec

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.meta import PolicyTargetReference, WorkloadSelector
from meltemi.api.security import (
    AuthorizationPolicy,
    JwtRule,
    Operation,
    PeerAuthentication,
    RequestAuthentication,
    Rule,
    RuleCondition,
    Source,
)
from meltemi.api.shaping import fields_of
from meltemi.api.validation import terms

CONDITION_KEYS = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
"""The attributes that a condition may look at, besides those with a name in brackets."""

_IDENTITY = (
    ("namespaces", "namespaces"),
    ("not_namespaces", "notNamespaces"),
    ("principals", "principals"),
    ("not_principals", "notPrincipals"),
    ("request_principals", "requestPrincipals"),
    ("not_request_principals", "notRequestPrincipals"),
)
_BY_NAME = (
    ("principals", "principals"),
    ("not_principals", "notPrincipals"),
    ("namespaces", "namespaces"),
    ("not_namespaces", "notNamespaces"),
)
_SEEN_BY_TCP = (
    "principals",
    "not_principals",
    "namespaces",
    "not_namespaces",
    "service_accounts",
    "not_service_accounts",
    "trust_domains",
    "not_trust_domains",
    "ip_blocks",
    "not_ip_blocks",
    "remote_ip_blocks",
    "not_remote_ip_blocks",
)
_TARGETS = frozenset(
    {
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)
"""The objects that a policy can be attached to, by group and kind."""

_KEYED = re.compile(r"request\.headers\[[^\]]+\]|request\.auth\.claims(\[[^\]]+\])+")
_ADDRESSES = frozenset({"source.ip", "remote.ip", "destination.ip"})


def peer_authentication(resource: PeerAuthentication) -> Faults:
    """What is wrong with a PeerAuthentication."""
    spec = resource.spec
    yield from _selector("spec.selector", spec.selector)
    if spec.port_level_mtls and not (spec.selector and spec.selector.match_labels):
        yield Fault(
            "spec.portLevelMtls", "a setting for a port needs a selector", "add selector.matchLabels", "RequiredField"
        )
    for port in spec.port_level_mtls:
        yield from terms.port(paths.key("spec.portLevelMtls", str(port)), port)


def authorization_policy(resource: AuthorizationPolicy) -> Faults:
    """What is wrong with an AuthorizationPolicy."""
    spec = resource.spec
    yield from attachment(spec.selector, spec.target_ref, spec.target_refs)
    if spec.action == "CUSTOM":
        if not (spec.provider and spec.provider.name):
            yield Fault("spec.provider.name", "CUSTOM needs a provider", "add provider.name", "RequiredField")
        if not spec.rules:
            yield Fault("spec.rules", "CUSTOM needs a rule", "add a rule ({} for all requests)", "RequiredField")
    elif spec.provider:
        yield Fault("spec.provider", f"{spec.action} asks no provider", "set action: CUSTOM", "Conflict")
    if spec.action == "DENY" and not spec.rules:
        hint = "add a rule ({} for all requests)"
        yield Fault("spec.rules", "a DENY policy without rules denies nothing", hint, "RequiredField")
    for index, rule in enumerate(spec.rules):
        path = paths.item("spec.rules", index)
        yield from _rule(path, rule)
        if spec.action == "CUSTOM":
            yield from _before_identity(path, rule)
        if spec.action == "DENY":
            yield from _denies_tcp(path, rule)


def _rule(path: str, rule: Rule) -> Faults:
    for index, origin in enumerate(rule.from_):
        where = paths.item(f"{path}.from", index)
        if origin.source is None or origin.source == Source():
            yield Fault(f"{where}.source", "the source says nothing", "say who, or remove it", "RequiredField")
        else:
            yield from _source(f"{where}.source", origin.source)
    for index, target in enumerate(rule.to):
        where = paths.item(f"{path}.to", index)
        if target.operation is None or target.operation == Operation():
            yield Fault(f"{where}.operation", "the operation says nothing", "say what, or remove it", "RequiredField")
        else:
            yield from _operation(f"{where}.operation", target.operation)
    for index, condition in enumerate(rule.when):
        yield from _condition(paths.item(f"{path}.when", index), condition)


def _before_identity(path: str, rule: Rule) -> Faults:
    """What CUSTOM rules cannot look at (Istio): they are judged before it is known who calls."""
    for index, origin in enumerate(rule.from_):
        for name in _IDENTITY if origin.source else ():
            if getattr(origin.source, name[0]):
                where = f"{paths.item(f'{path}.from', index)}.source.{name[1]}"
                yield Fault(where, f"CUSTOM cannot look at {name[1]}", "leave it to the provider", "NotSupported")
    for index, condition in enumerate(rule.when):
        if condition.key in ("source.namespace", "source.principal") or condition.key.startswith("request.auth."):
            where = f"{paths.item(f'{path}.when', index)}.key"
            yield Fault(where, f"CUSTOM cannot look at {condition.key}", "leave it to the provider", "NotSupported")


def _denies_tcp(path: str, rule: Rule) -> Faults:
    """A rule that denies by what only HTTP has denies every connection of TCP."""
    sources = [origin.source for origin in rule.from_ if origin.source]
    operations = [target.operation for target in rule.to if target.operation]
    seen = any(getattr(source, name) for source in sources for name in _SEEN_BY_TCP)
    by_port = any(operation.ports or operation.not_ports for operation in operations)
    if (sources and not operations and not seen) or (operations and not by_port):
        yield warning(path, "only HTTP has what the rule looks at: all TCP connections are denied", "add to.ports")


def _source(path: str, source: Source) -> Faults:
    yield from _no_empty_values(path, source)
    for name, blocks in (
        ("ipBlocks", source.ip_blocks),
        ("notIpBlocks", source.not_ip_blocks),
        ("remoteIpBlocks", source.remote_ip_blocks),
        ("notRemoteIpBlocks", source.not_remote_ip_blocks),
    ):
        yield from terms.subnets(f"{path}.{name}", blocks)
    given = [name for name in _BY_NAME if getattr(source, name[0])]
    if given and (source.service_accounts or source.not_service_accounts):
        name = "serviceAccounts" if source.service_accounts else "notServiceAccounts"
        yield Fault(f"{path}.{name}", f"{name} and {given[0][1]} exclude each other", "keep one of the two", "Conflict")
    for name, accounts in (
        ("serviceAccounts", source.service_accounts),
        ("notServiceAccounts", source.not_service_accounts),
    ):
        for index, account in enumerate(accounts):
            if account.count("/") > 1 or "*" in account:
                yield Fault(
                    paths.item(f"{path}.{name}", index),
                    f"{account!r} is not a service account",
                    "write name or namespace/name, without wildcards",
                )
    for name, principals in (("principals", source.principals), ("notPrincipals", source.not_principals)):
        for index, principal in enumerate(principals):
            if principal.startswith("spiffe://"):
                yield Fault(
                    paths.item(f"{path}.{name}", index),
                    "a principal is written without spiffe://",
                    f"write {principal.removeprefix('spiffe://')}",
                )


def _operation(path: str, operation: Operation) -> Faults:
    yield from _no_empty_values(path, operation)
    for name, ports in (("ports", operation.ports), ("notPorts", operation.not_ports)):
        for index, port in enumerate(ports):
            if port and not (port.isdigit() and 1 <= int(port) <= 65535):
                yield Fault(
                    paths.item(f"{path}.{name}", index),
                    f"{port!r} is not a port number",
                    "write a number from 1 to 65535, in quotes",
                    "OutOfRange",
                )
    for name, templates in (("paths", operation.paths), ("notPaths", operation.not_paths)):
        for index, template in enumerate(templates):
            yield from _path_template(paths.item(f"{path}.{name}", index), template)


def _path_template(path: str, value: str) -> Faults:
    """A path with `{*}` for one segment and `{**}` for any number, which must be the last wildcard."""
    if "{" not in value and "}" not in value:
        return
    segments = value.split("/")
    for segment in segments:
        if ("{" in segment or "}" in segment) and segment not in ("{*}", "{**}"):
            yield Fault(path, f"{segment!r} is not a segment", "write {*} or {**} between two slashes")
            return
    if "*" in "".join(segment for segment in segments if segment not in ("{*}", "{**}")):
        yield Fault(path, "'*' and '{*}' cannot stand in one path", "use {*} and {**} alone")
    if "{**}" in segments and any("{" in segment for segment in segments[segments.index("{**}") + 1 :]):
        yield Fault(path, "{**} must be the last wildcard", "use {*} for what follows")


def _condition(path: str, condition: RuleCondition) -> Faults:
    key = condition.key
    known = key in CONDITION_KEYS or _KEYED.fullmatch(key) or key.startswith("experimental.envoy.filters.")
    if not known:
        hint = (
            "write request.headers[NAME] or request.auth.claims[NAME]"
            if "[" in key or key.startswith("request")
            else ""
        )
        yield Fault(
            f"{path}.key",
            f"{key!r} is not an attribute",
            hint or f"write one of {', '.join(sorted(CONDITION_KEYS))}",
            "UnknownAttribute",
        )
    if not condition.values and not condition.not_values:
        yield Fault(f"{path}.values", "the condition says nothing", "add values or notValues", "RequiredField")
    yield from _no_empty_values(path, condition)
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        for index, value in enumerate(values):
            where = paths.item(f"{path}.{name}", index)
            if key in _ADDRESSES:
                yield from terms.subnet(where, value)
            elif key == "destination.port" and not (value.isdigit() and 1 <= int(value) <= 65535):
                yield Fault(where, f"{value!r} is not a port number", "write a number from 1 to 65535", "OutOfRange")


def _no_empty_values(path: str, part: Source | Operation | RuleCondition) -> Faults:
    for wire, field in fields_of(type(part)).items():
        values = getattr(part, field.name)
        if isinstance(values, tuple):
            for index, value in enumerate(values):
                if not value:
                    where = paths.item(f"{path}.{wire}", index)
                    yield Fault(where, "the value is empty", "write a value, or '*' for any")


def request_authentication(resource: RequestAuthentication) -> Faults:
    """What is wrong with a RequestAuthentication."""
    spec = resource.spec
    yield from attachment(spec.selector, spec.target_ref, spec.target_refs)
    for index, rule in enumerate(spec.jwt_rules):
        yield from _jwt_rule(paths.item("spec.jwtRules", index), rule)


def _jwt_rule(path: str, rule: JwtRule) -> Faults:
    if not rule.issuer:
        yield Fault(f"{path}.issuer", "the rule has no issuer", "add an issuer", "RequiredField")
    if rule.jwks and rule.jwks_uri:
        yield Fault(f"{path}.jwks", "jwks and jwksUri exclude each other", "keep one of the two", "Conflict")
    if rule.jwks_uri and not rule.jwks_uri.startswith(("http://", "https://")):
        yield Fault(f"{path}.jwksUri", f"{rule.jwks_uri!r} is not a URL", "write http://... or https://...")
    yield from _key_set(f"{path}.jwks", rule.jwks)
    for index, header in enumerate(rule.from_headers):
        if header.name:
            yield from terms.header_name(f"{path}.fromHeaders[{index}].name", header.name)
    if rule.output_payload_to_header:
        yield from terms.header_name(f"{path}.outputPayloadToHeader", rule.output_payload_to_header)


def _key_set(path: str, text: str) -> Faults:
    """A JSON Web Key Set (RFC 7517, section 5), or a single key."""
    if not text:
        return
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        yield Fault(path, f"it is not JSON: {error}", 'write a JSON Web Key Set, such as {"keys": [...]}')
        return
    keys = found.get("keys", [found]) if isinstance(found, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) and key.get("kty") for key in keys):
        yield Fault(path, "it is not a set of keys", 'write a JSON Web Key Set, such as {"keys": [...]}')


def _selector(path: str, selector: WorkloadSelector | None) -> Faults:
    if selector is not None:
        yield from terms.selector(f"{path}.matchLabels", selector.match_labels)


def attachment(
    selector: WorkloadSelector | None, one: PolicyTargetReference | None, several: tuple[PolicyTargetReference, ...]
) -> Faults:
    """A policy is attached by a selector or by references to objects."""
    yield from _selector("spec.selector", selector)
    given = [name for name, value in (("selector", selector), ("targetRef", one), ("targetRefs", several)) if value]
    for name in given[1:]:
        yield Fault(f"spec.{name}", f"{given[0]} and {name} exclude each other", "keep one of the two", "Conflict")
    references = {"spec.targetRef": one, **{paths.item("spec.targetRefs", i): ref for i, ref in enumerate(several)}}
    for path, reference in references.items():
        if reference is not None and (reference.group, reference.kind) not in _TARGETS:
            yield Fault(
                f"{path}.kind",
                f"a policy cannot be attached to a {reference.kind} of {reference.group or 'the core group'}",
                "name a Service, a ServiceEntry, or a Gateway of gateway.networking.k8s.io",
            )
        if reference is not None and reference.namespace:
            yield Fault(f"{path}.namespace", "a policy is attached in its own namespace only", "remove namespace")
