"""What controllers tell people of their doings: the events that `kubectl describe` shows on Deployments and ReplicaSets."""

from __future__ import annotations

from meltemi.kube.events import NORMAL, WARNING
from meltemi.kube.resources import Obj
from meltemi.local.controllers.plans import Change, Create, Delete, Patch

News = tuple[str, str, str]
"""Type, reason and message of an event."""


def of_change(change: Change, made: Obj) -> News | None:
    """The news of a change that was carried out; `made` is the object it was about. None if it is not worth telling."""
    name = made["metadata"]["name"]
    match change:
        case Create("pods", _):
            return NORMAL, "SuccessfulCreate", f"Created pod: {name}"
        case Delete("pods", _):
            return NORMAL, "SuccessfulDelete", f"Deleted pod: {name}"
        case Create("replicasets.apps", obj):
            return NORMAL, "ScalingReplicaSet", f"Scaled up replica set {name} to {obj['spec']['replicas']}"
        case Patch("replicasets.apps", _, {"spec": {"replicas": replicas}}):
            return NORMAL, "ScalingReplicaSet", f"Scaled replica set {name} to {replicas}"
    return None


def of_failure(change: Change, reason: str) -> News | None:
    """The news of a change that was refused."""
    match change:
        case Create("pods", _):
            return WARNING, "FailedCreate", f"Error creating: {reason}"
        case Create("replicasets.apps", _):
            return WARNING, "ReplicaSetCreateError", f"Failed to create new replica set: {reason}"
    return None
