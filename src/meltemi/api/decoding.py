"""Documents into typed resources and back.

The fast path is one msgspec conversion. Only if that fails does `shaping` walk the document: to mend what protobuf's
JSON allows, or to tell everything that is wrong with it at once, each with file, line, path, what is wrong and the fix.

Invariant: a resource comes back whole or not at all, and never without its problems having been told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Protocol

import msgspec

from meltemi.api import paths, registry
from meltemi.api.core.config import ConfigMap, Secret
from meltemi.api.faults import Fault, problem_of
from meltemi.api.mesh.config import MeshConfig, MeshConfigSpec
from meltemi.api.meta import ORIGIN, ObjectMeta, Resource
from meltemi.api.registry import Kind
from meltemi.api.shaping import fields_of, shape
from meltemi.api.yaml import Document, load
from meltemi.base.problems import Problem
from meltemi.base.refs import Origin, Ref

DEFAULT_NAMESPACE = "default"
NOWHERE = Origin()
MESH_CONFIG_NAME = "default"
"""The name of the MeshConfig that a bare `mesh.yaml` or the ConfigMap `istio` stands for."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_METADATA = frozenset(fields_of(ObjectMeta)) | {"managedFields", "selfLink"}


class Places(Protocol):
    """Whoever knows the line of a path."""

    def line(self, path: str = "") -> int:
        """The line, counted from 1, of the field at a path."""


class Decoded(msgspec.Struct, frozen=True):
    """A resource, if the document holds one, and what is wrong."""

    resource: Resource | None
    problems: tuple[Problem, ...] = ()


def decode(
    document: dict[str, Any],
    origin: Origin = NOWHERE,
    lines: Places | None = None,
    namespace: str = DEFAULT_NAMESPACE,
) -> Decoded:
    """The resource of a document. `namespace` holds for objects that name none and whose kind lives in one.

    A bare mesh configuration (no apiVersion and no kind) becomes a MeshConfig.
    """
    if _is_bare_mesh_config(document):
        return _decode_bare_mesh_config(document, origin, lines)
    kind = registry.find(str(document.get("apiVersion", "")), str(document.get("kind", "")))
    if kind is None:
        return Decoded(None, _problems(_unknown_kind(document), document, origin, lines))
    metadata = document.get("metadata")
    faults = list(_metadata_faults(metadata))
    if isinstance(metadata, dict) and kind.namespaced and not metadata.get("namespace"):
        document = {**document, "metadata": {**metadata, "namespace": namespace}}
    if not faults and ORIGIN not in document:
        try:
            return Decoded(_convert(document, kind, origin))
        except msgspec.ValidationError:
            pass  # told or mended below
    shaped, found = shape(document, kind.struct, protobuf=kind.mesh, secret=kind.struct is Secret)
    if not faults and not found:
        try:
            return Decoded(_convert(shaped, kind, origin))
        except msgspec.ValidationError as error:
            found = [_fault_of(error)]
    told = {fault.path for fault in faults}
    faults += [fault for fault in found if fault.path not in told]
    return Decoded(None, _problems(faults, document, origin, lines))


def decode_document(document: Document, namespace: str = DEFAULT_NAMESPACE) -> Decoded:
    """The resource of a loaded document, its problems with the lines of their fields."""
    decoded = decode(document.data, document.origin, document.lines, namespace)
    if not document.faults:
        return decoded
    told = _problems(document.faults, document.data, document.origin, document.lines)
    return Decoded(None, told + decoded.problems)


def mesh_config_of(config_map: ConfigMap) -> Decoded:
    """The mesh configuration that a ConfigMap holds under the key `mesh`, as Istio keeps it."""
    text = config_map.data.get("mesh", "")
    loaded = load(text, config_map.origin.file)
    faults = [Fault("data.mesh", problem.message, problem.hint, problem.code) for problem in loaded.problems]
    faults += [fault for document in loaded.documents for fault in document.faults]
    if faults:
        return Decoded(None, tuple(problem_of(fault, config_map.ref, config_map.origin) for fault in faults))
    data = loaded.documents[0].data if loaded.documents else {}
    decoded = _decode_bare_mesh_config(data, config_map.origin, None)
    moved = tuple(
        msgspec.structs.replace(p, ref=config_map.ref, path=paths.below("data.mesh", p.path)) for p in decoded.problems
    )
    return Decoded(decoded.resource, moved)


def encode(resource: Resource) -> dict[str, Any]:
    """The wire form of a resource, without what is left at its default."""
    wire: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resource, enc_hook=_to_wire))
    wire.pop(ORIGIN, None)
    if "status" in wire:
        wire["status"] = wire.pop("status")  # last, as everyone writes it
    return wire


def relocate(problem: Problem, lines: Places) -> Problem:
    """A problem with the line of its field."""
    return msgspec.structs.replace(problem, origin=Origin(problem.origin.file, lines.line(problem.path)))


def ref_of(document: dict[str, Any]) -> Ref:
    """The name of the object in a document, as far as it can be told."""
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return Ref(
        str(document.get("kind") or "Object"),
        str(metadata.get("namespace") or ""),
        str(metadata.get("name") or "(without a name)"),
    )


def _convert(document: dict[str, Any], kind: Kind, origin: Origin) -> Resource:
    resource: Resource = msgspec.convert(document, kind.struct, str_keys=True, dec_hook=_from_wire)
    msgspec.structs.force_setattr(resource, "origin", origin)
    return resource


def _from_wire(cls: Any, value: Any) -> Any:
    return cls.from_wire(value)


def _to_wire(value: Any) -> Any:
    return value.to_wire()


def _metadata_faults(metadata: Any) -> Iterator[Fault]:
    """What is wrong with a document's metadata besides the types of its fields."""
    if not isinstance(metadata, dict):
        yield Fault("metadata", "the object has no metadata", "add metadata with a name", "RequiredField")
        return
    name = metadata.get("name")
    if not name and not metadata.get("generateName"):
        yield Fault("metadata.name", "the object has no name", "add a name under metadata", "RequiredField")
    elif isinstance(name, str) and not (len(name) <= 253 and _NAME.fullmatch(name)):
        yield Fault(
            "metadata.name",
            f"{name!r} is not a name",
            "use lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
            "InvalidValue",
        )
    if not metadata.keys() <= _METADATA:
        for unknown in sorted(metadata.keys() - _METADATA):
            close = get_close_matches(unknown, _METADATA, n=1)
            hint = f"did you mean {close[0]}?" if close else "remove it"
            where = paths.below("metadata", paths.field_path(unknown))
            yield Fault(where, f"there is no field {unknown!r} here", hint, "UnknownField")


def _unknown_kind(document: dict[str, Any]) -> list[Fault]:
    """Why no kind is found for a document."""
    missing = [
        Fault(name, f"the object has no {name}", f"add {name} at the top", "RequiredField")
        for name in ("apiVersion", "kind")
        if not document.get(name)
    ]
    if missing:
        return missing
    api_version, name = str(document["apiVersion"]), str(document["kind"])
    same = [kind for kind in registry.KINDS if kind.kind == name]
    if same:
        served = ", ".join(version for kind in same for version in kind.api_versions)
        return [
            Fault("apiVersion", f"{name} is not a kind of {api_version!r}", f"write one of {served}", "UnknownKind")
        ]
    close = get_close_matches(name, [kind.kind for kind in registry.KINDS], n=1)
    hint = f"did you mean {close[0]}?" if close else "remove the object, or check its kind"
    return [Fault("kind", f"the kind {name!r} of {api_version!r} is not known", hint, "UnknownKind")]


def _is_bare_mesh_config(document: dict[str, Any]) -> bool:
    return "kind" not in document and "apiVersion" not in document and not document.keys().isdisjoint(_MESH_FIELDS)


def _decode_bare_mesh_config(document: dict[str, Any], origin: Origin, lines: Places | None) -> Decoded:
    kind = registry.kind_of(MeshConfig)
    whole = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": MESH_CONFIG_NAME},
        "spec": document,
    }
    decoded = decode(whole, origin, _Bare(lines) if lines else None)
    told = tuple(msgspec.structs.replace(p, path=_without_spec(p.path)) for p in decoded.problems)
    return Decoded(decoded.resource, told)


class _Bare:
    """The lines of a document that was put under `spec`."""

    def __init__(self, lines: Places) -> None:
        self._lines = lines

    def line(self, path: str = "") -> int:
        return self._lines.line(_without_spec(path))


def _without_spec(path: str) -> str:
    return path.removeprefix("spec").removeprefix(".")


_MESH_FIELDS = frozenset(fields_of(MeshConfigSpec))


def _fault_of(error: msgspec.ValidationError) -> Fault:
    """msgspec's own message, for what the walk accepts and msgspec does not."""
    message, _, where = str(error).partition(" - at `")
    return Fault(where.rstrip("`").removeprefix("$").lstrip("."), message.lower(), "compare it with the reference")


def _problems(
    faults: Iterable[Fault], document: dict[str, Any], origin: Origin, lines: Places | None
) -> tuple[Problem, ...]:
    ref = ref_of(document)
    if lines is None:
        return tuple(problem_of(fault, ref, origin) for fault in faults)
    placed = (problem_of(fault, ref, Origin(origin.file, lines.line(fault.path))) for fault in faults)
    return tuple(sorted(placed, key=lambda problem: problem.origin.line))
