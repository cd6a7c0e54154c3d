"""`meltemi proxy-status`: how far each proxy has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meltemi.cli.completing import complete_workloads
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.cli.meshapi import ProxyState

EXAMPLES = (
    "meltemi proxy-status                       all proxies",
    "meltemi proxy-status deploy/reviews-v1     those of one workload",
    "meltemi proxy-status -n bookshop -o wide",
)
HELP = """How far each proxy has come with each type of its configuration.

SYNCED: it has taken everything. SENDING: a response is under way. WAITING: something is held back until what it rests on
has been taken. REJECTED: Envoy refused something; its words stand below the table. -: it never asked.

CDS are clusters, LDS listeners, EDS endpoints, RDS route configurations, VHDS virtual hosts.
"""


@click.command(
    "proxy-status",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if no proxy has refused anything, 1 if one has, 2 if the command was not understood",
    help=HELP,
)
@click.argument("workload", required=False, default="", shell_complete=complete_workloads)
@api_options(all_namespaces=True)
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "wide"]), help="The form of the output.")
def proxy_status(choice: Choice, workload: str, output: str | None) -> int:
    """See HELP."""

    async def body(api: Api) -> int:
        from meltemi.cli import workloads

        proxies = await api.mesh.proxies()
        if workload:
            ids = {workloads.proxy_id(pod) for pod in await workloads.pods_of(api, workload)}
            proxies = [proxy for proxy in proxies if proxy.id in ids]
        elif api.namespace_given:
            proxies = [proxy for proxy in proxies if proxy.namespace == api.namespace]
        return _show(proxies, output or "")

    return run(choice, body)


def _show(proxies: list[ProxyState], output: str) -> int:
    import msgspec

    from meltemi.cli import printing, syncing, tables

    refused = list(syncing.rejections(proxies))
    if output in ("json", "yaml"):
        printing.write(msgspec.to_builtins(proxies), output)
    elif not proxies:
        click.echo("no proxy is connected", err=True)
    else:
        wide = output == "wide"
        headers = (*syncing.HEADERS, *(syncing.WIDE if wide else ()))
        tables.write(headers, [syncing.row(proxy, wide=wide) for proxy in proxies])
        if refused:
            click.echo()
        for line in refused:
            click.echo(line)
    return 1 if refused else 0
