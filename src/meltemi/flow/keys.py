"""One order for all keys, so that nothing ever depends on the order in which facts arrived.

Keys of one table are of one type as a rule, and then their own order holds. An index may mix values of several types;
those that cannot be compared are ordered by the name of their type and then by how they print.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

K = TypeVar("K")


def ordered(keys: Iterable[K]) -> list[K]:
    """The keys, sorted; by type and text where they cannot be compared."""
    found, _ = sort(keys)
    return found


def sort(keys: Iterable[K]) -> tuple[list[K], bool]:
    """The keys, sorted, and whether it is their own order (if not, `bisect` must not be used on them)."""
    found: list[Any] = list(keys)
    if len(found) < 2:
        return found, True
    try:
        found.sort()
    except TypeError:
        found.sort(key=_by_text)
        return found, False
    return found, True


def _by_text(key: object) -> tuple[str, str]:
    return (type(key).__name__, repr(key))
