"""How objects are named on the command line: `KIND NAME...`, `KIND,KIND`, `KIND/NAME...`, `all`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from meltemi.cli.failures import USAGE, Failure
from meltemi.cli.kinds import Kinds, Served


class Meant(NamedTuple):
    """A kind and one name of it; an empty name means all of the kind."""

    kind: Served
    name: str = ""


def parse(kinds: Kinds, words: Sequence[str]) -> list[Meant]:
    """What the words of a command line name. Raises Failure for unknown kinds and mixtures of the two notations."""
    if not words:
        raise Failure("no kind was named", "write a kind, such as pods, services or virtualservices", USAGE)
    if any("/" in word for word in words):
        return [_slashed(kinds, word) for word in words]
    first, *names = words
    meant = [kind for name in first.split(",") if name for kind in _called(kinds, name)]
    if not names:
        return [Meant(kind) for kind in meant]
    if len(meant) > 1:
        raise Failure("names are given for several kinds at once", "write KIND/NAME for each object", USAGE)
    return [Meant(meant[0], name) for name in names]


def _called(kinds: Kinds, name: str) -> Sequence[Served]:
    return kinds.in_category(name.lower()) or (kinds.called(name),)


def _slashed(kinds: Kinds, word: str) -> Meant:
    kind, slash, name = word.partition("/")
    if not slash or not kind or not name:
        raise Failure(f"{word!r} is not of the form KIND/NAME", "name every object so, or none", USAGE)
    return Meant(kinds.called(kind), name)
