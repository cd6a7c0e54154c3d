"""A ReplicaSet keeps a number of equal pods: creates what is missing, deletes what is too much, counts the rest.

Source: Kubernetes ReplicaSet (apps/v1): which pods count, which go first, when a pod is available.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from meltemi.kube.resources import Obj, key_of
from meltemi.local.controllers.plans import (
    Change,
    Create,
    Delete,
    Plan,
    SetStatus,
    condition_of,
    is_being_deleted,
    is_ready,
    owner_reference,
    seconds_since,
    without_zeros,
)

_MOST_AT_ONCE = 500


def plan(replica_set: Obj, pods: Sequence[Obj], now: datetime) -> Plan:
    """What a ReplicaSet does, given the pods it controls."""
    spec = replica_set["spec"]
    active = [pod for pod in pods if is_active(pod)]
    missing = spec.get("replicas", 1) - len(active)
    changes: list[Change] = []
    if not is_being_deleted(replica_set):
        if missing > 0:
            changes += [Create("pods", _pod(replica_set))] * min(missing, _MOST_AT_ONCE)
        elif missing < 0:
            ranked = sorted(active, key=_rank_for_deletion)
            changes += [Delete("pods", key_of(pod)) for pod in ranked[:-missing]]
    status, again = _status(replica_set, active, now)
    if status != (replica_set.get("status") or {}):
        changes.append(SetStatus("replicasets.apps", key_of(replica_set), status))
    return Plan(changes, again)


def is_active(pod: Obj) -> bool:
    """Whether a pod counts: neither ended nor on its way out."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in ("Succeeded", "Failed") and not is_being_deleted(pod)


def available_in(pod: Obj, min_ready: int, now: datetime) -> float | None:
    """In how many seconds a pod will count as available (0: it does); None while it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready:
        return 0.0
    return max(0.0, min_ready - seconds_since(condition_of(pod, "Ready").get("lastTransitionTime"), now))


def _status(replica_set: Obj, active: Sequence[Obj], now: datetime) -> tuple[Obj, float | None]:
    spec = replica_set["spec"]
    waits = [available_in(pod, spec.get("minReadySeconds") or 0, now) for pod in active]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    fully_labeled = sum(labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active)
    counts = {
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "fullyLabeledReplicas": fully_labeled,
        "observedGeneration": replica_set["metadata"].get("generation", 0),
        "conditions": (replica_set.get("status") or {}).get("conditions"),
    }
    status = {"replicas": len(active), **without_zeros(counts)}
    return status, min((wait for wait in waits if wait), default=None)


def _pod(replica_set: Obj) -> Obj:
    template = replica_set["spec"]["template"]
    metadata = template.get("metadata") or {}
    name, namespace = replica_set["metadata"]["name"], replica_set["metadata"]["namespace"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{field: metadata[field] for field in ("labels", "annotations") if metadata.get(field)},
            "generateName": f"{name}-",
            "namespace": namespace,
            "ownerReferences": [owner_reference(replica_set)],
        },
        "spec": template["spec"],
    }


def _rank_for_deletion(pod: Obj) -> tuple[bool, bool, bool, int, str, str]:
    """Those whose loss hurts least first: not placed, not running, not ready, restarted often, young."""
    status = pod.get("status") or {}
    restarts = sum(int(container.get("restartCount") or 0) for container in status.get("containerStatuses") or ())
    created: str = pod["metadata"].get("creationTimestamp", "")
    youngest_first = "".join(chr(0x10FFFF - ord(letter)) for letter in created)
    return (
        bool((pod.get("spec") or {}).get("nodeName")),
        status.get("phase") == "Running",
        is_ready(pod),
        -restarts,
        youngest_first,
        pod["metadata"]["name"],
    )
