"""Carries out what the controllers plan, as soon as something they look at has changed.

The loop reads the store itself, in the process of the API server: a plan is made from the present state and carried
out before anything else happens. So there are no caches that lag behind, no expectations to keep, and no conflicts.

Invariant: what changed is known by revision; after a plan the same function is asked again only because of a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from meltemi.kube import events as kube_events
from meltemi.kube.client import PatchType
from meltemi.kube.errors import ApiError
from meltemi.kube.resources import Key, Obj, key_of
from meltemi.local.apiserver.objects import Part
from meltemi.local.apiserver.removal import DeleteOptions
from meltemi.local.apiserver.store import Compacted, Event, StorageError
from meltemi.local.apiserver.verbs import Options, Verbs
from meltemi.local.controllers import accounts, deployments, endpoints, events, replicasets
from meltemi.local.controllers.plans import (
    Change,
    Create,
    Delete,
    Patch,
    Plan,
    Replace,
    SetStatus,
    is_controlled_by,
    is_orphan_of,
    owner_reference,
)

_log = logging.getLogger(__name__)

_DEPLOYMENTS, _SETS, _SLICES = "deployments.apps", "replicasets.apps", "endpointslices.discovery.k8s.io"
_WATCHED = ("namespaces", "serviceaccounts", "services", "pods", _DEPLOYMENTS, _SETS, _SLICES)

_SHORTEST_RETRY, _LONGEST_RETRY = 0.5, 30.0

Task = tuple[str, Key]
"""A kind and the key of the object whose controller is to be asked."""


class Controllers:
    """The controllers of one machine, on the verbs of its API server."""

    def __init__(self, verbs: Verbs, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._now = now
        self._cursor: int | None = None
        self._again: dict[Task, float] = {}
        self._failures: dict[Task, int] = {}
        self._planners: dict[str, Callable[[Obj], Plan]] = {
            "namespaces": self._plan_namespace,
            "services": self._plan_service,
            _SETS: self._plan_set,
            _DEPLOYMENTS: self._plan_deployment,
        }

    async def run(self) -> None:
        """Works until it is cancelled."""
        wake = asyncio.Event()
        with contextlib.ExitStack() as stack:
            for kind in _WATCHED:
                stack.callback(self._store.subscribe(kind, wake.set))
            while True:
                wake.clear()
                for task in self._due():
                    self.attend(task)
                    await asyncio.sleep(0)
                if wake.is_set():
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds_to_next()):
                        await wake.wait()

    def settle(self, rounds: int = 100) -> None:
        """Works until nothing is left to be done now. Raises RuntimeError if that never comes about."""
        for _ in range(rounds):
            tasks = self._due()
            if not tasks:
                return
            for task in tasks:
                self.attend(task)
        raise RuntimeError(f"the controllers do not come to rest: {sorted(self._due())}")

    def attend(self, task: Task) -> None:
        """Asks the controller of one object, and does what it says."""
        kind, key = task
        item = self._store.get(kind, key)
        if item is None:
            self._failures.pop(task, None)
            return
        plan = self._planners[kind](item.obj)
        if plan.again is not None:
            self._again[task] = self._now().timestamp() + plan.again
        manager = f"{kind.partition('.')[0].removesuffix('s')}-controller"
        for change in plan.changes:
            try:
                made = self._do(change, manager)
            except (ApiError, StorageError) as error:
                self._failed(task, item.obj, change, manager, str(error))
                return
            if (news := events.of_change(change, made)) is not None:
                self._tell(item.obj, manager, *news)
        self._failures.pop(task, None)

    def _failed(self, task: Task, obj: Obj, change: Change, manager: str, reason: str) -> None:
        """A change was refused: says so on the object, and tries again later, each time after a longer wait."""
        _log.info("%s %s: %s", *task, reason)
        failures = self._failures[task] = self._failures.get(task, 0) + 1
        wait = min(_LONGEST_RETRY, _SHORTEST_RETRY * 2 ** (failures - 1))
        self._again[task] = self._now().timestamp() + wait
        if (news := events.of_failure(change, reason)) is not None:
            self._tell(obj, manager, *news)

    def _tell(self, obj: Obj, manager: str, what: str, reason: str, message: str) -> None:
        """Writes an event about an object, or counts one up that says the same. Events are news: a refusal is let go."""
        happened = kube_events.event(obj, what, reason, message, manager, self._now())
        kind, key = self._verbs.catalogue.by_id("events"), key_of(happened)
        assert kind is not None
        options = Options(manager=manager)
        with contextlib.suppress(ApiError, StorageError):
            before = self._store.get("events", key)
            if before is None:
                self._verbs.create(kind, key.namespace, happened, options)
            else:
                self._verbs.patch(kind, key, PatchType.MERGE, kube_events.again(before.obj, happened), options)

    # === what is to be done ===

    def _due(self) -> list[Task]:
        """The objects that something has happened to since the last call, or whose time has come."""
        moment = self._now().timestamp()
        tasks = [task for task, when in self._again.items() if when <= moment]
        for task in tasks:
            del self._again[task]
        cursor, self._cursor = self._cursor, self._store.revision
        try:
            if cursor is None:
                raise Compacted(0, 0)
            for kind in _WATCHED:
                for event in self._store.events_since(kind, cursor):
                    tasks += self._concerned(kind, event)
        except Compacted:
            tasks += [(kind, key_of(item.obj)) for kind in self._planners for item in self._store.items(kind)]
        return list(dict.fromkeys(tasks))

    def _concerned(self, kind: str, event: Event) -> Iterator[Task]:
        """Whose controllers look at an object that has changed."""
        key, obj = event.key, event.item.obj
        if kind in self._planners:
            yield kind, key
        if kind == "serviceaccounts":
            yield "namespaces", Key("", key.namespace)
        if kind in ("pods", _SETS):
            for owner in obj["metadata"].get("ownerReferences") or ():
                if owner.get("controller"):
                    yield (_SETS if kind == "pods" else _DEPLOYMENTS), Key(key.namespace, owner["name"])
        if kind == "pods":
            versions = [obj] if event.before is None else [obj, event.before.obj]
            for item in self._store.items("services", key.namespace):
                if any(endpoints.selects(item.obj, version["metadata"].get("labels") or {}) for version in versions):
                    yield "services", key_of(item.obj)
        if kind == _SLICES and endpoints.is_ours(obj):
            name = (obj["metadata"].get("labels") or {}).get(endpoints.SERVICE_NAME, "")
            yield "services", Key(key.namespace, name)

    def _seconds_to_next(self) -> float | None:
        return max(0.01, min(self._again.values()) - self._now().timestamp()) if self._again else None

    # === plans ===

    def _plan_namespace(self, namespace: Obj) -> Plan:
        return accounts.plan(namespace, self._objects("serviceaccounts", namespace["metadata"]["name"]))

    def _plan_service(self, service: Obj) -> Plan:
        namespace = service["metadata"]["namespace"]
        slices = endpoints.slices_of(service, self._objects(_SLICES, namespace))
        return endpoints.plan(service, self._objects("pods", namespace), slices)

    def _plan_set(self, replica_set: Obj) -> Plan:
        return replicasets.plan(replica_set, self._dependents("pods", replica_set), self._now())

    def _plan_deployment(self, deployment: Obj) -> Plan:
        return deployments.plan(deployment, self._dependents(_SETS, deployment), self._now())

    def _objects(self, kind: str, namespace: str) -> list[Obj]:
        return [item.obj for item in self._store.items(kind, namespace)]

    def _dependents(self, kind: str, owner: Obj) -> list[Obj]:
        """The objects of a kind that `owner` controls, orphans that it selects included: they are adopted first."""
        for orphan in self._objects(kind, owner["metadata"]["namespace"]):
            if is_orphan_of(orphan, owner):
                references = [*(orphan["metadata"].get("ownerReferences") or ()), owner_reference(owner)]
                patch = Patch(kind, key_of(orphan), {"metadata": {"ownerReferences": references}})
                with contextlib.suppress(ApiError):
                    self._do(patch, f"{owner['kind'].lower()}-controller")
        found = [
            self._store.get(*where) for where in self._store.dependents(owner["metadata"]["uid"]) if where[0] == kind
        ]
        return [item.obj for item in found if item is not None and is_controlled_by(item.obj, owner)]

    # === carrying out ===

    def _do(self, change: Change, manager: str) -> Obj:
        """Carries out one change; the object that it was about, as it is since."""
        kind = self._verbs.catalogue.by_id(change.kind)
        assert kind is not None
        options = Options(manager=manager)
        match change:
            case Create(_, obj):
                return self._verbs.create(kind, obj["metadata"].get("namespace", ""), obj, options).item.obj
            case Patch(_, key, patch):
                return self._verbs.patch(kind, key, PatchType.MERGE, patch, options).item.obj
            case Replace(_, obj):
                return self._verbs.update(kind, key_of(obj), obj, options).item.obj
            case SetStatus(_, key, status):
                obj = {**self._verbs.get(kind, key).obj, "status": status}
                return self._verbs.update(kind, key, obj, Options(manager=manager, part=Part.STATUS)).item.obj
            case Delete(_, key):
                return self._verbs.delete(kind, key, DeleteOptions())[0].obj
