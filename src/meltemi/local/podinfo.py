"""What a pod's containers may read of the API, and what the API knows about the pod itself.

`PodObjects` is the runner's one way to ConfigMaps, Secrets and tokens. The downward fields (`metadata.name`,
`status.podIP` and their like) are read from the pod as it is plus the addresses that it got here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from meltemi.api.core import ConfigMap, Container, Pod, Secret
from meltemi.api.core.volumes import ResourceFieldSelector
from meltemi.kube.client import Token

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_QUANTITY = re.compile(r"([0-9.]+)([a-zA-Z]*)")
_UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


class PodObjects(Protocol):
    """What pods read of the API. Each call may raise `meltemi.kube.errors.ApiError`."""

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """The ConfigMap, or None if there is none of that name."""

    async def secret(self, namespace: str, name: str) -> Secret | None:
        """The Secret, or None if there is none of that name."""

    async def token(self, pod: Pod, audience: str, seconds: int) -> Token:
        """A token of the pod's service account, bound to the pod; an empty audience is the API server's own."""


class MissingError(Exception):
    """Something that a container needs does not exist (yet). The text names it and who asks for it."""


class Surroundings(msgspec.Struct, frozen=True):
    """What a pod learns from where it runs: its address, the host's, the node's name."""

    pod_ip: str
    host_ip: str
    node_name: str


def field_value(pod: Pod, path: str, around: Surroundings) -> str:
    """A field of the pod, as the downward API names it. Raises MissingError for a path that it does not offer."""
    if subscript := _SUBSCRIPT.fullmatch(path):
        values = pod.labels if subscript[1] == "labels" else pod.annotations
        return values.get(subscript[2], "")
    read = _FIELDS.get(path)
    if read is None:
        raise MissingError(f"the field {path!r} cannot be read by a pod; use one of {', '.join(sorted(_FIELDS))}")
    return read(pod, around)


def resource_value(container: Container, selector: ResourceFieldSelector) -> str:
    """A request or limit of a container, divided by the divisor and rounded up, as the downward API gives it."""
    kind, _, name = selector.resource.partition(".")
    resources = container.resources
    quantities: Mapping[str, int | float | str] = resources.limits if kind == "limits" else resources.requests
    amount = quantities.get(name, resources.requests.get(name, 0))
    divisor = quantity(selector.divisor or 1) or 1
    return str(int(-(-quantity(amount) // divisor)))


def quantity(value: int | float | str) -> float:
    """A Kubernetes quantity (`250m`, `64Mi`, `2`) as a number; 0 for what is none."""
    found = _QUANTITY.fullmatch(str(value).strip())
    return float(found[1]) * _UNITS.get(found[2], 1.0) if found else 0.0


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(values.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_FIELDS: dict[str, Callable[[Pod, Surroundings], str]] = {
    "metadata.name": lambda pod, _: pod.metadata.name,
    "metadata.namespace": lambda pod, _: pod.metadata.namespace,
    "metadata.uid": lambda pod, _: pod.metadata.uid,
    "metadata.labels": lambda pod, _: _lines(pod.labels),
    "metadata.annotations": lambda pod, _: _lines(pod.annotations),
    "spec.nodeName": lambda _, around: around.node_name,
    "spec.serviceAccountName": lambda pod, _: pod.spec.service_account_name or "default",
    "status.hostIP": lambda _, around: around.host_ip,
    "status.hostIPs": lambda _, around: around.host_ip,
    "status.podIP": lambda _, around: around.pod_ip,
    "status.podIPs": lambda _, around: around.pod_ip,
}
