"""Hosts: which patterns cover them, and who may see what."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.model.clients import EVERYWHERE, Visibility
from meltemi.resolve import hosts


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example.org", ["a.example.org", "*.example.org", "*.org", "*"]),
        ("a-v1.example.org", ["a-v1.example.org", "*-v1.example.org", "*.example.org", "*.org", "*"]),
        ("a.my-site.org", ["a.my-site.org", "*.my-site.org", "*.org", "*"]),
        ("*.example.org", ["*.example.org", "*.org", "*"]),
        ("*", ["*"]),
    ],
)
def test_a_host_is_covered_by_itself_and_by_ever_wider_wildcards(host: str, expected: list[str]) -> None:
    assert list(hosts.patterns(host)) == expected


@pytest.mark.parametrize(
    ("export_to", "expected"),
    [
        ((), EVERYWHERE),
        (("*",), Visibility()),
        ((".",), Visibility(frozenset({"shop"}))),
        ((".", "bank"), Visibility(frozenset({"shop", "bank"}))),
        (("~",), Visibility(frozenset())),
    ],
)
def test_export_to_names_namespaces(export_to: tuple[str, ...], expected: Visibility) -> None:
    assert hosts.exported(export_to, "shop", EVERYWHERE) == expected


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{hosts: [api.example.org], ports: [{{number: {port}, name: http, protocol: HTTP}}], exportTo: ["{to}"]}}
---
"""

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: shop}
spec: {hosts: [old.example.org], http: [{route: [{destination: {host: api.example.org}}]}]}
---
"""


def target(mesh: Any) -> tuple[str, int]:
    (variant,) = mesh.row("orphans", "old.example.org").variants
    found = variant.routes(80)[0].action.targets[0].target
    return (found.namespace, found.port)


def test_of_several_services_with_one_host_the_own_namespaces_is_meant_then_the_oldest(resolved: Any) -> None:
    resolved.apply(RULE + ENTRY.format(name="a", namespace="lab", port=1, to="*"))
    assert target(resolved) == ("lab", 1)
    resolved.apply(ENTRY.format(name="a", namespace="shop", port=2, to="."))
    assert target(resolved) == ("shop", 2)


def test_a_service_that_is_not_exported_to_the_rule_is_not_meant(resolved: Any) -> None:
    resolved.apply(RULE + ENTRY.format(name="a", namespace="lab", port=1, to="."))
    assert target(resolved) == ("shop", 0)
    assert resolved.problems()["HostNotVisible"].path == "spec.http[0].route[0].destination.host"
