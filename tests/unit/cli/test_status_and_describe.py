"""`meltemi status` and `meltemi describe`: the whole at a glance, and one object in full."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import NOW, Mesh, pod, virtual_service
from .test_proxies import REJECTED, proxy

PROBLEM = {
    "kind": "VirtualService",
    "namespace": "bookshop",
    "name": "reviews",
    "path": "spec.http[0].route[0].destination.host",
    "severity": "Error",
    "code": "HostNotFound",
    "message": "no service 'reviws' exists",
    "hint": "did you mean reviews?",
    "origin": "shop.yaml:12",
}


def deployment(name: str, ready: int, wanted: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app"}]}}
    spec = {"replicas": wanted, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "bookshop"},
        "spec": spec,
        "status": {"readyReplicas": ready},
    }


@pytest.fixture
def shop(mesh: Mesh) -> Mesh:
    mesh.namespace("bookshop")
    for name, ready, wanted in (("reviews", 1, 1), ("ratings", 2, 2)):
        obj = deployment(name, ready, wanted)
        mesh.set_status(mesh.put(obj), obj["status"])
    mesh.put(virtual_service(annotations={"meltemi.dev/origin": "/elsewhere/shop.yaml:12"}))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gateway", "namespace": "bookshop"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}]},
    }
    ports = [{"port": 8080, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}]
    mesh.set_status(mesh.put(service), {"loadBalancer": {"ingress": [{"ip": "127.0.0.1", "ports": ports}]}})
    mesh.control_plane.answers["/proxies"] = [proxy("gateway-x", kind="router"), proxy("reviews-v1-b")]
    return mesh


# === status ===


def test_all_is_well_at_a_glance(shop: Mesh) -> None:
    told = shop.run("status")
    assert told.out.splitlines() == [
        "mesh            the mesh 'local'",
        "control plane   version 0.1.0, revision 7",
        "proxies         2 of 2 in sync",
        "workloads       2 of 2 ready",
        "gateways        bookshop/gateway: http://127.0.0.1:8080, 127.0.0.1:8443",
        "problems        none",
    ]
    assert told.status == 0


def test_a_workload_that_is_not_ready_is_named(shop: Mesh) -> None:
    shop.set_status(shop.put(deployment("stock", 0, 1)), {"readyReplicas": 0})
    told = shop.run("status")
    assert "workloads       2 of 3 ready; not: bookshop/stock (0/1)" in told.out
    assert told.status == 1


def test_problems_are_told_with_place_and_fix(shop: Mesh) -> None:
    shop.control_plane.answers["/problems"] = [PROBLEM, PROBLEM | {"severity": "Warning", "name": "a"}]
    told = shop.run("status")
    assert "problems        1 error, 1 warning" in told.out
    errors = [line for line in told.out.splitlines() if line.startswith("shop.yaml:12:")]
    assert errors[0] == (
        "shop.yaml:12: error: VirtualService bookshop/reviews: spec.http[0].route[0].destination.host: "
        "no service 'reviws' exists"
    )
    assert "  hint: did you mean reviews?" in told.out
    assert told.status == 1


def test_a_proxy_that_refused_something_is_told_with_envoys_words(shop: Mesh) -> None:
    shop.control_plane.answers["/proxies"] = [proxy("a-1", vhds=REJECTED)]
    told = shop.run("status")
    assert "proxies         0 of 1 in sync; not: a-1.bookshop" in told.out
    assert told.out.splitlines()[-1] == "a-1.bookshop refused VHDS 80/reviews:80: weight must be > 0"


def test_without_a_control_plane_the_rest_is_told_all_the_same(shop: Mesh) -> None:
    from meltemi.kube.transport import Response

    body = b'{"kind":"Status","code":503,"reason":"ServiceUnavailable","message":"the control plane is not running"}'
    shop.control_plane.answers["/version"] = lambda query: Response(503, body)
    told = shop.run("status")
    assert "control plane   does not answer:" in told.out
    assert "workloads       2 of 2 ready" in told.out
    assert told.status == 1


def test_status_as_json_says_whether_all_is_well(shop: Mesh) -> None:
    told = json.loads(shop.run("status", "-o", "json").out)
    assert told["well"] is True
    assert told["workloads"][0] == {"name": "bookshop/ratings", "ready": 2, "wanted": 2}


# === describe ===


@pytest.fixture
def held(shop: Mesh) -> Mesh:
    source = {"kind": "VirtualService", "namespace": "bookshop", "name": "reviews", "path": "spec.http[0]"}
    row = {"type": "VirtualHost", "name": "80/reviews:80", "sources": [source]}
    answers = shop.control_plane.answers
    answers["/tables"] = {"tables": [{"name": "VirtualService", "kind": "input"}]}
    answers["/problems"] = [PROBLEM]
    answers["/wait"] = {"live": False, "seen": True, "proxies": 2, "behind": ["gateway-x.bookshop"]}
    answers["/proxies"] = [proxy("reviews-v1-a"), proxy("reviews-v1-b"), proxy("gateway-x") | {"view": "router"}]
    answers["/proxies/reviews-v1-a.bookshop/config"] = {"routes": [row]}
    answers["/proxies/gateway-x.bookshop/config"] = {"routes": []}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "reviews.1", "namespace": "bookshop"},
        "involvedObject": {"kind": "VirtualService", "name": "reviews", "namespace": "bookshop"},
        "type": "Warning",
        "reason": "HostNotFound",
        "message": "no service 'reviws' exists",
        "lastTimestamp": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    shop.put(event)
    return shop


def test_an_object_is_described_with_its_place_problems_proxies_and_events(held: Mesh) -> None:
    told = held.run("describe", "vs", "reviews", "-n", "bookshop")
    assert told.status == 0
    assert "Name:          reviews" in told.out
    assert "Written in:    /elsewhere/shop.yaml:12" in told.out
    assert "Content:\n  hosts:" in told.out
    assert "  error: spec.http[0].route[0].destination.host: no service 'reviws' exists" in told.out
    assert "  1 of 2 proxies have not acknowledged yet: gateway-x.bookshop" in told.out
    assert "  part of the configuration of 2 proxies:\n    reviews-v1-a.bookshop\n    reviews-v1-b.bookshop" in told.out
    assert "Events:\n  TYPE      REASON         AGE" in told.out


def test_of_proxies_that_hold_the_same_only_one_is_asked(held: Mesh) -> None:
    held.run("describe", "vs", "reviews", "-n", "bookshop")
    assert not [question for question in held.control_plane.asked if "reviews-v1-b" in question]


def test_without_a_control_plane_an_object_is_described_all_the_same(shop: Mesh) -> None:
    shop.control_plane.answers.clear()
    told = shop.run("describe", "vs", "reviews", "-n", "bookshop")
    assert told.status == 0
    assert "Live:" not in told.out


def test_a_pod_is_described_with_its_containers(shop: Mesh) -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    before = {"terminated": {"reason": "Error", "exitCode": 3}}
    status = {"name": "app", "ready": False, "restartCount": 4, "state": state, "lastState": before}
    shop.set_status(shop.put(pod("reviews-1")), {"containerStatuses": [status]})
    told = shop.run("describe", "pod/reviews-1", "-n", "bookshop")
    line = next(line for line in told.out.splitlines() if line.strip().startswith("app "))
    assert line.split() == [
        "app",
        "no",
        "4",
        "waiting",
        "(CrashLoopBackOff):",
        "back-off",
        "10s",
        "terminated",
        "(Error,",
        "exit",
        "code",
        "3)",
    ]


def test_the_content_of_a_secret_is_not_shown(shop: Mesh) -> None:
    shop.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "namespace": "bookshop"},
            "data": {"password": "aHVudGVyMg=="},
        }
    )
    told = shop.run("describe", "secret", "s", "-n", "bookshop")
    assert "password: 7 bytes" in told.out
    assert "aHVudGVyMg" not in told.out


def test_a_name_is_needed(shop: Mesh) -> None:
    assert shop.run("describe", "vs", "-n", "bookshop").status == 2
