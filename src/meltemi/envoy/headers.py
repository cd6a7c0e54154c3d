"""What is done to headers on the way."""

from __future__ import annotations

from collections.abc import Iterable

from meltemi.model.routes import HeaderChange
from meltemi.protos.envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption

_AUTHORITY = frozenset({":authority", "host"})


def additions(change: HeaderChange) -> list[HeaderValueOption]:
    """Headers set (in place of what was there) and added (beside it). Not the authority: see `authority`."""
    return [
        *_options(change.set, HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        *_options(change.add, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD),
    ]


def authority(*changes: HeaderChange) -> str:
    """The new authority of a request, if one is set: Envoy rewrites it by other means than headers. The last wins."""
    found = ""
    for change in changes:
        for name, value in (*change.set, *change.add):
            if name.lower() in _AUTHORITY:
                found = value
    return found


def _options(
    headers: Iterable[tuple[str, str]], action: HeaderValueOption.HeaderAppendAction.ValueType
) -> Iterable[HeaderValueOption]:
    for name, value in headers:
        if name.lower() not in _AUTHORITY:
            yield HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=action)
