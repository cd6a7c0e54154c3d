"""Conditions of authorization rules, each as Envoy's RBAC tells it: of the client, or of what it asks for.

Values are texts that users wrote. What becomes part of a regular expression is quoted first, and an expression always
fits the whole text: an identity that merely contains a name must not pass for it.
"""

from __future__ import annotations

import re

from meltemi.envoy.matches import JWT, PAYLOAD, literal
from meltemi.envoy.values import cidr, extension
from meltemi.model.security import Attribute, Condition, ValueMatch
from meltemi.protos.envoy.config.core.v3.address_pb2 import CidrRange
from meltemi.protos.envoy.config.rbac.v3.rbac_pb2 import Permission, Principal, SourcedMetadata
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from meltemi.protos.envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig
from meltemi.protos.envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from meltemi.protos.envoy.type.matcher.v3.path_pb2 import PathMatcher
from meltemi.protos.envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher
from meltemi.protos.envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher

_SCHEME = "spiffe://"
_SEGMENT = "[^/]+"
_PORT = "(:[0-9]+)?"
_TEMPLATE = "envoy.path.match.uri_template.uri_template_matcher"
_ONE_SEGMENT, _ANY_SEGMENTS = "{*}", "{**}"
_TEMPLATE_TEXT = re.compile(r"[A-Za-z0-9._~%!$&'()+,;:@=-]*")

_ABOUT_CLIENT = frozenset(
    {
        Attribute.PRINCIPAL,
        Attribute.NAMESPACE,
        Attribute.SERVICE_ACCOUNT,
        Attribute.PEER_ADDRESS,
        Attribute.REMOTE_ADDRESS,
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCES,
        Attribute.PRESENTER,
        Attribute.CLAIM,
        Attribute.HEADER,
    }
)


class Undecidable(ValueError):
    """A condition cannot be judged here; the message says why, for users."""


def is_about_client(condition: Condition) -> bool:
    """Whether Envoy counts the attribute among those of the client (which for it includes headers)."""
    return condition.attribute in _ABOUT_CLIENT


def check(condition: Condition) -> None:
    """Raises Undecidable if a value of the condition cannot be read."""
    for value in (*condition.values, *condition.not_values):
        if is_about_client(condition):
            principal(condition, value)
        else:
            permission(condition, value)


def principal(condition: Condition, value: ValueMatch) -> Principal:
    """One value of a condition about the client. Raises Undecidable if it cannot be read."""
    match condition.attribute:
        case Attribute.PRINCIPAL:
            return _identity(_spiffe(value))
        case Attribute.NAMESPACE:
            return _identity(_regex(f"{_SCHEME}{_SEGMENT}/ns/{_segment(value)}/.+"))
        case Attribute.SERVICE_ACCOUNT:
            namespace, _, account = value.value.rpartition("/")
            return _identity(_regex(f"{_SCHEME}{_SEGMENT}/ns/{literal(namespace) or _SEGMENT}/sa/{literal(account)}"))
        case Attribute.PEER_ADDRESS:
            return Principal(direct_remote_ip=_block(value))
        case Attribute.REMOTE_ADDRESS:
            return Principal(remote_ip=_block(value))
        case Attribute.REQUEST_PRINCIPAL:
            return _request_principal(value)
        case Attribute.AUDIENCES:
            return _claim(("aud",), value)
        case Attribute.PRESENTER:
            return _claim(("azp",), value)
        case Attribute.CLAIM:
            return _claim(condition.key, value)
        case Attribute.HEADER:
            return Principal(header=_header(condition.key[0] if condition.key else "", value))
        case _:
            raise Undecidable(f"{condition.attribute} says nothing of the client")


def permission(condition: Condition, value: ValueMatch) -> Permission:
    """One value of a condition about the request or connection. Raises Undecidable if it cannot be read."""
    match condition.attribute:
        case Attribute.HOST:
            return Permission(header=HeaderMatcher(name=":authority", string_match=_host(value)))
        case Attribute.METHOD:
            return Permission(header=_header(":method", value))
        case Attribute.PATH | Attribute.PATH_TEMPLATE:
            return _path(value)
        case Attribute.DESTINATION_ADDRESS:
            return Permission(destination_ip=_block(value))
        case Attribute.DESTINATION_PORT:
            return Permission(destination_port=_port(value))
        case Attribute.SNI:
            return Permission(requested_server_name=_text(value))
        case Attribute.FILTER_METADATA:
            return Permission(sourced_metadata=_filter_metadata(condition.key, value))
        case _:
            raise Undecidable(f"{condition.attribute} says nothing of the request")


# === texts ===


def _text(value: ValueMatch) -> StringMatcher:
    match value.kind:
        case "exact":
            return StringMatcher(exact=value.value, ignore_case=value.ignore_case)
        case "prefix" if value.value:
            return StringMatcher(prefix=value.value, ignore_case=value.ignore_case)
        case "suffix" if value.value:
            return StringMatcher(suffix=value.value, ignore_case=value.ignore_case)
        case "present" | "prefix" | "suffix":
            return _regex(".+")
        case "regex":
            return _regex(f"(?i){value.value}" if value.ignore_case else value.value)
        case _:
            raise Undecidable(f"{value.value!r} is a {value.kind}, where a text is compared")


def _regex(pattern: str) -> StringMatcher:
    return StringMatcher(safe_regex=RegexMatcher(regex=pattern))


def _segment(value: ValueMatch) -> str:
    """A regular expression for one segment of a SPIFFE path."""
    match value.kind:
        case "exact":
            return literal(value.value)
        case "prefix":
            return f"{literal(value.value)}[^/]*"
        case "suffix":
            return f"[^/]*{literal(value.value)}"
        case _:
            return _SEGMENT


def _spiffe(value: ValueMatch) -> StringMatcher:
    """Principals are written without the scheme."""
    text = value.value.removeprefix(_SCHEME)
    match value.kind:
        case "exact":
            return StringMatcher(exact=f"{_SCHEME}{text}")
        case "prefix":
            return StringMatcher(prefix=f"{_SCHEME}{text}")
        case "suffix":
            return StringMatcher(suffix=value.value)
        case "regex":
            return _regex(f"{_SCHEME}{text}")
        case _:
            return _regex(f"{_SCHEME}.+")


def _host(value: ValueMatch) -> StringMatcher:
    """A host, in whatever case and with whatever port clients write it: neither makes it another host."""
    if value.kind not in ("exact", "suffix") or re.search(r":[0-9]+$", value.value):
        return _text(value)
    start = "" if value.kind == "exact" else ".*"
    return _regex(f"(?i){start}{literal(value.value)}{_PORT}")


def _header(name: str, value: ValueMatch) -> HeaderMatcher:
    if not name:
        raise Undecidable("the name of the header is missing")
    if value.kind == "present":
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=_text(value))


# === clients ===


def _identity(matcher: StringMatcher) -> Principal:
    return Principal(authenticated=Principal.Authenticated(principal_name=matcher))


def _request_principal(value: ValueMatch) -> Principal:
    """Issuer, slash, subject. Either may hold slashes, so each slash may be the one between them."""
    text = value.value
    cuts = [(text[:at], text[at + 1 :]) for at, letter in enumerate(text) if letter == "/"]
    match value.kind:
        case "exact":
            pairs = [(_exactly(issuer), _exactly(subject)) for issuer, subject in cuts]
        case "prefix":
            pairs = [(_exactly(issuer), _text(ValueMatch(subject, "prefix"))) for issuer, subject in cuts]
            pairs.append((_text(ValueMatch(text, "prefix")), _regex(".+")))
        case "suffix":
            pairs = [(_text(ValueMatch(issuer, "suffix")), _exactly(subject)) for issuer, subject in cuts]
            pairs.append((_regex(".+"), _text(ValueMatch(text, "suffix"))))
        case _:
            pairs = [(_regex(".+"), _regex(".+"))]
    if not pairs:
        raise Undecidable(f"{text!r} is not an issuer and a subject with a slash between them")
    found = [
        Principal(and_ids=Principal.Set(ids=[_claim_text("iss", issuer), _claim_text("sub", subject)]))
        for issuer, subject in pairs
    ]
    return found[0] if len(found) == 1 else Principal(or_ids=Principal.Set(ids=found))


def _exactly(text: str) -> StringMatcher:
    return StringMatcher(exact=text)


def _claim_text(name: str, matcher: StringMatcher) -> Principal:
    return Principal(sourced_metadata=_metadata(JWT, (PAYLOAD, name), ValueMatcher(string_match=matcher)))


def _claim(path: tuple[str, ...], value: ValueMatch) -> Principal:
    """A claim, which may be a text or a list of texts."""
    if not path:
        raise Undecidable("the name of the claim is missing")
    text = ValueMatcher(string_match=_text(value))
    either = OrMatcher(value_matchers=[text, ValueMatcher(list_match=ListMatcher(one_of=text))])
    return Principal(sourced_metadata=_metadata(JWT, (PAYLOAD, *path), ValueMatcher(or_match=either)))


# === requests and connections ===


def _metadata(filter_name: str, path: tuple[str, ...], value: ValueMatcher) -> SourcedMetadata:
    segments = [MetadataMatcher.PathSegment(key=each) for each in path]
    return SourcedMetadata(metadata_matcher=MetadataMatcher(filter=filter_name, path=segments, value=value))


def _filter_metadata(key: tuple[str, ...], value: ValueMatch) -> SourcedMetadata:
    """What another filter has put down: a text, or in brackets one of a list."""
    if len(key) < 2:
        raise Undecidable("the filter or the key of its metadata is missing")
    if value.kind == "exact" and value.value.startswith("[") and value.value.endswith("]"):
        member = ValueMatcher(string_match=_exactly(value.value[1:-1]))
        return _metadata(key[0], key[1:], ValueMatcher(list_match=ListMatcher(one_of=member)))
    return _metadata(key[0], key[1:], ValueMatcher(string_match=_text(value)))


def _path(value: ValueMatch) -> Permission:
    if value.kind == "template":
        config = UriTemplateMatchConfig(path_template=_template(value.value))
        return Permission(uri_template=extension(_TEMPLATE, config))
    return Permission(url_path=PathMatcher(path=_text(value)))


def _template(text: str) -> str:
    """Istio's path template as Envoy's. Nothing else may pass: Envoy 1.40 dies of a template that it cannot read."""
    segments = text.split("/")
    if segments[0] or "" in segments[1:-1]:
        raise Undecidable(f"the path template {text!r} does not begin with a slash, or has two in a row")
    operators = [segment for segment in segments if segment in (_ONE_SEGMENT, _ANY_SEGMENTS)]
    for segment in segments[1:]:
        if segment not in (_ONE_SEGMENT, _ANY_SEGMENTS) and not _TEMPLATE_TEXT.fullmatch(segment):
            raise Undecidable(f"{segment!r} in the path template {text!r} is neither plain text nor {{*}} nor {{**}}")
    if _ANY_SEGMENTS in operators[:-1]:
        raise Undecidable(f"in the path template {text!r} {{**}} is not the last of its placeholders")
    return "/".join(segment[1:-1] if segment in (_ONE_SEGMENT, _ANY_SEGMENTS) else segment for segment in segments)


def _block(value: ValueMatch) -> CidrRange:
    try:
        return cidr(value.value)
    except ValueError as error:
        raise Undecidable(f"{value.value!r} is neither an address nor a block of addresses") from error


def _port(value: ValueMatch) -> int:
    if not value.value.isdecimal() or not 0 < int(value.value) < 65536:
        raise Undecidable(f"{value.value!r} is not a port")
    return int(value.value)
