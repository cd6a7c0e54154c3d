"""What the pod runner asks of whoever knows proxies: a program to run beside a pod's containers, and when it is ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

import msgspec

from meltemi.api.core import Pod
from meltemi.local.syscalls import Capability


class SidecarProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy to run in a pod.

    It starts before the pod's containers and ends after them. If the pod's spec has a container called `name` (as a
    gateway's has), the proxy runs in its stead; otherwise it is one container more. `ready_check` is asked every few
    milliseconds until it says yes, and every other second from then on; the pod is ready only while it says yes.
    `captures` asks for the pod's connections to be redirected to it, as the pod's annotations say; what the pod asks the
    DNS servers `resolvers` is then redirected to the agent.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready_check: Callable[[], Awaitable[bool]]
    name: str = "istio-proxy"
    captures: bool = True
    resolvers: tuple[IPv4Address, ...] = ()
    keep: tuple[Capability, ...] = (Capability.NET_ADMIN,)


class SidecarLauncher(Protocol):
    """Prepares a pod's proxy and takes leave of it."""

    async def prepare(self, pod: Pod, pod_ip: IPv4Address, netns: int, directory: Path) -> SidecarProcess | None:
        """The proxy for a pod that is about to start, or None for a pod without one.

        `netns` is a descriptor of the pod's network namespace, good until `release`; `directory` is private to the
        proxy, exists, and goes with the pod. May raise OSError, or ApiError; it is tried again then.
        """

    async def release(self, pod: Pod) -> None:
        """The pod's processes have ended: what was made for its proxy can go."""
