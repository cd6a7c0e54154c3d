"""What the API still says of the last time the mesh ran is true no longer: pods are not ready, services not reachable.

The objects outlive the processes that they tell of. Before anything looks at them, each pod that ran is as if it had
just been placed, and no service has a port of the machine; both become true again when it is so.
"""

from __future__ import annotations

from meltemi.kube.client import Client
from meltemi.kube.resources import PODS, SERVICES, Obj, Resource

_OVER = ("Succeeded", "Failed")
_FORGOTTEN = (
    "containerStatuses",
    "initContainerStatuses",
    "hostIP",
    "podIP",
    "podIPs",
    "startTime",
    "reason",
    "message",
)


async def forget_last_run(client: Client) -> None:
    """Write the statuses of all pods and services anew. Raises ApiError."""
    for pod in (await client.list(PODS)).items:
        status = pod.get("status") or {}
        if status.get("phase") not in _OVER and status.get("containerStatuses"):
            scheduled = [one for one in status.get("conditions") or () if one.get("type") == "PodScheduled"]
            fresh = {**dict.fromkeys(_FORGOTTEN), "phase": "Pending", "conditions": scheduled}
            await _write(client, PODS, pod, fresh)
    for service in (await client.list(SERVICES)).items:
        if ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
            await _write(client, SERVICES, service, {"loadBalancer": {"ingress": None}})


async def _write(client: Client, resource: Resource, obj: Obj, status: Obj) -> None:
    metadata = obj["metadata"]
    patch = {"status": status}
    await client.patch(resource, metadata["name"], patch, namespace=metadata["namespace"], subresource="status")
