"""The architecture page says what the code is: its packages, its floors in their order, and the way of a VirtualService."""

from __future__ import annotations

import configparser
import pkgutil
import re

import pytest

from meltemi import pipeline

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


def test_the_way_of_a_virtual_service_names_tables_and_transforms_of_the_pipeline_in_their_order() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (?:`([^`]+)`|a fact) \|", PAGE, re.MULTILINE)
    tables = [table.name for table in pipeline.build().graph.statistics().tables]
    assert len(rows) > 5
    assert [name for name, _ in rows] == sorted((name for name, _ in rows), key=tables.index)
    for _, transform in rows:
        assert not transform or pkgutil.resolve_name(f"meltemi.{transform}")
