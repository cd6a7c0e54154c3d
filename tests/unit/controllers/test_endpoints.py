"""EndpointSlices tell the pods of a Service."""

from __future__ import annotations

from typing import Any

from meltemi.kube.resources import Obj
from meltemi.local.controllers.endpoints import plan
from meltemi.local.controllers.plans import Create, Delete, Replace


def service(**spec: Any) -> Obj:
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP", "appProtocol": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "ports": ports, "clusterIP": "10.96.1.1", **spec},
    }


def pod(
    name: str, ip: str = "10.244.0.5", *, ready: bool = True, port: int = 8080, app: str = "web", **metadata: Any
) -> Obj:
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": app}, **metadata},
        "spec": {"nodeName": "local", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {
            "podIP": ip,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def created(changes: Any) -> list[Obj]:
    return [change.obj for change in changes if isinstance(change, Create)]


def test_a_slice_names_each_selected_pod_with_its_address_and_state() -> None:
    pods = [pod("b", "10.244.0.6", ready=False), pod("a"), pod("other", app="x"), pod("no-address", "")]
    [made] = created(plan(service(), pods, []).changes)
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http"}]
    assert [(e["targetRef"]["name"], e["addresses"], e["conditions"]["ready"]) for e in made["endpoints"]] == [
        ("a", ["10.244.0.5"], True),
        ("b", ["10.244.0.6"], False),
    ]


def test_a_pod_on_its_way_out_still_serves_but_is_not_ready() -> None:
    [made] = created(plan(service(), [pod("a", deletionTimestamp="2026-01-01T00:00:00Z")], []).changes)
    assert made["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_pods_whose_named_port_differs_are_told_apart() -> None:
    made = created(plan(service(), [pod("a"), pod("b", port=9090)], []).changes)
    assert sorted(entry["ports"][0]["port"] for entry in made) == [8080, 9090]
    assert len({entry["metadata"]["name"] for entry in made}) == 2


def test_a_service_without_pods_has_an_empty_slice_and_one_without_selector_none() -> None:
    [made] = created(plan(service(), [], []).changes)
    assert made["endpoints"] == []
    assert not plan(service(selector=None), [pod("a")], []).changes


def test_unready_pods_are_published_where_asked_for() -> None:
    [made] = created(plan(service(publishNotReadyAddresses=True), [pod("a", ready=False)], []).changes)
    assert made["endpoints"][0]["conditions"] == {"ready": True, "serving": False, "terminating": False}


def test_slices_that_say_the_truth_are_left_alone_others_replaced_or_removed() -> None:
    existing = created(plan(service(), [pod("a")], []).changes)
    assert not plan(service(), [pod("a")], existing).changes
    [change] = plan(service(), [pod("a", "10.244.0.9")], existing).changes
    assert isinstance(change, Replace)
    changes = plan(service(), [pod("a", port=9090)], existing).changes
    assert [type(change) for change in changes] == [Create, Delete]


def test_a_headless_service_is_marked_as_such() -> None:
    [made] = created(plan(service(clusterIP="None"), [pod("a")], []).changes)
    assert "service.kubernetes.io/headless" in made["metadata"]["labels"]
