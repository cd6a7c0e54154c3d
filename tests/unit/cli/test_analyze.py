"""`meltemi analyze`: files, a mesh, or a mesh as it would be with the files."""

from __future__ import annotations

import json

import pytest

from .conftest import Mesh, virtual_service

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: bookshop}
spec: {ports: [{name: http, port: 80}], selector: {app: reviews}}
"""

ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookshop}
spec:
  hosts: [reviews]
  http:
    - route:
        - destination:
            host: reviews
            subset: v2
"""

BROKEN = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: broken, namespace: bookshop}
spec:
  hosts: [reviews]
  htp: []
"""

NAMELESS = """\
apiVersion: v1
kind: Service
metadata: {name: quiet, namespace: bookshop}
spec: {ports: [{name: web, port: 80}]}
"""


def codes(text: str) -> list[tuple[str, str]]:
    return [(row["code"], row["name"]) for row in json.loads(text)]


def test_files_alone_need_no_mesh(mesh: Mesh) -> None:
    file = mesh.file("route.yaml", f"{SERVICE}---\n{ROUTE}")
    told = mesh.run("analyze", file)
    assert told.status == 1
    assert "route.yaml:15: error: VirtualService bookshop/reviews: spec.http[0].route[0].destination.subset" in told.out
    assert "[IST0101]" in told.out
    assert "hint:" in told.out
    assert "analysis: 1 error" in told.out
    assert mesh.control_plane.asked == []


def test_what_is_refused_is_told_with_its_line(mesh: Mesh) -> None:
    told = mesh.run("analyze", mesh.file("broken.yaml", BROKEN))
    assert told.status == 1
    assert "broken.yaml:6: error" in told.out
    assert "[IST0106]" in told.out


def test_a_mesh_is_looked_at_in_one_namespace_or_in_all(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    mesh.put(virtual_service())
    here = mesh.run("analyze", "-n", "default", "-o", "json")
    assert (here.status, codes(here.out)) == (0, [("IST0102", "default")])
    for choice in (("-A",), ("-n", "bookshop")):
        told = mesh.run("analyze", *choice, "-o", "json")
        assert told.status == 1
        assert {("IST0102", "bookshop"), ("IST0101", "reviews")} <= set(codes(told.out))


def test_a_file_takes_the_place_of_the_meshs_own_object(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    mesh.put(virtual_service())
    told = mesh.run("analyze", "-n", "bookshop", "--live", mesh.file("service.yaml", SERVICE), "-o", "json")
    assert codes(told.out) == [("IST0102", "bookshop")]
    told = mesh.run(
        "analyze", "-n", "bookshop", "--live", mesh.file("all.yaml", f"{SERVICE}---\n{ROUTE}"), "-o", "json"
    )
    assert ("IST0101", "reviews") in codes(told.out)
    assert told.status == 1


def test_what_only_the_control_plane_knows_is_told_as_well(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    mesh.control_plane.answers["/problems"] = [
        {
            "kind": "VirtualService",
            "namespace": "bookshop",
            "name": "reviews",
            "path": "spec.http[0]",
            "code": "RejectedByProxy",
            "message": "Envoy refused reviews:80: too long",
        }
    ]
    told = mesh.run("analyze", "-A")
    assert told.status == 1
    assert "Envoy refused reviews:80: too long [RejectedByProxy]" in told.out


@pytest.mark.parametrize(
    ("options", "status", "found"),
    [
        ((), 0, [("IST0118", "quiet")]),
        (("--failure-threshold", "Info"), 1, [("IST0118", "quiet")]),
        (("--output-threshold", "warning"), 0, []),
        (("--suppress", "IST0118=Service bookshop/*", "--failure-threshold", "info"), 0, []),
        (("-S", "IST0118"), 0, []),
    ],
)
def test_levels_decide_what_is_told_and_what_fails(
    mesh: Mesh, options: tuple[str, ...], status: int, found: list[tuple[str, str]]
) -> None:
    told = mesh.run("analyze", mesh.file("quiet.yaml", NAMELESS), "-o", "json", *options)
    assert (told.status, codes(told.out)) == (status, found)


def test_a_suppression_that_names_nothing_is_not_understood(mesh: Mesh) -> None:
    told = mesh.run("analyze", "-S", "IST0103=Pod")
    assert told.status == 2
    assert "names no object" in told.err


def test_the_analyzers_are_listed_with_their_codes(mesh: Mesh) -> None:
    assert "gateways.conflicts" in mesh.run("analyze", "-L").out
    listed = json.loads(mesh.run("analyze", "-L", "-o", "json").out)
    assert {"code": "IST0106", "name": "SchemaValidationError"}.items() <= listed[0]["messages"][0].items()
