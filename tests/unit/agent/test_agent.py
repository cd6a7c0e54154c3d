"""The agent process from within: adding and removing proxies, restarts, files that change, and pods' own namespaces."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import msgspec
import pytest

from meltemi.agent import server as server_module
from meltemi.agent.client import AgentClient
from meltemi.agent.control import MAX_PACKET, Add, ControlError, Remove, Reply, decode_request, encode, new_socket
from meltemi.agent.namespaces import socket_within
from meltemi.agent.server import Agent, ControlServer
from meltemi.agent.sockets import listen_privately
from meltemi.agent.spec import Address, ProxySpec
from meltemi.ca.audit import AuditLog
from meltemi.ca.authentication import Caller
from meltemi.ca.authority import Authority, load_authority, new_root
from meltemi.ca.metrics import CaMetrics
from meltemi.ca.service import CertificateService, certificate_server
from meltemi.ca.serving import ServingCertificate, control_plane_identity

DEADLINE = 20


def utc_now() -> datetime:
    return datetime.now(UTC)


class Everybody:
    """Believes every caller to be shop/cart, unless it is told not to."""

    async def authenticate(self, metadata: object) -> Caller:
        return Caller("shop", "cart")


class Mesh:
    """An authority that is served, and its roots in a file."""

    def __init__(self, roots: Path) -> None:
        self.authority: Authority = load_authority(new_root("cluster.local", utc_now()), utc_now())
        self.roots = roots
        self.roots.write_text(self.authority.trust_bundle)
        service = CertificateService(
            self.authority,
            Everybody(),
            trust_domain="cluster.local",
            metrics=CaMetrics(self.authority, utc_now),
            audit=AuditLog(None),
            clock=utc_now,
        )
        serving = ServingCertificate(self.authority, control_plane_identity("cluster.local"), utc_now)
        self.server, self.port = certificate_server(service, serving, "127.0.0.1:0")


class Process:
    """The agent in this process, as often as it is started."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self.agent = Agent(utc_now, Random(1))
        self.server: ControlServer | None = None

    def start(self) -> None:
        self.agent = Agent(utc_now, Random(1))
        self.server = ControlServer(self.agent, listen_privately(self.control, socket.SOCK_SEQPACKET))

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
            await self.agent.aclose()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(tmp_path / "root-cert.pem")
    await mesh.server.start()
    yield mesh
    await mesh.server.stop(None)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(tmp_path / "agent" / "control.sock")
    process.start()
    yield process
    await process.stop()


@pytest.fixture
async def client(process: Process) -> AsyncIterator[AgentClient]:
    client = AgentClient(process.control)
    async with asyncio.timeout(DEADLINE):
        yield client
    await client.aclose()


@pytest.fixture
def cart(spec: ProxySpec, mesh: Mesh) -> ProxySpec:
    Path(spec.token).write_text("token")
    return msgspec.structs.replace(spec, authority=Address("127.0.0.1", mesh.port))


async def test_a_proxy_gets_its_certificate(client: AgentClient, cart: ProxySpec) -> None:
    added = await client.add(cart)
    assert (added.proxy, added.identity) == ("cart-7f.shop", "spiffe://cluster.local/ns/shop/sa/cart")
    assert Path(cart.sds_socket).is_socket()
    ready = await client.wait_ready(cart.id)
    assert ready.not_after is not None
    assert (ready.rotations, ready.error) == (1, "")


async def test_adding_the_same_again_keeps_the_certificate(client: AgentClient, cart: ProxySpec) -> None:
    await client.add(cart)
    serial = (await client.wait_ready(cart.id)).serial
    await client.add(cart)
    assert (await client.wait_ready(cart.id)).serial == serial


async def test_another_description_replaces_the_proxy(client: AgentClient, cart: ProxySpec) -> None:
    await client.add(cart)
    serial = (await client.wait_ready(cart.id)).serial
    await client.add(msgspec.structs.replace(cart, ip="10.244.0.8"))
    assert (await client.wait_ready(cart.id)).serial != serial
    assert len(await client.list()) == 1


async def test_after_a_restart_the_agent_is_told_everything_again(
    client: AgentClient, process: Process, cart: ProxySpec
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        await client.add(cart, listeners=[listener])
    serial = (await client.wait_ready(cart.id)).serial
    await process.stop()
    process.start()
    assert (await client.wait_ready(cart.id)).serial != serial
    async with httpx.AsyncClient(trust_env=False) as http:
        assert "istio_agent_cert_rotations_total 1" in (await http.get(f"http://127.0.0.1:{port}/metrics")).text


async def test_what_is_asked_while_the_agent_is_away_is_done_when_it_is_back(
    client: AgentClient, process: Process, cart: ProxySpec
) -> None:
    await client.list()
    await process.stop()
    adding = asyncio.create_task(client.add(cart))
    await asyncio.sleep(0)
    process.start()
    assert (await adding).proxy == cart.id


async def test_a_proxy_removed_while_it_waits_to_be_added_is_not_added(
    client: AgentClient, process: Process, cart: ProxySpec
) -> None:
    await client.list()
    await process.stop()
    adding = asyncio.create_task(client.add(cart))
    removing = asyncio.create_task(client.remove(cart.id))
    await asyncio.sleep(0)
    process.start()
    await removing
    with pytest.raises(ControlError, match="was removed"):
        await adding
    assert await client.list() == ()


async def test_removing_what_is_not_there_is_no_error(client: AgentClient) -> None:
    await client.remove("nobody.nowhere")


async def test_a_failure_is_told_and_tried_again(client: AgentClient, cart: ProxySpec) -> None:
    token = Path(cart.token)
    token.unlink()
    await client.add(cart)
    while not (status := (await client.list())[0]).failures:
        pass
    assert "token: No such file" in status.error
    assert status.not_after is None
    token.write_text("token")
    assert (await client.wait_ready(cart.id)).error == ""


async def test_before_the_roots_are_there_nobody_is_asked_and_nothing_is_called_a_failure(
    client: AgentClient, mesh: Mesh, cart: ProxySpec, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.roots.unlink()
    await client.add(cart)
    assert [status.failures for status in await client.list()] == [0]
    mesh.roots.write_text(mesh.authority.trust_bundle)
    ready = await client.wait_ready(cart.id)
    assert (ready.rotations, ready.failures) == (1, 0)
    assert "no certificate" not in caplog.text


async def test_new_roots_are_served_at_once_and_a_new_certificate_soon(
    client: AgentClient, process: Process, mesh: Mesh, cart: ProxySpec
) -> None:
    await client.add(cart)
    await client.wait_ready(cart.id)
    (proxy,) = process.agent._proxies.values()
    proxy.identity.due = utc_now().replace(year=2100)
    pushes: list[str] = []
    proxy._secrets.subscribe(lambda: pushes.append("changed"))
    another = load_authority(new_root("next", utc_now()), utc_now())
    mesh.roots.write_text(mesh.authority.trust_bundle + another.trust_bundle)
    process.agent.refresh()
    assert pushes == ["changed"]
    served = proxy._secrets.get("ROOTCA")
    assert served is not None
    assert another.trust_bundle.strip().encode() in served.body
    assert proxy.identity.due < utc_now().replace(year=2099)
    process.agent.refresh()
    assert pushes == ["changed"]


async def test_a_secret_socket_that_cannot_be_made_is_told(
    client: AgentClient, cart: ProxySpec, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="File exists"):
        await client.add(msgspec.structs.replace(cart, sds_socket=str(tmp_path / "file" / "sds.sock")))


async def test_descriptors_that_do_not_fit_the_request_are_refused(process: Process, cart: ProxySpec) -> None:
    reader, writer = os.pipe()
    reply = await process.agent.do(Add(1, cart, listeners=2), [reader])
    assert "descriptors" in reply.error
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    os.close(writer)


async def test_nonsense_on_the_control_socket_ends_that_connection_only(
    client: AgentClient, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    await client.list()
    rude = new_socket()
    rude.connect(str(process.control))
    rude.send(b"not json")
    assert await asyncio.get_running_loop().sock_recv(rude, 10) == b""
    rude.close()
    assert "not a request" in caplog.text
    assert await client.list() == ()


def test_messages_are_whole_or_refused() -> None:
    assert decode_request(encode(Remove(1, "a.b"))) == Remove(1, "a.b")
    with pytest.raises(ControlError, match="does not fit"):
        encode(Reply(1, "x" * MAX_PACKET))


async def test_the_process_serves_until_it_is_told_to_stop(
    tmp_path: Path, cart: ProxySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REFRESH_SECONDS", 0.01)
    control, stop = tmp_path / "run" / "control.sock", asyncio.Event()
    running = asyncio.create_task(server_module.run(control, stop))
    client = AgentClient(control)
    async with asyncio.timeout(DEADLINE):
        await client.add(cart)
        await client.wait_ready(cart.id)
        await client.aclose()
        stop.set()
        await running
    assert not control.exists()
    assert not Path(cart.sds_socket).exists()


# === a pod's own network namespace ===


@pytest.fixture
def namespace() -> Iterator[int]:
    """A network namespace of its own, as a file descriptor."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up 2>/dev/null; echo ready; cat"]
    try:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    with holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            pytest.skip("network namespaces may not be made here")
        descriptor = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        yield descriptor
        os.close(descriptor)
        assert holder.stdin is not None
        holder.stdin.close()


def test_a_socket_belongs_to_the_namespace_in_which_it_was_made(namespace: int) -> None:
    before = Path("/proc/thread-self/ns/net").stat().st_ino
    inside = socket_within(namespace, socket.AF_INET)
    with inside, socket.create_server(("127.0.0.1", 0)) as outside:
        assert inside.connect_ex(outside.getsockname()) in (errno.ECONNREFUSED, errno.ENETUNREACH)
    assert Path("/proc/thread-self/ns/net").stat().st_ino == before


def test_what_is_no_namespace_cannot_be_entered() -> None:
    with open(os.devnull) as nothing, pytest.raises(OSError, match="network namespace"):  # noqa: PTH123
        socket_within(nothing.fileno(), socket.AF_INET)


def test_the_agent_says_nothing_secret(spec: ProxySpec, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("meltemi.agent").info("%r", spec)
    assert "PRIVATE KEY" not in caplog.text


def test_the_agent_process_loads_nothing_of_the_translation_and_no_grpc() -> None:
    script = "import sys, meltemi.agent.server; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("meltemi.")}
    assert ours == {"agent", "base"}
    assert not {"grpc", "google.protobuf", "aiohttp", "prometheus_client"} & set(loaded)
