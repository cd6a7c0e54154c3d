"""The architecture page says what the code is: its packages, its floors in their order, and the way of a VirtualService."""

from __future__ import annotations

import configparser
import pkgutil
import re

import pytest
import yaml

from meltemi import pipeline
from meltemi.api import decoding
from meltemi.base.refs import Origin
from meltemi.flow import Put
from meltemi.testing.worlds import World, client

from .documents import DOCS, ROOT, section

PAGE = (DOCS / "architecture.md").read_text()
SOURCE = ROOT / "src" / "meltemi"

Floor = tuple[str, ...]


def floors_of_the_linter() -> list[Floor]:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    lines = config["importlinter:contract:floors"]["layers"].split("\n")
    return [tuple(room.strip().replace("meltemi.", "") for room in line.split("|")) for line in lines if line.strip()]


def floors_of_the_page() -> list[Floor]:
    headings = re.findall(r"^### (.*`.*)$", section(PAGE, "## The floors"), re.MULTILINE)
    return [tuple(room.replace("`", "") for room in heading.split(", ")) for heading in headings]


def packages() -> list[str]:
    found = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("__init__.py")}
    names = {str(path).replace("/", ".") for path in found if path.parts and path.parts[0] != "protos"}
    return sorted({*names, "protos", "pipeline"})


def test_the_floors_are_those_of_the_import_linter_in_the_same_order() -> None:
    assert floors_of_the_page() == floors_of_the_linter()


@pytest.mark.parametrize("floor", floors_of_the_page(), ids=" ".join)
def test_every_floor_that_is_built_says_what_is_deliberately_absent(floor: Floor) -> None:
    heading = "### " + ", ".join(f"(`{room.strip('()')}`)" if room.startswith("(") else f"`{room}`" for room in floor)
    text = section(PAGE, heading)
    if all(room.startswith("(") for room in floor) or floor in [("pipeline",), ("inject", "(explain)")]:
        return
    assert "Architecture invariant: " in text


@pytest.mark.parametrize("package", packages())
def test_every_package_is_described(package: str) -> None:
    assert f"`{package}`" in PAGE


def test_every_module_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", PAGE))
    assert [name for name in sorted(named) if not (SOURCE / name).exists() and "shadow" not in name] == []


def rows_of_the_way() -> list[tuple[str, str, str]]:
    """The tables that a VirtualService passes: their names, what makes them, and what happens."""
    return re.findall(r"^\| `([^`]+)` \| (?:`([^`]+)`|a fact) \| (.*) \|$", PAGE, re.MULTILINE)


def test_the_way_of_a_virtual_service_names_tables_and_transforms_of_the_pipeline_in_their_order() -> None:
    rows = rows_of_the_way()
    tables = [table.name for table in pipeline.build().graph.statistics().tables]
    assert [name for name, _, _ in rows] == sorted((name for name, _, _ in rows), key=tables.index)
    for _, transform, _ in rows:
        assert not transform or pkgutil.resolve_name(f"meltemi.{transform}")


def test_the_tables_that_a_virtual_service_changes_are_those_of_which_the_page_says_so() -> None:
    world = World.of(BOOKSHOP)
    world.resources(client("storefront", namespace="bookshop"))
    revision = world.pipeline.graph.commit([_virtual_service(world)])
    changed = {name for name, _, what in rows_of_the_way() if not what.startswith(("nothing", "what the object names"))}
    assert set(revision.changes) == changed
    offers = revision.of(next(table for table in world.pipeline.offers if table.name == "envoy/virtual_hosts")).changed
    assert [offer.name for offer in offers.values()] == ["9080/reviews.bookshop.svc.cluster.local:9080"]


BOOKSHOP = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: bookshop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: bookshop}
spec: {selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: bookshop}
spec:
  host: reviews
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v3, labels: {version: v3}}
"""

SPLIT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookshop}
spec:
  hosts: [reviews]
  http:
    - route:
        - {destination: {host: reviews, subset: v1}, weight: 90}
        - {destination: {host: reviews, subset: v3}, weight: 10}
"""


def _virtual_service(world: World) -> Put:
    found = decoding.decode(yaml.safe_load(SPLIT), Origin()).resource
    assert found is not None
    return Put(world.pipeline.facts["VirtualService"], (found.namespace, found.name), found)
