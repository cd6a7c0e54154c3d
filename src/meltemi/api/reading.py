"""From text to resources in one step: load, decode, validate, and say which fields have no effect.

For those who take files from a person (`apply`, `validate`, `up`): every problem comes with the line of its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from meltemi.api.decoding import DEFAULT_NAMESPACE, decode, decode_document, relocate
from meltemi.api.meta import Resource
from meltemi.api.support import unhonoured, unsupported
from meltemi.api.validation import validate
from meltemi.api.yaml import Document, Loaded, load, load_file
from meltemi.base.problems import Problem, Severity

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
"""The names of files that hold objects end so."""


class Read(msgspec.Struct, frozen=True):
    """What a text holds. `resources` are those without errors; `documents` are theirs, one for each."""

    resources: tuple[Resource, ...] = ()
    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)


def read(text: str, file: str = "", namespace: str = DEFAULT_NAMESPACE) -> Read:
    """The resources of a text."""
    return _read(load(text, file), namespace)


def read_file(path: Path, namespace: str = DEFAULT_NAMESPACE) -> Read:
    """The resources of a file. Raises OSError if it cannot be read."""
    return _read(load_file(path), namespace)


def problems_in(data: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with one object in plain JSON, for those who admit objects: an API server, a webhook."""
    decoded = decode(data)
    yield from decoded.problems
    if decoded.resource is not None:
        yield from validate(decoded.resource)
        yield from unsupported(decoded.resource)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that a path stands for: itself, or all files of objects in a directory and below, by name."""
    if not path.is_dir():
        return (path,)
    found = (child for child in path.rglob("*") if child.suffix in SUFFIXES and child.is_file())
    return tuple(sorted(child for child in found if not any(p.startswith(".") for p in child.relative_to(path).parts)))


def combined(reads: Iterable[Read]) -> Read:
    """Several texts as one."""
    several = tuple(reads)
    return Read(
        tuple(resource for one in several for resource in one.resources),
        tuple(document for one in several for document in one.documents),
        tuple(problem for one in several for problem in one.problems),
    )


def _read(loaded: Loaded, namespace: str) -> Read:
    resources: list[Resource] = []
    documents: list[Document] = []
    problems = list(loaded.problems)
    for document in loaded.documents:
        decoded = decode_document(document, namespace)
        found = [*decoded.problems]
        if decoded.resource is not None:
            found += [relocate(problem, document.lines) for problem in _problems_of(decoded.resource, document)]
            if not any(problem.severity is Severity.ERROR for problem in found):
                resources.append(decoded.resource)
                documents.append(document)
        problems += found
    return Read(tuple(resources), tuple(documents), tuple(problems))


def _problems_of(resource: Resource, document: Document) -> Iterator[Problem]:
    yield from validate(resource)
    yield from unsupported(resource)
    yield from unhonoured(document.data, document.origin)
