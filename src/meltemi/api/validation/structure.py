"""What the schema of a mesh kind says beyond the types of its fields: choices and limits, read from their tables.

Nearly all resources keep to them, so they are looked through first without any path; only where something is wrong they
are gone over once more, with paths.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from meltemi.api import paths
from meltemi.api.choices import CHOICES
from meltemi.api.faults import Fault, Faults
from meltemi.api.limits import LIMITS, Limit
from meltemi.api.shaping import fields_of
from meltemi.api.validation import terms
from meltemi.api.walking import nested_structs, parts

_SEVERAL = (tuple, dict)


def structure(resource: msgspec.Struct) -> Faults:
    """Fields that exclude each other and are both set, and values that break a limit."""
    if _is_broken(resource):
        for path, part in parts(resource):
            yield from _conflicts(path, part)
            yield from _excesses(path, part)


def _is_broken(value: Any) -> bool:
    """Whether anything within a value breaks a choice or a limit."""
    if isinstance(value, tuple):
        return any(map(_is_broken, value))
    if isinstance(value, dict):
        return any(map(_is_broken, value.values()))
    struct: type[msgspec.Struct] = type(value)
    if any(True for _ in _conflicts("", value)) or any(True for _ in _excesses("", value)):
        return True
    return any(_is_broken(inner) for name in _ruled_fields(struct) if (inner := getattr(value, name)))


@cache
def _ruled_fields(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a struct below which there is a choice or a limit."""
    return tuple(name for name, inner in nested_structs(struct) if _is_ruled(inner))


@cache
def _is_ruled(struct: type[msgspec.Struct]) -> bool:
    return struct in CHOICES or struct in LIMITS or bool(_ruled_fields(struct))


def _conflicts(path: str, part: msgspec.Struct) -> Faults:
    for group in CHOICES.get(type(part), ()):
        given = [name for name in group if getattr(part, name) is not None]
        if len(given) > 1:
            wires = {field.name: wire for wire, field in fields_of(type(part)).items()}
            first, *others = (wires[name] for name in given)
            for other in others:
                yield Fault(
                    paths.below(path, other),
                    f"{first} and {other} exclude each other",
                    "keep one of the two",
                    "Conflict",
                )


@cache
def _limited(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Any, Limit], ...]:
    """The limited fields of a struct: attribute, name on the wire, what it holds if it is left out, and the limit."""
    limits = LIMITS.get(struct, {})
    return tuple(
        (f.name, wire, _absent(f), limits[f.name]) for wire, f in fields_of(struct).items() if f.name in limits
    )


def _absent(field: msgspec.inspect.Field) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def _excesses(path: str, part: msgspec.Struct) -> Faults:
    for name, wire, absent, limit in _limited(type(part)):
        value = getattr(part, name)
        if value is not None and value != absent:
            yield from _checked(paths.below(path, wire), value, limit)


def _checked(path: str, value: Any, limit: Limit) -> Faults:
    if isinstance(value, str):
        yield from _text(path, value, limit)
    elif isinstance(value, _SEVERAL):
        yield from _several(path, value, limit)
    elif limit.minimum is not None and value < limit.minimum:
        yield Fault(path, f"{value} is too small", f"write {limit.minimum} or more", "OutOfRange")


def _text(path: str, value: str, limit: Limit) -> Faults:
    if limit.min_length and not value:
        yield Fault(path, "the value is empty", "write a value", "RequiredField")
    elif limit.max_length is not None and len(value) > limit.max_length:
        yield Fault(path, f"the value has {len(value)} characters", f"write at most {limit.max_length}", "OutOfRange")
    elif limit.pattern and not re.search(limit.pattern, value):
        yield Fault(path, f"{value!r} cannot stand here", limit.wanted)
    if limit.shortest:
        yield from terms.positive(path, value, zero=limit.shortest != "1ms")


def _several(path: str, values: tuple[Any, ...] | dict[Any, Any], limit: Limit) -> Faults:
    most = limit.max_items or limit.max_properties
    if (limit.min_items or limit.min_properties) and not values:
        yield Fault(path, "there is none", "add one", "RequiredField")
    elif most is not None and len(values) > most:
        yield Fault(path, f"{len(values)} are too many", f"keep at most {most}", "OutOfRange")
    if limit.each is not None:
        entries = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in entries:
            where = paths.key(path, str(key)) if isinstance(values, dict) else paths.item(path, key)
            yield from _checked(where, value, limit.each)
