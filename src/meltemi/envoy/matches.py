"""What a request must look like, as Envoy's route matcher puts it."""

from __future__ import annotations

import re

from meltemi.model.routes import ClaimMatch, HttpMatch, MatchKind, NamedMatch, TextMatch
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import (
    HeaderMatcher,
    QueryParameterMatcher,
    RouteMatch,
)
from meltemi.protos.envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from meltemi.protos.envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher
from meltemi.protos.envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher

JWT = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"  # the key under which the JWT filter puts the claims


def text(match: TextMatch) -> StringMatcher:
    """A comparison of a text. One that asks for presence only fits any text."""
    match match.kind:
        case MatchKind.EXACT:
            return StringMatcher(exact=match.value, ignore_case=match.ignore_case)
        case MatchKind.PREFIX | MatchKind.SEGMENTS:
            return StringMatcher(prefix=match.value, ignore_case=match.ignore_case)
        case MatchKind.PRESENT:
            return StringMatcher(safe_regex=RegexMatcher(regex=".*"))
        case MatchKind.REGEX:
            return StringMatcher(safe_regex=regex(match))


def regex(match: TextMatch) -> RegexMatcher:
    """A regular expression for the whole text (RE2)."""
    return RegexMatcher(regex=f"(?i){match.value}" if match.ignore_case else match.value)


def header(match: NamedMatch) -> HeaderMatcher:
    """A comparison of a header. Inverted, a missing header fits: it counts as an empty one."""
    if match.match.kind is MatchKind.PRESENT:
        return HeaderMatcher(name=match.name, present_match=True, invert_match=match.invert)
    return HeaderMatcher(
        name=match.name,
        string_match=text(match.match),
        invert_match=match.invert,
        treat_missing_header_as_empty=match.invert,
    )


def query_parameter(match: NamedMatch) -> QueryParameterMatcher:
    """A comparison of a query parameter. Envoy can ask that one be missing, but not that it be different."""
    if match.match.kind is MatchKind.PRESENT:
        return QueryParameterMatcher(name=match.name, present_match=not match.invert)
    return QueryParameterMatcher(name=match.name, string_match=text(match.match))


def claim(match: ClaimMatch) -> MetadataMatcher:
    """A comparison of a claim, or of one element of it where it is a list, as the JWT filter has put it down."""
    keys = (PAYLOAD, *match.path)
    if match.match.kind is MatchKind.PRESENT:
        wanted = ValueMatcher(present_match=True)
    else:
        one = ValueMatcher(string_match=text(match.match))
        wanted = ValueMatcher(
            or_match=OrMatcher(value_matchers=[one, ValueMatcher(list_match=ListMatcher(one_of=one))])
        )
    path = [MetadataMatcher.PathSegment(key=key) for key in keys]
    return MetadataMatcher(filter=JWT, path=path, value=wanted, invert=match.invert)


def request(match: HttpMatch) -> RouteMatch:
    """A whole match: path, headers, query parameters, gRPC."""
    message = RouteMatch(
        headers=[header(each) for each in match.headers],
        query_parameters=[query_parameter(each) for each in match.query],
        dynamic_metadata=[claim(each) for each in match.claims],
    )
    if match.grpc:
        message.grpc.SetInParent()
    _set_path(message, match.path)
    return message


def _set_path(message: RouteMatch, path: TextMatch | None) -> None:
    if path is None:
        message.prefix = "/"
        return
    match path.kind:
        case MatchKind.EXACT:
            message.path = path.value
        case MatchKind.PREFIX:
            message.prefix = path.value
        case MatchKind.SEGMENTS:
            segments = path.value.rstrip("/")
            if segments:
                message.path_separated_prefix = segments
            else:
                message.prefix = "/"
        case MatchKind.REGEX:
            message.safe_regex.CopyFrom(regex(path))
        case MatchKind.PRESENT:
            message.prefix = "/"
    if path.ignore_case and path.kind is not MatchKind.REGEX:
        message.case_sensitive.value = False


def literal(value: str) -> str:
    """A regular expression that fits this text only."""
    return re.sub(r"([^A-Za-z0-9_/\-\u0080-\U0010ffff])", r"\\\1", value)
