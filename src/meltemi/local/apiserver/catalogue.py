"""Every kind that the local API serves: core kinds that workloads need, and the mesh's kinds from `meltemi.api`.

One line per kind, in one list; discovery, paths, printing and admission all look here. A kind's `id` (such as
`pods` or `deployments.apps`) names its shelf in the store; objects are stored in the first of `versions` and served
in all of them, which is right because the versions of every kind here share one schema.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meltemi.kube.resources import Obj, Resource

_ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A served kind. `versions` has the stored one first; `virtual` kinds are answered but never stored."""

    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    scale: bool = False
    virtual: bool = False

    @property
    def id(self) -> str:
        """The kind's name in the store and in messages: `plural` or `plural.group`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        """The name that `kubectl` accepts beside the plural."""
        return self.kind.lower()

    @property
    def verbs(self) -> tuple[str, ...]:
        """What discovery says can be done with it."""
        return ("create",) if self.virtual else _ALL_VERBS

    def api_version(self, version: str = "") -> str:
        """`group/version`, of the stored version unless another is named."""
        version = version or self.versions[0]
        return f"{self.group}/{version}" if self.group else version

    def resource(self, version: str = "") -> Resource:
        """The kind's address, for the client."""
        return Resource(self.group, version or self.versions[0], self.plural, self.kind, self.namespaced)

    @property
    def subresources(self) -> tuple[str, ...]:
        """The subresources that discovery lists."""
        own = {"pods": ("binding", "exec", "log"), "serviceaccounts": ("token",), "namespaces": ("finalize",)}
        return tuple(
            sorted(
                (
                    *own.get(self.id, ()),
                    *(("status",) if self.status else ()),
                    *(("scale",) if self.scale else ()),
                )
            )
        )


CORE: tuple[Kind, ...] = (
    Kind(plural="namespaces", kind="Namespace", namespaced=False, short_names=("ns",), status=True),
    Kind(plural="nodes", kind="Node", namespaced=False, short_names=("no",), status=True),
    Kind(plural="pods", kind="Pod", short_names=("po",), categories=("all",), status=True),
    Kind(plural="services", kind="Service", short_names=("svc",), categories=("all",), status=True),
    Kind(plural="serviceaccounts", kind="ServiceAccount", short_names=("sa",)),
    Kind(plural="configmaps", kind="ConfigMap", short_names=("cm",)),
    Kind(plural="secrets", kind="Secret"),
    Kind(plural="events", kind="Event", short_names=("ev",)),
    Kind(
        group="apps",
        plural="deployments",
        kind="Deployment",
        short_names=("deploy",),
        categories=("all",),
        status=True,
        scale=True,
    ),
    Kind(
        group="apps",
        plural="replicasets",
        kind="ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        status=True,
        scale=True,
    ),
    Kind(group="discovery.k8s.io", plural="endpointslices", kind="EndpointSlice"),
    Kind(group="coordination.k8s.io", plural="leases", kind="Lease"),
    Kind(group="authentication.k8s.io", plural="tokenreviews", kind="TokenReview", namespaced=False, virtual=True),
)


class Catalogue:
    """The served kinds, found by what requests name."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds = tuple(kinds)
        self._by_id = {kind.id: kind for kind in self._kinds}
        self._by_path = {(k.group, version, k.plural): k for k in self._kinds for version in k.versions}
        self._by_type = {(k.api_version(version), k.kind): k for k in self._kinds for version in k.versions}

    def by_id(self, kind: str) -> Kind | None:
        """The kind of a store's shelf."""
        return self._by_id.get(kind)

    def by_path(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind that a URL path names."""
        return self._by_path.get((group, version, plural))

    def of_object(self, obj: Obj) -> Kind | None:
        """The kind that an object's `apiVersion` and `kind` name."""
        return self._by_type.get((str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")))

    @property
    def all(self) -> tuple[Kind, ...]:
        """All served kinds, in the order of declaration."""
        return self._kinds

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Each group with its versions, the preferred one first; the core group under an empty name."""
        found: dict[str, list[str]] = {}
        for kind in self._kinds:
            versions = found.setdefault(kind.group, [])
            versions += [version for version in kind.versions if version not in versions]
        return {group: tuple(versions) for group, versions in found.items()}
