"""How objects go over the wire: as they are, as a Table (`kubectl get`), or as their metadata only.

The client says which in its Accept header (`application/json;as=Table;v=v1;g=meta.k8s.io`). Objects as they are need
no encoding here: the store holds their JSON, and lists and watch events are made by joining bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum

import msgspec

from meltemi.kube.resources import Key, Obj
from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.catalogue import Kind
from meltemi.local.apiserver.columns import columns_of
from meltemi.local.apiserver.store import Item
from meltemi.local.apiserver.verbs import Listing


class Form(Enum):
    """What the client wants to see."""

    WHOLE = "whole objects"
    TABLE = "a table"
    METADATA = "metadata only"


def form_of(accept: str) -> Form:
    """The first form of an Accept header that is served here."""
    for option in accept.split(","):
        parameters = dict(part.strip().partition("=")[::2] for part in option.split(";")[1:])
        if parameters.get("as") == "Table" and parameters.get("v") == "v1":
            return Form.TABLE
        if parameters.get("as", "").startswith("PartialObjectMetadata") and parameters.get("v") == "v1":
            return Form.METADATA
        if not parameters.get("as"):
            return Form.WHOLE
    return Form.WHOLE


class Renderer:
    """Renders objects of one kind, in one served version and one form.

    `include` is the Table option of that name: None, Metadata or Object.
    """

    def __init__(self, kind: Kind, version: str, form: Form, include: str, now: Callable[[], datetime]) -> None:
        self._kind = kind
        self._version = version
        self._form = form
        self._include = include
        self._now = now

    def one(self, item: Item) -> bytes:
        """One object."""
        if self._form is Form.TABLE:
            return msgspec.json.encode(self._table([item], {"resourceVersion": str(item.revision)}))
        if self._form is Form.METADATA:
            return msgspec.json.encode(_metadata_only(item.obj))
        return self._raw(item)

    def page(self, listing: Listing, first_revision: int | None = None) -> bytes:
        """A list. Its later pages carry the revision of the first."""
        metadata: Obj = {"resourceVersion": str(first_revision or listing.revision)}
        if listing.next is not None:
            metadata["continue"] = continue_token(first_revision or listing.revision, listing.next)
            metadata["remainingItemCount"] = listing.remaining
        if self._form is Form.TABLE:
            return msgspec.json.encode(self._table(listing.items, metadata))
        if self._form is Form.METADATA:
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = [msgspec.json.encode(_metadata_only(item.obj)) for item in listing.items]
        else:
            kind, api_version = f"{self._kind.kind}List", self._kind.api_version(self._version)
            items = [self._raw(item) for item in listing.items]
        head = msgspec.json.encode({"kind": kind, "apiVersion": api_version, "metadata": metadata})
        return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))

    def event(self, what: str, item: Item) -> bytes:
        """A line of a watch."""
        return b"".join((b'{"type":"', what.encode(), b'","object":', self.one(item), b"}\n"))

    def bookmark(self, revision: int, *, initial_end: bool) -> bytes:
        """A line of a watch that says: everything up to this revision has been told."""
        metadata: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Obj = {"kind": self._kind.kind, "apiVersion": self._kind.api_version(self._version), "metadata": metadata}
        if self._form is Form.TABLE:
            obj = {**self._table([], metadata), "rows": None}
        elif self._form is Form.METADATA:
            obj = _metadata_only(obj)
        return b"".join((b'{"type":"BOOKMARK","object":', msgspec.json.encode(obj), b"}\n"))

    def _raw(self, item: Item) -> bytes:
        if self._version == self._kind.versions[0]:
            return item.raw
        return msgspec.json.encode({**item.obj, "apiVersion": self._kind.api_version(self._version)})

    def _table(self, items: Iterable[Item], metadata: Obj) -> Obj:
        columns, now = columns_of(self._kind), self._now()
        rows = []
        for item in items:
            row: Obj = {"cells": [column.value(item.obj, now) for column in columns]}
            if self._include == "Object":
                row["object"] = msgspec.Raw(self._raw(item))
            elif self._include != "None":
                row["object"] = _metadata_only(item.obj)
            rows.append(row)
        return {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": [column.as_object() for column in columns],
            "rows": rows,
        }


def continue_token(revision: int, after: Key) -> str:
    """Where the next page of a list starts, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode([revision, after.namespace, after.name])).decode()


def read_continue_token(token: str) -> tuple[int, Key]:
    """The revision of the list and the last key of the page before. Raises BadRequest."""
    try:
        revision, namespace, name = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[int, str, str])
    except (ValueError, msgspec.DecodeError):
        raise refusals.bad_request("continue key is not valid") from None
    return revision, Key(namespace, name)


def _metadata_only(obj: Obj) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
