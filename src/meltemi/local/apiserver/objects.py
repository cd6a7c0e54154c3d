"""Views and copies of whole objects that the verbs compare and combine."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from meltemi.kube.errors import Cause
from meltemi.kube.resources import Obj
from meltemi.local.apiserver import ownership
from meltemi.local.apiserver.catalogue import Kind


class Part(Enum):
    """Which part of an object a write is about."""

    MAIN = ""
    STATUS = "status"


def only_part(kind: Kind, before: Obj, obj: Obj, part: Part) -> Obj:
    """The new object as far as the write is about it: its status only, or all but its status."""
    if part is Part.STATUS:
        return {**copied(before), "status": obj.get("status") or {}}
    if kind.status:
        obj.pop("status", None)
        if "status" in before:
            obj["status"] = copied(before["status"])
    return obj


def copied(obj: Obj) -> Obj:
    """A deep copy in which no field is null: in Kubernetes a null field is an absent one."""
    return {name: _copied(value) for name, value in obj.items() if value is not None}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def substance(obj: Obj) -> Obj:
    """What `metadata.generation` counts changes of: all but metadata and status."""
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def without_revision(obj: Obj) -> Obj:
    """An object as compared to tell whether a write changes anything: times of managers do not count."""
    metadata = {
        name: value for name, value in obj["metadata"].items() if name not in ("resourceVersion", "managedFields")
    }
    managers = [
        {name: value for name, value in entry.items() if name != "time"}
        for entry in obj["metadata"].get("managedFields") or ()
    ]
    return {**obj, "metadata": {**metadata, "managedFields": managers}}


def dispute_cause(dispute: ownership.Disputed) -> Cause:
    manager = dispute.manager
    through = f" with subresource {quoted(manager.subresource)}" if manager.subresource else ""
    using = f" using {manager.operation}" if manager.operation == "Update" else ""
    return Cause(
        ownership.human(dispute.path),
        f"conflict with {quoted(manager.name)}{through}{using}",
        "FieldManagerConflict",
    )


def quoted(value: str) -> str:
    """A string in quotes, as messages of Kubernetes show names."""
    return msgspec.json.encode(value).decode()
