"""Lists of objects as the API itself prints them: `Table`s of meta.k8s.io/v1, whose columns each kind defines.

Source: Kubernetes API conventions, "Alternate representations of resources"; `kubectl get` does the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from meltemi.cli.streams import lines
from meltemi.kube.errors import Status, error_of, error_of_body
from meltemi.kube.resources import Obj, Resource
from meltemi.kube.transport import Request, query_of

if TYPE_CHECKING:
    from meltemi.kube.client import Client

_ACCEPT = ("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")


class ColumnDefinition(msgspec.Struct, frozen=True):
    """A column of a table; priority 0 is always shown, anything else with `-o wide`."""

    name: str
    priority: int = 0


class Row(msgspec.Struct, frozen=True):
    """A row: its cells, and the object (or only its metadata) that it tells of."""

    cells: tuple[Any, ...]
    object: Obj


class TableOf(msgspec.Struct, frozen=True, rename="camel"):
    """A table as the API sends it."""

    column_definitions: tuple[ColumnDefinition, ...] = ()
    rows: tuple[Row, ...] | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def resource_version(self) -> str:
        """The revision at which the table was true."""
        return str(self.metadata.get("resourceVersion") or "")


class Event(msgspec.Struct, frozen=True):
    """A change: ADDED, MODIFIED or DELETED, with the rows that it concerns."""

    type: str
    object: TableOf


class _Raw(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_event_decoder = msgspec.json.Decoder(_Raw)


async def table(
    client: Client, resource: Resource, namespace: str, name: str = "", *, labels: str = "", whole: bool = False
) -> TableOf:
    """A table of one object or of all. `whole`: with the objects, not only their metadata. Raises ApiError."""
    query: dict[str, str | int | bool] = {"labelSelector": labels, "includeObject": "Object" if whole else "Metadata"}
    answer = await client.transport.request(Request("GET", resource.path(namespace, name), query_of(query), (_ACCEPT,)))
    if answer.status >= 300:
        raise error_of_body(answer.status, answer.body)
    return msgspec.json.decode(answer.body, type=TableOf)


async def changes(
    client: Client,
    resource: Resource,
    namespace: str,
    since: str,
    *,
    labels: str = "",
    fields: str = "",
    whole: bool = False,
) -> AsyncIterator[Event]:
    """Changes after a revision, as tables, without end: a watch that the server ends is taken up again.

    Raises ApiError; Gone, if so much has changed meanwhile that one has to list again.
    """
    while True:
        query: dict[str, str | int | bool] = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": since,
            "labelSelector": labels,
            "fieldSelector": fields,
            "includeObject": "Object" if whole else "Metadata",
        }
        request = Request("GET", resource.path(namespace), query_of(query), (_ACCEPT,))
        async with client.transport.stream(request, silence=float("inf")) as pieces:
            async for line in lines(pieces):
                raw = _event_decoder.decode(line)
                if raw.type == "ERROR":
                    raise error_of(Status.of_object(msgspec.json.decode(raw.object), 500))
                event = Event(raw.type, msgspec.json.decode(raw.object, type=TableOf))
                since = _revision(event.object) or since
                if event.type != "BOOKMARK":
                    yield event


def _revision(found: TableOf) -> str:
    """The revision that a table of a watch tells of."""
    versions = [str((row.object.get("metadata") or {}).get("resourceVersion") or "") for row in found.rows or ()]
    return versions[-1] if versions else found.resource_version


def headers_of(found: TableOf, *, wide: bool, namespaces: bool) -> list[str]:
    """The headers that are shown."""
    shown = [column.name for column in found.column_definitions if wide or not column.priority]
    return ["Namespace", *shown] if namespaces else shown


def cells_of(found: TableOf, row: Row, *, wide: bool, namespaces: bool, prefix: str = "") -> list[str]:
    """The cells of a row that are shown, as texts. `prefix` (`deployment.apps/`) goes before the name."""
    shown = [
        (prefix if column.name == "Name" else "") + text(cell)
        for column, cell in zip(found.column_definitions, row.cells, strict=False)
        if wide or not column.priority
    ]
    return [str((row.object.get("metadata") or {}).get("namespace") or ""), *shown] if namespaces else shown


def text(cell: Any) -> str:
    """A cell as kubectl prints it."""
    if cell is None:
        return "<none>"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (list, dict)):
        return msgspec.json.encode(cell).decode()
    return str(cell)
