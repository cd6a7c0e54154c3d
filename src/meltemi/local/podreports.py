"""What the pod runner says to the API and reads from it: statuses, removals, events, ConfigMaps, Secrets and tokens."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from meltemi.api import decoding
from meltemi.api.core import ConfigMap, Pod, Secret
from meltemi.api.core.pods import PodStatus
from meltemi.kube.client import Client, Token
from meltemi.kube.errors import NotFound
from meltemi.kube.events import Recorder
from meltemi.kube.resources import CONFIG_MAPS, PODS, SECRETS, Obj, Resource

_log = logging.getLogger(__name__)


class ApiReports:
    """Implements `PodReports` and `PodObjects` with a client of the API."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()
        self._recorder = Recorder(client, "meltemi")

    async def status(self, pod: Pod, status: PodStatus) -> None:
        """Write a pod's status. A pod that is gone has none."""
        patch = {"status": told(status)}
        try:
            await self._client.patch(PODS, pod.name, patch, namespace=pod.namespace, subresource="status")
        except NotFound:
            return

    async def removed(self, pod: Pod) -> None:
        """Let the object of a pod go that has ended."""
        try:
            await self._client.delete(PODS, pod.name, pod.namespace, grace_seconds=0, uid=pod.metadata.uid)
        except NotFound:
            return

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Write an event, in the background."""
        _log.info("%s/%s: %s: %s", pod.namespace, pod.name, reason, message)
        about: Obj = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.metadata.uid},
        }
        task = asyncio.ensure_future(self._recorder.record(about, kind, reason, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """A ConfigMap, or None."""
        found = await self._get(CONFIG_MAPS, namespace, name)
        return found if isinstance(found, ConfigMap) else None

    async def secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret, or None."""
        found = await self._get(SECRETS, namespace, name)
        return found if isinstance(found, Secret) else None

    async def token(self, pod: Pod, audience: str, seconds: int) -> Token:
        """A token of the pod's service account, bound to the pod."""
        account = pod.spec.service_account_name or "default"
        metadata = {"metadata": {"name": pod.name, "uid": pod.metadata.uid}}
        audiences = [audience] if audience else []
        return await self._client.create_token(pod.namespace, account, audiences, seconds, metadata)

    async def _get(self, resource: Resource, namespace: str, name: str) -> object:
        try:
            found = await self._client.get(resource, name, namespace)
        except NotFound:
            return None
        document = {"apiVersion": resource.api_version, "kind": resource.kind, **found}
        return decoding.decode(document).resource


def told(status: PodStatus) -> Obj:
    """A status as the API keeps it, with the fields of containers that Kubernetes always writes."""
    written: Obj = msgspec.to_builtins(status)
    for container in (*written.get("containerStatuses", ()), *written.get("initContainerStatuses", ())):
        for field, empty in (("ready", False), ("restartCount", 0), ("image", ""), ("imageID", "")):
            container.setdefault(field, empty)
    return written
