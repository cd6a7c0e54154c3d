"""What tests ask of the API's objects: plain JSON in, plain answers out."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meltemi.api import registry
from meltemi.base.refs import Ref
from meltemi.kube.resources import Obj, Resource
from meltemi.sources.kubernetes import resource_of


def resource_of_kind(kind: str, api_version: str = "") -> Resource:
    """The address of a kind, in that version if one is named. Raises LookupError."""
    for each in registry.KINDS:
        if each.kind == kind and (not api_version or api_version in each.api_versions):
            found = resource_of(each)
            return found if not api_version else msgspec.structs.replace(found, version=api_version.rpartition("/")[2])
    raise LookupError(f"there is no kind {kind} {api_version}")


def ref_of(obj: Obj) -> Ref:
    """The name of an object; where it names no namespace, it gets `default`."""
    metadata = obj["metadata"]
    namespaced = resource_of_kind(obj["kind"], obj["apiVersion"]).namespaced
    return Ref(obj["kind"], metadata.setdefault("namespace", "default") if namespaced else "", metadata["name"])


def name_of(obj: Obj) -> str:
    """The name of an object in its namespace."""
    return str(obj["metadata"]["name"])


def is_ready(pod: Obj) -> bool:
    """Whether a pod is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def selected(service: Obj, pods: Iterable[Obj]) -> frozenset[str]:
    """The addresses of the pods behind a service."""
    selector = service["spec"]["selector"].items()
    return frozenset(
        pod["status"]["podIP"] for pod in pods if selector <= (pod["metadata"].get("labels") or {}).items()
    )


def ready_addresses(service: str, slices: Iterable[Obj]) -> frozenset[str]:
    """The ready addresses in the slices of a service."""
    return frozenset(
        address
        for each in slices
        if each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service
        for endpoint in each.get("endpoints") or ()
        if endpoint.get("conditions", {}).get("ready", True)
        for address in endpoint["addresses"]
    )


def outside_ports(service: Obj) -> list[int]:
    """The ports of the machine that lead to a LoadBalancer service, in the order of the service's own."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [port["port"] for each in ingress for port in each.get("ports") or ()]
