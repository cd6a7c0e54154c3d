"""Whether a resource that decodes can mean anything: one function per kind, each yielding what is wrong.

Only what can be told from the object alone is told here; what needs other objects (a host that nobody serves, a
subset that no DestinationRule has) is told where they meet. Outcomes follow Istio's own validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec

from meltemi.api import core, networking, paths, security
from meltemi.api.choices import CHOICES
from meltemi.api.faults import Fault, Faults, problems_of
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import MeshResource, Resource
from meltemi.api.shaping import fields_of
from meltemi.api.telemetry import Telemetry
from meltemi.api.validation.destination_rule import destination_rule
from meltemi.api.validation.envoy_filter import envoy_filter
from meltemi.api.validation.gateway import gateway
from meltemi.api.validation.mesh import mesh_config, telemetry
from meltemi.api.validation.proxy_config import proxy_config
from meltemi.api.validation.security import authorization_policy, peer_authentication, request_authentication
from meltemi.api.validation.service_entry import service_entry, workload_entry
from meltemi.api.validation.sidecar import sidecar
from meltemi.api.validation.virtual_service import virtual_service
from meltemi.api.validation.workloads import deployment, pod, service
from meltemi.api.walking import nested_structs, parts
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
        yield from problems_of(_choices(resource), resource.ref, resource.origin)


def _choices(resource: Resource) -> Faults:
    """Fields that exclude each other and are both set. Paths are made only for the few resources that have some."""
    if not _has_conflict(resource):
        return
    for path, part in parts(resource):
        for group in CHOICES.get(type(part), ()):
            given = [name for name in group if getattr(part, name) is not None]
            if len(given) > 1:
                wires = {field.name: wire for wire, field in fields_of(type(part)).items()}
                first, *others = (wires[name] for name in given)
                for other in others:
                    yield Fault(
                        paths.below(path, other),
                        f"{first} and {other} exclude each other",
                        "keep one of the two",
                        "Conflict",
                    )


def _has_conflict(value: Any) -> bool:
    """Whether anything within a value sets two fields that exclude each other."""
    if isinstance(value, tuple):
        return any(map(_has_conflict, value))
    if isinstance(value, dict):
        return any(map(_has_conflict, value.values()))
    struct: type[msgspec.Struct] = type(value)
    for group in CHOICES.get(struct, ()):
        if sum(getattr(value, name) is not None for name in group) > 1:
            return True
    return any(_has_conflict(inner) for name in _choosing(struct) if (inner := getattr(value, name)))


@cache
def _choosing(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a struct below which there is something to choose."""
    return tuple(name for name, inner in nested_structs(struct) if _chooses(inner))


@cache
def _chooses(struct: type[msgspec.Struct]) -> bool:
    return struct in CHOICES or bool(_choosing(struct))
