"""`meltemi apply`: objects from files into the mesh, all or none, and live when it returns if `--wait` asks for that."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import click

from meltemi.cli.durations import Seconds
from meltemi.cli.failures import Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.base.problems import Problem
    from meltemi.cli.applying import Applied, Planned
    from meltemi.cli.manifests import Manifests

EXAMPLES = (
    "meltemi apply -f split.yaml --wait             returns when every proxy has it",
    "meltemi apply -f examples/bookshop",
    "meltemi apply -f shop.yaml --dry-run=server    would the mesh take it?",
    "helm template shop | meltemi apply -f -",
)
EXIT_STATUS = "0 if all was applied (with --wait: and is live), 1 if not, 2 if the command was not understood"


@click.command(
    "apply",
    cls=Verb,
    examples=EXAMPLES,
    exit_status=EXIT_STATUS,
    help="Create or change objects from files. Everything is checked first; if anything is wrong, nothing is applied.",
)
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True),
    help="A file, a directory, or - for standard input. May be repeated.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into subdirectories.")
@api_options()
@click.option("-w", "--wait", is_flag=True, help="Return when every proxy concerned has acknowledged.")
@click.option("--timeout", type=Seconds(), default="30s", show_default=True, help="How long to wait.")
@click.option("--dry-run", type=click.Choice(["server", "client"]), help="Only check; `server` asks the API as well.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that others own.")
def apply(
    choice: Choice,
    paths: tuple[str, ...],
    recursive: bool,
    wait: bool,
    timeout: float,
    dry_run: str | None,
    force_conflicts: bool,
) -> int:
    """See EXAMPLES."""
    from meltemi.cli import manifests

    given = bool(choice.namespace)
    if dry_run == "client":
        found = manifests.read(paths, choice.namespace or "default", given=given, recursive=recursive)
        _stop_at_errors(found.all_problems)
        for manifest in found.manifests:
            click.echo(f"{manifest.title} valid (client dry run)")
        return 0

    async def body(api: Api) -> int:
        here = bool(api.place.mesh)
        found = manifests.read(paths, api.namespace, given=given, recursive=recursive, one_machine=here)
        planned = await _plan(api, found, force=force_conflicts)
        started = time.monotonic()
        applied = await _apply(api, planned, force=force_conflicts, dry_run=bool(dry_run))
        return await _wait(api, applied, started, timeout) if wait and not dry_run else 0

    return run(choice, body)


def _stop_at_errors(problems: list[Problem]) -> None:
    """Tells problems; raises Failure if there is an error among them."""
    from meltemi.cli import manifests
    from meltemi.cli import problems as telling

    telling.tell(problems)
    if wrong := manifests.errors(problems):
        raise Failure(f"nothing was applied: {telling.count(wrong)}")


async def _plan(api: Api, found: Manifests, *, force: bool) -> list[Planned]:
    """What is to be applied. Raises Failure, having told why, if a part of it would not be taken."""
    from meltemi.cli import applying, manifests

    planned, not_served = applying.plan(
        found.manifests, await api.kinds(), api.namespace, one_machine=bool(api.place.mesh)
    )
    api.warned.update(f"{problem.path}: {problem.message}" for problem in found.problems)
    _stop_at_errors(manifests.in_order([*found.problems, *not_served]))
    applier = applying.Applier(api.client, force=force, where=api.place.name)
    _stop_at_errors(manifests.in_order(await applier.rehearse(planned)))
    return planned


async def _apply(api: Api, planned: list[Planned], *, force: bool, dry_run: bool) -> list[Applied]:
    """Applies one object after the other, and tells what became of each."""
    from meltemi.cli import applying

    applier = applying.Applier(api.client, force=force, where=api.place.name)
    applied = []
    for each in planned:
        done = await applier.apply(each, dry_run=dry_run)
        click.echo(f"{each.title} {done.outcome}{' (server dry run)' if dry_run else ''}")
        applied.append(done)
    return applied


async def _wait(api: Api, applied: list[Applied], started: float, timeout: float) -> int:
    """Waits until all that was applied is live; tells how it went."""
    from meltemi.cli import applying, waiting

    deadline = started + timeout
    progress = waiting.Progress()
    deployments = [each.planned for each in applied if each.planned.ref.kind == "Deployment"]
    if deployments:
        progress.show(f"waiting for {len(deployments)} Deployments to roll out")
    ready = await applying.in_parallel(
        [partial(waiting.rolled_out, api.client, d.ref.namespace, d.ref.name, deadline) for d in deployments],
        at_once=len(deployments) or 1,
    )
    progress.clear()
    late = [each.title for each, is_ready in zip(deployments, ready, strict=True) if not is_ready]
    if late:
        raise Failure(
            f"not rolled out after {waiting.duration(timeout)}: {', '.join(late)}",
            "`meltemi get pods` and `meltemi describe` tell what keeps the pods",
        )
    known = await api.mesh.kinds()
    awaited = [waiting.Awaited(each.planned.ref, each.resource_version) for each in applied]
    awaited = [each for each in awaited if each.ref.kind in known]
    result = await waiting.until_live(api.mesh, awaited, deadline, progress)
    documents = {each.planned.ref: each.planned.manifest.document for each in applied}
    return waiting.report(waiting.since(result, started), documents)
