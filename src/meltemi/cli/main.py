"""The program `meltemi`: runs a verb, and tells failures in one way."""

from __future__ import annotations

import os
import sys

import click

from meltemi.cli.failures import INTERRUPTED, Failure
from meltemi.cli.lazy import Program

HELP = """A service mesh: Istio's resources in, stock Envoys out; on this machine and on Kubernetes.

`meltemi up examples/bookshop` starts a mesh on this machine. `meltemi COMMAND --help` tells more of a command.
"""


@click.group(cls=Program, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """See HELP."""


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str], obj: object = None) -> int:
    """Runs the program with arguments; its exit status. `obj` stands in for the surroundings, in tests."""
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    color = False if is_plain else None
    try:
        status = cli.main(arguments, prog_name="meltemi", standalone_mode=False, obj=obj, color=color)
    except click.ClickException as error:
        with click.Context(cli, color=color):
            return _tell(error)
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): there is nobody left to tell anything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status if isinstance(status, int) else 0


def _tell(error: click.ClickException) -> int:
    """Tells what went wrong; the exit status."""
    if isinstance(error, Failure):
        error.show()
        return error.status
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    elif isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "meltemi"
        message = error.format_message().rstrip(".")
        Failure(message[:1].lower() + message[1:], f"`{path} --help` shows how it is used").show()
    else:
        Failure(error.format_message()).show()
    return error.exit_code
