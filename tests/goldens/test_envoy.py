"""From what users write to what one proxy gets: `envoy/<case>.in.yaml` becomes `envoy/<case>.out.yaml`.

The first document of a case says which proxy asks (`client`) and which of its resources are shown (`show`: patterns of
type and name); all of them are shown to Envoy. Metrics loggers, which are the same everywhere, are written in short.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from meltemi.agent.wire import NameInfo
from meltemi.base.discovery import NAMES
from meltemi.envoy.resource import Resource
from meltemi.protos import message_class, to_dict
from meltemi.testing import goldens
from meltemi.testing.validation import envoy_path, refusal

worlds = pytest.importorskip("meltemi.testing.worlds", exc_type=ImportError)

FOLDER = Path(__file__).with_name("envoy")
CASES = goldens.cases(FOLDER)
MAPS = {"filter_metadata", "match_metadata", "typed_per_filter_config", "typed_extension_protocol_options"}


@pytest.mark.parametrize("case", CASES, ids=goldens.name_of)
def test_what_users_write_becomes(case: Path, rewrite: bool) -> None:
    head, *documents = yaml.safe_load_all(case.read_text())
    world = worlds.World(documents)
    resources = world.resources(worlds.client(**head.get("client", {})))
    shown = [resource for resource in resources if _is_shown(resource, head["show"])]
    goldens.compare(case, _text(case, shown, world.complaints()), rewrite=rewrite)
    if envoy_path() is not None:
        assert refusal(resources) == ""


def test_every_output_has_a_case(rewrite: bool) -> None:
    orphans = goldens.orphans(FOLDER)
    if rewrite:
        for path in orphans:
            path.unlink()
    else:
        assert not orphans, f"no case produces {orphans[0].name}\n  hint: {goldens.COMMAND}"


def _is_shown(resource: Resource, patterns: list[str]) -> bool:
    title = f"{resource.type_url.rpartition('.')[2]} {resource.name}"
    return any(fnmatch.fnmatchcase(title, pattern) for pattern in patterns)


def _text(case: Path, resources: list[Resource], problems: list[Any]) -> str:
    documents: list[Any] = []
    if problems:
        documents.append({"problems": [str(problem) for problem in problems]})
    for resource in resources:
        sources = [f"{source.ref} {source.path}".strip() for source in resource.sources]
        documents.append({"made of": sources, resource.type_url.rpartition(".")[2]: _short(_content(resource))})
    head = "".join(line for line in case.read_text().splitlines(keepends=True) if line.startswith("#"))
    return head + yaml.safe_dump_all(documents, sort_keys=False, width=120)


def _content(resource: Resource) -> dict[str, Any]:
    """The message that a resource carries, as plain values."""
    if resource.type_url == NAMES:
        return {"name": resource.name, "name_info": msgspec.to_builtins(NameInfo.parse(resource.body))}
    return to_dict(message_class(resource.type_url).FromString(resource.body))


def _short(value: Any, *, in_map: bool = False) -> Any:
    """The same, without what is not worth reading again: labels of metrics, the agent's address, prefixes of types.

    Maps have no order of their own and are sorted.
    """
    if isinstance(value, list):
        loggers = [
            each for each in value if isinstance(each, dict) and each.get("name") == "envoy.access_loggers.stats"
        ]
        rest = [_short(each, in_map=in_map) for each in value if each not in loggers]
        return [f"{len(loggers)} loggers of metrics", *rest] if loggers else rest
    if isinstance(value, dict):
        if "api_config_source" in value:
            return "from the agent"
        keys = sorted(value) if in_map else value
        return {key: _short(value[key], in_map=in_map or key in MAPS) for key in keys}
    if isinstance(value, str):
        return value.removeprefix("type.googleapis.com/")
    return value
