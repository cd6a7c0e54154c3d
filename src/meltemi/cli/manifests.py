"""Files of objects, read whole and checked whole before anything is done with them.

Every document of every file is decoded and validated first; all problems come back at once, each with its file and line.
What is sent to the API is the document as it was written, with its namespace filled in and an annotation that says
where it stands (`meltemi.dev/origin: shop/reviews.yaml:12`), so that everything made of it can be led back there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from meltemi.api import decoding
from meltemi.api.support import unhonoured, unsupported
from meltemi.api.validation import validate
from meltemi.api.yaml import Document, Loaded, load, load_file
from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Origin, Ref
from meltemi.cli.failures import USAGE, Failure, did_you_mean
from meltemi.sources import marks

STDIN = "<stdin>"
SUFFIXES = (".yaml", ".yml", ".json")
UNKNOWN_KIND = "UnknownKind"

# What others need comes first: namespaces, then what pods refer to, policies, and pods at last.
_RANKS = {"Namespace": 0, "CustomResourceDefinition": 0, "Service": 2}
_RANKS |= dict.fromkeys(("ServiceAccount", "ConfigMap", "Secret", "MeshConfig"), 1)
_RANKS |= dict.fromkeys(("Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"), 4)


class Manifest(msgspec.Struct, frozen=True):
    """One object of a file: the object to send, its name, and the document it stands in.

    `unknown` says that its kind is not known here, so that it was not checked; an API may know it all the same.
    """

    obj: dict[str, Any]
    ref: Ref
    document: Document
    unknown: tuple[Problem, ...] = ()

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`, as written."""
        return str(self.obj.get("apiVersion") or "")

    @property
    def title(self) -> str:
        """`virtualservice.networking.istio.io/reviews`."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.ref.kind.lower()}{'.' if group else ''}{group}/{self.ref.name}"


class Manifests(msgspec.Struct, frozen=True):
    """The objects of some files, in the order in which they are to be applied, and everything that is wrong with them.

    What is said of unknown kinds stands with the objects (`Manifest.unknown`).
    """

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]
    files: int

    @property
    def all_problems(self) -> list[Problem]:
        """The problems, unknown kinds included, in the order of the files."""
        return in_order([*self.problems, *(problem for manifest in self.manifests for problem in manifest.unknown)])


def read(
    paths: Sequence[str],
    namespace: str,
    *,
    given: bool = False,
    recursive: bool = False,
    twice: Severity = Severity.ERROR,
    one_machine: bool = True,
) -> Manifests:
    """The objects of files, directories and `-` (standard input). Raises Failure where one cannot be read.

    `namespace` holds for objects that name none; `given`: the user named it, and no object may name another. `twice`
    says how bad it is that an object is written twice; `one_machine` whether to warn of what is honoured on clusters only.
    """
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    files = 0
    for loaded in _load(paths, recursive=recursive):
        files += 1
        problems += loaded.problems
        for document in loaded.documents:
            manifest, found = examine(document, namespace, given=given, one_machine=one_machine)
            problems += found
            if manifest is not None:
                manifests.append(manifest)
    problems += duplicates(manifests, twice)
    manifests.sort(key=lambda manifest: _RANKS.get(manifest.ref.kind, 3))
    return Manifests(tuple(manifests), tuple(in_order(problems)), files)


def examine(
    document: Document, namespace: str, *, given: bool = False, one_machine: bool = True
) -> tuple[Manifest | None, list[Problem]]:
    """The object of a document, if it can be sent, and what is wrong with it."""
    decoded = decoding.decode_document(document, namespace)
    problems = list(decoded.problems)
    resource = decoded.resource
    if resource is None:
        only_unknown = all(problem.code == UNKNOWN_KIND for problem in problems)
        named = decoding.ref_of(document.data)
        manifest = _manifest(document.data, document, named, decoded.problems) if only_unknown else None
        return manifest, [] if manifest else problems
    found = [*validate(resource), *unsupported(resource)]
    if one_machine:
        found += unhonoured(document.data, document.origin)
    problems += [decoding.relocate(problem, document.lines) for problem in found]
    data = document.data if "kind" in document.data else decoding.encode(resource)
    if given and resource.namespace and resource.namespace != namespace:
        message = f"the object is for the namespace {resource.namespace}, but -n {namespace} was given"
        problems.append(_problem(document, resource.ref, "metadata.namespace", message, "leave one of the two out"))
    metadata = dict(data["metadata"])
    if resource.namespace:
        metadata["namespace"] = resource.namespace
    return _manifest({**data, "metadata": metadata}, document, resource.ref), problems


def duplicates(manifests: Iterable[Manifest], severity: Severity = Severity.ERROR) -> Iterator[Problem]:
    """A problem for each object that is written more than once: which of them is meant?"""
    first: dict[tuple[str, Ref], Manifest] = {}
    for manifest in manifests:
        key = (manifest.api_version.rpartition("/")[0], manifest.ref)
        other = first.setdefault(key, manifest)
        if other is not manifest:
            message = f"the object is written twice: also at {other.document.origin}"
            problem = _problem(
                manifest.document, manifest.ref, "metadata.name", message, "apply one of the two at a time"
            )
            yield msgspec.structs.replace(problem, severity=severity, code="WrittenTwice")


def marked(manifest: Manifest, *, one_machine: bool) -> dict[str, Any]:
    """The object with the marks that say where it was written (`meltemi.sources.marks`).

    On one machine they name the whole path, and the directory in which programs run; on a cluster, the path as given.
    """
    origin = manifest.document.origin
    if one_machine:
        is_file = origin.file and origin.file != STDIN
        place = Origin(str(Path(origin.file).absolute()), origin.line) if is_file else origin
        return marks.marked(manifest.obj, place)
    metadata = manifest.obj["metadata"]
    annotations = {**(metadata.get("annotations") or {}), marks.ORIGIN: str(origin)}
    return {**manifest.obj, "metadata": {**metadata, "annotations": annotations}}


def _manifest(obj: dict[str, Any], document: Document, ref: Ref, unknown: tuple[Problem, ...] = ()) -> Manifest | None:
    metadata = obj.get("metadata")
    return Manifest(obj, ref, document, unknown) if isinstance(metadata, dict) and metadata.get("name") else None


def _problem(document: Document, ref: Ref, path: str, message: str, hint: str) -> Problem:
    return Problem(ref=ref, path=path, message=message, hint=hint, origin=document.place(path))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems by file and line."""
    return sorted(problems, key=lambda problem: (problem.origin, problem.path))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that keep an object from taking effect."""
    return [problem for problem in problems if problem.severity is Severity.ERROR]


# === files ===


def _load(paths: Sequence[str], *, recursive: bool) -> Iterator[Loaded]:
    if not paths:
        raise Failure("no file was named", "write -f FILE, -f DIRECTORY or -f -", USAGE)
    for path in paths:
        if path == "-":
            yield load(sys.stdin.read(), STDIN)
            continue
        for file in files_of(Path(path), recursive=recursive):
            try:
                yield load_file(file)
            except OSError as error:
                raise Failure(f"{file} cannot be read: {error.strerror}") from error


def files_of(path: Path, *, recursive: bool = False) -> list[Path]:
    """The file itself, or the manifests in a directory in the order of their names. Raises Failure if there are none."""
    if path.is_file() or (path.exists() and not path.is_dir()):
        return [path]
    if not path.is_dir():
        siblings = [str(path.parent / each.name) for each in path.parent.glob("*")] if path.parent.is_dir() else []
        raise Failure(f"there is no file {path}", did_you_mean(str(path), siblings), USAGE)
    found = sorted(file for file in path.glob("**/*" if recursive else "*") if file.suffix in SUFFIXES)
    if not found:
        deeper = next((file for file in path.glob("**/*") if file.suffix in SUFFIXES), None)
        hint = "-R looks into its subdirectories" if deeper else "manifests end in .yaml, .yml or .json"
        raise Failure(f"there are no manifests in {path}", hint, USAGE)
    return found
