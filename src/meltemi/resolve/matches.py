"""What a request must look like: VirtualService HTTP matches, read into the model's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from meltemi.api.networking.virtual_service import HttpMatchRequest, StringMatch
from meltemi.model.routes import ClaimMatch, HttpMatch, MatchKind, NamedMatch, TextMatch

CLAIMS = "@request.auth.claims"
"""What the names of matches on JWT claims begin with. They are no headers."""

_BRACKETED = re.compile(r"\[([^\[\]]+)\]")


def http_match(match: HttpMatchRequest) -> HttpMatch:
    """The match without what depends on the client, the gateway and the port: those are decided beforehand."""
    pseudo = ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme))
    headers = [NamedMatch(name, text_match(wanted)) for name, wanted in pseudo if wanted is not None]
    headers += [NamedMatch(name, wanted) for name, wanted in _texts(match.headers)]
    headers += [NamedMatch(name, wanted, True) for name, wanted in _texts(match.without_headers)]
    return HttpMatch(
        path=None if match.uri is None else text_match(match.uri, match.ignore_uri_case),
        headers=tuple(headers),
        query=tuple(NamedMatch(name, text_match(wanted)) for name, wanted in sorted(match.query_params.items())),
        claims=(*_claims(match.headers), *_claims(match.without_headers, invert=True)),
    )


def _texts(headers: Mapping[str, StringMatch]) -> Iterator[tuple[str, TextMatch]]:
    """The comparisons of headers, by name."""
    for name, wanted in sorted(headers.items()):
        if not claim_path(name):
            yield name, text_match(wanted)


def _claims(headers: Mapping[str, StringMatch], *, invert: bool = False) -> Iterator[ClaimMatch]:
    """The comparisons of claims that stand among headers."""
    for name, wanted in sorted(headers.items()):
        if path := claim_path(name):
            yield ClaimMatch(path, text_match(wanted), invert)


def claim_path(name: str) -> tuple[str, ...]:
    """The path of the claim that a match is about, as `.a.b` or, with dots in names, `[a][b]`; () if it names none."""
    if not name.startswith(CLAIMS):
        return ()
    rest = name.removeprefix(CLAIMS)
    if rest.startswith("."):
        parts = tuple(rest[1:].split("."))
        return parts if all(parts) else ()
    return tuple(_BRACKETED.findall(rest)) if re.fullmatch(f"(?:{_BRACKETED.pattern})+", rest) else ()


def text_match(match: StringMatch, ignore_case: bool = False) -> TextMatch:
    """A comparison of a text. A match that says nothing, and the regex `*`, ask for presence alone."""
    if match.exact is not None:
        return TextMatch(MatchKind.EXACT, match.exact, ignore_case)
    if match.prefix is not None:
        return TextMatch(MatchKind.PREFIX, match.prefix, ignore_case)
    if match.regex is not None and match.regex != "*":
        return TextMatch(MatchKind.REGEX, match.regex)
    return TextMatch(MatchKind.PRESENT)


def is_catch_all(match: HttpMatch) -> bool:
    """Whether every request fits."""
    path = match.path
    everywhere = path is None or path.kind is MatchKind.PRESENT or (path.kind is MatchKind.PREFIX and path.value == "/")
    return everywhere and not match.headers and not match.query and not match.grpc and not match.claims


def claims(match: HttpMatchRequest) -> list[str]:
    """The names among the headers of a match that ask for claims of a JWT."""
    return sorted(name for name in (*match.headers, *match.without_headers) if claim_path(name))
