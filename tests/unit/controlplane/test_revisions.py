"""From facts to proxies: batches become revisions, and a control plane that cannot go on says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.controlplane.admission import Admission
from meltemi.controlplane.revisions import Revisions
from meltemi.flow import Put
from meltemi.model.clients import ProxyKind
from meltemi.model.proxies import Proxy
from meltemi.pipeline import build
from meltemi.xds.hub import Hub


def proxy(name: str) -> Proxy:
    identity = SpiffeId("cluster.local", "shop", "default")
    return Proxy(id=f"{name}.shop", kind=ProxyKind.SIDECAR, namespace="shop", labels=LabelSet(), identity=identity)


def revisions(hub: Hub | None = None) -> Revisions:
    return Revisions(build(), hub or Hub(), quiet=0)


async def test_a_burst_of_facts_becomes_one_revision() -> None:
    made = revisions()
    table = made.pipeline.proxies
    first, second = (made.put([Put(table, each.id, each)]) for each in (proxy("a"), proxy("b")))
    assert await first == await second == 1


async def test_what_changes_nothing_makes_no_revision() -> None:
    made = revisions()
    one = proxy("a")
    await made.put([Put(made.pipeline.proxies, one.id, one)])
    assert await made.put([Put(made.pipeline.proxies, one.id, one)]) == 1


async def test_a_proxy_is_admitted_to_its_classes_and_remembered_for_a_while() -> None:
    made = revisions()
    admission = Admission(made, remembered=0)
    one = proxy("a")
    placement = await admission.admit(one)
    assert placement.audience in made.hub.catalogue.shelves
    forgotten = asyncio.Event()
    made.on_revision.append(lambda _: forgotten.set())
    admission.dismiss(one)
    assert made.pipeline.proxies.get(one.id) is not None
    async with asyncio.timeout(5):
        await forgotten.wait()
    assert made.pipeline.proxies.get(one.id) is None


async def test_a_proxy_that_comes_back_in_time_was_never_forgotten() -> None:
    made = revisions()
    admission = Admission(made)
    one = proxy("a")
    await admission.admit(one)
    admission.dismiss(one)
    number = made.number
    await admission.admit(one)
    assert made.number == number


async def test_a_revision_that_cannot_be_carried_to_the_proxies_ends_the_control_plane() -> None:
    class Broken(Hub):
        def on_revision(self, number: int, **_: Any) -> None:
            raise RuntimeError("the hub is broken")

    made = revisions(Broken())
    one = proxy("a")
    with pytest.raises(RuntimeError, match="broken"):
        await made.put([Put(made.pipeline.proxies, one.id, one)])
    with pytest.raises(RuntimeError, match="broken"):
        await made.wait_failed()
