"""What users have written, read from a Kubernetes API: the cluster's or the local one, it is the same code.

One reflector per kind follows the API; every object is decoded into its `api` struct where it arrives, so that no
JSON is kept. What does not decode becomes problems, and the last good version stays in effect. Changes are gathered
for some milliseconds into batches; the first batch comes when every kind has been read once, and has everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from meltemi.api import decoding
from meltemi.api.decoding import Decoded
from meltemi.api.meta import Resource
from meltemi.api.registry import KINDS, Kind
from meltemi.api.support import unsupported
from meltemi.api.validation import validate
from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Origin, Ref
from meltemi.kube import resources
from meltemi.kube.client import Client, decode_object
from meltemi.kube.errors import ApiError, NotFound
from meltemi.kube.reflector import Change, Reflector, What
from meltemi.kube.resources import Key
from meltemi.sources.gathering import LONGEST_SECONDS, QUIET_SECONDS, Gatherer
from meltemi.sources.marks import ORIGIN

_NOT_READ = frozenset({"Event", "Lease", "Deployment", "ReplicaSet", "ConfigMap", "ServiceAccount"})
READ: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind.kind not in _NOT_READ)
"""The kinds that the mesh reads."""


class Put(msgspec.Struct, frozen=True):
    """An object is new or has changed."""

    kind: Kind
    key: Key
    resource: Resource


class Removed(msgspec.Struct, frozen=True):
    """An object is gone."""

    kind: Kind
    key: Key


class Batch(msgspec.Struct, frozen=True):
    """What has happened: at most one change per object, in order of arrival, and what is wrong with which object.

    `problems` has an entry for every object that has been looked at; an empty one says that nothing is wrong (any
    more). An object with errors has no `Put`: what was known of it stays.
    """

    changes: tuple[Put | Removed, ...]
    problems: Mapping[Ref, tuple[Problem, ...]]


class SourceStatistics(msgspec.Struct, frozen=True):
    """The state of a source: objects known per kind, kinds that have been read, and what is in the way of the others."""

    objects: Mapping[str, int]
    synced: tuple[str, ...]
    trouble: Mapping[str, str]


class _Seen(msgspec.Struct, frozen=True):
    """One gathered outcome."""

    change: Put | Removed | None
    ref: Ref
    problems: tuple[Problem, ...] = ()


class KubernetesSource:
    """Follows the kinds that the mesh reads and delivers batches. `trouble` is told of a kind that cannot be followed."""

    def __init__(
        self,
        client: Client,
        deliver: Callable[[Batch], None],
        *,
        kinds: Sequence[Kind] = READ,
        quiet: float = QUIET_SECONDS,
        longest: float = LONGEST_SECONDS,
        trouble: Callable[[Kind, ApiError | None], None] = lambda kind, error: None,
    ) -> None:
        self._client = client
        self._deliver = deliver
        self._kinds = tuple(kinds)
        self._tell = trouble
        self._gatherer: Gatherer[tuple[str, Key], _Seen] = Gatherer(
            self._hand_over, quiet=quiet, longest=longest, hold=True
        )
        self._unread = {kind.full_name for kind in self._kinds}
        self._synced = asyncio.Event()
        self._counts = dict.fromkeys((kind.full_name for kind in self._kinds), 0)
        self._trouble: dict[str, str] = {}

    @property
    def is_synced(self) -> bool:
        """Whether the first batch, which has everything, has been delivered."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Waits for the first batch to have been delivered."""
        await self._synced.wait()

    def statistics(self) -> SourceStatistics:
        """The state of the source."""
        read = tuple(kind.full_name for kind in self._kinds if kind.full_name not in self._unread)
        return SourceStatistics(dict(self._counts), read, dict(self._trouble))

    async def run(self) -> None:
        """Follows the API until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for kind in self._kinds:
                    group.create_task(self._follow(kind))
        finally:
            self._gatherer.close()

    async def _follow(self, kind: Kind) -> None:
        reflector: Reflector[Decoded] = Reflector(
            self._client,
            resource_of(kind),
            lambda raw: decode(kind, raw),
            trouble=lambda error: self._on_trouble(kind, error),
        )
        async with contextlib.aclosing(reflector.changes()) as changes:
            async for change in changes:
                self._take(kind, change)

    def _take(self, kind: Kind, change: Change[Decoded]) -> None:
        if change.what is What.SYNCED:
            self._read(kind)
            return
        self._counts[kind.full_name] += {What.ADDED: 1, What.DELETED: -1}.get(change.what, 0)
        ref = Ref(kind.kind, change.key.namespace, change.key.name)
        decoded = change.value
        if decoded is None:
            seen = _Seen(Removed(kind, change.key), ref)
        elif decoded.resource is None:
            seen = _Seen(None, ref, decoded.problems)
        else:
            seen = _Seen(Put(kind, change.key, decoded.resource), ref, decoded.problems)
        self._gatherer.add((kind.full_name, change.key), seen)

    def _read(self, kind: Kind) -> None:
        self._unread.discard(kind.full_name)
        if not self._unread and not self._synced.is_set():
            self._gatherer.release()
            self._synced.set()

    def _on_trouble(self, kind: Kind, error: ApiError | None) -> None:
        """A kind that the API does not know (its CRD is not installed) has no objects: it is not waited for."""
        if error is None:
            self._trouble.pop(kind.full_name, None)
        else:
            self._trouble[kind.full_name] = str(error)
        if isinstance(error, NotFound):
            self._read(kind)
        self._tell(kind, error)

    def _hand_over(self, gathered: dict[tuple[str, Key], _Seen]) -> None:
        changes = tuple(seen.change for seen in gathered.values() if seen.change is not None)
        self._deliver(Batch(changes, {seen.ref: seen.problems for seen in gathered.values()}))


def resource_of(kind: Kind) -> resources.Resource:
    """The address of a kind's preferred version."""
    return resources.Resource(kind.group, kind.versions[0], kind.plural, kind.kind, kind.namespaced)


@cache
def _decoder(kind: Kind) -> msgspec.json.Decoder[Resource]:
    return msgspec.json.Decoder(kind.struct, dec_hook=_from_wire)


def _from_wire(cls: Any, value: Any) -> Any:
    return cls.from_wire(value)


def decode(kind: Kind, raw: bytes | msgspec.Raw) -> Decoded:
    """The resource of an object's JSON: straight into its struct, or by the long way that tells what is wrong.

    A mesh kind is validated as well: no resource comes of one with errors, warnings come beside it. Lists leave out
    `apiVersion` and `kind`; they are put back.
    """
    decoded = _decoded(kind, raw)
    if decoded.resource is None or not kind.mesh:
        return decoded
    problems = (*decoded.problems, *validate(decoded.resource), *unsupported(decoded.resource))
    has_errors = any(problem.severity is Severity.ERROR for problem in problems)
    return Decoded(None if has_errors else decoded.resource, problems)


def _decoded(kind: Kind, raw: bytes | msgspec.Raw) -> Decoded:
    try:
        resource = _decoder(kind).decode(raw)
    except (msgspec.ValidationError, ValueError):
        document = {**decode_object(raw), "apiVersion": kind.api_version, "kind": kind.kind}
        metadata = document.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
        return decoding.decode(document, origin_of(annotations if isinstance(annotations, dict) else {}))
    for name, value in (
        ("api_version", kind.api_version),
        ("kind", kind.kind),
        ("origin", origin_of(resource.annotations)),
    ):
        msgspec.structs.force_setattr(resource, name, value)
    return Decoded(resource)


def origin_of(annotations: Mapping[str, str]) -> Origin:
    """The origin that an object's annotations tell."""
    file, _, line = annotations.get(ORIGIN, "").rpartition(":")
    return Origin(file, int(line)) if file and line.isdigit() else Origin()
