"""`meltemi delete`: objects by name, by label, or those of a file."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from meltemi.cli.completing import complete_objects
from meltemi.cli.durations import Seconds
from meltemi.cli.failures import PROBLEM, USAGE, Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.base.refs import Ref
    from meltemi.cli.kinds import Served

EXAMPLES = (
    "meltemi delete -f split.yaml --wait          returns when no proxy has it any more",
    "meltemi delete vs reviews -n bookshop",
    "meltemi delete pods -l app=ratings -n bookshop",
)


@click.command(
    "delete",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if all is deleted (with --wait: and gone), 1 if not, 2 if the command was not understood",
    help="Delete objects: by kind and name, by label, or those that files describe.",
)
@click.argument("objects", metavar="[KIND NAME...]", nargs=-1, shell_complete=complete_objects)
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True),
    help="The objects of a file, a directory, or - for standard input. May be repeated.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into subdirectories.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="All objects of the kind with these labels.")
@api_options(all_namespaces=True)
@click.option("-w", "--wait", is_flag=True, help="Return when they are gone, from every proxy as well.")
@click.option("--timeout", type=Seconds(), default="30s", show_default=True, help="How long to wait.")
@click.option("--ignore-not-found", is_flag=True, help="It is well if an object does not exist.")
@click.option("--dry-run", type=click.Choice(["server"]), help="Only ask whether they could be deleted.")
def delete(
    choice: Choice,
    objects: tuple[str, ...],
    paths: tuple[str, ...],
    recursive: bool,
    selector: str,
    wait: bool,
    timeout: float,
    ignore_not_found: bool,
    dry_run: str | None,
) -> int:
    """See EXAMPLES."""
    if bool(objects) == bool(paths):
        raise Failure("name objects, or files that describe them", "`meltemi delete --help` shows examples", USAGE)

    async def body(api: Api) -> int:
        if paths:
            doomed = await _of_files(api, paths, recursive=recursive)
            missing_is_well = True
        else:
            doomed = await _named(api, objects, selector)
            missing_is_well = ignore_not_found
        started = time.monotonic()
        gone = [
            each for each in doomed if await _delete(api, each, dry_run=bool(dry_run), missing_is_well=missing_is_well)
        ]
        if not doomed:
            click.echo("nothing to delete", err=True)
        return await _wait(api, gone, started, timeout) if wait and not dry_run else 0

    return run(choice, body)


Doomed = tuple["Served", "Ref"]


async def _of_files(api: Api, paths: tuple[str, ...], *, recursive: bool) -> list[Doomed]:
    """The objects of files, those that were applied last first. What is wrong with them does not matter here."""
    from meltemi.base.problems import Severity
    from meltemi.base.refs import Ref
    from meltemi.cli import manifests, problems

    found = manifests.read(paths, api.namespace, recursive=recursive, twice=Severity.INFO)
    unreadable = [problem for problem in found.problems if problem.ref.kind == "File"]
    problems.tell(unreadable)
    if unreadable:
        raise Failure("nothing was deleted: the files cannot be read", "mend them, or name the objects")
    kinds = await api.kinds()
    doomed: list[Doomed] = []
    for manifest in reversed(found.manifests):
        kind = kinds.of_document(manifest.api_version, manifest.ref.kind)
        if kind is None:
            continue
        namespace = manifest.obj["metadata"].get("namespace") or api.namespace
        doomed.append((kind, Ref(manifest.ref.kind, namespace if kind.resource.namespaced else "", manifest.ref.name)))
    return list(dict.fromkeys(doomed))


async def _named(api: Api, words: tuple[str, ...], selector: str) -> list[Doomed]:
    from meltemi.base.refs import Ref
    from meltemi.cli import naming

    doomed: list[Doomed] = []
    for kind, name in naming.parse(await api.kinds(), words):
        namespaced = kind.resource.namespaced
        if name:
            doomed.append((kind, Ref(kind.resource.kind, api.namespace if namespaced else "", name)))
        elif selector:
            for obj in (await api.client.list(kind.resource, api.scope, labels=selector)).items:
                metadata = obj["metadata"]
                doomed.append((kind, Ref(kind.resource.kind, metadata.get("namespace", ""), metadata["name"])))
        else:
            raise Failure(f"which {kind.resource.plural}?", "name them, or choose some by their labels with -l", USAGE)
    return doomed


async def _delete(api: Api, doomed: Doomed, *, dry_run: bool, missing_is_well: bool) -> bool:
    """Deletes one object; whether it was there."""
    from meltemi.kube.errors import NotFound

    kind, ref = doomed
    suffix = " (server dry run)" if dry_run else ""
    try:
        await api.client.delete(kind.resource, ref.name, ref.namespace, propagation="Background", dry_run=dry_run)
    except NotFound:
        if not missing_is_well:
            raise
        click.echo(f"{kind.title}/{ref.name} not found")
        return False
    click.echo(f"{kind.title}/{ref.name} deleted{suffix}")
    return True


async def _wait(api: Api, doomed: list[Doomed], started: float, timeout: float) -> int:
    """Waits until the objects have left the API and the proxies."""
    from meltemi.cli import waiting

    deadline = started + timeout
    left = await asyncio.gather(*(_is_gone(api, each, deadline) for each in doomed))
    late = [f"{kind.title}/{ref.name}" for (kind, ref), is_gone in zip(doomed, left, strict=True) if not is_gone]
    if late:
        Failure(f"not gone after {waiting.duration(timeout)}: {', '.join(late)}").show()
        return PROBLEM
    known = await api.mesh.kinds()
    awaited = [waiting.Awaited(ref, waiting.ABSENT) for _, ref in doomed if ref.kind in known]
    result = await waiting.until_live(api.mesh, awaited, deadline, waiting.Progress())
    return waiting.report(waiting.since(result, started), {}, deletion=True)


async def _is_gone(api: Api, doomed: Doomed, deadline: float) -> bool:
    """Waits until the API has the object no longer; whether it has by the deadline."""
    from meltemi.kube.errors import Gone, NotFound

    kind, ref = doomed
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            while True:
                obj = await api.client.get(kind.resource, ref.name, ref.namespace)
                since = obj["metadata"]["resourceVersion"]
                fields = f"metadata.name={ref.name}"
                events = api.client.watch(kind.resource, ref.namespace, resource_version=since, fields=fields)
                try:
                    async with aclosing(events):
                        async for event in events:
                            if event.type == "DELETED":
                                return True
                except Gone:
                    continue
    except NotFound:
        return True
    except TimeoutError:
        return False
