"""Whether a request is one that a route is for, and if not, the first thing about it that does not fit."""

from __future__ import annotations

from typing import Any

from meltemi.explain import expressions
from meltemi.explain.requests import Request
from meltemi.model.routes import ClaimMatch, HttpMatch, MatchKind, NamedMatch, TextMatch

_GRPC = "application/grpc"


def objection(match: HttpMatch, request: Request) -> str:
    """Why the request does not fit, in words; empty if it does."""
    if match.path is not None and not path_fits(match.path, request.path):
        return f"the path {request.path!r} is not {described(match.path)}"
    for header in match.headers:
        if reason := _objection_to_header(header, request.header(header.name)):
            return reason
    for parameter in match.query:
        if reason := _objection_to_parameter(parameter, request.parameter(parameter.name)):
            return reason
    for claim in match.claims:
        if _claim_fits(claim, request.claims) is claim.invert:
            return f"the claim {'.'.join(claim.path)} is {'' if claim.invert else 'not '}{described(claim.match)}"
    if match.grpc and not _is_grpc(request.header("content-type")):
        return "it is not gRPC"
    return ""


def described(match: TextMatch) -> str:
    """A comparison in words."""
    case = " in upper or lower case" if match.ignore_case else ""
    match match.kind:
        case MatchKind.EXACT:
            return f"{match.value!r}{case}"
        case MatchKind.PREFIX:
            return f"one that begins with {match.value!r}{case}"
        case MatchKind.SEGMENTS:
            return f"{match.value!r} or below it{case}"
        case MatchKind.REGEX:
            return f"one that matches {match.value!r} as a whole{case}"
        case MatchKind.PRESENT:
            return "present"


def path_fits(match: TextMatch, path: str) -> bool:
    """Whether a path (without query) is the one meant."""
    if match.kind is MatchKind.PRESENT:
        return path.startswith("/")
    if match.kind is MatchKind.SEGMENTS:
        whole = match.value.rstrip("/")
        return any(text_fits(TextMatch(kind, value, match.ignore_case), path) for kind, value in _below(whole))
    return text_fits(match, path)


def _below(whole: str) -> tuple[tuple[MatchKind, str], ...]:
    return ((MatchKind.EXACT, whole), (MatchKind.PREFIX, f"{whole}/"))


def text_fits(match: TextMatch, text: str) -> bool:
    """Whether a text is the one meant. Upper and lower case are told apart in ASCII only, as Envoy does it."""
    match match.kind:
        case MatchKind.EXACT:
            return _folded(text, match) == _folded(match.value, match)
        case MatchKind.PREFIX | MatchKind.SEGMENTS:
            return _folded(text, match).startswith(_folded(match.value, match))
        case MatchKind.REGEX:
            return expressions.fits(f"(?i){match.value}" if match.ignore_case else match.value, text)
        case MatchKind.PRESENT:
            return True


def _folded(text: str, match: TextMatch) -> str:
    return text.encode().lower().decode() if match.ignore_case else text


def _objection_to_header(wanted: NamedMatch, values: tuple[str, ...]) -> str:
    """A header sent several times fits where one of its values does (Envoy compares them one by one since 1.39).

    A header that is missing fits no comparison; where it must not match, it counts as an empty one.
    """
    name = wanted.name
    if wanted.match.kind is MatchKind.PRESENT:
        if bool(values) is not wanted.invert:
            return ""
        return f"the header {name} is {'present' if wanted.invert else 'missing'}"
    if not values and not wanted.invert:
        return f"the header {name} is missing"
    fits = any(text_fits(wanted.match, value) for value in values or ("",))
    if fits is not wanted.invert:
        return ""
    if wanted.invert:
        return f"the header {name} is {described(wanted.match)}"
    return f"the header {name}: {', '.join(map(repr, values))} is not {described(wanted.match)}"


def _objection_to_parameter(wanted: NamedMatch, value: str | None) -> str:
    name = wanted.name
    if wanted.match.kind is MatchKind.PRESENT:
        if (value is not None) is not wanted.invert:
            return ""
        return f"the query parameter {name} is {'present' if wanted.invert else 'missing'}"
    if value is None:
        return f"the query parameter {name} is missing"
    fits = text_fits(wanted.match, value)
    return "" if fits else f"the query parameter {name}={value!r} is not {described(wanted.match)}"


def _claim_fits(wanted: ClaimMatch, claims: Any) -> bool:
    """Whether the claim, or one element of it where it is a list, is the one meant."""
    value = claims
    for key in wanted.path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    if wanted.match.kind is MatchKind.PRESENT:
        return True
    elements = value if isinstance(value, list) else [value]
    return any(isinstance(each, str) and text_fits(wanted.match, each) for each in elements)


def _is_grpc(content_types: tuple[str, ...]) -> bool:
    """Whether the content type is gRPC's, with or without a message format (`application/grpc+proto`)."""
    return any(each == _GRPC or each.startswith((f"{_GRPC}+", f"{_GRPC};")) for each in content_types)
