"""What every object that users write has in common: metadata, a place it was written, and struct settings.

Every kind is a frozen struct whose attribute names are the fields' names in snake_case; the wire form has Istio's and
Kubernetes' camelCase. The pieces of mesh kinds are `Part`s and refuse fields they do not know; the pieces of
Kubernetes' own kinds are `CorePart`s and pass over the many fields that a mesh does not act on.

Invariant: values are never amended, so structs hold tuples, not lists (a dict in a struct is treated as frozen too),
and since trees of them cannot form cycles, the garbage collector need not visit them (`gc=False`).
"""

from __future__ import annotations

import msgspec

from meltemi.base.refs import Origin, Ref

ORIGIN = "$origin"
"""The key under which a struct keeps its origin. It is not part of the wire form: decoding refuses it, encoding drops it."""


class CorePart(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A piece of a Kubernetes object. Fields that are not modelled are passed over."""


class Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A piece of a mesh object. Unknown fields are refused."""


class OwnerReference(CorePart, frozen=True, kw_only=True):
    """The object to which another belongs (Kubernetes `OwnerReference`)."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(CorePart, frozen=True, kw_only=True):
    """Kubernetes' `ObjectMeta`, without what only an API server needs (`managedFields`)."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, if it says so."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Condition(CorePart, frozen=True, kw_only=True):
    """An observation about an object (Kubernetes `Condition`)."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
    last_probe_time: str = ""
    last_update_time: str = ""


class Resource(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False, kw_only=True):
    """An object of any kind. `origin` says where it was written and is not part of the wire form."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()
    origin: Origin = msgspec.field(default=Origin(), name=ORIGIN)

    @property
    def ref(self) -> Ref:
        """The object's name, for problems and provenance."""
        return Ref(self.kind, self.metadata.namespace, self.metadata.name)

    @property
    def namespace(self) -> str:
        """The namespace; empty for cluster-scoped kinds."""
        return self.metadata.namespace

    @property
    def name(self) -> str:
        """The name."""
        return self.metadata.name

    @property
    def created(self) -> str:
        """When the object was made (RFC 3339, empty if it was not stored yet)."""
        return self.metadata.creation_timestamp

    @property
    def labels(self) -> dict[str, str]:
        """The labels. Not to be amended."""
        return self.metadata.labels

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations. Not to be amended."""
        return self.metadata.annotations


class MeshStatus(CorePart, frozen=True, kw_only=True):
    """The status of a mesh kind: Istio's `IstioStatus`, as far as anything reads it back."""

    conditions: tuple[Condition, ...] = ()
    observed_generation: int | str = 0


class MeshResource(Resource, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An object of a mesh kind."""

    status: MeshStatus | None = None


class WorkloadSelector(Part, frozen=True, kw_only=True):
    """The workloads that carry all these labels (Istio `type.v1beta1.WorkloadSelector`)."""

    match_labels: dict[str, str] = {}


class PolicyTargetReference(Part, frozen=True, kw_only=True):
    """The object to which a policy is attached (Istio `type.v1beta1.PolicyTargetReference`)."""

    group: str = ""
    kind: str
    name: str
    namespace: str = ""


class LabelSelectorRequirement(CorePart, frozen=True, kw_only=True):
    """One condition on a label: `In`, `NotIn`, `Exists` or `DoesNotExist`."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(CorePart, frozen=True, kw_only=True):
    """Kubernetes' `LabelSelector`: all of it must hold; an empty one selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
