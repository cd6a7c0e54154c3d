"""`meltemi proxy-config`: what a proxy is configured with, and which object each part came from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from meltemi.cli.completing import complete_workloads
from meltemi.cli.failures import Failure, did_you_mean
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.cli.configuration import Type
    from meltemi.cli.meshapi import ResourceRow
    from meltemi.cli.sources import Places

EXAMPLES = (
    "meltemi proxy-config routes deploy/storefront-v1 --name reviews",
    "meltemi proxy-config clusters app=reviews,version=v1 -n bookshop -o wide",
    "meltemi proxy-config listeners reviews-v1-7d4b9c-x2v5k -o yaml",
    "meltemi proxy-config all deploy/storefront-v1",
)
HELP = """What a proxy should be configured with, and which object, file and line each part came from.

TYPE is listeners, routes, clusters, endpoints, secrets or all. WORKLOAD is a pod, deploy/NAME or labels (app=reviews).
"""
NAMES = ("listeners", "routes", "clusters", "endpoints", "secrets")


class TypeOfResource(click.ParamType[str]):
    """The name of a type: in full, in the singular, or its beginning."""

    name = "type"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for it in the usage line."""
        return "TYPE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The full name. Fails with the closest one."""
        text = str(value).lower()
        found = [name for name in (*NAMES, "all") if name.startswith(text)] if text else []
        if len(found) != 1:
            hint = did_you_mean(text, [*NAMES, "all"], f"it is one of {', '.join(NAMES)} and all")
            self.fail(f"there is no type {value!r}: {hint}", param, ctx)
        return found[0]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """The names that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in (*NAMES, "all") if name.startswith(incomplete)]


@click.command("proxy-config", cls=Verb, examples=EXAMPLES, help=HELP)
@click.argument("kind", type=TypeOfResource())
@click.argument("workload", shell_complete=complete_workloads)
@api_options()
@click.option("--name", default="", metavar="TEXT", help="Only resources whose name contains this.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "wide"]), help="The form of the output.")
def proxy_config(choice: Choice, kind: str, workload: str, name: str, output: str | None) -> int:
    """See HELP."""

    async def body(api: Api) -> int:
        from meltemi.cli import printing, sources

        proxy = await _proxy_of(api, workload)
        kinds = NAMES if kind == "all" else (kind,)
        answers = await asyncio.gather(*(api.mesh.configuration(proxy, each, name=name, full=True) for each in kinds))
        found = {each: answer.get(each, []) for each, answer in zip(kinds, answers, strict=True)}
        if output in ("json", "yaml"):
            import msgspec

            plain = msgspec.to_builtins(found)
            printing.write(plain if kind == "all" else plain[kind], output)
            return 0
        refs = {source.ref for rows in found.values() for row in rows for source in row.sources}
        where = await sources.places(api, refs)
        _show(found, where, wide=output == "wide", name=name, proxy=proxy)
        return 0

    return run(choice, body)


async def _proxy_of(api: Api, workload: str) -> str:
    """The id of a connected proxy of the workload. Raises Failure if it has none."""
    from meltemi.cli import workloads

    pods = await workloads.pods_of(api, workload)
    connected = {proxy.id for proxy in await api.mesh.proxies()}
    for pod in pods:
        if workloads.proxy_id(pod) in connected:
            return workloads.proxy_id(pod)
    name = workloads.proxy_id(pods[0])
    if workloads.SIDECAR in workloads.containers_of(pods[0]):
        hint = f"it may be starting: `meltemi logs {pods[0]['metadata']['name']} -c {workloads.SIDECAR}` shows its log"
    else:
        hint = "it has no sidecar: label its namespace istio-injection=enabled and make its pods anew"
    raise Failure(f"the proxy of {name} is not connected", hint)


def _show(found: dict[str, list[ResourceRow]], where: Places, *, wide: bool, name: str, proxy: str) -> None:
    from meltemi.cli import configuration, tables

    several = len(found) > 1
    shown = False
    for kind, resources in found.items():
        if several and not resources:
            continue
        if shown:
            click.echo()
        if several:
            click.echo(click.style(f"{kind.upper()}", bold=True))
        if resources:
            tables.write(*table(configuration.BY_NAME[kind], resources, where, wide=wide))
            shown = True
    if not shown:
        named = f" whose name contains {name!r}" if name else ""
        click.echo(f"{proxy} has no {' or '.join(found)}{named}", err=True)


def table(
    kind: Type, resources: list[ResourceRow], where: Places, *, wide: bool
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headers and rows of resources of one type."""
    from meltemi.cli import sources

    shown = [index for index, header in enumerate(kind.headers[:-1]) if wide or header not in kind.wide]
    rows = [
        (*(row.cells[index] for index in shown), sources.told(row.sources, where, wide=wide))
        for row in kind.rows(resources, wide)
    ]
    return (*(kind.headers[index] for index in shown), kind.headers[-1]), rows
