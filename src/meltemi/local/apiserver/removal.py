"""How objects go: at once, gracefully, held by finalizers, with their dependents, or with their whole namespace.

Kubernetes spreads this over the API server, the garbage collector and the namespace controller, which find out from
each other by watching. Here it is one synchronous step: when an object is removed, its dependents follow in the same
request, so no orphan is ever to be seen and nothing is left to be done after a restart but what waits for others
(finalizers, running pods), which `resume` takes up.
Source: Kubernetes documentation "Garbage Collection", "Finalizers", "Pod Lifecycle: termination".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from meltemi.kube.resources import Key, Obj, key_of
from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.catalogue import Catalogue, Kind
from meltemi.local.apiserver.store import Item, Store

_FOREGROUND = "foregroundDeletion"
_DEFAULT_GRACE = 30
PERMANENT = frozenset({"default", "kube-system"})
"""Namespaces that cannot be deleted."""


class DeleteOptions(msgspec.Struct, frozen=True):
    """How to delete: Background, Foreground or Orphan; seconds of grace; only this uid or revision."""

    propagation: str = "Background"
    grace_seconds: int | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    @classmethod
    def of_object(cls, options: Obj, *, dry_run: bool) -> DeleteOptions:
        """From a `meta/v1` DeleteOptions."""
        conditions = options.get("preconditions") or {}
        orphan = "Orphan" if options.get("orphanDependents") else "Background"
        return cls(
            propagation=options.get("propagationPolicy") or orphan,
            grace_seconds=options.get("gracePeriodSeconds"),
            uid=conditions.get("uid") or "",
            resource_version=conditions.get("resourceVersion") or "",
            dry_run=dry_run or bool(options.get("dryRun")),
        )


_BACKGROUND = DeleteOptions()


class Removal:
    """Takes objects out of the store, with all that follows."""

    def __init__(self, store: Store, catalogue: Catalogue, now: Callable[[], datetime]) -> None:
        self._store = store
        self._catalogue = catalogue
        self._now = now

    def request(self, kind: Kind, item: Item, options: DeleteOptions = _BACKGROUND) -> Item:
        """Begins, and if nothing holds the object finishes, its deletion. Returns the object as it is, or was at last."""
        metadata = item.obj["metadata"]
        if options.uid and options.uid != metadata.get("uid"):
            raise refusals.conflict(
                kind,
                metadata["name"],
                f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {metadata.get('uid')}",
            )
        if options.resource_version and options.resource_version != metadata.get("resourceVersion"):
            raise refusals.stale(kind, metadata["name"])
        if kind.id == "namespaces" and metadata["name"] in PERMANENT:
            raise refusals.forbidden("this namespace may not be deleted", kind, metadata["name"])
        if options.dry_run:
            return item
        if options.propagation == "Orphan":
            self._let_go(metadata.get("uid", ""))
        grace = self._grace(kind, item.obj, options)
        must_wait = (
            bool(metadata.get("finalizers"))
            or grace > 0
            or options.propagation == "Foreground"
            or kind.id == "namespaces"
        )
        if not must_wait:
            return self._remove(kind, item)
        marked = self._mark(kind, item, grace, foreground=options.propagation == "Foreground")
        if options.propagation == "Foreground":
            self._follow(metadata.get("uid", ""), options)
        if kind.id == "namespaces":
            self._empty(metadata["name"])
        current = self._store.get(kind.id, key_of(marked.obj))
        return (self.settle(kind, current) or current) if current is not None else marked

    def settle(self, kind: Kind, item: Item) -> Item | None:
        """Removes an object whose deletion has begun and that nothing holds any more; None if something does."""
        metadata = item.obj["metadata"]
        if not metadata.get("deletionTimestamp") or metadata.get("deletionGracePeriodSeconds"):
            return None
        finalizers = metadata.get("finalizers") or []
        if _FOREGROUND in finalizers and not self._blockers(metadata.get("uid", "")):
            finalizers = [name for name in finalizers if name != _FOREGROUND]
            if finalizers:
                self._store.put(kind.id, _with_metadata(item.obj, finalizers=finalizers))
        if finalizers or (kind.id == "namespaces" and self._content(metadata["name"])):
            return None
        return self._remove(kind, item)

    def adopt(self, kind: Kind, item: Item) -> Item:
        """Looks at a new object: one whose owners are all gone goes at once, as the garbage collector would have it."""
        owners = item.obj["metadata"].get("ownerReferences") or ()
        if owners and not any(self._store.find(owner.get("uid", "")) for owner in owners):
            return self.request(kind, item)
        return item

    def resume(self) -> None:
        """Takes up the deletions that a stop of the process has interrupted."""
        for kind in self._catalogue.all:
            for item in self._store.items(kind.id):
                current = self._store.get(kind.id, key_of(item.obj))
                if current is None:
                    continue
                if kind.id == "namespaces" and current.obj["metadata"].get("deletionTimestamp"):
                    self._empty(current.obj["metadata"]["name"])
                self.settle(kind, current)
                if current.obj["metadata"].get("ownerReferences"):
                    self.adopt(kind, current)

    # === steps ===

    def _grace(self, kind: Kind, obj: Obj, options: DeleteOptions) -> int:
        """Seconds that a pod is given: none unless it has been placed on a node and still runs."""
        if kind.id != "pods" or not (obj.get("spec") or {}).get("nodeName"):
            return 0
        if (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        if options.grace_seconds is not None:
            return max(0, options.grace_seconds)
        wanted = obj["spec"].get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE if wanted is None else int(wanted)

    def _mark(self, kind: Kind, item: Item, grace: int, *, foreground: bool) -> Item:
        metadata = item.obj["metadata"]
        changes: Obj = {}
        earlier = metadata.get("deletionGracePeriodSeconds")
        if not metadata.get("deletionTimestamp") or (earlier is not None and grace < earlier):
            changes["deletionTimestamp"] = _rfc3339(self._now() + timedelta(seconds=grace))
            changes["deletionGracePeriodSeconds"] = grace
        if foreground and _FOREGROUND not in (metadata.get("finalizers") or ()):
            changes["finalizers"] = [*(metadata.get("finalizers") or ()), _FOREGROUND]
        if not changes:
            return item
        obj = _with_metadata(item.obj, **changes)
        if kind.id == "namespaces":
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return self._store.put(kind.id, obj)

    def _remove(self, kind: Kind, item: Item) -> Item:
        key = key_of(item.obj)
        if self._store.get(kind.id, key) is None:
            return item
        removed = self._store.remove(kind.id, key)
        metadata = removed.obj["metadata"]
        self._follow(metadata.get("uid", ""), _BACKGROUND)
        for owner in metadata.get("ownerReferences") or ():
            self._settle_by_uid(owner.get("uid", ""))
        namespace = self._store.get("namespaces", Key("", key.namespace)) if kind.namespaced else None
        if namespace is not None and (spaces := self._catalogue.by_id("namespaces")):
            self.settle(spaces, namespace)
        return removed

    def _follow(self, uid: str, options: DeleteOptions) -> None:
        """Deletes the dependents that have no other owner; the others only lose their reference."""
        for kind_id, key in self._store.dependents(uid):
            item, kind = self._store.get(kind_id, key), self._catalogue.by_id(kind_id)
            if item is None or kind is None:
                continue
            others = [o for o in item.obj["metadata"]["ownerReferences"] if o.get("uid") != uid]
            if any(self._store.find(owner.get("uid", "")) for owner in others):
                self._store.put(kind_id, _with_metadata(item.obj, ownerReferences=others))
            elif not item.obj["metadata"].get("deletionTimestamp") or options.propagation == "Foreground":
                self.request(kind, item, DeleteOptions(propagation=options.propagation))

    def _let_go(self, uid: str) -> None:
        for kind_id, key in self._store.dependents(uid):
            item = self._store.get(kind_id, key)
            if item is not None:
                others = [o for o in item.obj["metadata"]["ownerReferences"] if o.get("uid") != uid]
                self._store.put(kind_id, _with_metadata(item.obj, ownerReferences=others))

    def _blockers(self, uid: str) -> bool:
        for kind_id, key in self._store.dependents(uid):
            item = self._store.get(kind_id, key)
            for owner in item.obj["metadata"]["ownerReferences"] if item else ():
                if owner.get("uid") == uid and owner.get("blockOwnerDeletion"):
                    return True
        return False

    def _settle_by_uid(self, uid: str) -> None:
        if (found := self._store.find(uid)) is None:
            return
        item, kind = self._store.get(*found), self._catalogue.by_id(found[0])
        if item is not None and kind is not None:
            self.settle(kind, item)

    def _empty(self, namespace: str) -> None:
        """Deletes everything in a namespace."""
        for kind, item in self._content(namespace):
            if self._store.get(kind.id, key_of(item.obj)) is not None:
                self.request(kind, item)

    def _content(self, namespace: str) -> list[tuple[Kind, Item]]:
        return [
            (kind, item)
            for kind in self._catalogue.all
            if kind.namespaced and not kind.virtual
            for item in self._store.items(kind.id, namespace)
        ]


def _with_metadata(obj: Obj, **changes: object) -> Obj:
    metadata = {**obj["metadata"], **changes}
    return {**obj, "metadata": {name: value for name, value in metadata.items() if value not in ([], None)}}


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
