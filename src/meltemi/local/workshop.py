"""What all pods of a machine share: how they are run, what with, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from meltemi.api.core import Pod
from meltemi.api.core.pods import PodStatus
from meltemi.local.backoff import Backoff
from meltemi.local.logs import Clock
from meltemi.local.network import AddressPool, MeshNetwork
from meltemi.local.podinfo import PodObjects
from meltemi.local.processes import Processes
from meltemi.local.rundir import DnsSettings
from meltemi.local.sidecar import SidecarLauncher


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How pods are run.

    `runtime` becomes a directory in memory, private to the sandbox. `hidden` are directories that containers shall find
    empty (the runtime directory always is). `base_environment` is what every container's environment starts from: a
    PATH at least. `drain_seconds` pass between a pod being called not ready and the end of its containers.
    """

    runtime: Path
    logs: Path
    base_environment: Mapping[str, str]
    hidden: tuple[str, ...] = ()
    node_name: str = "local"
    dns: DnsSettings = DnsSettings()
    backoff: Backoff = Backoff()
    drain_seconds: float = 0.25


class PodReports(Protocol):
    """Who is told about pods. Each call may raise ApiError: status and removal are then told again."""

    async def status(self, pod: Pod, status: PodStatus) -> None:
        """The pod's status is now this."""

    async def removed(self, pod: Pod) -> None:
        """All of the pod's processes have ended and it is not to be started again: its object may go."""

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Something happened that a person may want to read: kind "Normal" or "Warning", and a CamelCase reason."""


class Workshop(msgspec.Struct, frozen=True):
    """What all pods share."""

    settings: RunnerSettings
    processes: Processes
    network: MeshNetwork
    addresses: AddressPool
    objects: PodObjects
    reports: PodReports
    launcher: SidecarLauncher | None
    now: Clock
