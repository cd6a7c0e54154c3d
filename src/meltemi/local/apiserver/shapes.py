"""How lists and maps of core kinds merge: which lists are sets, which are keyed by a field, and which go as a whole.

Server-side apply and the strategic merge patch both need it. Kubernetes keeps it as `x-kubernetes-list-type`,
`x-kubernetes-list-map-keys` and `x-kubernetes-patch-merge-key` in its OpenAPI document. Where nothing is said here a
list is atomic and a map is merged by key, which is what a custom resource without such marks gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec


class How(Enum):
    """How two versions of a value become one."""

    FIELDS = "field by field"
    ATOMIC = "as a whole"
    KEYED = "item by item, by the value of keys"
    SET = "as a set of scalars"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a value merges, and the shapes of what is inside (`fields` of a map or of each item of a keyed list)."""

    how: How
    keys: tuple[str, ...] = ()
    fields: Mapping[str, Shape] = {}
    defaults: Mapping[str, str] = {}

    def field(self, name: str, value: Any) -> Shape:
        """The shape of the value in a field."""
        shape = self.fields.get(name)
        if shape is None:
            return ATOMIC if isinstance(value, list) else FIELDS
        return shape

    def key_of(self, item: Any) -> tuple[tuple[str, Any], ...] | None:
        """The key of an item of a keyed list; None if it lacks one."""
        if not isinstance(item, dict):
            return None
        pairs = tuple((key, item.get(key, self.defaults.get(key))) for key in self.keys)
        return None if all(value is None for _, value in pairs) else pairs


FIELDS = Shape(how=How.FIELDS)
ATOMIC = Shape(how=How.ATOMIC)
SET = Shape(how=How.SET)


def _fields(**fields: Shape) -> Shape:
    return Shape(how=How.FIELDS, fields=fields)


def _keyed(*keys: str, defaults: Mapping[str, str] | None = None, **fields: Shape) -> Shape:
    return Shape(how=How.KEYED, keys=keys, fields=fields, defaults=defaults or {})


_PROTOCOL = {"protocol": "TCP"}
_CONTAINERS = _keyed(
    "name",
    ports=_keyed("containerPort", "protocol", defaults=_PROTOCOL),
    env=_keyed("name", valueFrom=_fields(secretKeyRef=ATOMIC, configMapKeyRef=ATOMIC, fieldRef=ATOMIC)),
    volumeMounts=_keyed("mountPath"),
    volumeDevices=_keyed("devicePath"),
)
_POD_SPEC = _fields(
    containers=_CONTAINERS,
    initContainers=_CONTAINERS,
    ephemeralContainers=_CONTAINERS,
    volumes=_keyed("name"),
    imagePullSecrets=_keyed("name"),
    hostAliases=_keyed("ip"),
    nodeSelector=ATOMIC,
)
_CONDITIONS = _keyed("type")
_METADATA = _fields(
    finalizers=SET,
    ownerReferences=_keyed("uid"),
)
_POD_TEMPLATE = _fields(metadata=_METADATA, spec=_POD_SPEC)
_WORKLOAD = _fields(
    metadata=_METADATA,
    spec=_fields(selector=ATOMIC, template=_POD_TEMPLATE),
    status=_fields(conditions=_CONDITIONS),
)
_CUSTOM = _fields(metadata=_METADATA)
_BY_KIND: dict[tuple[str, str], Shape] = {
    ("", "Pod"): _fields(
        metadata=_METADATA, spec=_POD_SPEC, status=_fields(conditions=_CONDITIONS, podIPs=_keyed("ip"))
    ),
    ("", "Service"): _fields(
        metadata=_METADATA,
        spec=_fields(selector=ATOMIC, ports=_keyed("port", "protocol", defaults=_PROTOCOL)),
        status=_fields(conditions=_CONDITIONS),
    ),
    ("", "ServiceAccount"): _fields(metadata=_METADATA, secrets=_keyed("name")),
    ("", "Namespace"): _fields(
        metadata=_METADATA, spec=_fields(finalizers=ATOMIC), status=_fields(conditions=_CONDITIONS)
    ),
    ("", "Node"): _fields(
        metadata=_METADATA, status=_fields(conditions=_CONDITIONS, addresses=_keyed("type")), spec=_fields(podCIDRs=SET)
    ),
    ("apps", "Deployment"): _WORKLOAD,
    ("apps", "ReplicaSet"): _WORKLOAD,
    ("gateway.networking.k8s.io", "Gateway"): _fields(
        metadata=_METADATA,
        spec=_fields(listeners=_keyed("name")),
        status=_fields(conditions=_CONDITIONS, listeners=_keyed("name", conditions=_CONDITIONS)),
    ),
    ("gateway.networking.k8s.io", "GatewayClass"): _fields(metadata=_METADATA, status=_fields(conditions=_CONDITIONS)),
}


def shape_of(group: str, kind: str) -> Shape:
    """The shape of a kind's objects."""
    return _BY_KIND.get((group, kind), _CUSTOM)


def has_strategic_merge(group: str) -> bool:
    """Whether Kubernetes accepts a strategic merge patch for kinds of a group: its own, not custom resources."""
    return "." not in group or (group.endswith(".k8s.io") and not group.startswith("gateway."))
