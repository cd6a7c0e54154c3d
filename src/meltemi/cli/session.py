"""One run of a command against one API: the client, the kinds it serves, the namespace, and how failures are told.

`api_options` gives a click command the options that say which mesh is meant; `run` opens the API, runs the command's
coroutine and turns refusals of the API into failures.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from meltemi.cli.failures import Failure, did_you_mean, explain
from meltemi.cli.surroundings import Choice, Place, Surroundings

if TYPE_CHECKING:
    from meltemi.cli.kinds import Kinds
    from meltemi.cli.meshapi import MeshApi
    from meltemi.kube.client import Client
    from meltemi.kube.errors import NotFound

F = TypeVar("F", bound=Callable[..., Any])


class Api:
    """An open API. `namespace` is the one to look in; `namespace_given` whether the user named it.

    A warning of the API whose text is in `warned` has been told already.
    """

    def __init__(self, client: Client, place: Place, choice: Choice, warned: set[str] | None = None) -> None:
        self.client = client
        self.warned = set() if warned is None else warned
        self.place = place
        self.namespace_given = bool(choice.namespace)
        self.all_namespaces = choice.all_namespaces
        self.namespace = choice.namespace or place.connection.namespace
        self._kinds: Kinds | None = None

    async def kinds(self) -> Kinds:
        """The kinds that the API serves."""
        from meltemi.cli.kinds import discover

        if self._kinds is None:
            self._kinds = await discover(self.client)
        return self._kinds

    @property
    def mesh(self) -> MeshApi:
        """The control plane's own interface."""
        from meltemi.cli.meshapi import MeshApi

        return MeshApi(self.client.transport, self.place.name)

    @property
    def scope(self) -> str:
        """The namespace to list in; empty for all."""
        return "" if self.all_namespaces else self.namespace


def api_options(*, all_namespaces: bool = False) -> Callable[[F], F]:
    """Options that say which API and namespace are meant; the command gets them as one `choice`."""
    from meltemi.cli.completing import complete_contexts, complete_meshes, complete_namespaces

    options = [
        click.option(
            "-n", "--namespace", default="", metavar="NAME", help="The namespace.", shell_complete=complete_namespaces
        ),
        click.option(
            "--mesh", default="", metavar="NAME", help="A mesh on this machine.", shell_complete=complete_meshes
        ),
        click.option("--kubeconfig", default="", metavar="FILE", help="A kubeconfig file.", type=click.Path()),
        click.option("--context", default="", metavar="NAME", help="Its context.", shell_complete=complete_contexts),
    ]
    if all_namespaces:
        options.insert(1, click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces."))

    def decorate(command: F) -> F:
        @wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            said = {name: kwargs.pop(name) for name in Choice._fields if name in kwargs}
            return command(*args, choice=Choice(**said), **kwargs)

        decorated: Any = wrapped
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def surroundings() -> Surroundings:
    """The surroundings of the running command."""
    found = click.get_current_context().find_object(Surroundings)
    return found if found is not None else Surroundings()


def run(choice: Choice, body: Callable[[Api], Awaitable[int]]) -> int:
    """Opens the API that is meant and runs a command's body; its exit status. Raises Failure."""
    around = surroundings()
    place = around.find(choice)
    return asyncio.run(_run(around, place, choice, body))


async def _run(around: Surroundings, place: Place, choice: Choice, body: Callable[[Api], Awaitable[int]]) -> int:
    from meltemi.kube.config import ConfigError
    from meltemi.kube.errors import ApiError, NotFound

    warned: set[str] = set()

    def warn(text: str) -> None:
        if text not in warned:
            warned.add(text)
            click.echo(f"{click.style('warning', fg='yellow')}: {text}", err=True)

    client = around.client_of(place.connection, warn)
    api = Api(client, place, choice, warned)
    try:
        return await body(api)
    except NotFound as error:
        raise Failure(str(error), await _hint_about_name(api, error)) from error
    except ApiError as error:
        raise explain(error, place.name) from error
    except ConfigError as error:
        raise Failure(str(error)) from error
    finally:
        with contextlib.suppress(ApiError):
            await client.aclose()


async def _hint_about_name(api: Api, error: NotFound) -> str:
    """Where else an object of that name is, or which name is like it; empty if nothing helps."""
    from meltemi.kube.errors import ApiError
    from meltemi.kube.resources import key_of

    status = error.status
    if not status.name:
        return ""
    try:
        kind = (await api.kinds()).of_plural(status.group, status.kind)
        if kind is None:
            return ""
        listed = await api.client.list(kind.resource)
    except ApiError:
        return ""
    keys = [key_of(obj) for obj in listed.items]
    elsewhere = [key.namespace for key in keys if key.name == status.name and key.namespace]
    if elsewhere:
        return f"there is one in the namespace {elsewhere[0]}: add -n {elsewhere[0]}"
    return did_you_mean(status.name, [key.name for key in keys if key.namespace in ("", api.namespace)])
