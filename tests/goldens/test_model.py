"""From what users write to what it means: `model/<case>.in.yaml` becomes `model/<case>.out.yaml`.

The first document of a case says which tables are shown (`show`) and, where classes of proxies matter, which proxies ask
(`clients`). Fields that have their default are left out, so that a golden shows what the case is about.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from meltemi.base.durations import format_duration
from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.flow import Put
from meltemi.testing import goldens
from meltemi.testing.worlds import World, client

FOLDER = Path(__file__).with_name("model")
CASES = goldens.cases(FOLDER)


@pytest.mark.parametrize("case", CASES, ids=goldens.name_of)
def test_what_users_write_means(case: Path, rewrite: bool) -> None:
    head, *documents = yaml.safe_load_all(case.read_text())
    world = World(documents)
    graph = world.pipeline.graph
    proxies = [client(**each) for each in head.get("clients", [])]
    graph.commit([Put(world.pipeline.proxies, proxy.id, proxy) for proxy in proxies])
    found: list[Any] = [{"problems": [str(problem) for problem in world.complaints()]}] if world.complaints() else []
    for table in head["show"]:
        rows = graph.table(table).items()
        found.append({table: [{_title(key): plain(row)} for key, row in rows]})
    comment = "".join(line for line in case.read_text().splitlines(keepends=True) if line.startswith("#"))
    goldens.compare(case, comment + yaml.safe_dump_all(found, sort_keys=False, width=120), rewrite=rewrite)


def test_every_output_has_a_case(rewrite: bool) -> None:
    orphans = goldens.orphans(FOLDER)
    if rewrite:
        for path in orphans:
            path.unlink()
    else:
        assert not orphans, f"no case produces {orphans[0].name}\n  hint: {goldens.COMMAND}"


def _title(key: object) -> str:
    """A key in short; the hash that tells views and audiences apart is left out."""
    text = "/".join(key) if isinstance(key, tuple) else str(key)
    return text.rpartition("|")[0] or text


def plain(value: Any) -> Any:
    """A value of the model as YAML shows it best, without defaults."""
    if isinstance(value, Ref | SpiffeId):
        return str(value)
    if isinstance(value, LabelSet):
        return value.as_dict()
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, msgspec.Struct):
        shown = {}
        for field in msgspec.structs.fields(value):
            one = getattr(value, field.name)
            if field.required or one != field.default:
                shown[field.name] = _title(one) if field.name in _KEYS else plain(one)
        return {type(value).__name__: shown} if type(value).__name__ in _ACTIONS else shown
    if isinstance(value, frozenset):
        return sorted(map(plain, value))
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


_KEYS = {"view", "audience", "key"}
_ACTIONS = {"Forward", "Redirect", "Respond", "Passthrough"}
