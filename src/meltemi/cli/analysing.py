"""What analysis looks at: the objects of files, those of a running mesh, or a mesh as it would be with the files.

An object of a file takes the place of the mesh's own of that name. Findings are told with the line of their field: in the
file that was named, or in the one that the mesh's object was written in, if that is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from meltemi.analyze import analyzers, verdicts
from meltemi.analyze.snapshot import Snapshot
from meltemi.analyze.suppression import Suppression
from meltemi.api import decoding, registry
from meltemi.api.core import Event, Lease
from meltemi.api.meta import Resource
from meltemi.api.yaml import Document
from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Ref
from meltemi.cli import manifests
from meltemi.cli.failures import Failure
from meltemi.cli.meshapi import MeshProblem, SourceRow, origin_of
from meltemi.cli.session import Api
from meltemi.cli.sources import Places
from meltemi.kube.errors import ApiError, NotFound
from meltemi.sources import kubernetes

_PASSED_OVER = (Event, Lease)


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """Objects, and what decoding and validation told of them. `unread`: kinds that could not be looked at, and why."""

    resources: tuple[Resource, ...] = ()
    problems: tuple[Problem, ...] = ()
    documents: dict[Ref, Document] = {}
    unread: dict[str, str] = {}
    told: tuple[MeshProblem, ...] = ()


def of_files(paths: Sequence[str], namespace: str, *, recursive: bool) -> Material:
    """The objects of files that are in order, and the problems of all. Raises Failure where a file cannot be read."""
    found = manifests.read(paths, namespace, recursive=recursive, twice=Severity.WARNING, one_machine=False)
    broken = {problem.ref for problem in manifests.errors(found.problems)}
    resources: dict[Ref, Resource] = {}
    documents: dict[Ref, Document] = {}
    for manifest in found.manifests:
        resource = decoding.decode_document(manifest.document, namespace).resource
        if resource is not None and resource.ref not in broken:
            resources[resource.ref] = resource
            documents[resource.ref] = manifest.document
    return Material(resources=tuple(resources.values()), problems=tuple(found.problems), documents=documents)


async def of_mesh(api: Api) -> Material:
    """The objects of a running mesh, with what its control plane tells. Raises ApiError if the API does not answer."""
    resources: list[Resource] = []
    problems: list[Problem] = []
    unread: dict[str, str] = {}
    for kind in registry.KINDS:
        if kind.struct in _PASSED_OVER:
            continue
        try:
            listed = await api.client.list(kubernetes.resource_of(kind))
        except NotFound:
            continue  # its definition is not installed: there are none
        except ApiError as error:
            if error.status.code not in (401, 403):
                raise
            unread[kind.kind] = str(error)
            continue
        for item in listed.items:
            decoded = kubernetes.decode(kind, msgspec.json.encode(item))
            problems += decoded.problems
            if decoded.resource is not None:
                resources.append(decoded.resource)
    told: tuple[MeshProblem, ...] = ()
    try:
        told = tuple(await api.mesh.problems())
    except Failure as failure:
        unread["control plane"] = failure.message
    return Material(resources=tuple(resources), problems=tuple(problems), unread=unread, told=told)


def findings(files: Material, mesh: Material, suppressions: Sequence[Suppression] = ()) -> list[Problem]:
    """All that is wrong with a mesh that has the objects of the files besides its own, or in their place."""
    written = {*files.documents, *(problem.ref for problem in files.problems)}
    resources = [*(each for each in mesh.resources if each.ref not in written), *files.resources]
    snapshot = Snapshot(resources, mesh.unread)
    told = [
        *verdicts.of_objects(files.problems),
        *verdicts.of_objects(problem for problem in mesh.problems if problem.ref not in written),
        *_of_control_plane(mesh, written, snapshot),
    ]
    return _placed(analyzers.analyze(snapshot, told, suppressions), files.documents)


def _of_control_plane(mesh: Material, written: set[Ref], snapshot: Snapshot) -> list[Problem]:
    """What the control plane tells, but for what decoding has told, and for objects that the files replace."""
    known = {(problem.ref, problem.path, problem.message) for problem in mesh.problems}
    kept = (each.as_problem() for each in mesh.told if each.ref not in written)
    new = (problem for problem in kept if (problem.ref, problem.path, problem.message) not in known)
    return list(verdicts.of_control_plane(new, snapshot))


def _placed(found: Sequence[Problem], documents: dict[Ref, Document]) -> list[Problem]:
    """Findings with the lines of their fields."""
    places = Places({problem.ref: str(problem.origin) for problem in found if problem.origin.file})
    placed = []
    for problem in found:
        document = documents.get(problem.ref)
        if document is not None:
            placed.append(decoding.relocate(problem, document.lines))
        elif problem.origin.file:
            row = SourceRow(problem.ref.kind, problem.ref.namespace, problem.ref.name, problem.path)
            placed.append(msgspec.structs.replace(problem, origin=origin_of(places.place(row))))
        else:
            placed.append(problem)
    return placed
