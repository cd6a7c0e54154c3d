"""The unbroken view of a kind: list, then watch, for ever, whatever the network and the server do.

A watch ends: the server closes it, the connection breaks, the revision is compacted away. The reflector resumes
from the last revision it has seen (bookmarks keep that fresh), lists anew after 410 Gone, and waits with back-off
while the server cannot be reached. Its reader sees only changes; after a list anew it sees what differs, including
the objects that have vanished meanwhile.

Only key and revision of each object are kept here; what the object becomes is the business of `decode`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from meltemi.kube.client import Client, WatchEvent, decode_object
from meltemi.kube.errors import ApiError, Gone
from meltemi.kube.resources import Key, Obj, Resource

T = TypeVar("T")

_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 15.0
_SHORT_ROUND, _SHORT_ROUNDS_ALLOWED = 0.5, 5
"""A server that ends every watch at once (seconds) is asked again at once only so many times in a row."""


class What(enum.StrEnum):
    """What has happened to an object; SYNCED tells that everything that existed has now been told."""

    ADDED = "Added"
    MODIFIED = "Modified"
    DELETED = "Deleted"
    SYNCED = "Synced"


class Change(msgspec.Struct, Generic[T], frozen=True):
    """One change. `value` is the decoded object, None for DELETED and SYNCED."""

    what: What
    key: Key = Key("", "")
    value: T | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct):
    metadata: _Metadata


_head = msgspec.json.Decoder(_Head)


class Reflector(Generic[T]):
    """Follows one kind, in one namespace or in all.

    `decode` makes the value of an object's JSON and must not raise for what users may have written.
    `trouble` is told why the server cannot be followed, and None once it can be again.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        decode: Callable[[msgspec.Raw], T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        trouble: Callable[[ApiError | None], None] | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._decode = decode
        self._namespace, self._labels, self._fields = namespace, labels, fields
        self._trouble = trouble
        self._known: dict[Key, str] = {}
        self._revision = ""
        self._synced = False
        self._failures = 0
        self._short_rounds = 0
        self._retry = asyncio.Event()

    @property
    def is_synced(self) -> bool:
        """Whether everything that existed at the start has been told."""
        return self._synced

    def __repr__(self) -> str:
        state = f"at {self._revision}" if self._revision else "listing"
        return f"<Reflector {self._resource}: {len(self._known)} objects, {state}>"

    def retry_now(self) -> None:
        """Ends a wait for the next try."""
        self._retry.set()

    async def changes(self) -> AsyncGenerator[Change[T], None]:
        """All changes, without end. Cancel, or close the iterator, to stop."""
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                if not self._revision:
                    async with aclosing(self._list()) as listed:
                        async for change in listed:
                            yield change
                async with aclosing(self._watch()) as watched:
                    async for change in watched:
                        yield change
            except Gone:
                self._revision = ""
            except ApiError as error:
                self._failures += 1
                if self._trouble is not None:
                    self._trouble(error)
                await self._wait()
                continue
            self._short_rounds = self._short_rounds + 1 if now() - began < _SHORT_ROUND else 0
            if self._short_rounds > _SHORT_ROUNDS_ALLOWED:
                await self._wait()

    async def _list(self) -> AsyncGenerator[Change[T], None]:
        """Everything that exists, as changes against what is known; what is known and no longer there is deleted."""
        unseen = set(self._known)
        revision = ""
        pages = self._client.pages(self._resource, self._namespace, labels=self._labels, fields=self._fields)
        async with aclosing(pages):
            async for page in pages:
                revision = revision or page.resource_version
                for raw in page.items:
                    metadata = _head.decode(raw).metadata
                    unseen.discard(Key(metadata.namespace, metadata.name))
                    if change := self._seen(metadata, raw):
                        yield change
        for key in sorted(unseen):
            del self._known[key]
            yield Change(What.DELETED, key)
        self._revision = revision
        self._recovered()
        if not self._synced:
            self._synced = True
            yield Change(What.SYNCED)

    async def _watch(self) -> AsyncGenerator[Change[T], None]:
        """Changes from the last revision on, until the server ends the watch."""
        events = self._client.watch(
            self._resource,
            self._namespace,
            resource_version=self._revision,
            labels=self._labels,
            fields=self._fields,
        )
        async with aclosing(events):
            async for event in events:
                self._recovered()
                metadata = _head.decode(event.object).metadata
                change = self._change(event, metadata)
                self._revision = metadata.resource_version or self._revision
                if change is not None:
                    yield change

    def _change(self, event: WatchEvent, metadata: _Metadata) -> Change[T] | None:
        if event.type == "BOOKMARK":
            return None
        if event.type == "DELETED":
            key = Key(metadata.namespace, metadata.name)
            return Change(What.DELETED, key) if self._known.pop(key, None) is not None else None
        return self._seen(metadata, event.object)

    def _seen(self, metadata: _Metadata, raw: msgspec.Raw) -> Change[T] | None:
        key = Key(metadata.namespace, metadata.name)
        before = self._known.get(key)
        if before == metadata.resource_version:
            return None
        self._known[key] = metadata.resource_version
        return Change(What.ADDED if before is None else What.MODIFIED, key, self._decode(raw))

    def _recovered(self) -> None:
        if self._failures and self._trouble is not None:
            self._trouble(None)
        self._failures = 0

    async def _wait(self) -> None:
        """Waits before the next try: doubling with jitter, up to a bound; `retry_now` ends it early."""
        longest = min(_LONGEST_WAIT, _SHORTEST_WAIT * 2 ** min(self._failures + self._short_rounds, 12))
        self._retry.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._retry.wait(), longest * (0.5 + random.random() / 2))


def objects(client: Client, resource: Resource, namespace: str = "") -> Reflector[Obj]:
    """A reflector whose values are plain JSON objects (with `apiVersion` and `kind`, which lists leave out)."""

    def decode(raw: msgspec.Raw) -> Obj:
        return {"apiVersion": resource.api_version, "kind": resource.kind, **decode_object(raw)}

    return Reflector(client, resource, decode, namespace=namespace)
