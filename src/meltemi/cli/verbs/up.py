"""`meltemi up`: a mesh on this machine (`meltemi.local.up` does the work)."""

from __future__ import annotations

import click

from meltemi.cli.failures import USAGE, Failure
from meltemi.cli.lazy import Verb

EXAMPLES = (
    "meltemi up examples/bookshop           the mesh, until Ctrl-C",
    "meltemi up examples/bookshop -d        in the background; `meltemi down` ends it",
    "meltemi up --name second -f shop.yaml  another mesh beside it",
)
HELP = """Start a mesh on this machine and everything that files describe, and follow the files as they change.

Deployments become processes, each pod in a network namespace of its own, with a real Envoy beside it where its namespace
is labelled istio-injection=enabled. No root and no container runtime are needed. If the mesh runs already, the files
are applied to it.
"""


@click.command(
    "up",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if the mesh ended as it was asked to (-d: if it is ready), 1 if not, "
    "2 if the command was not understood",
    help=HELP,
)
@click.argument("paths", metavar="[FILE|DIR]...", nargs=-1, type=click.Path(allow_dash=True))
@click.option(
    "-f",
    "--filename",
    "more",
    multiple=True,
    metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True),
    help="The same, as an option. May be repeated.",
)
@click.option("--name", default="local", show_default=True, metavar="NAME", help="The name of the mesh.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when everything is ready.")
@click.option("--no-follow", is_flag=True, help="Apply the files once; do not follow their changes.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="The port of the API (0: any).")
@click.option("-v", "--verbose", is_flag=True, help="Write more into the mesh's logs.")
def up(
    paths: tuple[str, ...], more: tuple[str, ...], name: str, detach: bool, no_follow: bool, port: int, verbose: bool
) -> int:
    """See HELP."""
    check_name(name)
    from meltemi.local import up as local

    options = local.UpOptions(
        files=(*paths, *more), name=name, detach=detach, follow=not no_follow, port=port, verbose=verbose
    )
    try:
        return local.up(options)
    except local.UpError as error:
        raise failure(str(error)) from error


def check_name(name: str) -> None:
    """Raises Failure unless the name can be that of a directory of its own."""
    if not name.replace("-", "").isalnum() or name != name.lower():
        raise Failure(f"{name!r} is not a name for a mesh", "use lower-case letters, digits and '-'", USAGE)


def failure(text: str) -> Failure:
    """What kept a mesh from starting or ending: the first line, and what helps below it."""
    message, _, rest = text.partition("\n")
    return Failure(message, rest.strip().removeprefix("hint:").strip())
