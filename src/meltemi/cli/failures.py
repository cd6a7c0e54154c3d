"""How a command ends that cannot do what it was asked: one clear sentence, one line of advice, and an exit status.

`Failure` is raised wherever that becomes known and shown once, where the program ends. Refusals of the API become
failures here, in one place, worded for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from meltemi.kube.errors import ApiError

OK, PROBLEM, USAGE = 0, 1, 2
INTERRUPTED = 130


class Failure(click.ClickException):
    """A command cannot go on. `hint` is the advice, in the imperative; `status` the exit status."""

    def __init__(self, message: str, hint: str = "", status: int = PROBLEM) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status

    def show(self, file: IO[Any] | None = None) -> None:
        """Tells it on stderr."""
        click.echo(f"{click.style('error', fg='red', bold=True)}: {self.message}", file=file, err=True)
        if self.hint:
            click.echo(f"  hint: {self.hint}", file=file, err=True)


def explain(error: ApiError, where: str) -> Failure:
    """The failure that a refusal of the API amounts to. `where` names the API, for the reader."""
    from meltemi.kube import errors

    message = str(error)
    match error:
        case errors.Unreachable():
            return Failure(
                f"{where} does not answer ({message})",
                "is it running? `meltemi up` starts a mesh; --kubeconfig and --context name another",
            )
        case errors.Unauthorized():
            return Failure(
                f"{where} does not accept these credentials",
                "they may be old: start the mesh again, or name another kubeconfig with --kubeconfig",
            )
        case errors.Forbidden():
            return Failure(f"not allowed: {message}", "ask for the right to do this, or name another user's --context")
        case errors.Invalid():
            return Failure(message, "mend the object; `meltemi validate -f FILE` checks a file without a mesh")
        case errors.AlreadyExists():
            return Failure(message)
        case errors.Conflict() if "conflict" in message:
            return Failure(message, "--force-conflicts takes the fields over")
        case errors.Conflict():
            return Failure(message, "somebody else changed it meanwhile: try again")
        case errors.TooManyRequests():
            return Failure(f"{where} is busy: {message}", "try again in a moment")
        case errors.ServerError():
            return Failure(f"{where} has failed: {message}", "its log says more")
    return Failure(message)


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like another, or an empty text."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), n=1)), "")


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint that names the closest known name, or `otherwise`."""
    found = closest(name, known)
    return f"did you mean {found!r}?" if found else otherwise
