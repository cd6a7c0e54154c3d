"""Whose status is looked at after a revision."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from meltemi.api.meta import ObjectMeta
from meltemi.api.networking.service_entry import (
    ServiceEntry,
    ServiceEntryAddress,
    ServiceEntrySpec,
    ServiceEntryStatus,
)
from meltemi.base.refs import Ref
from meltemi.controlplane.main import ControlPlane, Settings
from meltemi.flow import Put
from meltemi.kube.client import Client


def entry(name: str, created: str) -> ServiceEntry:
    host = f"{name}.example.com"
    given = tuple(ServiceEntryAddress(host=host, value=value) for value in ("240.240.0.7", "2001:2::7"))
    return ServiceEntry(
        metadata=ObjectMeta(name=name, namespace="shop", creation_timestamp=created),
        spec=ServiceEntrySpec(hosts=(host,), resolution="STATIC"),
        status=ServiceEntryStatus(addresses=given),
    )


async def test_whoever_loses_an_address_to_an_older_entry_is_told_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = ControlPlane(Settings(state=tmp_path), cast("Client", None))
    marked: set[Ref] = set()

    def mark(refs: Iterable[Ref], revision: int) -> None:
        marked.update(refs)

    monkeypatch.setattr(plane.status, "mark", mark)
    table = plane.revisions.pipeline.facts["ServiceEntry"]
    for name, created in (("younger", "2026-02-01T00:00:00Z"), ("older", "2026-01-01T00:00:00Z")):
        marked.clear()
        plane.revisions.put([Put(table, ("shop", name), entry(name, created))])
        plane.revisions.flush()
    assert marked == {Ref("ServiceEntry", "shop", "younger"), Ref("ServiceEntry", "shop", "older")}
    given = plane.revisions.pipeline.allocations.only().addresses
    assert given["shop", "older"][0].value == "240.240.0.7" != given["shop", "younger"][0].value
