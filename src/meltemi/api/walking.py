"""Going over the parts of a resource, with their paths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from meltemi.api import paths
from meltemi.api.shaping import core_of, fields_of


def parts(value: msgspec.Struct, path: str = "") -> Iterator[tuple[str, msgspec.Struct]]:
    """A struct and all structs within it, outer ones first, each with its path on the wire."""
    yield path, value
    for name, wire in nesting_fields(type(value)):
        inner = getattr(value, name)
        if inner:
            yield from _within(inner, paths.below(path, wire))


def _within(value: Any, path: str) -> Iterator[tuple[str, msgspec.Struct]]:
    if isinstance(value, msgspec.Struct):
        yield from parts(value, path)
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from parts(inner, paths.item(path, index))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from parts(inner, paths.key(path, str(key)))


@cache
def nesting_fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """The fields of a struct that hold structs, alone, in a list or in a map: attribute and wire name."""
    return tuple((field.name, wire) for wire, field in fields_of(struct).items() if _struct_in(field.type))


@cache
def nested_structs(struct: type[msgspec.Struct]) -> tuple[tuple[str, type[msgspec.Struct]], ...]:
    """The attributes of a struct that hold structs, each with the structs' type."""
    found = ((field.name, _struct_in(field.type)) for field in fields_of(struct).values())
    return tuple((name, inner) for name, inner in found if inner is not None)


def _struct_in(kind: inspect.Type) -> type[msgspec.Struct] | None:
    kind = core_of(kind)
    if isinstance(kind, inspect.VarTupleType):
        return _struct_in(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return _struct_in(kind.value_type)
    return kind.cls if isinstance(kind, inspect.StructType) else None
