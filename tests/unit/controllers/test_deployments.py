"""Deployments roll: plans from states, as values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meltemi.kube.resources import Key, Obj
from meltemi.local.controllers.deployments import HASH_LABEL, REVISION, limits, plan, template_hash
from meltemi.local.controllers.plans import Create, Delete, Patch, SetStatus, condition_of

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def template(image: str) -> Obj:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}


def deployment(image: str = "1", replicas: int = 4, revision: int = 1, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "d",
            "uid": "u",
            "generation": 1,
            "annotations": {REVISION: str(revision)},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            **spec,
        },
    }


def replica_set(image: str, desired: int, available: int | None = None, revision: int = 1) -> Obj:
    digest = template_hash(template(image))
    made = template(image)
    made["metadata"]["labels"][HASH_LABEL] = digest
    count = desired if available is None else available
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"web-{digest}",
            "namespace": "d",
            "uid": digest,
            "creationTimestamp": f"2026-01-01T00:00:0{revision}Z",
            "annotations": {REVISION: str(revision)},
        },
        "spec": {"replicas": desired, "template": made},
        "status": {"replicas": desired, "readyReplicas": count, "availableReplicas": count},
    }


def scaled(changes: Sequence[Any]) -> dict[str, int]:
    """The changes of size in a plan, by image digest."""
    return {
        change.key.name.removeprefix("web-"): change.patch["spec"]["replicas"]
        for change in changes
        if isinstance(change, Patch) and "spec" in change.patch
    }


def status_of(changes: Sequence[Any]) -> Obj:
    return next((change.status for change in changes if isinstance(change, SetStatus)), {})


def test_a_new_deployment_makes_one_set_with_all_its_replicas() -> None:
    created = [change.obj for change in plan(deployment(), [], NOW).changes if isinstance(change, Create)]
    assert len(created) == 1
    digest = template_hash(template("1"))
    assert created[0]["metadata"]["name"] == f"web-{digest}"
    assert created[0]["metadata"]["annotations"] == {REVISION: "1"}
    assert created[0]["spec"]["replicas"] == 4
    assert created[0]["spec"]["selector"]["matchLabels"] == {"app": "web", HASH_LABEL: digest}
    assert created[0]["metadata"]["ownerReferences"][0]["uid"] == "u"


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", (1, 1)),
        (1, "25%", "25%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (4, 0, 0, (0, 1)),
        (4, 2, "50%", (2, 2)),
    ],
)
def test_surge_rounds_up_and_unavailability_down(
    replicas: int, surge: Any, unavailable: Any, expected: tuple[int, int]
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    assert limits(deployment(replicas=replicas, strategy=strategy)) == expected


def test_a_new_template_starts_a_set_as_large_as_the_surge() -> None:
    changes = plan(deployment("2"), [replica_set("1", 4)], NOW).changes
    created = [change.obj for change in changes if isinstance(change, Create)]
    assert [obj["spec"]["replicas"] for obj in created] == [1]
    assert created[0]["metadata"]["annotations"] == {REVISION: "2"}
    assert Patch("deployments.apps", Key("d", "web"), {"metadata": {"annotations": {REVISION: "2"}}}) in changes


def test_old_pods_go_only_as_far_as_availability_allows() -> None:
    old, new = replica_set("1", 4), replica_set("2", 1, available=0, revision=2)
    assert scaled(plan(deployment("2", revision=2), [old, new], NOW).changes) == {old["metadata"]["uid"]: 3}
    old, new = replica_set("1", 3), replica_set("2", 2, available=0, revision=2)
    assert scaled(plan(deployment("2", revision=2), [old, new], NOW).changes) == {}


def test_unhealthy_old_pods_go_first() -> None:
    older = replica_set("0", 2, available=0, revision=1)
    old, new = replica_set("1", 2, revision=2), replica_set("2", 1, available=1, revision=3)
    assert scaled(plan(deployment("2", revision=3), [older, old, new], NOW).changes) == {older["metadata"]["uid"]: 0}


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7, 10])
def test_a_rollout_reaches_its_end_and_never_breaks_its_promises(replicas: int) -> None:
    wanted = deployment("2", replicas, revision=1)
    surge, unavailable = limits(wanted)
    sets = [replica_set("1", replicas)]
    for _ in range(60):
        changes = plan(wanted, sets, NOW).changes
        sets = [*sets, *(_born(change.obj) for change in changes if isinstance(change, Create))]
        sizes = scaled(changes)
        for entry in sets:
            entry["spec"]["replicas"] = sizes.get(entry["metadata"]["uid"], entry["spec"]["replicas"])
            ready = entry["status"]["availableReplicas"]
            size = entry["spec"]["replicas"]
            entry["status"] = {"replicas": size, "availableReplicas": min(size, ready)}
        assert sum(entry["spec"]["replicas"] for entry in sets) <= replicas + surge
        assert sum(entry["status"]["availableReplicas"] for entry in sets) >= replicas - unavailable
        lagging = next((e for e in sets if e["status"]["availableReplicas"] < e["spec"]["replicas"]), None)
        if lagging is not None:
            lagging["status"]["availableReplicas"] += 1
    assert [entry["spec"]["replicas"] for entry in sets] == [0, replicas]


def _born(obj: Obj) -> Obj:
    digest = obj["metadata"]["name"].removeprefix("web-")
    metadata = {**obj["metadata"], "uid": digest, "creationTimestamp": "2026-01-01T00:00:09Z"}
    return {**obj, "metadata": metadata, "status": {"replicas": 0, "availableReplicas": 0}}


def test_recreate_waits_until_the_old_pods_are_gone() -> None:
    wanted = deployment("2", strategy={"type": "Recreate"})
    old = replica_set("1", 4)
    assert scaled(plan(wanted, [old], NOW).changes) == {old["metadata"]["uid"]: 0}
    old = replica_set("1", 0)
    old["status"]["replicas"] = 2
    assert not [change for change in plan(wanted, [old], NOW).changes if isinstance(change, Create)]
    created = [change for change in plan(wanted, [replica_set("1", 0)], NOW).changes if isinstance(change, Create)]
    assert created[0].obj["spec"]["replicas"] == 4


def test_a_rollback_uses_the_old_set_under_a_new_revision() -> None:
    first, second = replica_set("1", 0, revision=1), replica_set("2", 4, revision=2)
    changes = plan(deployment("1", revision=2), [first, second], NOW).changes
    assert not [change for change in changes if isinstance(change, Create)]
    note = {"metadata": {"annotations": {REVISION: "3"}}}
    assert [change.patch for change in changes if isinstance(change, Patch) and "metadata" in change.patch] == [
        note,
        note,
    ]


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    old = replica_set("1", 4)
    changes = plan(deployment("2", replicas=6, paused=True), [old], NOW).changes
    assert scaled(changes) == {old["metadata"]["uid"]: 6}
    assert not [change for change in changes if isinstance(change, Create)]


def test_old_sets_beyond_the_history_limit_are_deleted() -> None:
    sets = [replica_set(str(number), 0, revision=number) for number in range(1, 4)] + [replica_set("9", 4, revision=4)]
    changes = plan(deployment("9", revision=4, revisionHistoryLimit=1), sets, NOW).changes
    assert [change.key.name for change in changes if isinstance(change, Delete)] == [
        s["metadata"]["name"] for s in sets[:2]
    ]


def test_a_complete_rollout_says_so() -> None:
    status = status_of(plan(deployment("1"), [replica_set("1", 4)], NOW).changes)
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (4, 4, 4)
    assert status["observedGeneration"] == 1
    assert "unavailableReplicas" not in status
    said = {"status": status}
    assert condition_of(said, "Available")["status"] == "True"
    assert condition_of(said, "Progressing")["reason"] == "NewReplicaSetAvailable"
    after = {**deployment("1"), "status": status}
    assert not plan(after, [replica_set("1", 4)], NOW + timedelta(hours=1)).changes


def test_a_rollout_that_stands_still_is_called_stuck_after_its_deadline() -> None:
    wanted = deployment("1", progressDeadlineSeconds=60)
    stuck = [replica_set("1", 4, available=1)]
    first = plan(wanted, stuck, NOW)
    assert first.again == 60
    wanted["status"] = status_of(first.changes)
    assert condition_of(wanted, "Progressing")["reason"] == "ReplicaSetUpdated"
    assert not plan(wanted, stuck, NOW + timedelta(seconds=59)).changes
    late = status_of(plan(wanted, stuck, NOW + timedelta(seconds=60)).changes)
    assert condition_of({"status": late}, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    wanted["status"] = late
    assert not plan(wanted, stuck, NOW + timedelta(seconds=90)).changes
