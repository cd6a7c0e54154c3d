"""Structural OpenAPI v3 schemas of the kinds, made from their structs: for CRDs and for the local API's own OpenAPI.

Structural, as Kubernetes asks of CRDs: no references, no unions with null, every field typed. What the structs cannot
say is added from `choices` and `limits`. Mesh kinds are closed; Kubernetes' own keep the fields that are not modelled.
"""

from __future__ import annotations

from functools import cache
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import inspect

from meltemi.api.choices import CHOICES
from meltemi.api.limits import LIMITS, RULES, CelRule, Limit
from meltemi.api.meta import Part
from meltemi.api.registry import Kind
from meltemi.api.shaping import core_of, fields_of

Schema = dict[str, Any]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_CEL = "x-kubernetes-validations"
_SAID_OTHERWISE = ("wanted", "shortest", "each", "rules")


@cache
def _struct(struct: type[msgspec.Struct]) -> Schema:
    limits = LIMITS.get(struct, {})
    properties = {
        wire: _limited(_described(field.type), limits[field.name]) if field.name in limits else _described(field.type)
        for wire, field in fields_of(struct).items()
    }
    schema: Schema = {"type": "object", "description": _first_paragraph(struct), "properties": properties}
    required = [wire for wire, field in fields_of(struct).items() if field.required]
    if required:
        schema["required"] = required
    if not issubclass(struct, Part):
        schema[_PRESERVE] = True
    choices = [_at_most_one(struct, group) for group in CHOICES.get(struct, ())]
    if len(choices) == 1:
        schema["oneOf"] = choices[0]
    elif choices:
        schema["allOf"] = [{"oneOf": choice} for choice in choices]
    return schema | _ruled(RULES.get(struct, ()))


def _limited(schema: Schema, limit: Limit) -> Schema:
    """The schema of a field with its limit."""
    bounds = {name: bound for name, bound in msgspec.to_builtins(limit).items() if name not in _SAID_OTHERWISE}
    schema = schema | bounds | _ruled(limit.rules)
    if limit.each is not None:
        name = "items" if "items" in schema else "additionalProperties"
        schema[name] = _limited(schema[name], limit.each)
    return schema


def _ruled(rules: tuple[CelRule, ...]) -> Schema:
    return {_CEL: msgspec.to_builtins(list(rules))} if rules else {}


def schema_of(kind: Kind) -> Schema:
    """The schema of a kind's objects. The value is shared: not to be amended."""
    return _resource(kind)


@cache
def _resource(kind: Kind) -> Schema:
    fields = fields_of(kind.struct)
    properties = {
        wire: _described(field.type) for wire, field in fields.items() if wire not in ("apiVersion", "kind", "metadata")
    }
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **{wire: properties[wire] for wire in sorted(properties)},
    }
    if kind.mesh:
        properties["status"] = {"type": "object", _PRESERVE: True}
    schema: Schema = {"type": "object", "description": _first_paragraph(kind.struct), "properties": properties}
    required = [wire for wire, field in fields.items() if field.required]
    if required:
        schema["required"] = required
    if not kind.mesh:
        schema[_PRESERVE] = True
    return schema


def crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a mesh kind (apiextensions.k8s.io/v1)."""
    names: Schema = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.full_name},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == kind.versions[0],
                    "schema": {"openAPIV3Schema": schema_of(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [*COLUMNS.get(kind.kind, ()), _AGE],
                }
                for version in kind.versions
            ],
        },
    }


def _described(kind: inspect.Type) -> Schema:
    """The schema of a type; descriptions that wrap it give bounds only through the type itself."""
    kind = core_of(kind)
    match kind:
        case inspect.StructType():
            return _struct(kind.cls)
        case inspect.VarTupleType() | inspect.ListType():
            return {"type": "array", "items": _described(kind.item_type)}
        case inspect.DictType():
            if isinstance(core_of(kind.value_type), inspect.AnyType):
                return {"type": "object", _PRESERVE: True}
            return {"type": "object", "additionalProperties": _described(kind.value_type)}
        case inspect.LiteralType():
            return {"type": "string", "enum": [str(value) for value in kind.values]}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer", "format": _format(kind), **_bounds(kind)}
        case inspect.FloatType():
            return {"type": "number", "format": "double", **_bounds(kind)}
        case inspect.UnionType():
            return {_INT_OR_STRING: True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
        case inspect.BytesType() | inspect.CustomType():
            return {"type": "string", "format": "byte"}
        case inspect.StrType():
            return {"type": "string"} | ({"pattern": kind.pattern} if kind.pattern else {})
    return {_PRESERVE: True}


def _format(kind: inspect.IntType) -> str:
    return "int32" if kind.le is not None and kind.le <= 2**31 - 1 else "int64"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> Schema:
    return {name: bound for name, bound in (("minimum", kind.ge), ("maximum", kind.le)) if bound is not None}


def _at_most_one(struct: type[msgspec.Struct], group: tuple[str, ...]) -> list[Schema]:
    """Alternatives of which exactly one holds: none of the fields is there, or one of them alone."""
    wires = {field.name: wire for wire, field in fields_of(struct).items()}
    present = [{"required": [wires[name]]} for name in group]
    return [{"not": {"anyOf": present}}, *present]


def _first_paragraph(struct: type) -> str:
    return cleandoc(struct.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _column(name: str, path: str, kind: str = "string") -> Schema:
    return {"name": name, "type": kind, "jsonPath": path}


_AGE = _column("Age", ".metadata.creationTimestamp", "date")

COLUMNS: dict[str, tuple[Schema, ...]] = {
    "VirtualService": (_column("Gateways", ".spec.gateways"), _column("Hosts", ".spec.hosts")),
    "DestinationRule": (_column("Host", ".spec.host"),),
    "ServiceEntry": (
        _column("Hosts", ".spec.hosts"),
        _column("Location", ".spec.location"),
        _column("Resolution", ".spec.resolution"),
    ),
    "WorkloadEntry": (_column("Address", ".spec.address"),),
    "PeerAuthentication": (_column("Mode", ".spec.mtls.mode"),),
    "AuthorizationPolicy": (_column("Action", ".spec.action"),),
}
"""What `kubectl get` shows of a kind besides name and age."""
