"""Directories of manifests are kept in effect."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.kube.errors import NotFound
from meltemi.kube.resources import CONFIG_MAPS, NAMESPACES
from meltemi.sources.files import Files, Outcome, Report

CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data: {{x: {value}}}
"""
VIRTUAL_SERVICE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
spec:
  hosts: [web]
  http:
  - route:
    - destination: {hots: web}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    return made


def write(folder: Path, file: str, *names: str, value: str = "one") -> None:
    (folder / file).write_text("---\n".join(CONFIG_MAP.format(name=name, value=value) for name in names))


def outcomes(report: Report) -> dict[str, str]:
    return {applied.ref.name: applied.outcome.value for applied in report.applied}


async def test_what_is_in_the_files_is_applied_with_its_origin(client: Client, folder: Path) -> None:
    write(folder, "a.yaml", "one", "two")
    report = await Files(client, [folder]).apply()
    assert outcomes(report) == {"one": "created", "two": "created"}
    metadata = (await client.get(CONFIG_MAPS, "two", "default"))["metadata"]
    assert metadata["annotations"]["meltemi.dev/origin"] == f"{folder}/a.yaml:6"
    assert metadata["managedFields"][0]["manager"] == "meltemi-files"


async def test_only_what_has_changed_is_applied_again(client: Client, folder: Path) -> None:
    write(folder, "a.yaml", "one")
    write(folder, "b.yaml", "two")
    files = Files(client, [folder])
    await files.apply()
    await client.patch(CONFIG_MAPS, "one", {"data": {"x": "by hand"}}, namespace="default")
    write(folder, "b.yaml", "two", value="other")
    assert outcomes(await files.apply()) == {"one": "unchanged", "two": "configured"}
    assert (await client.get(CONFIG_MAPS, "one", "default"))["data"] == {"x": "by hand"}
    write(folder, "a.yaml", "one", value="from file")
    await files.apply()
    assert (await client.get(CONFIG_MAPS, "one", "default"))["data"] == {"x": "from file"}


async def test_what_is_gone_from_the_files_is_deleted_also_after_a_restart(client: Client, folder: Path) -> None:
    write(folder, "a.yaml", "one", "two", "three")
    await client.create(CONFIG_MAPS, {"metadata": {"name": "by-hand", "namespace": "default"}})
    files = Files(client, [folder])
    await files.apply()
    write(folder, "a.yaml", "one", "two")
    assert outcomes(await files.apply())["three"] == "pruned"
    write(folder, "a.yaml", "one")
    assert outcomes(await Files(client, [folder]).apply())["two"] == "pruned"
    left = [obj["metadata"]["name"] for obj in (await client.list(CONFIG_MAPS, "default")).items]
    assert left == ["by-hand", "one"]


async def test_a_broken_file_deletes_nothing(client: Client, folder: Path) -> None:
    write(folder, "a.yaml", "one")
    files = Files(client, [folder])
    await files.apply()
    (folder / "a.yaml").write_text("a: [")
    report = await files.apply()
    assert report.has_errors
    assert report.problems[0].origin.file == str(folder / "a.yaml")
    assert await client.get(CONFIG_MAPS, "one", "default")


async def test_a_refusal_names_the_line_at_fault(client: Client, folder: Path) -> None:
    (folder / "vs.yaml").write_text(VIRTUAL_SERVICE)
    report = await Files(client, [folder]).apply()
    assert report.applied[0].outcome is Outcome.REFUSED
    assert {(problem.path, problem.origin.line) for problem in report.problems} >= {
        ("spec.http[0].route[0].destination.hots", 9)
    }


async def test_namespaces_come_before_what_is_in_them(client: Client, folder: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    (folder / "a.yaml").write_text(text)
    report = await Files(client, [folder]).apply()
    assert not report.has_errors
    assert await client.get(NAMESPACES, "shop")


async def test_unknown_kinds_and_repeated_objects_are_told_and_the_rest_applied(client: Client, folder: Path) -> None:
    write(folder, "a.yaml", "one", "one")
    (folder / "b.yaml").write_text("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n")
    report = await Files(client, [folder]).apply()
    assert [problem.code for problem in report.problems] == ["Duplicate", "UnknownKind"]
    assert outcomes(report) == {"one": "created"}


async def test_a_path_that_is_not_there_is_told(client: Client, tmp_path: Path) -> None:
    report = await Files(client, [tmp_path / "none"]).apply()
    assert report.problems[0].message == "cannot be read: no such file or directory"


async def test_changes_of_files_are_followed(client: Client, folder: Path) -> None:
    write(folder, "a.yaml", "one")
    async with asyncio.timeout(10), aclosing(Files(client, [folder]).follow()) as reports:
        assert outcomes(await anext(reports)) == {"one": "created"}
        following = asyncio.ensure_future(anext(reports))
        await asyncio.sleep(0)
        (folder / "new.tmp").write_text(CONFIG_MAP.format(name="two", value="x"))
        (folder / "new.tmp").rename(folder / "b.yaml")
        report = await following
        while "two" not in outcomes(report):
            report = await anext(reports)
        (folder / "a.yaml").unlink()
        while outcomes(report).get("one") != "pruned":
            report = await anext(reports)
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "one", "default")
