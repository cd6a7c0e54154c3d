"""`meltemi apply`: everything is checked before anything is written, and live when it is said to be."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import yaml

from .conftest import Mesh, virtual_service

GOOD = """\
# one line above
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookshop}
spec:
  hosts: [reviews]
  http:
    - route:
        - destination: {host: reviews}
---
apiVersion: v1
kind: Namespace
metadata: {name: bookshop}
"""

BAD = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: bookshop}
spec:
  hots: reviews
  host: reviews
  subsets:
    - {name: v1, lables: {version: v1}}
"""


def live(**more: Any) -> dict[str, Any]:
    return {"live": True, "seen": True, "revision": 8, "proxies": 15, "behind": [], "problems": [], **more}


@pytest.fixture
def waiting_mesh(mesh: Mesh) -> Mesh:
    tables = [{"name": name, "kind": "input"} for name in ("core/Namespace", "networking/VirtualService")]
    mesh.control_plane.answers["/tables"] = {"revision": 1, "problems": 0, "tables": tables}
    mesh.control_plane.answers["/wait"] = live()
    return mesh


def test_objects_are_created_with_their_namespaces_first(mesh: Mesh) -> None:
    told = mesh.run("apply", "-f", mesh.file("shop.yaml", GOOD))
    assert told.err == ""
    assert told.out.splitlines() == ["namespace/bookshop created", "virtualservice.networking.istio.io/reviews created"]
    assert told.status == 0


def test_a_second_time_they_are_unchanged_and_a_change_configures(mesh: Mesh) -> None:
    path = mesh.file("shop.yaml", GOOD)
    mesh.run("apply", "-f", path)
    assert mesh.run("apply", "-f", path).out.splitlines()[1].endswith("/reviews unchanged")
    mesh.file("shop.yaml", GOOD.replace("hosts: [reviews]", "hosts: [reviews, books]"))
    assert mesh.run("apply", "-f", path).out.splitlines() == [
        "namespace/bookshop unchanged",
        "virtualservice.networking.istio.io/reviews configured",
    ]


def test_an_object_remembers_the_line_where_it_was_written(mesh: Mesh) -> None:
    path = mesh.file("shop.yaml", GOOD)
    mesh.run("apply", "-f", path)
    stored = yaml.safe_load(mesh.run("get", "vs", "reviews", "-n", "bookshop", "-o", "yaml").out)
    assert stored["metadata"]["annotations"] == {"meltemi.dev/origin": f"{path}:2"}


def test_if_one_object_is_wrong_all_problems_are_told_and_nothing_is_applied(mesh: Mesh) -> None:
    good, bad = mesh.file("a.yaml", GOOD), mesh.file("b.yaml", BAD)
    told = mesh.run("apply", "-f", good, "-f", bad)
    assert told.status == 1
    assert told.out == ""
    assert f"{bad}:5: error: DestinationRule bookshop/reviews: spec.hots:" in told.err
    assert f"{bad}:8: error: DestinationRule bookshop/reviews: spec.subsets[0].lables:" in told.err
    assert "hint: did you mean labels?" in told.err
    assert told.err.endswith("error: nothing was applied: 2 errors\n")
    assert mesh.run("get", "namespace", "bookshop").status == 1


def test_if_the_api_would_refuse_one_object_nothing_is_applied(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    stray = GOOD.replace("bookshop}\nspec", "nowhere}\nspec")
    told = mesh.run("apply", "-f", mesh.file("shop.yaml", stray))
    assert told.status == 1
    assert 'namespaces "nowhere" not found' in told.err
    assert "shop.yaml:2: error: VirtualService nowhere/reviews:" in told.err
    assert told.out == ""


def test_a_kind_that_nobody_knows_is_refused_with_the_closest(mesh: Mesh) -> None:
    told = mesh.run("apply", "-f", mesh.file("x.yaml", GOOD.replace("VirtualService", "VirtualServise")))
    assert told.status == 1
    assert "did you mean VirtualService?" in told.err


def test_a_kind_that_only_the_api_knows_is_applied(mesh: Mesh) -> None:
    node = "apiVersion: v1\nkind: Node\nmetadata: {name: elsewhere}\n"
    assert mesh.run("apply", "-f", mesh.file("node.yaml", node)).out == "node/elsewhere created\n"


def test_an_object_written_twice_is_refused(mesh: Mesh) -> None:
    told = mesh.run("apply", "-f", mesh.file("a.yaml", GOOD), "-f", mesh.file("b.yaml", GOOD))
    assert told.status == 1
    assert "the object is written twice: also at" in told.err


def test_another_namespace_than_the_one_asked_for_is_refused(mesh: Mesh) -> None:
    told = mesh.run("apply", "-n", "default", "-f", mesh.file("a.yaml", GOOD))
    assert "the object is for the namespace bookshop, but -n default was given" in told.err


def test_standard_input_and_lists_are_read(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in "ab"]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert mesh.run("apply", "-f", "-").out == "configmap/a created\nconfigmap/b created\n"


def test_a_directory_is_read_without_its_subdirectories_unless_asked_for(mesh: Mesh) -> None:
    mesh.file("shop/a.yaml", GOOD)
    mesh.file("shop/more/b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n")
    directory = str(mesh.directory / "shop")
    assert len(mesh.run("apply", "-f", directory).out.splitlines()) == 2
    assert len(mesh.run("apply", "-R", "-f", directory).out.splitlines()) == 3


def test_a_file_that_is_not_there_is_answered_with_the_closest(mesh: Mesh) -> None:
    path = mesh.file("shop.yaml", GOOD)
    told = mesh.run("apply", "-f", path.replace("shop.yaml", "shp.yaml"))
    assert told.status == 2
    assert f"hint: did you mean '{path}'?" in told.err


@pytest.mark.parametrize("where", ["server", "client"])
def test_a_dry_run_changes_nothing(mesh: Mesh, where: str) -> None:
    told = mesh.run("apply", "-f", mesh.file("ns.yaml", GOOD.partition("---")[2]), f"--dry-run={where}")
    assert told.out.endswith(f"({where} dry run)\n")
    assert mesh.run("get", "namespace", "bookshop").status == 1


def test_fields_of_others_are_not_taken_unless_told_to(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    mesh.put(virtual_service())
    path = mesh.file("shop.yaml", GOOD.replace("hosts: [reviews]", "hosts: [books]").partition("---")[0])
    told = mesh.run("apply", "-f", path)
    assert told.status == 1
    assert "--force-conflicts takes the fields over" in told.err
    assert mesh.run("apply", "-f", path, "--force-conflicts").out.endswith("configured\n")


# === waiting ===


def test_waiting_asks_for_each_object_in_the_version_that_was_written(waiting_mesh: Mesh) -> None:
    told = waiting_mesh.run("apply", "-f", waiting_mesh.file("shop.yaml", GOOD), "--wait")
    assert told.status == 0
    assert told.out.splitlines()[-1].startswith("live at 15 proxies in ")
    asked = [question for question in waiting_mesh.control_plane.asked if question.startswith("/wait")]
    assert len(asked) == 2
    assert "kind=VirtualService&namespace=bookshop&name=reviews&resourceVersion=" in asked[1]


def test_kinds_that_the_control_plane_does_not_act_on_are_not_waited_for(waiting_mesh: Mesh) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    assert waiting_mesh.run("apply", "-f", waiting_mesh.file("c.yaml", config), "--wait").status == 0
    assert not [question for question in waiting_mesh.control_plane.asked if question.startswith("/wait")]


def test_proxies_that_are_behind_at_the_end_are_named(waiting_mesh: Mesh) -> None:
    waiting_mesh.control_plane.answers["/wait"] = live(live=False, behind=["a.bookshop", "b.bookshop"])
    told = waiting_mesh.run("apply", "-f", waiting_mesh.file("shop.yaml", GOOD), "--wait", "--timeout", "0s")
    assert told.status == 1
    assert "2 of 15 proxies have not acknowledged: a.bookshop, b.bookshop" in told.err
    assert "hint: `meltemi proxy-status`" in told.err


def test_a_refusal_is_told_in_envoys_words_with_the_line_of_the_field(waiting_mesh: Mesh) -> None:
    refused = {
        "kind": "VirtualService",
        "namespace": "bookshop",
        "name": "reviews",
        "path": "spec.http[0].route[0]",
        "severity": "Error",
        "code": "RejectedByProxy",
        "message": "Envoy refused 80/reviews:80: weight must be > 0",
        "hint": "",
        "origin": "",
    }
    waiting_mesh.control_plane.answers["/wait"] = live(problems=[refused])
    path = waiting_mesh.file("shop.yaml", GOOD)
    told = waiting_mesh.run("apply", "-f", path, "--wait")
    assert told.status == 1
    assert f"{path}:9: error: VirtualService bookshop/reviews: spec.http[0].route[0]: Envoy refused" in told.err
    assert "not wholly live: 1 error" in told.err


def test_a_control_plane_that_does_not_answer_is_said_after_what_was_applied(mesh: Mesh) -> None:
    from meltemi.kube.transport import Response

    unavailable = (
        b'{"kind":"Status","code":503,"reason":"ServiceUnavailable","message":"the control plane is not running"}'
    )
    mesh.control_plane.answers["/tables"] = lambda query: Response(503, unavailable)
    told = mesh.run("apply", "-f", mesh.file("shop.yaml", GOOD), "--wait")
    assert told.status == 1
    assert told.out.count("created") == 2
    assert "the control plane of the mesh 'local' does not answer" in told.err


def test_a_deployment_is_waited_for_until_it_has_rolled_out(waiting_mesh: Mesh) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}},
        },
    }
    path = waiting_mesh.file("web.yaml", yaml.safe_dump(deployment))
    told = waiting_mesh.run("apply", "-f", path, "--wait", "--timeout", "0s")
    assert told.status == 1
    assert "not rolled out after 0 ms: deployment.apps/web" in told.err
    from meltemi.kube.resources import Key

    kind = waiting_mesh.server.verbs.catalogue.by_id("deployments.apps")
    assert kind is not None
    obj = waiting_mesh.server.verbs.get(kind, Key("default", "web")).obj
    counts = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    waiting_mesh.set_status(obj, counts)
    assert waiting_mesh.run("apply", "-f", path, "--wait").status == 0
