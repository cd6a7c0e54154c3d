"""Waits until what was written is live: Deployments have rolled out, and every proxy concerned has acknowledged.

The control plane is asked for one object at a time and answers when all proxies have taken it; while a person watches,
it is asked in short turns, to show how many are still behind.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click
import msgspec

from meltemi.base.refs import Ref
from meltemi.cli import problems
from meltemi.cli.failures import OK, PROBLEM, Failure
from meltemi.cli.meshapi import Live, MeshProblem
from meltemi.cli.printing import plural
from meltemi.kube.errors import Gone
from meltemi.kube.resources import DEPLOYMENTS, Obj

if TYPE_CHECKING:
    from meltemi.api.yaml import Document
    from meltemi.cli.meshapi import MeshApi
    from meltemi.kube.client import Client

_TURN = 0.25

ABSENT = "-1"


class Awaited(msgspec.Struct, frozen=True):
    """An object that should become live, in a version (`ABSENT`: it was deleted)."""

    ref: Ref
    resource_version: str


class Result(msgspec.Struct, frozen=True):
    """What waiting came to."""

    lives: tuple[tuple[Awaited, Live], ...]
    seconds: float

    @property
    def is_live(self) -> bool:
        """Whether everything is live, and nothing was refused."""
        return all(live.live for _, live in self.lives) and not self.errors

    @property
    def proxies(self) -> int:
        """How many proxies are connected."""
        return max((live.proxies for _, live in self.lives), default=0)

    @property
    def behind(self) -> list[str]:
        """The proxies that have not acknowledged."""
        return sorted({proxy for _, live in self.lives for proxy in live.behind})

    @property
    def unseen(self) -> list[Ref]:
        """The objects that the control plane has not read yet."""
        return [awaited.ref for awaited, live in self.lives if not live.seen]

    @property
    def problems(self) -> list[MeshProblem]:
        """What is wrong with the objects, each once."""
        return list(dict.fromkeys(problem for _, live in self.lives for problem in live.problems))

    @property
    def errors(self) -> list[MeshProblem]:
        """The problems that keep something out of effect."""
        return [problem for problem in self.problems if problem.is_error]


def since(result: Result, started: float) -> Result:
    """The same, with the time counted from `started` (monotonic seconds): from before the objects were written."""
    return msgspec.structs.replace(result, seconds=time.monotonic() - started)


def verdict(result: Result, *, deletion: bool = False) -> tuple[str, str]:
    """The last line of a wait, and a hint where there is something to be done."""
    took = duration(result.seconds)
    live, at = ("gone", "from") if deletion else ("live", "at")
    proxies = plural(result.proxies, "proxy", "proxies")
    if result.unseen:
        names = ", ".join(str(ref) for ref in result.unseen)
        return f"not {live} after {took}: the control plane has not read {names}", "`meltemi status` tells how it is"
    if result.behind:
        few = ", ".join(result.behind[:5]) + (" ..." if len(result.behind) > 5 else "")
        return (
            f"not {live} after {took}: {len(result.behind)} of {proxies} have not acknowledged: {few}",
            "`meltemi proxy-status` shows how far each has come",
        )
    if result.errors:
        return f"not wholly {live}: {plural(len(result.errors), 'error')}", ""
    if not result.proxies:
        return f"{live} in {took} (no proxy is connected)", ""
    return f"{live} {at} {proxies} in {took}", ""


def report(result: Result, documents: Mapping[Ref, Document], *, deletion: bool = False) -> int:
    """Tells what waiting came to, what is wrong with its place in the documents; the exit status."""
    for problem in result.problems:
        document = documents.get(problem.ref)
        problems.tell([problem.as_problem(document.place(problem.path) if document else None)])
    line, advice = verdict(result, deletion=deletion)
    if result.is_live:
        click.echo(line)
        return OK
    Failure(line, advice).show()
    return PROBLEM


def duration(seconds: float) -> str:
    """`38 ms`, `1.2 s`, `2 min 5 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


class Progress:
    """One line on a terminal that is written over; nothing where nobody watches."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self._length = 0

    def show(self, text: str) -> None:
        """Replaces the line."""
        if self.is_shown:
            click.echo("\r" + text.ljust(self._length), nl=False, err=True)
            self._length = len(text)

    def clear(self) -> None:
        """Takes the line away."""
        if self.is_shown and self._length:
            click.echo("\r" + " " * self._length + "\r", nl=False, err=True)
            self._length = 0


async def until_live(mesh: MeshApi, awaited: Sequence[Awaited], deadline: float, progress: Progress) -> Result:
    """Waits until all objects are live, or until `deadline` (monotonic seconds)."""
    started = time.monotonic()
    lives: dict[Ref, Live] = {}

    async def wait_for(each: Awaited) -> tuple[Awaited, Live]:
        while True:
            left = max(0.0, deadline - time.monotonic())
            live = await mesh.wait(each.ref, each.resource_version, min(left, _TURN) if progress.is_shown else left)
            lives[each.ref] = live
            if live.live or left <= _TURN or not progress.is_shown:
                return each, live
            progress.show(told(lives.values()))

    found = await asyncio.gather(*(wait_for(each) for each in awaited))
    progress.clear()
    return Result(tuple(found), time.monotonic() - started)


def told(lives: Iterable[Live]) -> str:
    """The line of progress."""
    proxies, behind = 0, set[str]()
    for live in lives:
        proxies = max(proxies, live.proxies)
        behind.update(live.behind)
    return f"waiting: {proxies - len(behind)} of {proxies} proxies have acknowledged"


async def rolled_out(client: Client, namespace: str, name: str, deadline: float) -> bool:
    """Waits until a Deployment is available in its newest version; whether it is by the deadline."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            while True:
                obj = await client.get(DEPLOYMENTS, name, namespace)
                if is_rolled_out(obj):
                    return True
                if await _watch_rollout(client, namespace, name, obj):
                    return True
    except TimeoutError:
        return False


async def _watch_rollout(client: Client, namespace: str, name: str, obj: Obj) -> bool:
    since = obj["metadata"]["resourceVersion"]
    events = client.watch(DEPLOYMENTS, namespace, resource_version=since, fields=f"metadata.name={name}")
    try:
        async with aclosing(events):
            async for event in events:
                if event.type == "MODIFIED" and is_rolled_out(msgspec.json.decode(event.object)):
                    return True
    except Gone:
        pass
    return False


def is_rolled_out(deployment: Obj) -> bool:
    """Whether all replicas of a Deployment are of its newest version and available, and no others are left."""
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    status: dict[str, Any] = deployment.get("status") or {}
    generation = deployment["metadata"].get("generation", 0)
    return bool(
        status.get("observedGeneration", 0) >= generation
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("availableReplicas", 0) >= wanted
        and status.get("replicas", 0) <= wanted
    )
