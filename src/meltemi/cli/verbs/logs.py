"""`meltemi logs`: what a workload's processes, or its proxy, have printed."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from meltemi.cli.completing import complete_workloads
from meltemi.cli.failures import PROBLEM
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.kube.resources import Obj

EXAMPLES = (
    "meltemi logs deploy/reviews-v1 -n bookshop",
    "meltemi logs reviews-v1-7d4b9c-x2v5k -c istio-proxy --tail 20      Envoy's own log",
    "meltemi logs app=reviews -f                                        all its pods, as it goes on",
    "meltemi logs deploy/ratings-v1 -p                                  before the last restart",
)
COLOURS = ("cyan", "green", "yellow", "magenta", "blue")


@click.command(
    "logs",
    cls=Verb,
    examples=EXAMPLES,
    help="Show what a workload has printed. Of several pods each line is marked with its pod; -c istio-proxy is Envoy.",
)
@click.argument("workload", shell_complete=complete_workloads)
@api_options()
@click.option("-c", "--container", default="", metavar="NAME", help="The container, if not the workload's own.")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is printed.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
@click.option("-p", "--previous", is_flag=True, help="The log of the container before its last restart.")
def logs(choice: Choice, workload: str, container: str, follow: bool, tail: int | None, previous: bool) -> int:
    """See EXAMPLES."""

    async def body(api: Api) -> int:
        from meltemi.cli import workloads

        pods = await workloads.pods_of(api, workload)
        chosen = [(pod, workloads.container_of(pod, container)) for pod in pods]
        several = len(chosen) > 1
        reading = [
            _one(api, pod, name, _Printer(_mark(pod, index) if several else ""), follow, tail, previous, several)
            for index, (pod, name) in enumerate(chosen)
        ]
        if follow:
            return max(await asyncio.gather(*reading))
        return max([await one for one in reading])

    return run(choice, body)


def _mark(pod: Obj, index: int) -> str:
    return click.style(pod["metadata"]["name"], fg=COLOURS[index % len(COLOURS)]) + " | "


class _Printer:
    """Prints a log as it is, or line by line with a mark before each."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def line(self, text: bytes) -> None:
        """One line."""
        click.echo(self.mark + text.decode("utf-8", "replace"))

    def piece(self, data: bytes) -> None:
        """A piece of the log."""
        click.echo(data, nl=False)
        sys.stdout.flush()


async def _one(
    api: Api,
    pod: Obj,
    container: str,
    printer: _Printer,
    follow: bool,
    tail: int | None,
    previous: bool,
    several: bool,
) -> int:
    """Prints the log of one pod. Of several pods one that cannot be read does not keep the others from being shown."""
    from meltemi.cli import printing, streams
    from meltemi.kube.errors import ApiError

    metadata = pod["metadata"]
    log = api.client.pod_log(
        metadata["namespace"], metadata["name"], container=container, follow=follow, tail=tail, previous=previous
    )
    try:
        async with aclosing(log) as pieces:
            if not several:
                async for piece in pieces:
                    printer.piece(piece)
                return 0
            async for line in streams.lines(pieces):
                printer.line(line)
        return 0
    except ApiError as error:
        if not several:
            raise
        printing.error(f"{metadata['name']}: {error}")
        return PROBLEM
