"""`meltemi describe`: all about one object."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from meltemi.cli.completing import complete_objects
from meltemi.cli.failures import USAGE, Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.base.refs import Ref
    from meltemi.cli.kinds import Served
    from meltemi.cli.meshapi import Live, MeshProblem, ProxyState
    from meltemi.kube.resources import Obj

EXAMPLES = (
    "meltemi describe vs reviews -n bookshop",
    "meltemi describe pod/reviews-v1-7d4b9c-x2v5k -n bookshop",
)


@click.command(
    "describe",
    cls=Verb,
    examples=EXAMPLES,
    help="Tell all about an object: its content, status, problems and their fixes, which proxies have it, and events.",
)
@click.argument("objects", metavar="KIND NAME...", nargs=-1, required=True, shell_complete=complete_objects)
@api_options()
def describe(choice: Choice, objects: tuple[str, ...]) -> int:
    """See EXAMPLES."""

    async def body(api: Api) -> int:
        from meltemi.cli import naming

        meant = naming.parse(await api.kinds(), objects)
        for index, (kind, name) in enumerate(meant):
            if not name:
                plural = kind.resource.plural
                raise Failure(f"which of the {plural}?", f"name one; `meltemi get {plural}` lists them", USAGE)
            if index:
                click.echo("\n")
            click.echo(await _describe(api, kind, name))
        return 0

    return run(choice, body)


async def _describe(api: Api, kind: Served, name: str) -> str:
    from meltemi.base.refs import Ref
    from meltemi.cli import describing, printing
    from meltemi.sources import marks

    namespace = api.namespace if kind.resource.namespaced else ""
    obj = await api.client.get(kind.resource, name, namespace)
    ref = Ref(kind.resource.kind, namespace, name)
    (problems, live, holders), events = await asyncio.gather(_in_mesh(api, ref, obj), _events(api, ref))
    origin = (obj["metadata"].get("annotations") or {}).get(marks.ORIGIN, "")
    sections = [
        ("", describing.head(obj, printing.near(origin))),
        ("Content", describing.content(obj)),
        ("Containers", describing.containers(obj) if ref.kind == "Pod" else []),
        ("Conditions", describing.conditions(obj)),
        ("Problems", describing.problems(problems)),
        ("Live", describing.liveness(live, holders)),
        ("Events", describing.events(events, datetime.now(UTC))),
    ]
    return describing.text(sections)


async def _in_mesh(api: Api, ref: Ref, obj: Obj) -> tuple[list[MeshProblem], Live | None, list[str]]:
    """What the control plane says of an object: its problems, whether it is live, who holds parts made of it.

    Nothing, if there is no control plane to ask.
    """
    from meltemi.kube.errors import ApiError

    mesh = api.mesh
    with contextlib.suppress(Failure, ApiError):
        problems = [problem for problem in await mesh.problems() if problem.ref == ref]
        if ref.kind not in await mesh.kinds():
            return problems, None, []
        live = await mesh.wait(ref, str(obj["metadata"].get("resourceVersion") or "0"), 0.0)
        return problems, live, await _holders(api, ref, await mesh.proxies())
    return [], None, []


async def _holders(api: Api, ref: Ref, proxies: list[ProxyState]) -> list[str]:
    """The proxies that hold something made of an object. Only one of those that hold the same is asked."""
    from functools import partial

    from meltemi.cli import applying, describing

    groups = list(describing.classes(proxies).values())
    answers = await applying.in_parallel([partial(api.mesh.configuration, group[0].id, "all") for group in groups])
    return sorted(
        proxy.id
        for group, answer in zip(groups, answers, strict=True)
        if any(source.ref == ref for rows in answer.values() for row in rows for source in row.sources)
        for proxy in group
    )


async def _events(api: Api, ref: Ref) -> list[Obj]:
    from meltemi.kube.errors import ApiError
    from meltemi.kube.resources import EVENTS

    fields = f"involvedObject.kind={ref.kind},involvedObject.name={ref.name}"
    try:
        return (await api.client.list(EVENTS, ref.namespace or "default", fields=fields)).items
    except ApiError:
        return []
