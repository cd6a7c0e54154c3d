"""EndpointSlices from Services: the addresses of the pods that a Service selects, and whether each is ready.

Pods whose named target ports have different numbers go into different slices, because a slice has one list of ports.
Source: Kubernetes EndpointSlice (discovery.k8s.io/v1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from meltemi.kube.resources import Obj, key_of
from meltemi.local.controllers.plans import (
    Change,
    Create,
    Delete,
    Plan,
    Replace,
    is_being_deleted,
    is_ready,
    owner_reference,
)

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
_SLICES = "endpointslices.discovery.k8s.io"

Ports = tuple[tuple[str, str, int, str], ...]
"""Name, protocol, number and application protocol of each port."""


def plan(service: Obj, pods: Sequence[Obj], slices: Sequence[Obj]) -> Plan:
    """What to change so that a Service's slices tell the pods it selects. `pods` are all of its namespace."""
    if is_being_deleted(service):
        return Plan()
    groups: dict[Ports, list[Obj]] = {}
    for pod in pods:
        if _is_selected(service, pod) and _address(pod):
            groups.setdefault(_ports(service, pod), []).append(_endpoint(service, pod))
    if not groups and (service.get("spec") or {}).get("selector"):
        groups[_ports(service, {})] = []
    wanted = {
        entry["metadata"]["name"]: entry for entry in (_slice(service, ports, found) for ports, found in groups.items())
    }
    existing = {entry["metadata"]["name"]: entry for entry in slices}
    changes: list[Change] = []
    for name, entry in sorted(wanted.items()):
        before = existing.pop(name, None)
        if before is None:
            changes.append(Create(_SLICES, entry))
        elif not _says_the_same(before, entry):
            changes.append(Replace(_SLICES, entry))
    changes += [Delete(_SLICES, key_of(entry)) for _, entry in sorted(existing.items())]
    return Plan(changes)


def selects(service: Obj, labels: Obj) -> bool:
    """Whether a Service's selector picks pods with these labels. No selector picks none."""
    selector: Obj = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and selector.items() <= labels.items()


def is_ours(entry: Obj) -> bool:
    """Whether a slice is one that this controller keeps."""
    return (entry["metadata"].get("labels") or {}).get(MANAGED_BY) == CONTROLLER


def slices_of(service: Obj, slices: Iterable[Obj]) -> list[Obj]:
    """Those of a namespace's slices that this controller keeps for a Service."""
    name = service["metadata"]["name"]
    return [each for each in slices if is_ours(each) and each["metadata"]["labels"].get(SERVICE_NAME) == name]


def _is_selected(service: Obj, pod: Obj) -> bool:
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return selects(service, pod["metadata"].get("labels") or {}) and not ended


def _address(pod: Obj) -> str:
    return (pod.get("status") or {}).get("podIP") or ""


def _ports(service: Obj, pod: Obj) -> Ports:
    """The target ports in a pod; those it does not name are left out."""
    found = []
    for port in (service.get("spec") or {}).get("ports") or ():
        number = _target(port, pod)
        if number is not None:
            found.append((port.get("name") or "", port.get("protocol") or "TCP", number, port.get("appProtocol") or ""))
    return tuple(found)


def _target(port: Obj, pod: Obj) -> int | None:
    target = port.get("targetPort", port.get("port"))
    if isinstance(target, int):
        return target
    if isinstance(target, str) and target.isdigit():
        return int(target)
    for container in (pod.get("spec") or {}).get("containers") or ():
        for candidate in container.get("ports") or ():
            same_protocol = candidate.get("protocol", "TCP") == port.get("protocol", "TCP")
            if candidate.get("name") == target and same_protocol:
                return int(candidate["containerPort"])
    return None


def _endpoint(service: Obj, pod: Obj) -> Obj:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    serving, terminating = is_ready(pod), is_being_deleted(pod)
    publishes_all = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Obj = {
        "addresses": [_address(pod)],
        "conditions": {
            "ready": publishes_all or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    if spec.get("nodeName"):
        endpoint["nodeName"] = spec["nodeName"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    return endpoint


def _slice(service: Obj, ports: Ports, endpoints: list[Obj]) -> Obj:
    metadata = service["metadata"]
    digest = hashlib.blake2b(msgspec.json.encode(ports), digest_size=4).hexdigest()[:5]
    headless = service["spec"].get("clusterIP") == "None"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": {
                **(metadata.get("labels") or {}),
                **({"service.kubernetes.io/headless": ""} if headless else {}),
                SERVICE_NAME: metadata["name"],
                MANAGED_BY: CONTROLLER,
            },
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": sorted(endpoints, key=lambda endpoint: str(endpoint["targetRef"]["name"])),
        "ports": [
            {"name": name, "protocol": protocol, "port": number, **({"appProtocol": app} if app else {})}
            for name, protocol, number, app in ports
        ],
    }


def _says_the_same(before: Obj, after: Obj) -> bool:
    return before["metadata"].get("labels") == after["metadata"]["labels"] and all(
        before.get(field) == after[field] for field in ("addressType", "endpoints", "ports")
    )
