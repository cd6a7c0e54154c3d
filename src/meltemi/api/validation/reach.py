"""Rules and matches of a VirtualService that nothing reaches, because earlier ones take what they are for.

Rules are gone through in order, and a match is known by how it compares the path and by all else it asks for. One is
never met if an earlier one is the same, or has a prefix of its path and asks for nothing else, or for the same else. That
is not all that can be told of matches, but all of it is found by looking up, however many rules there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from meltemi.api import paths
from meltemi.api.faults import Faults, warning
from meltemi.api.networking.virtual_service import (
    HttpMatchRequest,
    L4MatchAttributes,
    TlsMatchAttributes,
    VirtualServiceSpec,
)

_NOTHING = b"{}"
_NO_CONDITION = ("name", "statPrefix", "uri")


class _Match(msgspec.Struct, frozen=True):
    """A match: how the path is compared (empty: not at all), with what, and all else as JSON."""

    comparison: str
    text: str
    rest: bytes


def unreached(spec: VirtualServiceSpec) -> Faults:
    """Rules and matches that nothing reaches."""
    yield from _unreached("spec.http", [tuple(map(_of_request, rule.match)) for rule in spec.http])
    yield from _unreached("spec.tls", [tuple(map(_of_connection, rule.match)) for rule in spec.tls])
    yield from _unreached("spec.tcp", [tuple(map(_of_connection, rule.match)) for rule in spec.tcp])


def _of_request(match: HttpMatchRequest) -> _Match:
    rest = msgspec.to_builtins(match)
    for name in _NO_CONDITION:
        rest.pop(name, None)
    for comparison in ("exact", "prefix", "regex"):
        text = getattr(match.uri, comparison, None)
        if text is not None:
            folded = text.lower() if match.ignore_uri_case and comparison != "regex" else text
            return _Match(comparison, folded, _json(rest))
    return _Match("", "", _json(rest))


def _of_connection(match: TlsMatchAttributes | L4MatchAttributes) -> _Match:
    return _Match("", "", _json(match))


def _json(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _unreached(path: str, rules: Sequence[tuple[_Match, ...]]) -> Faults:
    taken = _Taken()
    catcher = ""
    for index, matches in enumerate(rules):
        where = paths.item(path, index)
        if catcher:
            yield warning(where, f"no request reaches this rule: {catcher} takes them all", "move it up", "Unreachable")
            continue
        if not matches:
            catcher = where
            continue
        void = {}
        for at, match in enumerate(matches):
            here = paths.item(f"{where}.match", at)
            earlier = taken.by(match)
            if earlier:
                void[here] = earlier
            else:
                taken.add(match, here)
        if len(void) == len(matches):
            first = next(iter(void.values()))
            message = f"nothing reaches this rule: earlier ones take all that it matches (see {first})"
            yield warning(where, message, "remove it, or move it up", "Unreachable")
            continue
        for here, earlier in void.items():
            message = f"nothing reaches this match: {earlier} takes what it is for"
            yield warning(here, message, "remove it, or move it up", "IneffectiveMatch")


class _Taken:
    """The matches that came before, with their paths."""

    def __init__(self) -> None:
        self._paths: dict[_Match, str] = {}
        self._lengths: set[int] = set()

    def add(self, match: _Match, path: str) -> None:
        """Remembers a match that no earlier one makes void."""
        self._paths[match] = path
        if match.comparison == "prefix":
            self._lengths.add(len(match.text))

    def by(self, match: _Match) -> str:
        """The path of an earlier match that takes all that this one is for; empty if there is none."""
        same = self._paths.get(match)
        if same or match.comparison not in ("exact", "prefix"):
            return same or ""
        folded = b"ignoreUriCase" in match.rest
        for length in sorted(self._lengths):
            prefix = match.text[:length]
            for rest in (match.rest,) if folded else (match.rest, _NOTHING):
                path = self._paths.get(_Match("prefix", prefix, rest))
                if path and len(prefix) == length:
                    return path
        return ""
