"""Applies manifests: all of them or none, as far as that can be known beforehand.

First every object is tried without being kept (a server-side dry run). Only if nothing is refused are they applied, one
after the other. What could not be tried, because its namespace comes with the same files, is applied on trust.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.cli.failures import did_you_mean, explain
from meltemi.cli.kinds import Kinds, Served
from meltemi.cli.manifests import UNKNOWN_KIND, Manifest, marked
from meltemi.kube.errors import ApiError, Conflict, Invalid, NotFound, Unreachable
from meltemi.kube.resources import Obj
from meltemi.sources.marks import FILES_MANAGER

if TYPE_CHECKING:
    from meltemi.kube.client import Client

_AT_ONCE = 8

T = TypeVar("T")


class Planned(msgspec.Struct, frozen=True):
    """An object to be applied, and the kind that the API has for it."""

    manifest: Manifest
    kind: Served
    obj: Obj

    @property
    def title(self) -> str:
        """`virtualservice.networking.istio.io/reviews`."""
        return f"{self.kind.title}/{self.manifest.ref.name}"

    @property
    def ref(self) -> Ref:
        """The object, with its namespace."""
        return Ref(self.manifest.ref.kind, self.obj["metadata"].get("namespace", ""), self.manifest.ref.name)


class Applied(msgspec.Struct, frozen=True):
    """An object as it is now, and what was done to it: created, configured or unchanged."""

    planned: Planned
    outcome: str
    obj: Obj

    @property
    def resource_version(self) -> str:
        """The version in which it is stored."""
        return str(self.obj["metadata"].get("resourceVersion") or "")


def plan(
    manifests: Iterable[Manifest], kinds: Kinds, namespace: str, *, one_machine: bool = True
) -> tuple[list[Planned], list[Problem]]:
    """What is to be sent where; a problem for each object of a kind that the API does not serve."""
    planned: list[Planned] = []
    problems: list[Problem] = []
    for manifest in manifests:
        kind = kinds.of_document(manifest.api_version, manifest.ref.kind)
        if kind is None:
            problems += manifest.unknown or (_not_served(manifest, kinds),)
            continue
        obj = marked(manifest, one_machine=one_machine)
        metadata = {name: value for name, value in obj["metadata"].items() if name != "namespace"}
        if kind.resource.namespaced:
            metadata["namespace"] = manifest.obj["metadata"].get("namespace") or namespace
        planned.append(Planned(manifest, kind, {**obj, "metadata": metadata}))
    return planned, problems


def _not_served(manifest: Manifest, kinds: Kinds) -> Problem:
    names = [kind.resource.kind for kind in kinds.all]
    return Problem(
        ref=manifest.ref,
        path="kind",
        message=f"the API does not serve the kind {manifest.ref.kind!r} of {manifest.api_version!r}",
        hint=did_you_mean(manifest.ref.kind, names, "install what defines the kind, or take the object out"),
        code=UNKNOWN_KIND,
        origin=manifest.document.place("kind"),
    )


class Applier:
    """Applies planned objects through one client. `force` takes over fields that others own."""

    def __init__(self, client: Client, *, force: bool, where: str) -> None:
        self._client = client
        self._force = force
        self._where = where

    async def rehearse(self, planned: Sequence[Planned]) -> list[Problem]:
        """Tries all objects without keeping them; the refusals. Raises ApiError if the API cannot be asked at all."""
        coming = {each.ref.name for each in planned if each.ref.kind == "Namespace"}

        async def attempt(each: Planned) -> list[Problem]:
            try:
                await self._put(each, dry_run=True)
            except Unreachable:
                raise
            except NotFound as error:
                return [] if each.ref.namespace in coming else self.refusal(each, error)
            except ApiError as error:
                return self.refusal(each, error)
            return []

        found = await in_parallel([partial(attempt, each) for each in planned])
        return [problem for problems in found for problem in problems]

    async def apply(self, each: Planned, *, dry_run: bool = False) -> Applied:
        """Makes one object so. Raises ApiError."""
        resource, ref = each.kind.resource, each.ref
        try:
            before: Obj | None = await self._client.get(resource, ref.name, ref.namespace)
        except NotFound:
            before = None
        obj = await self._put(each, dry_run=dry_run)
        return Applied(each, outcome(before, obj), obj)

    async def _put(self, each: Planned, *, dry_run: bool) -> Obj:
        """Server-side apply. Over what `meltemi up` keeps from files, a person's word goes: until the file changes."""
        try:
            return await self._client.apply(each.kind.resource, each.obj, force=self._force, dry_run=dry_run)
        except Conflict as error:
            if not error.status.causes or not all(f'"{FILES_MANAGER}"' in each.message for each in error.status.causes):
                raise
        return await self._client.apply(each.kind.resource, each.obj, force=True, dry_run=dry_run)

    def refusal(self, each: Planned, error: ApiError) -> list[Problem]:
        """A refusal as problems of the object, with the lines of the fields that it names."""
        if isinstance(error, Invalid) and error.status.causes:
            return [
                Problem(
                    ref=each.ref,
                    path=cause.field,
                    message=cause.message,
                    code=cause.reason or "Invalid",
                    origin=each.manifest.document.place(cause.field),
                )
                for cause in error.status.causes
            ]
        told = explain(error, self._where)
        return [
            Problem(
                ref=each.ref,
                message=told.message,
                hint=told.hint,
                code=error.status.reason or "Refused",
                origin=each.manifest.document.origin,
            )
        ]


def outcome(before: Obj | None, after: Obj) -> str:
    """What an apply has done: created, configured or unchanged."""
    if before is None:
        return "created"
    return "unchanged" if _substance(before) == _substance(after) else "configured"


def _substance(obj: Obj) -> Obj:
    """An object without what changes by being written."""
    passing = ("managedFields", "resourceVersion", "generation")
    metadata = {name: value for name, value in (obj.get("metadata") or {}).items() if name not in passing}
    return {**obj, "metadata": metadata}


async def in_parallel(tasks: Sequence[Callable[[], Awaitable[T]]], at_once: int = _AT_ONCE) -> list[T]:
    """Runs tasks, a few at a time; their results in order."""
    gate = asyncio.Semaphore(at_once)

    async def run(task: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await task()

    return list(await asyncio.gather(*(run(task) for task in tasks)))
