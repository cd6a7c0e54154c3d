"""ReplicaSets keep their number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from meltemi.kube.resources import Obj
from meltemi.local.controllers.plans import Create, Delete, SetStatus
from meltemi.local.controllers.replicasets import plan

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def replica_set(replicas: int, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}}
    metadata = {"name": "web-x", "namespace": "d", "uid": "u", "generation": 3}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata,
        "spec": {"replicas": replicas, "template": template, **spec},
    }


def pod(name: str, *, phase: str = "Running", ready_since: str = "", node: str = "local", **metadata: Any) -> Obj:
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready_since}] if ready_since else []
    return {
        "metadata": {
            "name": name,
            "namespace": "d",
            "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **metadata,
        },
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": conditions},
    }


READY = "2026-01-01T11:00:00Z"


def test_missing_pods_are_made_from_the_template() -> None:
    created = [change.obj for change in plan(replica_set(2), [pod("a")], NOW).changes if isinstance(change, Create)]
    assert len(created) == 1
    metadata = created[0]["metadata"]
    assert metadata["generateName"] == "web-x-"
    assert metadata["labels"] == {"app": "web"}
    assert metadata["ownerReferences"][0]["controller"] is True


def test_pods_that_have_ended_or_are_going_are_replaced() -> None:
    pods = [pod("a", phase="Failed"), pod("b", deletionTimestamp="2026-01-01T00:00:00Z"), pod("c")]
    changes = plan(replica_set(2), pods, NOW).changes
    assert sum(isinstance(change, Create) for change in changes) == 1
    assert not any(isinstance(change, Delete) for change in changes)


def test_the_surplus_goes_where_it_hurts_least() -> None:
    pods = [
        pod("ready", ready_since=READY),
        pod("young", ready_since=READY, creationTimestamp="2026-01-01T01:00:00Z"),
        pod("not-ready"),
        pod("pending", phase="Pending"),
        pod("unplaced", phase="Pending", node=""),
    ]
    deleted = [change.key.name for change in plan(replica_set(1), pods, NOW).changes if isinstance(change, Delete)]
    assert deleted == ["unplaced", "pending", "not-ready", "young"]


def test_the_status_counts_what_is_ready_and_what_has_been_so_for_long_enough() -> None:
    pods = [pod("a", ready_since=READY), pod("b", ready_since="2026-01-01T11:59:50Z"), pod("c")]
    made = plan(replica_set(3, minReadySeconds=30), pods, NOW)
    status = next(change.status for change in made.changes if isinstance(change, SetStatus))
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 3,
    }
    assert made.again == 20


def test_a_set_at_rest_does_nothing() -> None:
    resting = replica_set(1)
    resting["status"] = {
        "replicas": 1,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 3,
    }
    assert not plan(resting, [pod("a", ready_since=READY)], NOW).changes
