"""Regular expressions as Envoy takes them: by RE2 itself, so that nothing is read differently here."""

from __future__ import annotations

import functools
import re
from typing import Any

import re2

_REFERENCE = re.compile(r"\\([0-9\\])")


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text matches. Raises re2.error for what RE2 does not take (validation refuses it)."""
    return _compiled(pattern).fullmatch(text) is not None


def replaced(pattern: str, substitution: str, text: str) -> str:
    r"""Every match replaced, as RE2's `GlobalReplace` does it: `\0` to `\9` stand for groups, `\\` for a backslash.

    After a match, an empty one right at its end does not count.
    """
    pieces: list[str] = []
    end, seen = 0, False
    for match in _compiled(pattern).finditer(text):
        if seen and match.start() == match.end() == end:
            continue
        pieces += [text[end : match.start()], _filled(substitution, (match.group(0), *match.groups("")))]
        end, seen = match.end(), True
    return "".join((*pieces, text[end:]))


def _filled(substitution: str, groups: tuple[str, ...]) -> str:
    def value(reference: re.Match[str]) -> str:
        if reference[1] == "\\":
            return reference[1]
        number = int(reference[1])
        return groups[number] if number < len(groups) else ""

    return _REFERENCE.sub(value, substitution)
