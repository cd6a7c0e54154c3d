"""Prepares the Envoy beside each injected pod: its token, its description to the agent, its bootstrap, its command.

Tokens are made anew well before they end, since the agent reads them again for every certificate. Invariant: what is
written for a proxy lies in a directory of its own, in memory, which no application sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec
from msgspec.structs import replace

from meltemi.agent.bootstrap import encode
from meltemi.agent.client import AgentClient
from meltemi.agent.command import envoy_binary, envoy_command, proxy_environment
from meltemi.agent.control import ControlError
from meltemi.agent.spec import Address, Naming, ProxySpec
from meltemi.api import decoding, registry
from meltemi.api.core import Pod
from meltemi.api.decoding import NOWHERE
from meltemi.api.mesh import MeshConfig, MeshConfigSpec
from meltemi.api.meta import MeshResource
from meltemi.api.networking import ProxyConfig
from meltemi.base.ordering import seniority
from meltemi.base.workloads import deployment_of
from meltemi.inject.policy import PROXY, Template, injected
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError
from meltemi.kube.resources import Resource
from meltemi.local.proxy_wishes import ROOT_NAMESPACE, ProxyWishes, wishes
from meltemi.local.rundir import DnsSettings, resolution
from meltemi.local.sidecar import SidecarProcess
from meltemi.local.syscalls import Capability, within_netns

_log = logging.getLogger(__name__)

Found = TypeVar("Found", bound=MeshResource)

AUDIENCE = "istio-ca"
TOKEN_SECONDS = 48 * 3600
_RENEW_EVERY = TOKEN_SECONDS / 4
_READY_TIMEOUT = aiohttp.ClientTimeout(total=2)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all proxies of the machine have in common. `sockets` is a directory with a short path."""

    sockets: Path
    roots: Path
    control_plane: Address
    authority: Address
    resolver: Address
    cluster_id: str = "local"
    node: str = "local"
    concurrency: int = 1
    dns: DnsSettings = DnsSettings()


class ProxyLauncher:
    """Implements `SidecarLauncher`."""

    def __init__(self, client: Client, agent: AgentClient, around: Surroundings) -> None:
        self._client = client
        self._agent = agent
        self._around = around
        self._binary = envoy_binary()
        self._tokens: dict[str, tuple[Pod, Path]] = {}
        self._http: aiohttp.ClientSession | None = None

    async def prepare(self, pod: Pod, pod_ip: IPv4Address, netns: int, directory: Path) -> SidecarProcess | None:
        """The Envoy of a pod, or None if it was not injected."""
        template = injected(pod.annotations)
        if template is None:
            return None
        token = directory / "token"
        await self._write_token(pod, token)
        self._tokens[pod.metadata.uid] = (pod, token)
        spec = self._spec(pod, pod_ip, template, token, await self._wishes(pod))
        with contextlib.ExitStack() as ours, within_netns(netns):
            status_port = ours.enter_context(_listen(spec.ports.agent))
            names = _listen_for_names(ours, spec.ports.names) if spec.naming else ()
            opened = ours.pop_all()
        with opened:
            try:
                await self._agent.add(spec, listeners=[status_port], resolvers=names, namespace=netns)
            except ControlError as error:
                raise OSError(f"the agent cannot serve the proxy: {error}") from error
        config = directory / "bootstrap.json"
        config.write_bytes(encode(spec))
        keep = (Capability.NET_ADMIN, Capability.NET_BIND_SERVICE)
        return SidecarProcess(
            argv=tuple(envoy_command(self._binary, config, spec)),
            env=proxy_environment(spec),
            ready_check=self._ready_check(pod_ip, spec),
            name=PROXY,
            captures=template is Template.SIDECAR,
            resolvers=tuple(map(IPv4Address, spec.naming.resolvers)) if spec.naming else (),
            keep=keep,
        )

    async def release(self, pod: Pod) -> None:
        """The pod's processes have ended."""
        if self._tokens.pop(pod.metadata.uid, None) is not None:
            with contextlib.suppress(ControlError):
                await self._agent.remove(f"{pod.metadata.name}.{pod.metadata.namespace}")

    async def keep_fresh(self) -> None:
        """Make tokens anew before they end, until cancelled."""
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            for pod, token in list(self._tokens.values()):
                try:
                    await self._write_token(pod, token)
                except (ApiError, OSError) as error:
                    _log.warning("the token of %s/%s was not renewed: %s", pod.namespace, pod.name, error)

    async def aclose(self) -> None:
        """Close what readiness was asked through."""
        if self._http is not None:
            await self._http.close()

    async def _write_token(self, pod: Pod, path: Path) -> None:
        account = pod.spec.service_account_name or "default"
        metadata = {"metadata": {"name": pod.metadata.name, "uid": pod.metadata.uid}}
        token = await self._client.create_token(pod.namespace, account, [AUDIENCE], TOKEN_SECONDS, metadata)
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(token.token)
        fresh.replace(path)

    async def _wishes(self, pod: Pod) -> ProxyWishes:
        """What the mesh, ProxyConfigs and the pod itself say of its proxy, as it is now."""
        meshes = sorted(await self._all(MeshConfig), key=seniority)
        settings = meshes[0].spec if meshes else MeshConfigSpec()
        try:
            found = wishes(
                pod.annotations,
                default=settings.default_config,
                configs=await self._all(ProxyConfig),
                namespace=pod.namespace,
                labels=pod.labels,
                root_namespace=settings.root_namespace or ROOT_NAMESPACE,
            )
            return replace(found, merges_metrics=settings.enable_prometheus_merge is not False)
        except ValueError as error:
            raise OSError(str(error)) from error

    async def _all(self, struct: type[Found]) -> list[Found]:
        """All objects of a kind that can be understood."""
        kind = registry.kind_of(struct)
        address = Resource(kind.group, kind.versions[0], kind.plural, kind.kind, kind.namespaced)
        listed = (await self._client.list(address)).items
        decoded = (decoding.decode(each, NOWHERE).resource for each in listed)
        return [each for each in decoded if isinstance(each, struct)]

    def _spec(self, pod: Pod, pod_ip: IPv4Address, template: Template, token: Path, wished: ProxyWishes) -> ProxySpec:
        around = self._around
        name = hashlib.blake2b(pod.metadata.uid.encode(), digest_size=6).hexdigest()
        return ProxySpec(
            pod=pod.metadata.name,
            namespace=pod.namespace,
            service_account=pod.spec.service_account_name or "default",
            ip=str(pod_ip),
            sds_socket=str(around.sockets / f"{name}.sock"),
            token=str(token),
            roots=str(around.roots),
            control_plane=around.control_plane,
            authority=around.authority,
            resolver=None if pod.spec.dns_policy == "None" else around.resolver,
            kind="router" if template is Template.GATEWAY else "sidecar",
            workload=_workload(pod),
            labels=pod.labels,
            annotations=pod.annotations,
            cluster_id=around.cluster_id,
            node=around.node,
            concurrency=around.concurrency if wished.concurrency is None else wished.concurrency or os.cpu_count() or 1,
            certificate_ttl=wished.certificate_ttl,
            drain_seconds=wished.drain_seconds,
            flush_seconds=wished.flush_seconds,
            flush_size=wished.flush_size,
            environment=wished.environment,
            mesh_id=wished.mesh_id,
            merges_metrics=wished.merges_metrics,
            proxy_config=wished.config,
            naming=_naming(pod, around.dns) if wished.captures_dns and template is Template.SIDECAR else None,
        )

    def _ready_check(self, pod_ip: IPv4Address, spec: ProxySpec) -> Callable[[], Awaitable[bool]]:
        """Asks Envoy; and at first the agent too, if it answers DNS, so that the application starts with all names known."""
        waits_for_names = spec.naming is not None

        async def check() -> bool:
            nonlocal waits_for_names
            port = spec.ports.agent if waits_for_names else spec.ports.health
            is_ready = await self._is_ready(f"http://{pod_ip}:{port}/healthz/ready")
            waits_for_names = waits_for_names and not is_ready
            return is_ready

        return check

    async def _is_ready(self, url: str) -> bool:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=_READY_TIMEOUT)
        try:
            async with self._http.get(url) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("0.0.0.0", port), backlog=64)
    listener.setblocking(False)
    return listener


def _listen_for_names(stack: contextlib.ExitStack, port: int) -> tuple[socket.socket, ...]:
    """The sockets on which the agent answers a pod's DNS: UDP and TCP, on its loopback address."""
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", port))
    udp.setblocking(False)
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=64))
    tcp.setblocking(False)
    return udp, tcp


def _naming(pod: Pod, dns: DnsSettings) -> Naming:
    """How a pod resolves names that the mesh does not know."""
    found = resolution(pod, dns)
    return Naming(tuple(filter(_is_ipv4, found.servers)), found.searches)


def _is_ipv4(address: str) -> bool:
    try:
        IPv4Address(address)
    except ValueError:
        return False
    return True


def _workload(pod: Pod) -> str:
    """The Deployment's name, where the pod belongs to one of its ReplicaSets; else the owner's, else the pod's own."""
    owner = pod.metadata.controller
    if owner is None:
        return pod.metadata.name
    return deployment_of(owner.name, pod.labels) if owner.kind == "ReplicaSet" else owner.name
