"""Whatever the structs allow survives the way to the wire and back, and no check stumbles over it."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from meltemi.api.decoding import decode, encode
from meltemi.api.registry import KINDS, Kind
from meltemi.api.schema import schema_of
from meltemi.api.shaping import core_of, fields_of, shape
from meltemi.api.support import unsupported
from meltemi.api.validation import validate
from meltemi.api.validation.structure import structure

TEXTS = st.sampled_from(
    ["", "a", "cart", "*", "*.a.b", "10.0.0.0/8", "1.2.3.4:80", "{*}", "(", "x/y", "unix:///s", "Ä"]
)
DURATIONS = st.sampled_from(["0s", "1s", "1h30m", "250ms", "1us", "-1s", "0"])


def values(kind: inspect.Type, depth: int) -> st.SearchStrategy[Any]:
    """Wire forms of a type. Below some depth structs are left out where they can be."""
    if isinstance(kind, inspect.Metadata):
        return values(kind.type, depth)
    match core_of(kind):
        case inspect.StructType() as struct:
            return documents(struct.cls, depth - 1)
        case inspect.VarTupleType() as several:
            return st.lists(values(several.item_type, depth), max_size=2)
        case inspect.DictType() as mapping:
            whole = isinstance(core_of(mapping.key_type), inspect.IntType)
            keys = st.sampled_from(["1", "80", "70000"]) if whole else st.sampled_from(["a", "b.c/d", "x y"])
            return st.dictionaries(keys, values(mapping.value_type, depth), max_size=2)
        case inspect.LiteralType() as choice:
            return st.sampled_from(choice.values)
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType() as number:
            low, high = int(number.ge or 0), int(number.le or 10**6)
            return st.sampled_from(sorted({low, low + 1, (low + high) // 2, high}))
        case inspect.FloatType() as number:
            return st.sampled_from([float(number.ge or 0), float(number.le or 1e6), 1.5])
        case inspect.StrType() as text:
            return DURATIONS if text.pattern else TEXTS
        case inspect.UnionType():
            return st.sampled_from([1, 8080, "http"])
        case inspect.BytesType() | inspect.CustomType():
            return st.sampled_from(["", "aGk="])
    return st.sampled_from([1, "a", {}])


@st.composite
def documents(draw: st.DrawFn, struct: type[msgspec.Struct], depth: int = 6) -> dict[str, Any]:
    """Wire forms of a struct."""
    result: dict[str, Any] = {}
    for wire, field in fields_of(struct).items():
        nested = isinstance(core_of(field.type), inspect.StructType | inspect.VarTupleType | inspect.DictType)
        wanted = field.required or (depth > 0 and draw(st.integers(0, 3 if nested else 5)) == 0)
        if wanted:
            result[wire] = draw(values(field.type, depth))
    return result


def wire_form(draw: st.DataObject, kind: Kind) -> dict[str, Any]:
    head = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "a", "namespace": "b"}}
    body = draw.draw(documents(kind.struct))
    return {**body, **head}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_what_decodes_encodes_to_the_same_and_is_checked_without_a_stumble(kind: Kind, draw: st.DataObject) -> None:
    data = wire_form(draw, kind)
    decoded = decode(data)
    assert decoded.resource is not None, decoded.problems
    assert shape(data, kind.struct)[1] == []
    again = decode(encode(decoded.resource))
    assert again.resource == decoded.resource
    assert all(problem.path for problem in validate(decoded.resource))
    assert all(problem.path for problem in unsupported(decoded.resource))
    if not list(structure(decoded.resource)):
        assert jsonschema_rs.validator_for(schema_of(kind)).is_valid(encode(decoded.resource))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.mesh], ids=lambda kind: kind.kind)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_snake_case_and_numbers_in_quotes_mean_the_same(kind: Kind, draw: st.DataObject) -> None:
    data = wire_form(draw, kind)
    written = {**data, "spec": respelt(data.get("spec", {}), inspect.type_info(kind.struct), "spec")}
    assert decode(written).resource == decode({"spec": {}, **data}).resource


def respelt(value: Any, kind: inspect.Type, name: str) -> Any:
    """A value as someone writes it who has protobuf in mind."""
    kind = core_of(kind)
    if name:
        assert isinstance(kind, inspect.StructType)
        return respelt(value, fields_of(kind.cls)[name].type, "")
    if isinstance(kind, inspect.StructType):
        fields = fields_of(kind.cls)
        return {fields[wire].name.rstrip("_"): respelt(inner, fields[wire].type, "") for wire, inner in value.items()}
    if isinstance(kind, inspect.VarTupleType):
        return [respelt(inner, kind.item_type, "") for inner in value]
    if isinstance(kind, inspect.DictType) and not isinstance(core_of(kind.value_type), inspect.AnyType):
        return {key: respelt(inner, kind.value_type, "") for key, inner in value.items()}
    if isinstance(kind, inspect.IntType):
        return str(value)
    return value
