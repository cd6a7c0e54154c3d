"""Which user's object a piece of configuration came from: object, field, file and line.

Objects carry the file and line of their first line (`meltemi.dev/origin`). Where that file is at hand and still holds
the object there, the line of the very field is found in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from meltemi.base.refs import Origin, Ref
from meltemi.cli.meshapi import SourceRow
from meltemi.cli.printing import near
from meltemi.kube.errors import ApiError
from meltemi.kube.transport import Request
from meltemi.sources import marks

if TYPE_CHECKING:
    from meltemi.api.yaml import Document
    from meltemi.cli.session import Api

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_SHOWN = 2

Reader = Callable[[str], Iterable["Document"]]


def read_documents(file: str) -> Iterable[Document]:
    """The documents of a file; none if it cannot be read."""
    from meltemi.api.yaml import load_file

    try:
        return load_file(Path(file)).documents
    except OSError:
        return ()


class Places:
    """The files and lines of objects and of their fields."""

    def __init__(self, origins: Mapping[Ref, str], read: Reader = read_documents) -> None:
        self._origins = origins
        self._read = read
        self._files: dict[str, list[Document]] = {}

    def place(self, source: SourceRow) -> str:
        """`shop.yaml:12` for a part of an object; empty if it is not known. Seen from the working directory."""
        return near(self._place(source))

    def _place(self, source: SourceRow) -> str:
        written = self._origins.get(source.ref, "")
        file, _, line = written.rpartition(":")
        if not source.path or not file or not line.isdigit():
            return written
        if file not in self._files:
            self._files[file] = list(self._read(file))
        for document in self._files[file]:
            if document.origin.line == int(line) and _is(document, source.ref):
                return str(Origin(file, document.lines.line(source.path)))
        return written


def _is(document: Document, ref: Ref) -> bool:
    metadata = document.data.get("metadata")
    return isinstance(metadata, dict) and document.data.get("kind") == ref.kind and metadata.get("name") == ref.name


async def places(api: Api, refs: Collection[Ref]) -> Places:
    """Asks the API where objects were written: one request per kind. What it does not tell stays unknown."""
    kinds = await api.kinds()
    origins: dict[Ref, str] = {}
    for name in sorted({ref.kind for ref in refs}):
        kind = kinds.of_kind(name)
        if kind is None:
            continue
        request = Request("GET", kind.resource.path(), (), (("Accept", _METADATA_ONLY),))
        try:
            answer = await api.client.transport.request(request)
        except ApiError:
            continue
        if answer.status == 200:
            for item in msgspec.json.decode(answer.body, type=_Listed).items:
                metadata = item.metadata
                if written := (metadata.annotations or {}).get(marks.ORIGIN):
                    origins[Ref(name, metadata.namespace, metadata.name)] = written
    return Places({ref: origins[ref] for ref in refs if ref in origins})


def told(sources: Iterable[SourceRow], where: Places, *, wide: bool = False) -> str:
    """`VirtualService bookshop/reviews spec.http[0] (split.yaml:22)`, and how many more there are.

    An object is left out where parts of it are named, and so are services where something more telling was written:
    everything comes of a service. Wide shows those as well.
    """
    rows = list(dict.fromkeys(sources))
    parts = {row.ref for row in rows if row.path}
    rows = [row for row in rows if row.path or row.ref not in parts]
    if not wide:
        rows = [row for row in rows if row.kind != "Service"] or rows
    texts = [one(row, where) for row in rows]
    if wide or len(texts) <= _SHOWN:
        return ", ".join(texts)
    return f"{', '.join(texts[:_SHOWN])} (+{len(texts) - _SHOWN})"


def one(source: SourceRow, where: Places) -> str:
    """One source."""
    place = where.place(source)
    text = f"{source.ref} {source.path}".rstrip()
    return f"{text} ({place})" if place else text


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] | None = None


class _Item(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class _Listed(msgspec.Struct, frozen=True):
    items: tuple[_Item, ...] = ()
