"""The objects of a mesh at one moment, by kind, and what analyzers ask about them.

The meaning of hosts, ports and selectors is not worked out here a second time: the objects are put into the control
plane's own pipeline, and its services and problems are read off. Invariant: a snapshot is never amended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TypeVar

import msgspec

from meltemi import pipeline
from meltemi.api import core, decoding
from meltemi.api.meta import ObjectMeta, Resource
from meltemi.api.networking import ServiceEntry, WorkloadEntry
from meltemi.base.hosts import qualify
from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.flow import Put, View
from meltemi.inject import policy
from meltemi.model.mesh import Mesh
from meltemi.model.services import Service
from meltemi.resolve import hosts, indexes

R = TypeVar("R", bound=Resource)

SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
_MESH_CONFIG_MAP = "istio"


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A pod, or the template of pods that are still to be made. `path` leads to its metadata within `owner`."""

    owner: Resource
    namespace: str
    metadata: ObjectMeta
    spec: core.PodSpec = core.PodSpec()
    path: str = ""
    account: str = "default"

    @property
    def labels(self) -> LabelSet:
        """The labels of its pods."""
        return LabelSet.of(self.metadata.labels)

    @property
    def is_pod(self) -> bool:
        """Whether there is a pod, and not only a template."""
        return isinstance(self.owner, core.Pod)

    @property
    def template_path(self) -> str:
        """The path of the pod's `spec` and `metadata` within the owner, with the dot that follows."""
        return self.path.removesuffix("metadata")


class Snapshot:
    """Objects by kind. `unread`: kinds that could not be looked at, so that nothing is missing because it is not here."""

    def __init__(self, resources: Iterable[Resource], unread: Iterable[str] = ()) -> None:
        self.unread = frozenset(unread)
        self._by_ref: dict[Ref, Resource] = {}
        for resource in resources:
            self._by_ref[resource.ref] = resource
            if isinstance(resource, core.ConfigMap) and resource.name == _MESH_CONFIG_MAP and "mesh" in resource.data:
                mesh_config = decoding.mesh_config_of(resource).resource
                if mesh_config is not None:
                    self._by_ref.setdefault(mesh_config.ref, mesh_config)

    def of(self, struct: type[R]) -> tuple[R, ...]:
        """The objects of a kind, by namespace and name."""
        found = [resource for resource in self._by_ref.values() if isinstance(resource, struct)]
        return tuple(sorted(found, key=lambda resource: (resource.namespace, resource.name)))

    def all(self) -> tuple[Resource, ...]:
        """All objects, by kind, namespace and name."""
        return tuple(self._by_ref[ref] for ref in sorted(self._by_ref))

    def get(self, struct: type[R], namespace: str, name: str) -> R | None:
        """One object."""
        found = self._by_ref.get(Ref(struct.__name__, namespace, name))
        return found if isinstance(found, struct) else None

    def has_read(self, *structs: type[Resource]) -> bool:
        """Whether all objects of the kinds are here that there are."""
        return not any(struct.__name__ in self.unread for struct in structs)

    @cached_property
    def pipeline(self) -> pipeline.Pipeline:
        """The control plane's tables of these objects, without any proxy."""
        made = pipeline.build()
        made.graph.commit(
            Put(made.facts[resource.ref.kind], (resource.namespace, resource.name), resource)
            for resource in self._by_ref.values()
            if resource.ref.kind in made.facts
        )
        return made

    @cached_property
    def mesh(self) -> Mesh:
        """The settings of the mesh."""
        return self.pipeline.mesh.only()

    @cached_property
    def services(self) -> View[tuple[str, str], Service]:
        """The services, Kubernetes' and those of ServiceEntries."""
        table = self.pipeline.graph.table("services")
        return View.of(dict(table.items()), host=indexes.service_host, pattern=indexes.service_patterns)

    def service(self, host: str, namespace: str) -> Service | None:
        """The service that an object of a namespace means by a host."""
        return hosts.find(self.services, qualify(host, namespace, self.mesh.domain), namespace)

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """Pods, and the templates of pods that none of them was made of; WorkloadEntries and listed endpoints too."""
        return tuple(self._workloads())

    def _workloads(self) -> Iterator[Workload]:
        for pod in self.of(core.Pod):
            if not self._is_here(pod.metadata, pod.namespace):
                yield _of_template(pod, pod.metadata, pod.spec, "metadata")
        for deployment in self.of(core.Deployment):
            template = deployment.spec.template
            yield _of_template(deployment, template.metadata, template.spec, "spec.template.metadata")
        for replicas in self.of(core.ReplicaSet):
            if not self._is_here(replicas.metadata, replicas.namespace):
                template = replicas.spec.template
                yield _of_template(replicas, template.metadata, template.spec, "spec.template.metadata")
        for entry in self.of(WorkloadEntry):
            labels = {**entry.labels, **entry.spec.labels}
            yield Workload(owner=entry, namespace=entry.namespace, metadata=ObjectMeta(labels=labels), path="metadata")
        for service in self.of(ServiceEntry):
            for endpoint in service.spec.endpoints:
                metadata = ObjectMeta(labels=endpoint.labels)
                yield Workload(owner=service, namespace=service.namespace, metadata=metadata, path="spec.endpoints")

    def _is_here(self, metadata: ObjectMeta, namespace: str) -> bool:
        owner = metadata.controller
        if owner is None:
            return False
        return Ref(owner.kind, namespace, owner.name) in self._by_ref

    @cached_property
    def knows_workloads(self) -> bool:
        """Whether there is any workload; else that a selector finds none tells nothing."""
        return bool(self.workloads) and self.has_read(core.Pod, core.Deployment)

    def selected(self, namespace: str | None, labels: dict[str, str]) -> list[Workload]:
        """The workloads of a namespace (None: of all) that carry all these labels."""
        wanted = LabelSet.of(labels)
        return [
            workload
            for workload in self.workloads
            if namespace in (None, workload.namespace) and workload.labels.contains(wanted)
        ]

    def reach(self, namespace: str) -> str | None:
        """The namespace in which a policy of a namespace selects workloads; None if that is the mesh's root namespace."""
        return None if namespace == self.mesh.root_namespace else namespace

    def injected(self, workload: Workload) -> policy.Template | None:
        """The proxy that a workload gets when its pods are made."""
        namespace = self.get(core.Namespace, "", workload.namespace)
        return policy.wanted(
            workload.metadata.labels,
            workload.metadata.annotations,
            namespace.labels if namespace else {},
            host_network=workload.spec.host_network,
        )

    def in_mesh(self, workload: Workload) -> bool:
        """Whether a workload has a proxy, or gets one."""
        return policy.injected(workload.metadata.annotations) is not None or self.injected(workload) is not None


def _of_template(owner: Resource, metadata: ObjectMeta, spec: core.PodSpec, path: str) -> Workload:
    account = spec.service_account_name or spec.service_account or "default"
    return Workload(owner=owner, namespace=owner.namespace, metadata=metadata, spec=spec, path=path, account=account)
