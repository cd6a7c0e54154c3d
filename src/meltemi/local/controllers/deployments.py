"""A Deployment rolls its pods from one template to the next: one ReplicaSet per template, scaled against each other.

The new set grows as far as `maxSurge` lets it, the old ones shrink as far as `maxUnavailable` lets them, and every
change of a ReplicaSet's counts is the occasion for the next step. So a plan is one step, and the state of the world
is all it needs.
Source: Kubernetes Deployment (apps/v1): strategy arithmetic, revisions, conditions, as `kubectl rollout` reads them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from meltemi.kube.resources import Obj, key_of
from meltemi.local.controllers.plans import (
    Change,
    Create,
    Delete,
    Patch,
    Plan,
    SetStatus,
    condition_of,
    is_being_deleted,
    owner_reference,
    rfc3339,
    seconds_since,
    without_zeros,
)

REVISION = "deployment.kubernetes.io/revision"
HASH_LABEL = "pod-template-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def plan(deployment: Obj, replica_sets: Sequence[Obj], now: datetime) -> Plan:
    """The next step of a Deployment, given the ReplicaSets it controls."""
    sets = sorted(replica_sets, key=_age)
    current = _matching(deployment, sets)
    old = [replica_set for replica_set in sets if replica_set is not current]
    changes: list[Change] = []
    if not is_being_deleted(deployment):
        if deployment["spec"].get("paused"):
            changes += _resize(deployment, sets)
        else:
            changes += _revisions(deployment, current, old)
            changes += (
                _recreate(deployment, current, old) if _is_recreate(deployment) else _roll(deployment, current, old)
            )
            changes += _history(deployment, old)
    status, again = _status(deployment, current, old, now)
    if status != (deployment.get("status") or {}):
        changes.append(SetStatus("deployments.apps", key_of(deployment), status))
    return Plan(changes, again)


def template_hash(template: Obj) -> str:
    """A short name for a pod template, of letters that cannot form words."""
    encoded = msgspec.json.encode(template, order="deterministic")
    number = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def limits(deployment: Obj) -> tuple[int, int]:
    """`maxSurge` and `maxUnavailable` as numbers of pods; never both zero, or nothing could move."""
    replicas = deployment["spec"].get("replicas", 1)
    if _is_recreate(deployment):
        return 0, replicas
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = _resolved(rolling.get("maxSurge", "25%"), replicas, math.ceil)
    unavailable = _resolved(rolling.get("maxUnavailable", "25%"), replicas, math.floor)
    return surge, unavailable if surge or unavailable else 1


# === steps ===


def _revisions(deployment: Obj, current: Obj | None, old: Sequence[Obj]) -> list[Change]:
    """The set for the present template has the highest revision; a rollback gives an old one a new number."""
    highest = max((_revision(replica_set) for replica_set in old), default=0)
    wanted = highest + 1 if current is None or _revision(current) <= highest else _revision(current)
    note = {"metadata": {"annotations": {REVISION: str(wanted)}}}
    changes: list[Change] = []
    if current is not None and _revision(current) != wanted:
        changes.append(Patch("replicasets.apps", key_of(current), note))
    if _revision(deployment) != wanted:
        changes.append(Patch("deployments.apps", key_of(deployment), note))
    return changes


def _roll(deployment: Obj, current: Obj | None, old: Sequence[Obj]) -> list[Change]:
    """A step of a rolling update: grow the new set first, then shrink the old ones as far as it is safe."""
    wanted = deployment["spec"].get("replicas", 1)
    surge, unavailable = limits(deployment)
    total = sum(_desired(replica_set) for replica_set in old) + (_desired(current) if current else 0)
    here = _desired(current) if current else 0
    grown = wanted if here > wanted else min(wanted, here + max(0, wanted + surge - total))
    if current is None:
        return [Create("replicasets.apps", _new_set(deployment, old, grown))]
    changes: list[Change] = [_scaled(current, grown)] if grown != here else []
    if not any(_desired(replica_set) for replica_set in old):
        return changes
    floor = wanted - unavailable
    room = total - floor - max(0, here - _available(current))
    left = {replica_set["metadata"]["uid"]: _desired(replica_set) for replica_set in old}
    for replica_set in old:
        unhealthy = min(room, max(0, _desired(replica_set) - _available(replica_set)))
        if unhealthy > 0:
            left[replica_set["metadata"]["uid"]] -= unhealthy
            room -= unhealthy
    spare = min(room, _available(current) + sum(_available(replica_set) for replica_set in old) - floor)
    for replica_set in old:
        taken = min(left[replica_set["metadata"]["uid"]], max(0, spare))
        left[replica_set["metadata"]["uid"]] -= taken
        spare -= taken
    return changes + [
        _scaled(replica_set, left[replica_set["metadata"]["uid"]])
        for replica_set in old
        if left[replica_set["metadata"]["uid"]] != _desired(replica_set)
    ]


def _recreate(deployment: Obj, current: Obj | None, old: Sequence[Obj]) -> list[Change]:
    """All old pods go before the first new one comes."""
    wanted = deployment["spec"].get("replicas", 1)
    shrinking: list[Change] = [_scaled(replica_set, 0) for replica_set in old if _desired(replica_set)]
    if shrinking or any((replica_set.get("status") or {}).get("replicas") for replica_set in old):
        return shrinking
    if current is None:
        return [Create("replicasets.apps", _new_set(deployment, old, wanted))]
    return [_scaled(current, wanted)] if _desired(current) != wanted else []


def _resize(deployment: Obj, sets: Sequence[Obj]) -> list[Change]:
    """A paused Deployment still follows `replicas`, with the set that is in use."""
    wanted = deployment["spec"].get("replicas", 1)
    in_use = [replica_set for replica_set in sets if _desired(replica_set)] or list(sets[-1:])
    if len(in_use) != 1 or _desired(in_use[0]) == wanted:
        return []
    return [_scaled(in_use[0], wanted)]


def _history(deployment: Obj, old: Sequence[Obj]) -> list[Change]:
    """Empty old sets beyond `revisionHistoryLimit` go, the oldest first."""
    keep = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = sorted((s for s in old if not _desired(s) and not (s.get("status") or {}).get("replicas")), key=_revision)
    return [Delete("replicasets.apps", key_of(replica_set)) for replica_set in empty[: max(0, len(empty) - keep)]]


# === status ===


def _status(deployment: Obj, current: Obj | None, old: Sequence[Obj], now: datetime) -> tuple[Obj, float | None]:
    sets = [*old, *([current] if current else [])]
    wanted = deployment["spec"].get("replicas", 1)
    counts = {
        "replicas": _sum(sets, "replicas"),
        "updatedReplicas": _sum([current] if current else [], "replicas"),
        "readyReplicas": _sum(sets, "readyReplicas"),
        "availableReplicas": _sum(sets, "availableReplicas"),
    }
    counts["unavailableReplicas"] = max(0, sum(_desired(s) for s in sets) - counts["availableReplicas"])
    available = _available_condition(counts["availableReplicas"] >= wanted - limits(deployment)[1])
    is_complete = all(counts[name] == wanted for name in ("replicas", "updatedReplicas", "availableReplicas"))
    progressing, again = _progress(deployment, current, counts, is_complete, now)
    conditions = [_dated(deployment, available, now, always=False), progressing]
    status = without_zeros({**counts, "conditions": [c for c in conditions if c]})
    return {"observedGeneration": deployment["metadata"].get("generation", 0), **status}, again


def _progress(
    deployment: Obj, current: Obj | None, counts: dict[str, int], is_complete: bool, now: datetime
) -> tuple[Obj, float | None]:
    """The Progressing condition; in how many seconds it may have to be called stuck."""
    before = condition_of(deployment, "Progressing")
    name = current["metadata"]["name"] if current else ""
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    if is_complete:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        done = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": message}
        return _dated(deployment, done, now, always=False), None
    if deployment["spec"].get("paused"):
        paused = {
            "type": "Progressing",
            "status": "Unknown",
            "reason": "DeploymentPaused",
            "message": "Deployment is paused",
        }
        return _dated(deployment, paused, now, always=False), None
    old = deployment.get("status") or {}
    has_moved = (
        not before
        or before.get("reason") == "NewReplicaSetAvailable"
        or old.get("observedGeneration") != deployment["metadata"].get("generation")
        or any(counts[field] > old.get(field, 0) for field in ("updatedReplicas", "readyReplicas", "availableReplicas"))
        or counts["replicas"] - counts["updatedReplicas"] < old.get("replicas", 0) - old.get("updatedReplicas", 0)
    )
    waited = seconds_since(before.get("lastUpdateTime"), now)
    if not has_moved and (before.get("reason") == "ProgressDeadlineExceeded" or waited >= deadline):
        message = f'ReplicaSet "{name}" has timed out progressing.'
        stuck = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": message}
        return _dated(deployment, stuck, now, always=False), None
    message = f'ReplicaSet "{name}" is progressing.'
    moving = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": message}
    return _dated(deployment, moving, now, always=has_moved), deadline if has_moved else max(0.1, deadline - waited)


def _available_condition(is_available: bool) -> Obj:
    if is_available:
        message = "Deployment has minimum availability."
        return {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": message}
    message = "Deployment does not have minimum availability."
    return {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": message}


def _dated(deployment: Obj, condition: Obj, now: datetime, *, always: bool) -> Obj:
    """A condition with its times: of its last update (with `always`: now) and of the last change of its status."""
    before = condition_of(deployment, condition["type"])
    moment = rfc3339(now)
    same_status = before.get("status") == condition["status"]
    same = same_status and before.get("reason") == condition["reason"] and before.get("message") == condition["message"]
    updated = before["lastUpdateTime"] if same and not always else moment
    return {
        **condition,
        "lastUpdateTime": updated,
        "lastTransitionTime": before["lastTransitionTime"] if same_status else moment,
    }


# === pieces ===


def _new_set(deployment: Obj, old: Sequence[Obj], replicas: int) -> Obj:
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    digest = template_hash(template)
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
    selector = deployment["spec"]["selector"]
    revision = max((_revision(replica_set) for replica_set in old), default=0) + 1
    spec = {
        "replicas": replicas,
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}},
        "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
    }
    if deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name'][:242]}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {REVISION: str(revision)},
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": spec,
    }


def _matching(deployment: Obj, sets: Sequence[Obj]) -> Obj | None:
    """The set with the Deployment's present template."""
    wanted = deployment["spec"]["template"]
    return next((s for s in sets if _plain_template(s) == wanted and not is_being_deleted(s)), None)


def _plain_template(replica_set: Obj) -> Obj:
    """A set's template without the label that its Deployment has added."""
    template: Obj = replica_set["spec"]["template"]
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _scaled(replica_set: Obj, replicas: int) -> Patch:
    return Patch("replicasets.apps", key_of(replica_set), {"spec": {"replicas": replicas}})


def _resolved(value: Any, replicas: int, rounding: Any) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return int(rounding(replicas * int(value[:-1]) / 100))
    return int(value)


def _is_recreate(deployment: Obj) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


def _revision(obj: Obj) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if str(text).isdigit() else 0


def _desired(replica_set: Obj) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def _available(replica_set: Obj) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas") or 0)


def _sum(sets: Sequence[Obj], field: str) -> int:
    return sum(int((replica_set.get("status") or {}).get(field) or 0) for replica_set in sets)


def _age(replica_set: Obj) -> tuple[str, str]:
    return replica_set["metadata"].get("creationTimestamp", ""), replica_set["metadata"]["name"]
