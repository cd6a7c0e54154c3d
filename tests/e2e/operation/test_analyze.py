"""`meltemi analyze` against a running mesh: what it finds, alone and with a file, and what Envoy has refused."""

from __future__ import annotations

import json

from .rig import Mesh

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: bookshop}
spec:
  hosts: [ratings]
  http:
    - route:
        - destination: {host: ratings, subset: v9}
"""

REFUSED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: bookshop}
spec:
  hosts: [ratings]
  http:
    - match: [{uri: {regex: "((a{999}){999})"}}]
      route: [{destination: {host: ratings}}]
    - route: [{destination: {host: ratings}}]
"""


def codes(text: str) -> set[tuple[str, str]]:
    return {(row["code"], row["name"]) for row in json.loads(text)}


def test_a_mesh_that_is_well_has_no_errors_and_no_warnings(bookshop: Mesh) -> None:
    told = bookshop.meltemi("analyze", "-A", "--output-threshold", "warning", "--failure-threshold", "warning")
    assert "analysis: no problems" in told.out


def test_a_file_is_judged_by_what_the_mesh_has(bookshop: Mesh) -> None:
    file = bookshop.directory / "ratings.yaml"
    file.write_text(ROUTE)
    told = bookshop.meltemi("analyze", "--live", file, status=1).out
    assert "ratings.yaml:9: error: VirtualService bookshop/ratings: spec.http[0].route[0].destination.subset" in told
    assert "[IST0101]" in told
    file.write_text(ROUTE.replace(", subset: v9", ""))
    bookshop.meltemi("analyze", "--live", file)


def test_what_envoy_has_refused_is_told_on_the_object(bookshop: Mesh) -> None:
    bookshop.meltemi("apply", "--wait", "-f", "-", typed=REFUSED, status=1)
    try:
        told = bookshop.meltemi("analyze", "-n", "bookshop", "-o", "json", status=1).out
        assert ("RejectedByProxy", "ratings") in codes(told)
        assert "invalid repetition size" in told
    finally:
        bookshop.meltemi("delete", "-f", "-", typed=REFUSED)
