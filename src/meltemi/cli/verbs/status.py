"""`meltemi status`: the mesh at a glance."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from meltemi.cli.failures import Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.base.problems import Problem
    from meltemi.cli.meshapi import MeshProblem
    from meltemi.cli.overview import Overview

EXAMPLES = ("meltemi status", "meltemi status -n bookshop", "meltemi status -o json")


@click.command(
    "status",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if all is well, 1 if something is not ready, not in sync or wrong, "
    "2 if the command was not understood",
    help="The mesh at a glance: control plane, proxies, workloads, gateways, and every problem with what was written.",
)
@api_options()
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The form of the output.")
def status(choice: Choice, output: str | None) -> int:
    """See EXAMPLES."""

    async def body(api: Api) -> int:
        overview = await _overview(api)
        _show(overview, output or "")
        return 0 if overview.is_well else 1

    return run(choice, body)


async def _overview(api: Api) -> Overview:
    """Asks for everything at once. Without a control plane the rest is told all the same."""
    from meltemi.cli import overview
    from meltemi.kube.resources import DEPLOYMENTS, SERVICES

    scope = api.namespace if api.namespace_given else ""
    deployments, services = await asyncio.gather(api.client.list(DEPLOYMENTS, scope), api.client.list(SERVICES, scope))
    workloads = overview.workloads_of(deployments.items)
    gateways = overview.gateways_of(services.items)
    try:
        version, proxies, problems = await asyncio.gather(api.mesh.version(), api.mesh.proxies(), api.mesh.problems())
    except Failure as error:
        return overview.Overview(
            mesh=api.place.name, version=None, reason=error.message, workloads=workloads, gateways=gateways
        )
    return overview.Overview(
        mesh=api.place.name,
        version=version,
        proxies=tuple(proxy for proxy in proxies if scope in ("", proxy.namespace)),
        workloads=workloads,
        gateways=gateways,
        problems=tuple(problem for problem in problems if scope in ("", problem.namespace)),
    )


def _show(overview: Overview, output: str) -> None:
    from meltemi.cli import overview as telling
    from meltemi.cli import problems, syncing

    if output:
        import msgspec

        from meltemi.cli import printing

        printing.write({**msgspec.to_builtins(overview), "well": overview.is_well}, output)
        return
    for label, text in telling.lines(overview):
        click.echo(f"{label:<16}{text}")
    refused = list(syncing.rejections(overview.proxies))
    if overview.problems or refused:
        click.echo()
    problems.tell(placed(in_order(overview.problems)), err=False)
    for line in refused:
        click.echo(line)


def placed(found: list[MeshProblem]) -> list[Problem]:
    """Problems with the lines of their fields, where the files are at hand."""
    from meltemi.cli.meshapi import SourceRow, origin_of
    from meltemi.cli.sources import Places

    places = Places({problem.ref: problem.origin for problem in found})
    return [
        problem.as_problem(
            origin_of(places.place(SourceRow(problem.kind, problem.namespace, problem.name, problem.path)))
        )
        for problem in found
    ]


def in_order(found: tuple[MeshProblem, ...]) -> list[MeshProblem]:
    """Errors first, then by object."""
    ranks = {"Error": 0, "Warning": 1}
    return sorted(found, key=lambda problem: (ranks.get(problem.severity, 2), problem.ref, problem.path))
