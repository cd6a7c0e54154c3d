"""What is the same for patches of every kind: their messages, which are for whom, and how they change a list."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.message import Message

from meltemi.model.patches import Kind, Patch, Patches, Side
from meltemi.model.routes import Source
from meltemi.protos.patches import Unreadable, read

M = TypeVar("M", bound=Message)

ByKind = Mapping[Kind, Sequence[Patch]]
"""Patches of one side of a proxy, in order."""

Used = dict[Source, None]
"""The patches that have changed something."""


def of_side(patches: Patches, side: Side) -> dict[Kind, list[Patch]]:
    """The patches that are for one side, by what they change."""
    found: dict[Kind, list[Patch]] = {}
    for patch in patches.patches:
        if patch.side in (Side.ANY, side):
            found.setdefault(patch.kind, []).append(patch)
    return found


def message_of(patch: Patch) -> Message | None:
    """The message of a patch, not to be changed. None if it is none of its kind, which validation has told."""
    return _read(patch.kind, patch.value)


@lru_cache(maxsize=1024)
def _read(kind: Kind, value: bytes) -> Message | None:
    try:
        return read(kind, json.loads(value))[0]
    except Unreadable:
        return None


def edit(
    items: Any,  # a repeated field of messages
    patch: Patch,
    fits: Callable[[Any], bool] | None,
) -> bool:
    """Add to a list, put into it beside the first item that fits, replace that, or remove all; whether that was possible.

    Without anything to fit, before is at the beginning and after at the end, and nothing is replaced or removed.
    """
    found = next((index for index, item in enumerate(items) if fits is not None and fits(item)), None)
    if patch.operation == "REMOVE":
        kept = [item for item in items if fits is None or not fits(item)]
        return found is not None and _fill(items, kept)
    value = message_of(patch)
    place = _place(patch.operation, len(items), found, anywhere=fits is None)
    if value is None or place is None:
        return False
    rest = place + 1 if patch.operation == "REPLACE" else place
    return _fill(items, [*items[:place], value, *items[rest:]])


def _place(operation: str, count: int, found: int | None, *, anywhere: bool) -> int | None:
    """Where in a list of `count` the new item goes."""
    if operation == "ADD":
        return count
    if operation == "INSERT_FIRST":
        return 0
    if operation == "INSERT_BEFORE":
        return 0 if anywhere else found
    if operation == "INSERT_AFTER":
        return count if anywhere else None if found is None else found + 1
    return found if operation == "REPLACE" else None


def _fill(items: Any, wanted: Sequence[Message]) -> bool:
    copies = [_copy(each) for each in wanted]
    del items[:]
    items.extend(copies)
    return True


def _copy(message: M) -> M:
    made = type(message)()
    made.CopyFrom(message)
    return made
