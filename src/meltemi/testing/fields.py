"""Which tests set which fields of the mesh's kinds: read from the objects that stand in the tests, without running them.

Objects are found in the worlds of the goldens and in the texts of Python tests: whole ones, which say their kind, and specs
that stand beside the name of a kind in a call (`policies.write("Gateway", "front", "...")`). What only proves that an
object is refused or understood (`tests/unit/api`, ...) shows no effect, and does not count.

A field is known by the struct that it belongs to, not by its path: `exact` of a text match is one field wherever texts are
matched.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import inspect

from meltemi.api.meta import Resource
from meltemi.api.registry import KINDS
from meltemi.api.shaping import core_of, fields_of
from meltemi.api.support import ACTED_ON, Node, acted_on

PLACES = ("goldens", "e2e", "unit/resolve", "unit/envoy", "unit/inject", "unit/agent", "unit/local")
"""The directories of tests that show effects, the most telling first."""

_KINDS = {kind.kind: kind.struct for kind in KINDS if kind.mesh}
_WORD = "x"


class Field(msgspec.Struct, frozen=True, order=True):
    """A field of a kind: `path` leads to where its struct stands first, `struct` is the struct's name."""

    path: str
    struct: str
    name: str


def fields(kind: type[Resource]) -> tuple[Field, ...]:
    """The fields of a kind that are acted on, those of a struct once, in the order in which they stand."""
    found: dict[tuple[str, str], Field] = {}
    for path, struct, name in _below(fields_of(kind)["spec"].type, acted_on(kind)["spec"], "spec"):
        found.setdefault((struct.__name__, name), Field(path, struct.__name__, name))
    return tuple(found.values())


def _below(kind: inspect.Type, tree: Node, path: str) -> Iterator[tuple[str, type, str]]:
    struct = struct_of(kind)
    if struct is None:
        return
    for wire, field in fields_of(struct).items():
        if not tree or wire in tree:
            yield path, struct, wire
            yield from _below(field.type, tree.get(wire, Node()), f"{path}.{wire}")


def struct_of(kind: inspect.Type) -> type | None:
    """The struct that a field holds, be it one, a list, or by name."""
    kind = core_of(kind)
    if isinstance(kind, inspect.VarTupleType):
        return struct_of(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return struct_of(kind.value_type)
    return kind.cls if isinstance(kind, inspect.StructType) else None


def tests_of(root: Path) -> dict[type[Resource], dict[tuple[str, str], tuple[str, ...]]]:
    """By kind, and by struct and field, the tests below the directory `tests` that set the field."""
    found: dict[type[Resource], dict[tuple[str, str], dict[str, None]]] = {kind: defaultdict(dict) for kind in ACTED_ON}
    for place in PLACES:
        for file in sorted((root / place).rglob("*")):
            if file.suffix not in (".py", ".yaml") or file.name.endswith(".out.yaml"):
                continue
            name = file.relative_to(root).as_posix().removesuffix(".py").removesuffix(".in.yaml")
            for kind, spec in _objects(file):
                if kind in found:
                    for key in _set(fields_of(kind)["spec"].type, spec):
                        found[kind][key][name] = None
    return {kind: {key: tuple(names) for key, names in keys.items()} for kind, keys in found.items()}


def _set(kind: inspect.Type, value: Any) -> Iterator[tuple[str, str]]:
    """The fields that are set in a value, and below it."""
    kind = core_of(kind)
    if isinstance(kind, inspect.VarTupleType) and isinstance(value, list):
        for inner in value:
            yield from _set(kind.item_type, inner)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for inner in value.values():
            yield from _set(kind.value_type, inner)
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        known = fields_of(kind.cls)
        for wire, inner in value.items():
            if wire in known:
                yield kind.cls.__name__, wire
                yield from _set(known[wire].type, inner)


# === objects in files ===


def _objects(file: Path) -> Iterator[tuple[type[Resource], Any]]:
    if file.suffix == ".yaml":
        yield from _whole(_load(file.read_text()))
        return
    for node in ast.walk(ast.parse(file.read_text())):
        text = _text(node)
        if text is not None and "kind:" in text:
            yield from _whole(_load(text))
        elif isinstance(node, ast.Dict):
            yield from _whole([_literal(node)])
        elif isinstance(node, ast.Call):
            yield from _named(node)


def _whole(documents: list[Any]) -> Iterator[tuple[type[Resource], Any]]:
    """The objects that say their kinds."""
    for document in documents:
        kind = _KINDS.get(str(document.get("kind", ""))) if isinstance(document, dict) else None
        if kind is not None:
            yield kind, document.get("spec")


def _named(call: ast.Call) -> Iterator[tuple[type[Resource], Any]]:
    """The specs among the arguments of a call that also names a kind."""
    arguments = [_literal(each) for each in (*call.args, *(each.value for each in call.keywords))]
    kinds = [_KINDS[each] for each in arguments if isinstance(each, str) and each in _KINDS]
    for kind in kinds[:1]:
        for argument in arguments:
            for document in _load(argument) if isinstance(argument, str) else [argument]:
                if isinstance(document, dict) and "kind" not in document:
                    yield kind, document.get("spec", document)


def _literal(node: ast.AST) -> Any:
    """The value that an expression stands for; what is made at run time counts as a word."""
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List):
        return [_literal(each) for each in node.elts]
    if isinstance(node, ast.Constant):
        return node.value
    return _text(node) or _WORD


def _text(node: ast.AST) -> str | None:
    """The text that an expression stands for; what is put into it at run time counts as a word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or _WORD for part in node.values)
    return None


def _load(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError:
        return []
