"""The OpenAPI v3 documents that kubectl reads: which fields a kind has (`explain`) and which parameters writes take.

One document per group and version, made of the structural schemas of `meltemi.api` where there is one. Kinds without
a schema are described as objects whose fields are kept, so kubectl neither refuses nor strips anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from meltemi.kube.resources import Obj
from meltemi.local.apiserver.catalogue import Catalogue, Kind

SchemaOf = Callable[[Kind], Obj | None]
"""The structural schema (OpenAPI v3) of a kind's objects, or None."""

_PATCH_TYPES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_OBJECT_META: Obj = {
    "description": "Standard object's metadata.",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "Unique within a namespace. Cannot be updated."},
        "namespace": {"type": "string", "description": "The space within which the name must be unique."},
        "labels": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Key value pairs by which objects are selected.",
        },
        "annotations": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Key value pairs for tools; they are not selected by.",
        },
        "generateName": {"type": "string", "description": "A prefix for a name that the server makes up."},
        "finalizers": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Must be empty before the object is removed.",
        },
        "uid": {"type": "string", "description": "Unique in time and space, set by the server."},
        "resourceVersion": {"type": "string", "description": "Changes with every change of the object."},
        "generation": {"type": "integer", "description": "Counts the changes of the desired state."},
        "creationTimestamp": {"type": "string", "description": "When the object was created (RFC 3339)."},
        "deletionTimestamp": {"type": "string", "description": "When the object is to go (RFC 3339)."},
    },
}


class OpenApi:
    """The documents of a server, each made once."""

    def __init__(self, catalogue: Catalogue, schema_of: SchemaOf) -> None:
        self._catalogue = catalogue
        self._schema_of = schema_of
        self._made: dict[tuple[str, str], bytes] = {}

    def index(self) -> Obj:
        """`/openapi/v3`: where each document is; the hash in its address changes with its content."""
        found = {}
        for group, versions in self._catalogue.groups().items():
            for version in versions:
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                digest = hashlib.sha256(self.document(group, version)).hexdigest()[:32].upper()
                found[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": found}

    def document(self, group: str, version: str) -> bytes:
        """`/openapi/v3/apis/<group>/<version>`. Raises KeyError if there is no such version."""
        if version not in self._catalogue.groups()[group]:
            raise KeyError(version)
        if (group, version) not in self._made:
            self._made[group, version] = msgspec.json.encode(self._document(group, version))
        return self._made[group, version]

    def _document(self, group: str, version: str) -> Obj:
        schemas: Obj = {"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": _OBJECT_META}
        served: Obj = {}
        for kind in self._catalogue.all:
            if kind.group == group and version in kind.versions:
                name = _schema_name(kind, version)
                schemas[name] = _schema(kind, version, self._schema_of(kind))
                served |= _paths(kind, version, name)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Meltemi", "version": "v1"},
            "paths": served,
            "components": {"schemas": schemas},
        }


def _schema_name(kind: Kind, version: str) -> str:
    reverse = ".".join(reversed(kind.group.split("."))) if "." in kind.group else f"io.k8s.api.{kind.group or 'core'}"
    return f"{reverse}.{version}.{kind.kind}"


def _schema(kind: Kind, version: str, given: Obj | None) -> Obj:
    properties: Obj = {
        "apiVersion": {"type": "string", "description": "The versioned schema of this representation of an object."},
        "kind": {"type": "string", "description": "The REST resource that this object represents."},
    }
    inner = dict((given or {}).get("properties") or {})
    properties |= {name: value for name, value in inner.items() if name not in ("apiVersion", "kind", "metadata")}
    reference = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    properties["metadata"] = {"allOf": [reference], "default": {}, "description": "Standard object's metadata."}
    schema: Obj = {
        "type": "object",
        "properties": properties,
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": version, "kind": kind.kind}],
    }
    if description := (given or {}).get("description"):
        schema["description"] = description
    if given is None:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _paths(kind: Kind, version: str, schema: str) -> Obj:
    base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    collection = f"{base}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{base}/{kind.plural}"
    body = {"schema": {"$ref": f"#/components/schemas/{schema}"}}

    def operation(action: str, content_types: tuple[str, ...]) -> Obj:
        found: Obj = {
            "operationId": f"{action}{kind.kind}",
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": version, "kind": kind.kind},
            "responses": {"200": {"description": "OK", "content": {"application/json": body}}},
        }
        if content_types:
            found["requestBody"] = {"content": dict.fromkeys(content_types, body)}
            found["parameters"] = [_query("dryRun"), _query("fieldManager"), _query("fieldValidation")]
        return found

    one: dict[str, Any] = {
        "get": operation("get", ()),
        "put": operation("put", ("application/json",)),
        "patch": operation("patch", _PATCH_TYPES),
        "delete": operation("delete", ()),
    }
    many = {"get": operation("list", ()), "post": operation("post", ("application/json",))}
    return {collection: many} if kind.virtual else {collection: many, f"{collection}/{{name}}": one}


def _query(name: str) -> Obj:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
