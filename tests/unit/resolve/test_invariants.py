"""What holds of every mesh: no fault of ours, the same meaning in whatever order facts come, and nothing left behind."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meltemi.api.decoding import decode
from meltemi.api.meta import Resource
from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.flow import Put, Remove
from meltemi.model.clients import ProxyKind
from meltemi.model.proxies import Proxy
from meltemi.testing.random_mesh import NAMESPACES, SERVICES, VERSIONS, RandomMesh

SEEDS = range(40)


def decoded(seed: int) -> list[Resource]:
    found = []
    for document in RandomMesh(seed).objects():
        each = decode(document)
        assert each.resource is not None, each.problems
        found.append(each.resource)
    return found


def proxies() -> list[Proxy]:
    found = []
    for namespace in NAMESPACES:
        for app in SERVICES:
            for version in VERSIONS:
                found.append(
                    Proxy(
                        id=f"{app}-{version}.{namespace}",
                        kind=ProxyKind.SIDECAR,
                        namespace=namespace,
                        labels=LabelSet.of({"app": app, "version": version}),
                        identity=SpiffeId("cluster.local", namespace, app),
                    )
                )
        for labels in ({"istio": "ingressgateway"}, {"app": "edge"}):
            found.append(
                Proxy(
                    id=f"edge-{len(labels)}{next(iter(labels))}.{namespace}",
                    kind=ProxyKind.GATEWAY,
                    namespace=namespace,
                    labels=LabelSet.of(labels),
                    identity=SpiffeId("cluster.local", namespace, "edge"),
                )
            )
    return found


def facts(mesh: Any, objects: list[Resource]) -> list[Put[Any, Any]]:
    puts = [Put(mesh.facts[each.kind], (each.namespace, each.name), each) for each in objects]
    return [*puts, *(Put(mesh.proxies, each.id, each) for each in proxies())]


def meaning(mesh: Any) -> dict[str, Any]:
    return {
        **{table.name: table.items() for table in mesh.graph.tables},
        "problems": mesh.graph.problems(),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_valid_mesh_is_resolved_without_a_fault(resolved: Any, seed: int) -> None:
    resolved.graph.commit(facts(resolved, decoded(seed)))
    for problem in resolved.graph.problems():
        assert problem.code != "Internal", problem
        assert problem.hint, problem
        assert problem.message, problem


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_and_the_batches_in_which_facts_come_change_nothing(resolved: Any, seed: int) -> None:
    objects = decoded(seed)
    resolved.graph.commit(facts(resolved, objects))
    other = type(resolved)()
    shuffled = facts(other, objects)
    random.Random(seed).shuffle(shuffled)
    for fact in shuffled:
        other.graph.commit([fact])
    assert meaning(other) == meaning(resolved)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_came_and_went_leaves_nothing_behind(resolved: Any, seed: int) -> None:
    objects = decoded(seed)
    resolved.graph.commit(facts(resolved, objects))
    before = meaning(resolved)
    guests = decoded(seed + 1000)
    known = {(each.kind, each.namespace, each.name) for each in objects}
    new = [each for each in guests if (each.kind, each.namespace, each.name) not in known]
    for each in new:
        resolved.graph.commit([Put(resolved.facts[each.kind], (each.namespace, each.name), each)])
    for each in new:
        resolved.graph.commit([Remove(resolved.facts[each.kind], (each.namespace, each.name))])
    assert meaning(resolved) == before
