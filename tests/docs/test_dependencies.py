"""The page on dependencies names every dependency, and none that the project does not have."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from .documents import DOCS, ROOT, section

PAGE = (DOCS / "dependencies.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Runtime dependencies that are used without being imported by our code.
USED_BY_OTHERS = {"websockets": "uvicorn serves WebSockets with it"}
MODULES = {"google-re2": "re2", "grpcio": "grpc", "protobuf": "google.protobuf", "pyyaml": "yaml"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for requirement in requirements}


def first_column(heading: str) -> Iterator[str]:
    for row in re.findall(r"^\| (`[^|]+) \|", section(PAGE, heading), re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row)


def test_every_runtime_dependency_has_its_reason_and_no_other_has() -> None:
    assert set(first_column("## What runs")) == names(PROJECT["project"]["dependencies"])


def test_every_tool_has_its_reason_and_no_other_has() -> None:
    extras = names([each for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra])
    tools = names([*PROJECT["dependency-groups"]["dev"], *PROJECT["build-system"]["requires"]]) - extras
    assert set(first_column("## What builds and tests")) == tools
    assert all(f"`{extra}`" in section(PAGE, "## What runs") for extra in extras)


def test_every_runtime_dependency_is_used() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "src" / "meltemi").rglob("*.py"))
    for name in names(PROJECT["project"]["dependencies"]) - USED_BY_OTHERS.keys():
        module = re.escape(MODULES.get(name, name.replace("-", "_")))
        assert re.search(rf"^\s*(from|import) {module}\b", sources, re.MULTILINE), f"{name} is imported nowhere"
