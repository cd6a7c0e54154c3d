"""A directory of manifests, kept in effect: what is in the files is applied, what has gone from them is deleted.

Every object is applied to the API by server-side apply (manager `meltemi-files`) with two marks: the annotation
`meltemi.dev/origin` says file and line, and the label `meltemi.dev/files` names the set of files, so that what the
set no longer has can be found and deleted, also after a restart. A document is applied again only when its text has
changed: what was changed by hand meanwhile stays until then.

Invariant: a file that cannot be read or is no YAML deletes nothing.
"""

from __future__ import annotations

import enum
import hashlib
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from meltemi.api import registry
from meltemi.api.yaml import Document, Loaded, load, load_file
from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Origin, Ref
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError, NotFound
from meltemi.kube.resources import Obj
from meltemi.sources import inotify, marks
from meltemi.sources.kubernetes import resource_of

FILES_LABEL = "meltemi.dev/files"
_SUFFIXES = (".yaml", ".yml", ".json")
_FIRST = ("Namespace", "ServiceAccount", "ConfigMap", "Secret", "MeshConfig", "Service")
_LAST = ("Deployment", "ReplicaSet", "Pod")


class Outcome(enum.StrEnum):
    """What has become of an object."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    PRUNED = "pruned"
    REFUSED = "refused"


class Applied(msgspec.Struct, frozen=True):
    """One object, where it is written, and what has become of it."""

    ref: Ref
    outcome: Outcome
    origin: Origin = Origin()


class Report(msgspec.Struct, frozen=True):
    """What an application has done, and all that is wrong: YAML, unknown kinds, refusals of the API, its warnings."""

    applied: tuple[Applied, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether something that was asked for could not be done."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)


# === reading ===


def files_of(path: Path) -> list[Path]:
    """A file, or the manifests of a directory by name (not of its subdirectories, as with `kubectl apply -f`)."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and not file.name.startswith("."))


def read(paths: Iterable[Path | str]) -> Loaded:
    """The documents of files and directories, and of the standard input for `-`."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        if str(path) == "-":
            loaded = [load(sys.stdin.read(), "standard input")]
        else:
            loaded = [_loaded(file) for file in _listed(Path(path), problems)]
        for part in loaded:
            documents += part.documents
            problems += part.problems
    return Loaded(tuple(documents), tuple(problems))


def _listed(path: Path, problems: list[Problem]) -> list[Path]:
    try:
        files = files_of(path)
    except OSError as error:
        problems.append(_unreadable(path, error))
        return []
    if not files:
        ref, hint = Ref("File", "", str(path)), "manifests end in .yaml, .yml or .json"
        problems.append(
            Problem(ref=ref, message="the directory has no manifests", hint=hint, severity=Severity.WARNING)
        )
    return files


def _loaded(file: Path) -> Loaded:
    try:
        return load_file(file)
    except OSError as error:
        return Loaded(problems=(_unreadable(file, error),))


def _unreadable(path: Path, error: OSError) -> Problem:
    reason = (error.strerror or str(error)).lower()
    return Problem(
        ref=Ref("File", "", str(path)), message=f"cannot be read: {reason}", code="Unreadable", origin=Origin(str(path))
    )


# === applying ===


class Manifest(msgspec.Struct, frozen=True):
    """A document that names a known kind and an object: ready to be applied."""

    kind: registry.Kind
    obj: Obj
    document: Document

    @property
    def ref(self) -> Ref:
        """The object's name."""
        metadata = self.obj["metadata"]
        return Ref(self.kind.kind, metadata.get("namespace", ""), metadata["name"])


def manifest_of(document: Document, namespace: str) -> Manifest | Problem:
    """The manifest that a document is, in `namespace` unless it names one; or why it is none."""
    data = document.data
    api_version, kind_name = data.get("apiVersion"), data.get("kind")
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    ref = Ref(str(kind_name or "Object"), "", str(name or "?"))
    if not isinstance(api_version, str) or not isinstance(kind_name, str):
        missing = "kind" if isinstance(api_version, str) else "apiVersion"
        return _problem(
            document, ref, missing, f"{missing} is missing", "an object begins with apiVersion and kind", "Required"
        )
    kind = registry.find(api_version, kind_name)
    if kind is None:
        return _problem(
            document,
            ref,
            "kind",
            f"{api_version} {kind_name} is not a kind that is known here",
            _similar(kind_name),
            "UnknownKind",
        )
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        return _problem(document, ref, "metadata.name", "the object has no name", "set metadata.name", "Required")
    placed = {"namespace": metadata.get("namespace") or namespace} if kind.namespaced else {}
    return Manifest(kind, {**data, "metadata": {**metadata, **placed}}, document)


def _similar(kind_name: str) -> str:
    versions = [
        version for kind in registry.KINDS if kind.kind.lower() == kind_name.lower() for version in kind.api_versions
    ]
    return f"its apiVersion here is {' or '.join(versions)}" if versions else "remove it, or apply it elsewhere"


def _problem(document: Document, ref: Ref, path: str, message: str, hint: str, code: str) -> Problem:
    return Problem(ref=ref, path=path, message=message, hint=hint, code=code, origin=document.place(path))


async def apply(
    client: Client, manifest: Manifest, *, force: bool = True, dry_run: bool = False
) -> tuple[Applied, tuple[Problem, ...]]:
    """Applies one manifest; a refusal becomes problems that name the lines at fault."""
    resource, metadata = resource_of(manifest.kind), manifest.obj["metadata"]
    origin = manifest.document.origin
    try:
        try:
            before = await client.get(resource, metadata["name"], metadata.get("namespace", ""))
        except NotFound:
            before = None
        after = await client.apply(
            resource, manifest.obj, field_manager=marks.FILES_MANAGER, force=force, dry_run=dry_run
        )
    except ApiError as error:
        return Applied(manifest.ref, Outcome.REFUSED, origin), tuple(_refusals(manifest, error))
    if before is None:
        outcome = Outcome.CREATED
    else:
        is_same = _version(before) == _version(after)
        outcome = Outcome.UNCHANGED if is_same else Outcome.CONFIGURED
    return Applied(manifest.ref, outcome, origin), ()


def _version(obj: Obj) -> Any:
    return obj["metadata"].get("resourceVersion")


def _refusals(manifest: Manifest, error: ApiError) -> Iterable[Problem]:
    document = manifest.document
    if not error.status.causes:
        yield _problem(document, manifest.ref, "", str(error), "", error.status.reason or "Refused")
    for cause in error.status.causes:
        path = cause.field.removeprefix(".")
        yield _problem(document, manifest.ref, path, cause.message, "", cause.reason or "Invalid")


# === a set of files ===


class Files:
    """A set of files and directories that is kept in effect. `name` tells sets apart; it is made of the paths by default."""

    def __init__(
        self, client: Client, paths: Sequence[Path | str], *, namespace: str = "default", name: str = ""
    ) -> None:
        self._client = client
        self._paths = tuple(paths)
        self._namespace = namespace
        self._name = name or _name_of(self._paths)
        self._done: dict[Ref, bytes] = {}
        self._has_pruned = False

    async def apply(self) -> Report:
        """Applies what has changed since the last time, and deletes what is gone."""
        loaded = read(self._paths)
        problems = list(loaded.problems)
        manifests: dict[Ref, Manifest] = {}
        for document in loaded.documents:
            manifest = manifest_of(document, self._namespace)
            if isinstance(manifest, Problem):
                problems.append(manifest)
            elif manifest.ref in manifests:
                first = manifests[manifest.ref].document.origin
                hint = f"the one in {first} is used: remove one of them"
                problems.append(
                    _problem(document, manifest.ref, "metadata.name", "the object is written twice", hint, "Duplicate")
                )
            else:
                manifests[manifest.ref] = manifest
        applied: list[Applied] = []
        for manifest in sorted(manifests.values(), key=_order):
            outcome, found = await self._apply_one(manifest)
            applied.append(outcome)
            problems += found
        if not any(problem.severity is Severity.ERROR for problem in loaded.problems):
            applied += await self._prune(manifests)
        return Report(tuple(applied), tuple(problems))

    async def follow(self) -> AsyncGenerator[Report, None]:
        """Applies the files now, and again whenever they change. Without end."""
        yield await self.apply()
        directories = [path if path.is_dir() else path.parent for path in map(Path, self._paths) if str(path) != "-"]
        async with aclosing(inotify.changes(directories)) as changes:
            async for _ in changes:
                yield await self.apply()

    async def _apply_one(self, manifest: Manifest) -> tuple[Applied, tuple[Problem, ...]]:
        marked = self._marked(manifest)
        digest = hashlib.blake2b(msgspec.json.encode(marked.obj)).digest()
        if self._done.get(manifest.ref) == digest:
            return Applied(manifest.ref, Outcome.UNCHANGED, manifest.document.origin), ()
        outcome, problems = await apply(self._client, marked)
        if outcome.outcome is Outcome.REFUSED:
            self._done.pop(manifest.ref, None)
        else:
            self._done[manifest.ref] = digest
        return outcome, problems

    async def _prune(self, manifests: dict[Ref, Manifest]) -> list[Applied]:
        """Deletes what carries the mark of this set and is in no file any more."""
        if self._has_pruned and self._done.keys() <= manifests.keys():
            return []
        pruned = []
        for kind in registry.KINDS:
            resource = resource_of(kind)
            try:
                marked = await self._client.list(resource, labels=f"{FILES_LABEL}={self._name}")
            except NotFound:
                continue
            for obj in marked.items:
                metadata = obj["metadata"]
                ref = Ref(kind.kind, metadata.get("namespace", ""), metadata["name"])
                if ref not in manifests and not metadata.get("ownerReferences"):
                    await self._delete(kind, ref)
                    pruned.append(Applied(ref, Outcome.PRUNED))
        self._has_pruned = True
        self._done = {ref: digest for ref, digest in self._done.items() if ref in manifests}
        return pruned

    async def _delete(self, kind: registry.Kind, ref: Ref) -> None:
        try:
            await self._client.delete(resource_of(kind), ref.name, ref.namespace, propagation="Background")
        except NotFound:
            return

    def _marked(self, manifest: Manifest) -> Manifest:
        obj = marks.marked(manifest.obj, manifest.document.origin)
        metadata = obj["metadata"]
        labels = {**(metadata.get("labels") or {}), FILES_LABEL: self._name}
        return Manifest(manifest.kind, {**obj, "metadata": {**metadata, "labels": labels}}, manifest.document)


def _order(manifest: Manifest) -> tuple[int, int]:
    """What others need first, what runs last; otherwise as written."""
    kind = manifest.kind.kind
    if kind in _FIRST:
        return 0, _FIRST.index(kind)
    return (2, _LAST.index(kind)) if kind in _LAST else (1, 0)


def _name_of(paths: Sequence[Path | str]) -> str:
    """A short name for a set of paths, the same for the same paths."""
    absolute = [str(path) if str(path) == "-" else str(Path(path).resolve()) for path in paths]
    return hashlib.blake2b("\n".join(absolute).encode(), digest_size=8).hexdigest()
