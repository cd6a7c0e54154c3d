"""Brings a document into the shape of a struct, and tells everything that does not fit.

msgspec decodes fast but stops at the first mistake, and it knows nothing of protobuf's JSON, which Istio's users write:
`snake_case` beside `camelCase`, numbers in quotes, nulls for what is absent. So when decoding fails, this walk goes over
the whole document with the struct's own type information, mends what protobuf's JSON allows and collects a fault with
path and hint for everything else. The types are the only description of what is right; nothing is said twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from meltemi.api import paths
from meltemi.api.faults import Fault
from meltemi.api.meta import ORIGIN

_INTEGER = re.compile(r"-?\d{1,20}")
_PLAIN = re.compile(r"[A-Za-z/][-\w./]*")
_DECIMAL = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


class Misfit:
    """The type of the value that stands for one that did not fit."""


MISFIT: Any = Misfit()


@cache
def type_of(struct: type[msgspec.Struct]) -> inspect.StructType:
    """The description of a struct's type."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info


@cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    """The fields of a struct by their names on the wire, without the origin."""
    return {field.encode_name: field for field in type_of(struct).fields if field.encode_name != ORIGIN}


@cache
def _aliases(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The other names under which protobuf's JSON accepts a field."""
    found = {field.name.rstrip("_"): wire for wire, field in fields_of(struct).items()}
    return {name: wire for name, wire in found.items() if name not in fields_of(struct)}


def core_of(kind: inspect.Type) -> inspect.Type:
    """A type without what is wrapped around it: descriptions, and the alternative of being absent."""
    while True:
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            rest = tuple(t for t in kind.types if not isinstance(t, inspect.NoneType))
            if len(rest) != 1:
                return kind
            kind = rest[0]
        else:
            return kind


def shape(
    data: dict[str, Any], struct: type[msgspec.Struct], *, protobuf: bool = True, secret: bool = False
) -> tuple[Any, list[Fault]]:
    """The document mended, and what does not fit.

    `protobuf`: what protobuf's JSON allows is mended. `secret`: values are not quoted in messages.
    """
    walk = _Walk(protobuf, secret)
    return walk.struct(data, type_of(struct), ""), walk.faults


class _Walk:
    def __init__(self, protobuf: bool, secret: bool) -> None:
        self.faults: list[Fault] = []
        self._protobuf = protobuf
        self._secret = secret

    def _fault(self, path: str, message: str, hint: str = "", code: str = "InvalidValue") -> Any:
        self.faults.append(Fault(path, message, hint, code))
        return MISFIT

    def value(self, value: Any, kind: inspect.Type, path: str) -> Any:
        """A value mended to fit a type, or MISFIT after a fault."""
        extra: dict[str, Any] = {}
        while isinstance(kind, inspect.Metadata):
            extra = {**(kind.extra or {}), **extra}
            kind = kind.type
        match kind:
            case inspect.AnyType():
                return value
            case inspect.UnionType():
                return self._union(value, kind, path)
            case inspect.StructType():
                return self.struct(value, kind, path)
            case inspect.VarTupleType() | inspect.ListType():
                return self._list(value, kind.item_type, path)
            case inspect.DictType():
                return self._dict(value, kind, path)
            case inspect.LiteralType():
                return self._choice(value, kind, path)
            case inspect.BoolType():
                return value if isinstance(value, bool) else self._no_bool(value, path)
            case inspect.IntType():
                return self._integer(value, kind, path, extra)
            case inspect.FloatType():
                return self._decimal(value, kind, path, extra)
            case inspect.StrType():
                return self._text(value, kind, path, extra)
            case inspect.CustomType():
                return self._custom(value, kind.cls, path)
        return value

    def struct(self, value: Any, kind: inspect.StructType, path: str) -> Any:
        """A mapping mended to fit a struct."""
        if not isinstance(value, dict):
            return self._fault(path, f"{self._quoted(value)} is not an object", "write fields under it, indented")
        fields = fields_of(kind.cls)
        aliases = _aliases(kind.cls) if self._protobuf else {}
        result: dict[str, Any] = {}
        for name, inner in value.items():
            wire = name if name in fields else aliases.get(name)
            if wire is None:
                if kind.forbid_unknown_fields:
                    self._unknown(name, fields, path)
                continue
            if inner is None:
                continue
            if wire in result:
                self._fault(
                    paths.below(path, name), f"the field is given twice, as {wire} and {name}", "keep one of the two"
                )
            shaped = self.value(inner, fields[wire].type, paths.below(path, name))
            if shaped is not MISFIT:
                result[wire] = shaped
            elif fields[wire].required:
                result[wire] = inner
        for wire, field in fields.items():
            if field.required and wire not in result:
                self._fault(paths.below(path, wire), f"the field {wire} is missing", f"add {wire}", "RequiredField")
        return result

    def _unknown(self, name: str, fields: Iterable[str], path: str) -> None:
        where = paths.below(path, paths.field_path(name))
        self._fault(where, f"there is no field {name!r} here", _nearest(name, fields), "UnknownField")

    def _list(self, value: Any, kind: inspect.Type, path: str) -> Any:
        if isinstance(value, list | tuple):
            shaped = [
                self._fault(paths.item(path, i), "the item is empty", "remove the dash, or write the item")
                if inner is None
                else self.value(inner, kind, paths.item(path, i))
                for i, inner in enumerate(value)
            ]
            return [inner for inner in shaped if inner is not MISFIT]
        hint = "begin each item with a dash: '- '" if isinstance(value, dict) else f"write [{self._written(value)}]"
        return self._fault(path, f"{self._quoted(value)} is not a list", hint)

    def _dict(self, value: Any, kind: inspect.DictType, path: str) -> Any:
        if not isinstance(value, dict):
            return self._fault(path, f"{self._quoted(value)} is not a map", "write one 'key: value' per line under it")
        whole = isinstance(core_of(kind.key_type), inspect.IntType)
        result: dict[str, Any] = {}
        for name, inner in value.items():
            where = paths.key(path, name)
            if whole and not _INTEGER.fullmatch(str(name)):
                self._fault(where, f"the key {name!r} is not a number", "write a number as the key")
                continue
            if inner is None:
                inner = {} if isinstance(core_of(kind.value_type), inspect.StructType) else None
            if inner is None and not isinstance(kind.value_type, inspect.AnyType):
                self._fault(where, "the value is empty", 'write a value, or "" for an empty text')
                continue
            shaped = self.value(inner, kind.value_type, where)
            if shaped is not MISFIT:
                result[name] = shaped
        return result

    def _union(self, value: Any, kind: inspect.UnionType, path: str) -> Any:
        options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
        if len(options) == 1:
            return self.value(value, options[0], path)
        for option in options:
            trial = _Walk(self._protobuf, self._secret)
            shaped = trial.value(value, option, path) if _is_like(value, option) else MISFIT
            if shaped is not MISFIT and not trial.faults:
                return shaped
        wanted = " or ".join(_called(option) for option in options)
        return self._fault(path, f"{self._quoted(value)} is not {wanted}", f"write {wanted}")

    def _choice(self, value: Any, kind: inspect.LiteralType, path: str) -> Any:
        if value in kind.values and not isinstance(value, bool):
            return value
        choices = ", ".join(str(choice) for choice in kind.values)
        close = get_close_matches(str(value).upper(), [str(choice) for choice in kind.values], n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else f"write one of {choices}"
        return self._fault(path, f"{self._quoted(value)} is not one of {choices}", hint)

    def _no_bool(self, value: Any, path: str) -> Any:
        hint = "write true or false"
        if isinstance(value, str) and value.lower() in ("true", "false"):
            hint = f"remove the quotes: {value.lower()}"
        return self._fault(path, f"{self._quoted(value)} is not true or false", hint)

    def _integer(self, value: Any, kind: inspect.IntType, path: str, extra: dict[str, Any]) -> Any:
        in_quotes = isinstance(value, str) and _INTEGER.fullmatch(value) is not None
        if (in_quotes and self._protobuf) or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            expected = extra.get("expected", "a whole number")
            hint = extra.get("hint", "write a number")
            if in_quotes:
                hint = f"remove the quotes: {self._shown(value)}"
            return self._fault(path, f"{self._quoted(value)} is not {expected}", hint)
        return self._bounded(value, kind, path, extra)

    def _decimal(self, value: Any, kind: inspect.FloatType, path: str, extra: dict[str, Any]) -> Any:
        if self._protobuf and isinstance(value, str) and _DECIMAL.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            expected = extra.get("expected", "a number")
            return self._fault(path, f"{self._quoted(value)} is not {expected}", extra.get("hint", "write a number"))
        return self._bounded(value, kind, path, extra)

    def _bounded(
        self, value: float, kind: inspect.IntType | inspect.FloatType, path: str, extra: dict[str, Any]
    ) -> Any:
        low, high = kind.ge, kind.le
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            message = f"{value} is not {extra['expected']}" if "expected" in extra else f"{value} is out of range"
            limits = f"from {low} to {high}" if low is not None and high is not None else f"{low} or more"
            return self._fault(path, message, extra.get("hint", f"write a number {limits}"), "OutOfRange")
        return value

    def _text(self, value: Any, kind: inspect.StrType, path: str, extra: dict[str, Any]) -> Any:
        expected = extra.get("expected", "a text")
        if not isinstance(value, str):
            hint = extra.get("hint", "")
            if isinstance(value, bool | int | float):
                hint = hint if kind.pattern else f'put it in quotes: "{self._shown(value)}"'
                if expected == "a duration" and not isinstance(value, bool):
                    hint = f"write it with a unit: {value}s"
            return self._fault(path, f"{self._quoted(value)} is not {expected}", hint or "write a text")
        if kind.pattern and not re.search(kind.pattern, value):
            return self._fault(path, f"{self._quoted(value)} is not {expected}", extra.get("hint", ""))
        return value

    def _custom(self, value: Any, cls: Any, path: str) -> Any:
        if not isinstance(value, str):
            return self._fault(path, "the value is not a text", "put it in quotes")
        try:
            cls.from_wire(value)
        except ValueError as error:
            return self._fault(path, str(error), "encode it in base64, or write it under stringData")
        return value

    def _written(self, value: Any) -> str:
        """A value as it can stand in a list of YAML."""
        plain = not isinstance(value, str) or self._secret or _PLAIN.fullmatch(value)
        return self._shown(value) if plain else msgspec.json.encode(value).decode()

    def _shown(self, value: Any) -> str:
        if self._secret:
            return "..."
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return text if len(text) <= 60 else f"{text[:57]}..."

    def _quoted(self, value: Any) -> str:
        if isinstance(value, dict):
            return "an object"
        if isinstance(value, list | tuple):
            return "a list"
        if self._secret:
            return "the value"
        return repr(self._shown(value)) if isinstance(value, str) else self._shown(value)


def _is_like(value: Any, kind: inspect.Type) -> bool:
    """Whether a value is of a type's family, so that a number is not taken for a text or the other way round."""
    families: dict[type[inspect.Type], Callable[[Any], bool]] = {
        inspect.IntType: lambda v: isinstance(v, int) and not isinstance(v, bool),
        inspect.FloatType: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
        inspect.StrType: lambda v: isinstance(v, str),
    }
    return families.get(type(core_of(kind)), lambda v: True)(value)


def _called(kind: inspect.Type) -> str:
    names: dict[type[inspect.Type], str] = {
        inspect.IntType: "a whole number",
        inspect.FloatType: "a number",
        inspect.StrType: "a text",
    }
    return names.get(type(core_of(kind)), "an object")


def _nearest(name: str, fields: Iterable[str]) -> str:
    """A hint for a field that does not exist."""
    known = {field.lower(): field for field in fields if field != ORIGIN}
    close = get_close_matches(name.lower().replace("_", ""), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {known[close[0]]}?"
    return f"remove it; the fields here are {', '.join(sorted(known.values()))}"
