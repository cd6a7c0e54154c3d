"""Random valid configurations through the whole pipeline into a real Envoy: no crash, and no rejection.

`MELTEMI_RANDOM_MESHES=10000` runs as many as that; the seed of a failure is in its message.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from meltemi.api import decoding
from meltemi.base.refs import Origin
from meltemi.base.spiffe import SpiffeId
from meltemi.controlplane.admission import Admission
from meltemi.controlplane.revisions import Revisions
from meltemi.flow import Fact, Put, Remove
from meltemi.local.door import Door
from meltemi.local.links import LOOPBACK, Links
from meltemi.pipeline import Pipeline, build
from meltemi.testing.envoys import bootstrap, envoy, free_ports, served
from meltemi.testing.random_mesh import RandomMesh
from meltemi.testing.sandboxed import run_sandboxed
from meltemi.xds.hub import Hub

pytestmark = pytest.mark.e2e

COUNT = int(os.environ.get("MELTEMI_RANDOM_MESHES", "60"))
MANY = 500  # in the slow tier
DEADLINE = 30.0
IDENTITY = SpiffeId("cluster.local", "shop", "cart")

Key = tuple[str, tuple[str, str]]


class Meshes:
    """One mesh after another, as facts: what the new one has, and what the last one had and it has not."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._before: set[Key] = set()

    def facts(self, seed: int) -> Iterator[Fact]:
        now: set[Key] = set()
        for document in RandomMesh(seed).objects():
            metadata = document["metadata"]
            table = self._pipeline.facts.get(document["kind"])
            decoded = decoding.decode(document, Origin())
            assert decoded.resource is not None, f"seed {seed}: {decoded.problems}"
            if table is not None:
                key = (document["kind"], (metadata["namespace"], metadata["name"]))
                now.add(key)
                yield Put(table, key[1], decoded.resource)
        for kind, key_of_old in self._before - now:
            yield Remove(self._pipeline.facts[kind], key_of_old)
        self._before = now


@pytest.mark.parametrize("kind", ["sidecar", "router"])
def test_envoy_takes_every_valid_configuration(kind: str) -> None:
    run_sandboxed(partial(envoy_takes_them_all, kind, range(COUNT)), seconds=60 + COUNT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sidecar", "router"])
def test_envoy_takes_every_valid_configuration_of_many(kind: str) -> None:
    seeds = range(1_000_000, 1_000_000 + MANY)
    run_sandboxed(partial(envoy_takes_them_all, kind, seeds), seconds=120 + MANY)


async def envoy_takes_them_all(kind: str, seeds: range, _: Door) -> None:
    """In a network of its own, where a gateway can have every port that it asks for."""
    links = Links()
    links.set_up(LOOPBACK)
    links.close()
    pipeline, hub = build(), Hub()
    revisions = Revisions(pipeline, hub, quiet=0)
    meshes = Meshes(pipeline)
    changed = asyncio.Event()
    hub.on_progress = changed.set
    [admin] = free_ports(1)
    labels = {"istio": "ingressgateway"} if kind == "router" else {"app": "cart"}
    async with (
        served(hub, Admission(revisions), IDENTITY) as port,
        envoy(bootstrap(port, admin, IDENTITY, kind=kind, labels=labels), Path.cwd()) as process,
    ):
        for seed in seeds:
            number = await revisions.put(meshes.facts(seed))
            try:
                async with asyncio.timeout(DEADLINE):
                    while not hub.connections or hub.behind(number):
                        assert process.returncode is None, f"Envoy ended at seed {seed}"
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                open_ = {each.stream.proxy: each.stream.types for each in hub.connections}
                raise AssertionError(f"seed {seed} is not taken: {open_}") from None
            faults = [problem for problem in pipeline.graph.problems() if problem.code == "Internal"]
            assert not faults, f"seed {seed}: {faults[0]}"
            assert not hub.problems(), f"seed {seed}: {hub.problems()[0]}"
