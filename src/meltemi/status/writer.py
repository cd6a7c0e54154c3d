"""Writes status, for a batch of objects at a time, and only where it differs from what stands there.

Objects become dirty when they or their problems change; their status is written when every proxy has acknowledged the
revision, or after a moment in any case, and again when it has. A write that fails is tried again with the next batch; a
mesh without an API to write to is served all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Ref
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError, Conflict, NotFound
from meltemi.kube.events import NORMAL, WARNING, Recorder
from meltemi.kube.resources import Obj, Resource
from meltemi.status import conditions

log = logging.getLogger(__name__)

# Seconds between batches, and until an object's status is written though proxies are still behind.
PAUSE = 0.05
PATIENCE = 2.0


class Subject(msgspec.Struct, frozen=True):
    """An object whose status is kept: its address in the API, its generation, its uid and its present status.

    `addresses` are those that its hosts are given, if its kind is given any.
    """

    ref: Ref
    resource: Resource
    generation: int
    uid: str
    status: Mapping[str, Any]
    addresses: tuple[Obj, ...] | None = None


class Mesh(Protocol):
    """What the writer asks of the control plane."""

    def subject(self, ref: Ref) -> Subject | None:
        """The object, if it exists and is of a kind whose status the mesh keeps."""

    def problems_of(self, ref: Ref) -> Iterable[Problem]:
        """What is wrong with it, Envoy's refusals included."""

    def behind(self, revision: int) -> tuple[int, int]:
        """How many proxies are behind a revision, and of how many."""


class StatusWriter:
    """Keeps the status of users' objects true."""

    def __init__(self, client: Client, mesh: Mesh, clock: Callable[[], float]) -> None:
        self._client = client
        self._recorder = Recorder(client, "meltemi")
        self._mesh = mesh
        self._clock = clock
        self._dirty: dict[Ref, tuple[int, float]] = {}
        self._told: set[Problem] = set()
        self._wake = asyncio.Event()
        self.written = 0

    def __repr__(self) -> str:
        return f"<StatusWriter: {len(self._dirty)} objects dirty, {self.written} written>"

    def mark(self, refs: Iterable[Ref], revision: int) -> None:
        """Objects whose status may differ since a revision."""
        now = self._clock()
        for ref in refs:
            self._dirty[ref] = (revision, now)
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(PAUSE)
            if not self._dirty:
                self._wake.clear()
            for ref, (revision, since) in list(self._dirty.items()):
                await self._attend(ref, revision, since)

    async def _attend(self, ref: Ref, revision: int, since: float) -> None:
        """Write one object's status if its time has come."""
        behind, proxies = self._mesh.behind(revision)
        problems = tuple(self._mesh.problems_of(ref))
        if behind and not problems and self._clock() - since < PATIENCE:
            return
        try:
            await self._write(ref, problems, behind, proxies)
        except NotFound:
            pass
        except (Conflict, ApiError, OSError) as error:
            log.warning("cannot write the status of %s now: %s", ref, error)
            return
        if not behind and self._dirty.get(ref, (0, 0.0))[0] == revision:
            self._dirty.pop(ref, None)

    async def _write(self, ref: Ref, problems: tuple[Problem, ...], behind: int, proxies: int) -> None:
        subject = self._mesh.subject(ref)
        if subject is None:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new = conditions.status(
            subject.status,
            generation=subject.generation,
            problems=problems,
            behind=behind,
            proxies=proxies,
            now=now,
            addresses=subject.addresses,
        )
        if conditions.without_times(new) != conditions.without_times(subject.status):
            patch = {"status": new}
            await self._client.patch(subject.resource, ref.name, patch, namespace=ref.namespace, subresource="status")
            self.written += 1
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                await self._tell(subject, problem)

    async def _tell(self, subject: Subject, problem: Problem) -> None:
        about: Obj = {
            "apiVersion": subject.resource.api_version,
            "kind": subject.ref.kind,
            "metadata": {"name": subject.ref.name, "namespace": subject.ref.namespace, "uid": subject.uid},
        }
        kind = NORMAL if problem.severity is Severity.INFO else WARNING
        where = f"{problem.path}: " if problem.path else ""
        await self._recorder.record(about, kind, problem.code, f"{where}{problem.message}")
