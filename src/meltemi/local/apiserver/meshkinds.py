"""The kinds of `meltemi.api` at the API server: which there are beside the core ones, and what is wrong with an object.

The same decoding that the mesh itself uses judges objects on admission; so what is stored can be used, and a user
hears at `kubectl apply` what the mesh would have said later.
"""

from __future__ import annotations

from collections.abc import Iterable

from meltemi.api import decoding, registry
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
    for problem in decoding.decode(obj).problems:
        if not problem.path.startswith("metadata."):
            yield problem


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
