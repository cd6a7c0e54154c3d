"""What `kubectl get` shows: the columns of each kind, as Kubernetes prints its own and as Istio's CRDs declare theirs.

A column is a name, a type and a function of (object, now); priority 1 means only with `-o wide`. One table, in the
end of the module; a kind without a line there has NAME and AGE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from meltemi.kube.resources import Obj
from meltemi.local.apiserver.catalogue import Kind

Cell = str | int | float | bool | None


class Column(msgspec.Struct, frozen=True):
    """One column of a table."""

    name: str
    value: Callable[[Obj, datetime], Cell]
    type: str = "string"
    priority: int = 0

    def as_object(self) -> Obj:
        """The `TableColumnDefinition` of meta.k8s.io/v1."""
        return {
            "name": self.name,
            "type": self.type,
            "format": "name" if self.name == "Name" else "",
            "description": "",
            "priority": self.priority,
        }


def columns_of(kind: Kind) -> Sequence[Column]:
    """The columns of a kind, the name first."""
    return _COLUMNS.get(kind.id, (_NAME, _AGE))


def age(timestamp: str | None, now: datetime) -> str:
    """A duration since an RFC 3339 time as kubectl writes it: 5s, 3m20s, 47m, 6h12m, 3d, 2y10d."""
    if not timestamp:
        return "<unknown>"
    seconds = max(0, int((now - datetime.fromisoformat(timestamp)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 2920 else f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


# === pieces ===


def _dig(obj: Any, path: str) -> Any:
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _at(path: str, missing: Cell = "<none>") -> Callable[[Obj, datetime], Cell]:
    """A column of the value at a path."""

    def value(obj: Obj, now: datetime) -> Cell:
        found = _dig(obj, path)
        if found is None or found == "":
            return missing
        return found if isinstance(found, (str, int, float, bool)) else msgspec.json.encode(found).decode()

    return value


def _count(path: str) -> Callable[[Obj, datetime], Cell]:
    return lambda obj, now: len(_dig(obj, path) or ())


def _selector(path: str) -> Callable[[Obj, datetime], Cell]:
    def value(obj: Obj, now: datetime) -> Cell:
        labels = _dig(obj, path)
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) if labels else "<none>"

    return value


def _containers(field: str, path: str = "spec.template.spec.containers") -> Callable[[Obj, datetime], Cell]:
    return lambda obj, now: ",".join(str(c.get(field) or "") for c in _dig(obj, path) or ())


_NAME = Column("Name", _at("metadata.name"))
_AGE = Column("Age", lambda obj, now: age(_dig(obj, "metadata.creationTimestamp"), now))

# === pods ===


def _pod_ready(obj: Obj, now: datetime) -> Cell:
    statuses = _dig(obj, "status.containerStatuses") or ()
    ready = sum(bool(status.get("ready")) for status in statuses)
    # The proxy of an injected pod has a status without being in the spec.
    total = len({one.get("name") for one in (*(_dig(obj, "spec.containers") or ()), *statuses)})
    sidecars = [c for c in _dig(obj, "spec.initContainers") or () if c.get("restartPolicy") == "Always"]
    ready += sum(
        bool(status.get("ready"))
        for status in _dig(obj, "status.initContainerStatuses") or ()
        if status.get("name") in {c.get("name") for c in sidecars}
    )
    return f"{ready}/{total + len(sidecars)}"


def _pod_status(obj: Obj, now: datetime) -> Cell:
    """The phase, or the most telling reason for which it is not simply Running."""
    reason: str = _dig(obj, "status.reason") or _dig(obj, "status.phase") or "Unknown"
    for status in reversed(_dig(obj, "status.containerStatuses") or ()):
        state = status.get("state") or {}
        if waiting := _dig(state, "waiting.reason"):
            reason = waiting
        elif terminated := state.get("terminated"):
            signal, code = terminated.get("signal"), terminated.get("exitCode", 0)
            reason = terminated.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
    if _dig(obj, "metadata.deletionTimestamp"):
        return "Terminating"
    return reason


def _pod_restarts(obj: Obj, now: datetime) -> Cell:
    statuses = _dig(obj, "status.containerStatuses") or ()
    restarts = sum(int(status.get("restartCount") or 0) for status in statuses)
    moments = [moment for status in statuses if (moment := _dig(status, "lastState.terminated.finishedAt"))]
    return f"{restarts} ({age(max(moments), now)} ago)" if restarts and moments else str(restarts)


def _readiness_gates(obj: Obj, now: datetime) -> Cell:
    gates = _dig(obj, "spec.readinessGates") or ()
    conditions = {c.get("type"): c.get("status") for c in _dig(obj, "status.conditions") or ()}
    met = sum(conditions.get(gate.get("conditionType")) == "True" for gate in gates)
    return f"{met}/{len(gates)}" if gates else "<none>"


# === services and endpoints ===


def _external_ip(obj: Obj, now: datetime) -> Cell:
    spec = obj.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or "<none>")
    given = list(spec.get("externalIPs") or ())
    if spec.get("type") == "LoadBalancer":
        ingress = _dig(obj, "status.loadBalancer.ingress") or ()
        given += [str(entry.get("ip") or entry.get("hostname") or "") for entry in ingress]
        return ",".join(given) or "<pending>"
    return ",".join(given) or "<none>"


def _service_ports(obj: Obj, now: datetime) -> Cell:
    texts = []
    for port in _dig(obj, "spec.ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or "<none>"


def _slice_ports(obj: Obj, now: datetime) -> Cell:
    return ",".join(str(port.get("port")) for port in obj.get("ports") or ()) or "<unset>"


def _slice_addresses(obj: Obj, now: datetime) -> Cell:
    addresses = [address for endpoint in obj.get("endpoints") or () for address in endpoint.get("addresses") or ()]
    more = f" + {len(addresses) - 3} more..." if len(addresses) > 3 else ""
    return ",".join(addresses[:3]) + more if addresses else "<unset>"


# === the rest ===


def _deployment_ready(obj: Obj, now: datetime) -> Cell:
    return f"{_dig(obj, 'status.readyReplicas') or 0}/{_dig(obj, 'spec.replicas') or 0}"


def _event_seen(obj: Obj, now: datetime) -> Cell:
    moment = obj.get("lastTimestamp") or obj.get("eventTime") or _dig(obj, "metadata.creationTimestamp")
    text = age(moment, now)
    count = obj.get("count") or 1
    return f"{text} (x{count} over {age(obj.get('firstTimestamp'), now)})" if count > 1 else text


def _event_object(obj: Obj, now: datetime) -> Cell:
    involved = obj.get("involvedObject") or {}
    return f"{str(involved.get('kind') or '').lower()}/{involved.get('name') or ''}"


def _node_status(obj: Obj, now: datetime) -> Cell:
    for condition in _dig(obj, "status.conditions") or ():
        if condition.get("type") == "Ready":
            return "Ready" if condition.get("status") == "True" else "NotReady"
    return "Unknown"


def _condition(kind: str) -> Callable[[Obj, datetime], Cell]:
    def value(obj: Obj, now: datetime) -> Cell:
        for condition in _dig(obj, "status.conditions") or ():
            if condition.get("type") == kind:
                return str(condition.get("status") or "")
        return ""

    return value


def _route_rows(*columns: Column) -> tuple[Column, ...]:
    return (_NAME, *columns, _AGE)


_HOSTNAMES = Column("Hostnames", _at("spec.hostnames", ""))
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _pod_restarts),
        _AGE,
        Column("IP", _at("status.podIP"), priority=1),
        Column("Node", _at("spec.nodeName"), priority=1),
        Column("Nominated Node", _at("status.nominatedNodeName"), priority=1),
        Column("Readiness Gates", _readiness_gates, priority=1),
    ),
    "deployments.apps": (
        _NAME,
        Column("Ready", _deployment_ready),
        Column("Up-to-date", _at("status.updatedReplicas", 0), "integer"),
        Column("Available", _at("status.availableReplicas", 0), "integer"),
        _AGE,
        Column("Containers", _containers("name"), priority=1),
        Column("Images", _containers("image"), priority=1),
        Column("Selector", _selector("spec.selector.matchLabels"), priority=1),
    ),
    "replicasets.apps": (
        _NAME,
        Column("Desired", _at("spec.replicas", 0), "integer"),
        Column("Current", _at("status.replicas", 0), "integer"),
        Column("Ready", _at("status.readyReplicas", 0), "integer"),
        _AGE,
        Column("Containers", _containers("name"), priority=1),
        Column("Images", _containers("image"), priority=1),
        Column("Selector", _selector("spec.selector.matchLabels"), priority=1),
    ),
    "services": (
        _NAME,
        Column("Type", _at("spec.type")),
        Column("Cluster-IP", _at("spec.clusterIP")),
        Column("External-IP", _external_ip),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _selector("spec.selector"), priority=1),
    ),
    "endpointslices.discovery.k8s.io": (
        _NAME,
        Column("AddressType", _at("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        _AGE,
    ),
    "namespaces": (_NAME, Column("Status", _at("status.phase")), _AGE),
    "serviceaccounts": (_NAME, Column("Secrets", _count("secrets"), "integer"), _AGE),
    "configmaps": (_NAME, Column("Data", _count("data"), "integer"), _AGE),
    "secrets": (_NAME, Column("Type", _at("type")), Column("Data", _count("data"), "integer"), _AGE),
    "events": (
        Column("Last Seen", _event_seen),
        Column("Type", _at("type")),
        Column("Reason", _at("reason")),
        Column("Object", _event_object),
        Column("Subobject", _at("involvedObject.fieldPath", ""), priority=1),
        Column("Source", _at("source.component", ""), priority=1),
        Column("Message", lambda obj, now: str(obj.get("message") or "").strip()),
        Column("Count", _at("count", 1), "integer", priority=1),
        Column("Name", _at("metadata.name"), priority=1),
    ),
    "nodes": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", lambda obj, now: "<none>"),
        _AGE,
        Column("Version", _at("status.nodeInfo.kubeletVersion")),
    ),
    "leases.coordination.k8s.io": (_NAME, Column("Holder", _at("spec.holderIdentity")), _AGE),
    "virtualservices.networking.istio.io": _route_rows(
        Column("Gateways", _at("spec.gateways", "")), Column("Hosts", _at("spec.hosts", ""))
    ),
    "destinationrules.networking.istio.io": _route_rows(Column("Host", _at("spec.host", ""))),
    "serviceentries.networking.istio.io": _route_rows(
        Column("Hosts", _at("spec.hosts", "")),
        Column("Location", _at("spec.location", "")),
        Column("Resolution", _at("spec.resolution", "")),
    ),
    "workloadentries.networking.istio.io": _route_rows(Column("Address", _at("spec.address", ""))),
    "peerauthentications.security.istio.io": _route_rows(Column("Mode", _at("spec.mtls.mode", ""))),
    "authorizationpolicies.security.istio.io": _route_rows(Column("Action", _at("spec.action", ""))),
    "gatewayclasses.gateway.networking.k8s.io": _route_rows(
        Column("Controller", _at("spec.controllerName", "")), Column("Accepted", _condition("Accepted"))
    ),
    "gateways.gateway.networking.k8s.io": _route_rows(
        Column("Class", _at("spec.gatewayClassName", "")),
        Column("Address", lambda obj, now: ",".join(a.get("value", "") for a in _dig(obj, "status.addresses") or ())),
        Column("Programmed", _condition("Programmed")),
    ),
    "httproutes.gateway.networking.k8s.io": _route_rows(_HOSTNAMES),
    "grpcroutes.gateway.networking.k8s.io": _route_rows(_HOSTNAMES),
    "tlsroutes.gateway.networking.k8s.io": _route_rows(_HOSTNAMES),
}
