"""`meltemi proxy-status` and `meltemi proxy-config`: how far proxies have come, and with what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Mesh, pod, virtual_service

SPLIT = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookshop}
spec:
  hosts: [reviews]
  http:
    - route:
        - destination: {host: reviews}
"""


def proxy(pod_name: str, namespace: str = "bookshop", kind: str = "sidecar", **types: Any) -> dict[str, Any]:
    states = {name: {"state": "synced", "resources": 3, "pending": 0, "rejected": []} for name in ("cds", "lds", "eds")}
    return {
        "id": f"{pod_name}.{namespace}",
        "kind": kind,
        "namespace": namespace,
        "workload": pod_name.rpartition("-")[0],
        "identity": f"spiffe://cluster.local/ns/{namespace}/sa/default",
        "addresses": ["10.244.0.7"],
        "view": f"sidecar/{namespace}",
        "audience": namespace,
        "connected": 1.0,
        "revision": 7,
        "settled": 7,
        "types": states | types,
    }


REJECTED = {"state": "rejected", "rejected": [{"name": "80/reviews:80", "message": "weight must be > 0"}]}


@pytest.fixture
def shop(mesh: Mesh) -> Mesh:
    mesh.namespace("bookshop")
    for name in ("reviews-v1-a", "reviews-v1-b", "till-c"):
        mesh.put(pod(name, labels={"app": name.partition("-")[0]}))
    mesh.control_plane.answers["/proxies"] = [proxy("gateway-x", kind="router"), proxy("reviews-v1-b"), proxy("till-c")]
    return mesh


# === proxy-status ===


def test_each_proxy_has_a_row_with_the_state_of_each_type(shop: Mesh) -> None:
    told = shop.run("proxy-status")
    assert told.rows[0] == ["NAME", "TYPE", "CDS", "LDS", "EDS", "RDS", "VHDS", "REVISION"]
    assert told.rows[1] == ["gateway-x.bookshop", "gateway", "SYNCED", "SYNCED", "SYNCED", "-", "-", "7"]
    assert told.status == 0


def test_a_refusal_is_told_below_in_envoys_words_and_is_a_problem(shop: Mesh) -> None:
    shop.control_plane.answers["/proxies"] = [proxy(name, vhds=REJECTED) for name in ("a-1", "b-1", "c-1")]
    told = shop.run("proxy-status")
    assert told.status == 1
    assert told.out.splitlines()[-1] == "a-1.bookshop and 2 more refused VHDS 80/reviews:80: weight must be > 0"


def test_one_that_is_behind_says_how_far_it_has_come(shop: Mesh) -> None:
    late = proxy("a-1", cds={"state": "sending"}) | {"settled": 5}
    shop.control_plane.answers["/proxies"] = [late]
    assert shop.run("proxy-status").out.splitlines()[1].endswith("5 of 7")


def test_the_proxies_of_one_workload_can_be_picked(shop: Mesh) -> None:
    assert [row[0] for row in shop.run("proxy-status", "app=reviews").rows[1:]] == ["reviews-v1-b.bookshop"]
    assert shop.run("proxy-status", "-n", "elsewhere").err == "no proxy is connected\n"


def test_as_json_everything_is_told(shop: Mesh) -> None:
    told = json.loads(shop.run("proxy-status", "-o", "json").out)
    assert told[0]["types"]["cds"]["state"] == "synced"


def test_a_mesh_without_a_control_plane_says_so(shop: Mesh) -> None:
    from meltemi.kube.transport import Response

    missing = (
        b'{"kind":"Status","code":404,"reason":"NotFound","message":"the server could not find the requested resource"}'
    )
    shop.control_plane.answers["/proxies"] = lambda query: Response(404, missing)
    assert "has no control plane of Meltemi" in shop.run("proxy-status").err


# === proxy-config ===


@pytest.fixture
def configured(shop: Mesh) -> Mesh:
    path = shop.file("split.yaml", "# a split\n" + SPLIT)
    assert shop.run("apply", "-f", path).status == 0
    source = {"kind": "VirtualService", "namespace": "bookshop", "name": "reviews", "path": "spec.http[0].route[0]"}
    host = {
        "domains": ["reviews"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "outbound|80|v1|reviews.b.svc.x"}}],
    }
    row = {
        "type": "VirtualHost",
        "name": "80/reviews:80",
        "version": "1",
        "size": 9,
        "sources": [source],
        "content": host,
    }
    everything = {"routes": [row], "clusters": []}
    shop.control_plane.answers["/proxies/reviews-v1-b.bookshop/config"] = lambda query: {
        query["type"]: everything.get(query["type"], [])
    }
    return shop


def test_a_route_is_told_with_the_file_and_line_it_came_from(configured: Mesh) -> None:
    told = configured.run("proxy-config", "routes", "reviews-v1-b", "-n", "bookshop")
    assert told.rows[0] == ["ROUTES", "DOMAINS", "MATCH", "TO", "SOURCE"]
    place = f"{configured.directory}/split.yaml:9"
    assert f"VirtualService bookshop/reviews spec.http[0].route[0] ({place})" in told.out


def test_the_type_may_be_shortened_and_a_wrong_one_is_answered(configured: Mesh) -> None:
    assert configured.run("proxy-config", "route", "reviews-v1-b").status == 0
    told = configured.run("proxy-config", "lusters", "reviews-v1-b")
    assert told.status == 2
    assert "did you mean 'clusters'?" in told.err


def test_of_a_workload_a_connected_proxy_is_chosen_wherever_it_is(configured: Mesh) -> None:
    assert "80" in configured.run("proxy-config", "routes", "app=reviews").out
    assert "?type=routes&full=true" in configured.control_plane.asked[-1]


def test_all_types_are_told_under_their_names(configured: Mesh) -> None:
    assert configured.run("proxy-config", "all", "reviews-v1-b").out.startswith("ROUTES\nROUTES   DOMAINS")


def test_as_json_a_type_is_a_list_with_whole_contents(configured: Mesh) -> None:
    told = json.loads(configured.run("proxy-config", "routes", "reviews-v1-b", "-o", "json").out)
    assert told[0]["content"]["domains"] == ["reviews"]


def test_the_name_is_asked_of_the_control_plane(configured: Mesh) -> None:
    configured.run("proxy-config", "routes", "reviews-v1-b", "--name", "reviews")
    assert "name=reviews" in configured.control_plane.asked[-1]


def test_nothing_is_said_to_be_nothing(configured: Mesh) -> None:
    told = configured.run("proxy-config", "clusters", "reviews-v1-b", "--name", "x")
    assert told.err == "reviews-v1-b.bookshop has no clusters whose name contains 'x'\n"


def test_a_pod_without_a_sidecar_says_how_it_gets_one(shop: Mesh) -> None:
    told = shop.run("proxy-config", "routes", "reviews-v1-a")
    assert told.status == 1
    assert "the proxy of reviews-v1-a.bookshop is not connected" in told.err
    assert "label its namespace istio-injection=enabled" in told.err


def test_a_workload_that_does_not_exist_is_answered_with_the_closest(shop: Mesh) -> None:
    told = shop.run("proxy-config", "routes", "review-v1-b")
    assert "there is no pod 'review-v1-b'" in told.err
    assert "did you mean 'reviews-v1-b'?" in told.err


def test_a_workload_in_several_namespaces_has_to_be_told_apart(shop: Mesh) -> None:
    shop.namespace("other")
    shop.put(pod("till-c", "other"))
    told = shop.run("proxy-config", "routes", "till-c")
    assert "till-c is in several namespaces: bookshop, other" in told.err


def test_an_object_that_is_no_longer_where_it_was_written_is_told_by_its_old_place(configured: Mesh) -> None:
    configured.file("split.yaml", "# gone\n")
    told = configured.run("proxy-config", "routes", "reviews-v1-b")
    assert f"({configured.directory}/split.yaml:2)" in told.out


def test_an_object_that_was_not_applied_from_a_file_has_no_place(shop: Mesh) -> None:
    shop.put(virtual_service())
    source = {"kind": "VirtualService", "namespace": "bookshop", "name": "reviews"}
    row = {"type": "Cluster", "name": "x", "sources": [source], "content": {}}
    shop.control_plane.answers["/proxies/till-c.bookshop/config"] = {"clusters": [row]}
    assert (
        shop.run("proxy-config", "clusters", "till-c").out.splitlines()[1].endswith("VirtualService bookshop/reviews")
    )
