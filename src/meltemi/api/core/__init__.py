"""Kubernetes' own kinds, as far as a mesh and a runner of pods on one machine act on them."""

from meltemi.api.core.config import ConfigMap, Sealed, Secret
from meltemi.api.core.events import Event, Lease
from meltemi.api.core.namespaces import Namespace, ServiceAccount
from meltemi.api.core.pods import Container, Pod, PodSpec, PodTemplate
from meltemi.api.core.services import EndpointSlice, Service
from meltemi.api.core.workloads import Deployment, ReplicaSet

__all__ = [
    "ConfigMap",
    "Container",
    "Deployment",
    "EndpointSlice",
    "Event",
    "Lease",
    "Namespace",
    "Pod",
    "PodSpec",
    "PodTemplate",
    "ReplicaSet",
    "Sealed",
    "Secret",
    "Service",
    "ServiceAccount",
]
