"""Completion of kinds, names, namespaces and workloads from the running mesh, quickly or not at all.

A completion that is late or fails is worse than none: everything here gives up after a moment, in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from meltemi.cli.session import Api

_PATIENCE = 1.0


def complete_namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The namespaces of the mesh."""

    async def names(api: Api) -> list[str]:
        from meltemi.kube.resources import NAMESPACES

        return await _names(api, NAMESPACES, "")

    return _starting(incomplete, _ask(ctx, names))


def complete_meshes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The meshes that run on this machine."""
    from meltemi.cli.surroundings import Surroundings

    return _starting(incomplete, list((ctx.find_object(Surroundings) or Surroundings()).running_meshes()))


def complete_contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The contexts of the kubeconfig file."""
    from pathlib import Path

    import yaml

    from meltemi.kube.config import default_kubeconfig

    file = Path(ctx.params.get("kubeconfig") or default_kubeconfig())
    try:
        document = yaml.load(file.read_bytes(), yaml.CSafeLoader)
        names = [str(entry["name"]) for entry in document["contexts"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
    return _starting(incomplete, names)


def complete_objects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """First a kind, then names of that kind; or `KIND/NAME` at once."""
    given = [str(each) for each in ctx.params.get(param.name or "") or () if each]
    given = given or [str(each) for each in (ctx.params.get("kind"),) if each]

    async def found(api: Api) -> list[str]:
        kinds = await api.kinds()
        kind, slash, _ = incomplete.partition("/")
        if slash:
            served = kinds.called(kind)
            return [f"{kind}/{name}" for name in await _names(api, served.resource, api.scope)]
        if not given:
            return sorted(each.resource.plural for each in kinds.all if "list" in each.verbs)
        return await _names(api, kinds.called(given[0].split(",")[0]).resource, api.scope)

    return _starting(incomplete, _ask(ctx, found))


def complete_workloads(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Pods, and Deployments as `deploy/<name>`: of all namespaces unless one was named, as they are looked for."""

    async def found(api: Api) -> list[str]:
        from meltemi.kube.resources import DEPLOYMENTS, PODS

        scope = api.namespace if api.namespace_given else ""
        deployments = [f"deploy/{name}" for name in await _names(api, DEPLOYMENTS, scope)]
        return [*deployments, *await _names(api, PODS, scope)]

    return _starting(incomplete, _ask(ctx, found))


async def _names(api: Api, resource: Any, namespace: str) -> list[str]:
    listed = await api.client.list(resource, namespace)
    return [obj["metadata"]["name"] for obj in listed.items]


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _ask(ctx: click.Context, question: Callable[[Api], Awaitable[list[str]]]) -> list[str]:
    """What the mesh answers within a moment; nothing if it does not."""
    from meltemi.cli.failures import Failure
    from meltemi.cli.session import Api
    from meltemi.cli.surroundings import Choice, Surroundings
    from meltemi.kube.config import ConfigError
    from meltemi.kube.errors import ApiError

    around = ctx.find_object(Surroundings) or Surroundings()
    choice = Choice(**{name: ctx.params[name] for name in Choice._fields if ctx.params.get(name)})

    async def ask() -> list[str]:
        place = around.find(choice)
        client = around.client_of(place.connection, lambda text: None)
        try:
            return await question(Api(client, place, choice))
        finally:
            await client.aclose()

    async def in_time() -> list[str]:
        async with asyncio.timeout(_PATIENCE):
            return await ask()

    try:
        return asyncio.run(in_time())
    except (Failure, ApiError, ConfigError, TimeoutError, OSError):
        return []
