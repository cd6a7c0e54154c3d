"""The language of controllers: a plan is a list of changes, and perhaps a time to look again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from meltemi.kube.resources import Key, Obj
from meltemi.local.apiserver.selectors import of_label_selector


class Create(msgspec.Struct, frozen=True):
    """Create an object of a kind (by its id, such as `pods`)."""

    kind: str
    obj: Obj


class Patch(msgspec.Struct, frozen=True):
    """Merge-patch an object."""

    kind: str
    key: Key
    patch: Obj


class SetStatus(msgspec.Struct, frozen=True):
    """Replace the status of an object."""

    kind: str
    key: Key
    status: Obj


class Replace(msgspec.Struct, frozen=True):
    """Replace an object."""

    kind: str
    obj: Obj


class Delete(msgspec.Struct, frozen=True):
    """Delete an object, its dependents after it."""

    kind: str
    key: Key


Change = Create | Patch | SetStatus | Replace | Delete


class Plan(msgspec.Struct, frozen=True):
    """What to do now, in order; and in how many seconds to look again even if nothing happens (None: never)."""

    changes: Sequence[Change] = ()
    again: float | None = None


def owner_reference(obj: Obj) -> Obj:
    """The reference by which dependents name their controller."""
    metadata = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_controlled_by(obj: Obj, owner: Obj) -> bool:
    """Whether `owner` is the controller of an object."""
    uid = owner["metadata"]["uid"]
    return any(ref.get("controller") and ref.get("uid") == uid for ref in obj["metadata"].get("ownerReferences") or ())


def is_orphan_of(obj: Obj, owner: Obj) -> bool:
    """Whether an object that nobody controls is one that `owner` selects, and so its to adopt."""
    references = obj["metadata"].get("ownerReferences") or ()
    if any(reference.get("controller") for reference in references) or is_being_deleted(obj) or is_being_deleted(owner):
        return False
    return of_label_selector(owner["spec"]["selector"]).matches(obj)


def is_being_deleted(obj: Obj) -> bool:
    """Whether the object's deletion has begun."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def condition_of(obj: Obj, kind: str) -> Obj:
    """A condition of an object's status; empty if it has none of that type."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return {}


def is_ready(pod: Obj) -> bool:
    """Whether a pod's Ready condition is true."""
    return condition_of(pod, "Ready").get("status") == "True"


def seconds_since(timestamp: str | None, now: datetime) -> float:
    """Seconds since an RFC 3339 time; infinite if there is none."""
    return (now - datetime.fromisoformat(timestamp)).total_seconds() if timestamp else float("inf")


def rfc3339(moment: datetime) -> str:
    """A time as Kubernetes writes it, in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def without_zeros(status: Obj) -> Obj:
    """A status without zero counts, which Kubernetes leaves out."""
    kept: dict[str, Any] = {name: value for name, value in status.items() if value not in (0, [], None)}
    return kept
