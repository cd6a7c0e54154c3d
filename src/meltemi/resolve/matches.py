"""What a request must look like: VirtualService HTTP matches, read into the model's."""

from __future__ import annotations

from meltemi.api.networking.virtual_service import HttpMatchRequest, StringMatch
from meltemi.model.routes import HttpMatch, MatchKind, NamedMatch, TextMatch

CLAIMS = "@request.auth.claims"
"""What the names of matches on JWT claims begin with. They are no headers."""


def http_match(match: HttpMatchRequest) -> HttpMatch:
    """The match without what depends on the client, the gateway and the port: those are decided beforehand."""
    pseudo = ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme))
    headers = [NamedMatch(name, text_match(wanted)) for name, wanted in pseudo if wanted is not None]
    headers += [NamedMatch(name, text_match(wanted)) for name, wanted in sorted(match.headers.items())]
    headers += [NamedMatch(name, text_match(wanted), True) for name, wanted in sorted(match.without_headers.items())]
    return HttpMatch(
        path=None if match.uri is None else text_match(match.uri, match.ignore_uri_case),
        headers=tuple(headers),
        query=tuple(NamedMatch(name, text_match(wanted)) for name, wanted in sorted(match.query_params.items())),
    )


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
    return everywhere and not match.headers and not match.query and not match.grpc


def claims(match: HttpMatchRequest) -> list[str]:
    """The names among the headers of a match that ask for claims of a JWT."""
    return sorted(name for name in (*match.headers, *match.without_headers) if name.startswith(CLAIMS))
