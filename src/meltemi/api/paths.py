"""Paths of fields in Kubernetes' notation: `spec.http[0].route[1].destination.host`, `metadata.labels[app.kubernetes.io/name]`."""

from __future__ import annotations

import re

_SEGMENT = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_PLAIN = re.compile(r"[A-Za-z0-9_$-]+")


def below(path: str, name: str) -> str:
    """The path of a field of the object at `path`."""
    return f"{path}.{name}" if path else name


def item(path: str, index: int) -> str:
    """The path of an item of the list at `path`."""
    return f"{path}[{index}]"


def key(path: str, name: str) -> str:
    """The path of an entry of the map at `path`, whose keys the user chose."""
    return f"{path}[{name}]"


def split(path: str) -> tuple[str | int, ...]:
    """The names and indexes that a path consists of."""
    parts: list[str | int] = []
    for bracketed, name in _SEGMENT.findall(path):
        parts.append(name or (int(bracketed) if bracketed.isdigit() else bracketed))
    return tuple(parts)


def without_indexes(path: str) -> str:
    """The path of the field for all items alike: `spec.http.route`."""
    return ".".join(str(part) for part in split(path) if isinstance(part, str))


def field_path(name: str) -> str:
    """A key as a path of its own: as it is if it looks like a field, in brackets otherwise."""
    return name if _PLAIN.fullmatch(name) else f"[{name}]"
