"""`meltemi down`: ends a mesh on this machine."""

from __future__ import annotations

import click

from meltemi.cli.completing import complete_meshes
from meltemi.cli.durations import Seconds
from meltemi.cli.lazy import Verb
from meltemi.cli.verbs.up import check_name, failure

EXAMPLES = ("meltemi down", "meltemi down --name second")


@click.command(
    "down",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if the mesh is gone (also if it did not run), 1 if it does not end, "
    "2 if the command was not understood",
    help="Stop a mesh on this machine: its pods, its proxies and its control plane. What was applied to it is kept.",
)
@click.option(
    "--name",
    default="local",
    show_default=True,
    metavar="NAME",
    help="The name of the mesh.",
    shell_complete=complete_meshes,
)
@click.option("--timeout", type=Seconds(), default="20s", show_default=True, help="How long to wait for its end.")
def down(name: str, timeout: float) -> int:
    """See EXAMPLES."""
    check_name(name)
    from meltemi.local import up as local

    try:
        was_running = local.down(name, timeout=timeout)
    except local.UpError as error:
        raise failure(str(error)) from error
    click.echo(f"the mesh {name!r} is down" if was_running else f"the mesh {name!r} was not running")
    return 0
