"""`meltemi delete`: by name, label or file."""

from __future__ import annotations

import pytest

from .conftest import Mesh, pod, virtual_service

FILE = """\
apiVersion: v1
kind: Namespace
metadata: {name: bookshop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookshop}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
"""


@pytest.fixture
def shop(mesh: Mesh) -> Mesh:
    mesh.namespace("bookshop")
    mesh.put(virtual_service())
    for name in ("ratings-1", "ratings-2", "reviews-1"):
        mesh.put(pod(name, labels={"app": name.partition("-")[0]}))
    mesh.control_plane.answers["/tables"] = {"tables": [{"name": "networking/VirtualService", "kind": "input"}]}
    mesh.control_plane.answers["/wait"] = {"live": True, "seen": True, "proxies": 3}
    return mesh


def names(mesh: Mesh, kind: str) -> list[str]:
    return mesh.run("get", kind, "-n", "bookshop", "-o", "name").out.splitlines()


def test_an_object_is_deleted_by_name(shop: Mesh) -> None:
    told = shop.run("delete", "vs", "reviews", "-n", "bookshop")
    assert (told.status, told.out) == (0, "virtualservice.networking.istio.io/reviews deleted\n")
    assert names(shop, "vs") == []


def test_objects_are_deleted_by_label(shop: Mesh) -> None:
    shop.run("delete", "pods", "-l", "app=ratings", "-n", "bookshop")
    assert "pod/ratings-1" not in names(shop, "pods")


def test_a_whole_kind_is_not_deleted_by_accident(shop: Mesh) -> None:
    told = shop.run("delete", "pods", "-n", "bookshop")
    assert told.status == 2
    assert "which pods?" in told.err


def test_the_objects_of_a_file_are_deleted_the_last_first(shop: Mesh) -> None:
    told = shop.run("delete", "-f", shop.file("shop.yaml", FILE))
    assert told.out.splitlines() == ["virtualservice.networking.istio.io/reviews deleted", "namespace/bookshop deleted"]


def test_what_is_gone_already_is_no_failure_for_a_file(shop: Mesh) -> None:
    path = shop.file("vs.yaml", FILE.partition("---")[2])
    shop.run("delete", "-f", path)
    told = shop.run("delete", "-f", path)
    assert (told.status, told.out) == (0, "virtualservice.networking.istio.io/reviews not found\n")


def test_a_name_that_is_not_there_is_a_failure_unless_that_is_well(shop: Mesh) -> None:
    told = shop.run("delete", "vs", "review", "-n", "bookshop")
    assert told.status == 1
    assert "did you mean 'reviews'?" in told.err
    assert shop.run("delete", "vs", "review", "-n", "bookshop", "--ignore-not-found").status == 0


def test_a_dry_run_deletes_nothing(shop: Mesh) -> None:
    assert shop.run("delete", "vs", "reviews", "-n", "bookshop", "--dry-run", "server").out.endswith(
        "(server dry run)\n"
    )
    assert names(shop, "vs") == ["virtualservice.networking.istio.io/reviews"]


def test_waiting_asks_for_the_absence_of_the_object(shop: Mesh) -> None:
    told = shop.run("delete", "vs", "reviews", "-n", "bookshop", "--wait")
    assert told.out.splitlines()[-1].startswith("gone from 3 proxies in ")
    asked = next(question for question in shop.control_plane.asked if question.startswith("/wait"))
    assert "name=reviews&resourceVersion=-1" in asked


def test_something_must_be_named(mesh: Mesh) -> None:
    assert mesh.run("delete").status == 2
