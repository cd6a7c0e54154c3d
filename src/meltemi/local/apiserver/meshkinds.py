"""The kinds of `meltemi.api` at the API server: which there are beside the core ones, and what is wrong with an object.

The same decoding that the mesh itself uses judges objects on admission; so what is stored can be used, and a user
hears at `kubectl apply` what the mesh would have said later.
"""

from __future__ import annotations

from collections.abc import Iterable

from meltemi.api import decoding, registry, schema, validation
from meltemi.api.support import unsupported
from meltemi.base.problems import Problem
from meltemi.kube.resources import Obj
from meltemi.local.apiserver.catalogue import CORE, Kind

_CATEGORIES = {
    "networking.istio.io": ("istio-io", "networking-istio-io"),
    "security.istio.io": ("istio-io", "security-istio-io"),
}


def served() -> tuple[Kind, ...]:
    """All kinds of the local API: the core ones, then those of the mesh."""
    core = {kind.id for kind in CORE}
    mesh = tuple(_of(kind) for kind in registry.KINDS if kind.full_name not in core)
    return CORE + mesh


def validate(kind: Kind, obj: Obj) -> Iterable[Problem]:
    """What is wrong with an object, as far as `meltemi.api` knows its kind. Metadata is judged by admission itself."""
    if registry.find(kind.api_version(), kind.kind) is None:
        return
    decoded = decoding.decode(obj)
    found = [*decoded.problems]
    if decoded.resource is not None:
        found += [*validation.validate(decoded.resource), *unsupported(decoded.resource)]
    for problem in found:
        if not problem.path.startswith("metadata."):
            yield problem


def schema_of(kind: Kind) -> Obj | None:
    """The structural schema of a kind's objects, where `meltemi.api` knows the kind."""
    known = registry.find(kind.api_version(), kind.kind)
    return schema.schema_of(known) if known is not None else None


def _of(kind: registry.Kind) -> Kind:
    return Kind(
        group=kind.group,
        versions=kind.versions,
        plural=kind.plural,
        kind=kind.kind,
        namespaced=kind.namespaced,
        short_names=kind.short_names,
        categories=_CATEGORIES.get(kind.group, ()),
        status=kind.status,
    )
