"""Whether a resource that decodes can mean anything: one function per kind, each yielding what is wrong.

Only what can be told from the object alone is told here; what needs other objects (a host that nobody serves, a
subset that no DestinationRule has) is told where they meet. Outcomes follow Istio's own validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from meltemi.api import core, networking, security
from meltemi.api.faults import Faults, problems_of
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import MeshResource, Resource
from meltemi.api.telemetry import Telemetry
from meltemi.api.validation.destination_rule import destination_rule
from meltemi.api.validation.envoy_filter import envoy_filter
from meltemi.api.validation.gateway import gateway
from meltemi.api.validation.mesh import mesh_config, telemetry
from meltemi.api.validation.proxy_config import proxy_config
from meltemi.api.validation.security import authorization_policy, peer_authentication, request_authentication
from meltemi.api.validation.service_entry import service_entry, workload_entry
from meltemi.api.validation.sidecar import sidecar
from meltemi.api.validation.structure import structure
from meltemi.api.validation.virtual_service import virtual_service
from meltemi.api.validation.workloads import deployment, pod, service
from meltemi.base.problems import Problem

CHECKS: dict[type[Resource], Callable[[Any], Faults]] = {
    core.Service: service,
    core.Pod: pod,
    core.Deployment: deployment,
    core.ReplicaSet: deployment,
    networking.VirtualService: virtual_service,
    networking.DestinationRule: destination_rule,
    networking.Gateway: gateway,
    networking.ServiceEntry: service_entry,
    networking.WorkloadEntry: workload_entry,
    networking.Sidecar: sidecar,
    networking.EnvoyFilter: envoy_filter,
    networking.ProxyConfig: proxy_config,
    security.PeerAuthentication: peer_authentication,
    security.AuthorizationPolicy: authorization_policy,
    security.RequestAuthentication: request_authentication,
    Telemetry: telemetry,
    MeshConfig: mesh_config,
}
"""The check of each kind. Kinds that are not here are right if they decode."""


def validate(resource: Resource) -> Iterator[Problem]:
    """What is wrong with a resource, as problems with its origin. Errors take it out of effect, warnings do not."""
    check = CHECKS.get(type(resource))
    if check is not None:
        yield from problems_of(check(resource), resource.ref, resource.origin)
    if isinstance(resource, MeshResource):
        yield from problems_of(structure(resource), resource.ref, resource.origin)
