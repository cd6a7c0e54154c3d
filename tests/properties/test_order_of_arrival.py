"""Conflicts between users' objects are decided by age, never by which object came first, and the loser is told.

The objects of each conflict come one by one, in every order. Each order must fill every table of the pipeline with the
same rows, down to what Envoy gets, and tell the same problems. The older object has the later name, so that a decision
by name would show.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from meltemi.api.meta import Resource
from meltemi.flow import Put
from meltemi.model.clients import ProxyKind
from meltemi.pipeline import build
from meltemi.testing.build import resources
from meltemi.testing.worlds import client

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: books}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.96.0.11, ports: [{name: http, port: 80}]}
---
"""
PROXIES = (client("front"), client("edge", labels={"app": "edge"}, kind=ProxyKind.GATEWAY))


def pair(kind: str, old: str, young: str) -> list[Resource]:
    """Two services, and two objects of one kind that do not agree."""
    head = f"apiVersion: networking.istio.io/v1\nkind: {kind}\n"
    return resources(
        f"{SERVICES}{head}metadata: {{name: zz-old}}\nspec: {old}\n---\n{head}metadata: {{name: young}}\nspec: {young}\n"
    )


CONFLICTS = {
    ("VirtualService", "HostConflict"): (
        "{hosts: [books], http: [{route: [{destination: {host: books}}]}]}",
        "{hosts: [books], http: [{route: [{destination: {host: other}}]}]}",
    ),
    ("DestinationRule", "DestinationRuleConflict"): (
        "{host: books, trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
        "{host: books, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
    ),
    ("Sidecar", "SidecarConflict"): (
        "{egress: [{hosts: [./books.default.svc.cluster.local]}]}",
        "{egress: [{hosts: [./other.default.svc.cluster.local]}]}",
    ),
    ("Gateway", "ServerConflict"): (
        "{selector: {app: edge}, servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}]}",
        "{selector: {app: edge}, servers: [{port: {number: 80, name: b, protocol: TCP}, hosts: ['*']}]}",
    ),
    ("ServiceEntry", "ServiceEntryConflict"): (
        "{hosts: [far.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}",
        "{hosts: [far.example.com], resolution: DNS, ports: [{number: 80, name: tcp, protocol: TCP}]}",
    ),
}


def outcome(objects: tuple[Resource, ...]) -> dict[str, Any]:
    """Every row and every problem, when the objects come in this order."""
    pipeline = build()
    pipeline.graph.commit([Put(pipeline.proxies, each.id, each) for each in PROXIES])
    for each in objects:
        pipeline.graph.commit([Put(pipeline.facts[each.ref.kind], (each.namespace, each.name), each)])
    return {
        **{table.name: table.items() for table in pipeline.graph.tables},
        "problems": pipeline.graph.problems(),
    }


@pytest.mark.parametrize(("kind", "code"), CONFLICTS)
def test_a_conflict_ends_the_same_in_every_order_and_the_loser_is_told(kind: str, code: str) -> None:
    objects = pair(kind, *CONFLICTS[kind, code])
    first, *others = (outcome(order) for order in itertools.permutations(objects))
    for other in others:
        assert other == first
    assert {each.ref.name for each in first["problems"] if each.code == code} == {"young"}
