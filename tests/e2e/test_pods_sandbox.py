"""The sandbox: what it lets in and out, and that it ends with its parent whatever the parent dies of."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from meltemi.local.door import Door
from meltemi.local.sandbox import enter_sandbox
from meltemi.local.syscalls import die_with_parent
from meltemi.testing.pods import pod_of, runner_world
from meltemi.testing.sandboxed import become_ordinary_user

pytestmark = pytest.mark.e2e


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        found[int(path.parent.name)] = int(text.rpartition(")")[2].split()[1])
    return found


def below(ancestor: int) -> set[int]:
    """All processes that descend from one."""
    tree = parents()
    found: set[int] = set()
    while grown := {pid for pid, parent in tree.items() if parent in found | {ancestor}} - found:
        found |= grown
    return found


def network(pid: int) -> str:
    """The network namespace of a process; empty for one that has ended or is not ours to look at."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


@contextmanager
def outside(news: int, directory: Path, *, ordinary: bool) -> Iterator[int]:
    """A process that runs a pod in a sandbox and writes to `news` when it is ready; killed at the end."""

    async def scenario() -> None:
        async with runner_world() as world:
            up = {"exec": {"command": ["/bin/sh", "-c", "test -s $HOME/up"]}}
            script = "sleep 1000 & echo up > $HOME/up; wait"
            container = {"name": "app", "command": ["/bin/sh", "-c", script], "readinessProbe": up}
            pod = world.add(pod_of({"containers": [container]}))
            await world.ready(pod)
            os.write(news, b"ready")
            await asyncio.Event().wait()

    def machine(_door: Door) -> int:
        asyncio.run(scenario())
        return 0

    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            if ordinary:
                become_ordinary_user()
            os.chdir(directory)
            enter_sandbox(machine).run()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
        finally:
            os.waitpid(pid, 0)


@pytest.mark.parametrize("ordinary", [False, True], ids=["this user", "ordinary user"])
def test_kill_9_leaves_no_process_no_namespace_and_no_mount(
    tmp_path_factory: pytest.TempPathFactory, ordinary: bool
) -> None:
    if ordinary and os.getuid() != 0:
        pytest.skip("this user is an ordinary one already")
    directory = tmp_path_factory.mktemp("sandbox")
    for part in (directory, *directory.parents[:3]):
        if part.stat().st_uid == os.getuid() and part != Path("/tmp"):
            part.chmod(0o777)
    reader, writer = os.pipe()
    with outside(writer, directory, ordinary=ordinary) as pid:
        os.close(writer)
        assert os.read(reader, 5) == b"ready"
        processes = below(pid)
        commands = [Path(f"/proc/{one}/cmdline").read_text() for one in processes]
        assert sum("sleep" in command for command in commands) == 2
        networks = {network(one) for one in processes} - {network(os.getpid())}
        assert len(networks) == 2
        handles = [os.pidfd_open(one) for one in processes]
        present = set(parents())
    waiting = set(handles)
    poller = select.poll()
    for handle in handles:
        poller.register(handle, select.POLLIN)
    while waiting:
        events = poller.poll(10_000)
        assert events, f"{len(waiting)} processes live on"
        for handle, _ in events:
            poller.unregister(handle)
            waiting.discard(handle)
            os.close(handle)
    os.close(reader)
    # The kernel numbers namespaces anew: one that somebody made meanwhile may have the number of one that is gone.
    assert not {network(one) for one in present} & networks
    assert str(directory) not in Path("/proc/self/mounts").read_text()
    assert not list((directory / "run").iterdir())


def test_the_outside_ends_with_the_status_of_the_machine_process() -> None:
    assert enter_sandbox(lambda _door: 7).run() == 7


def test_sigterm_reaches_the_machine_process() -> None:
    def machine(_door: Door) -> int:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        reader.write(b"up")
        signal.pause()
        return 1

    here, there = socket.socketpair()
    with here, there, there.makefile("wb", buffering=0) as reader:
        sandbox = enter_sandbox(machine)
        assert here.recv(2) == b"up"
        sandbox.signal(signal.SIGTERM)
        assert sandbox.run() == 5


def test_a_port_of_the_machine_is_served_from_inside() -> None:
    def machine(door: Door) -> int:
        listener = door.listen(0)
        listener.setblocking(True)
        with pytest.raises(OSError, match="Address already in use"):
            door.listen(listener.getsockname()[1])
        told.send(str(listener.getsockname()[1]).encode())
        connection, _ = listener.accept()
        connection.sendall(connection.recv(5).upper())
        return 0

    here, told = socket.socketpair()
    with here, told:
        sandbox = enter_sandbox(machine)
        child = os.fork()
        if child == 0:
            port = int(here.recv(5))
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(b"hello")
                os._exit(0 if client.recv(5) == b"HELLO" else 1)
        assert sandbox.run() == 0
        assert os.waitpid(child, 0)[1] == 0


def test_the_inside_reaches_the_outside_only_through_the_door() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]

        def machine(door: Door) -> int:
            with socket.socket() as direct:
                if direct.connect_ex(("127.0.0.1", port)) == 0:
                    return 1
            with door.dial("tcp", IPv4Address("127.0.0.1"), port) as dialled:
                dialled.setblocking(True)
                return 0 if dialled.recv(2) == b"hi" else 2

        sandbox = enter_sandbox(machine)
        child = os.fork()
        if child == 0:
            server.accept()[0].sendall(b"hi")
            os._exit(0)
        assert sandbox.run() == 0
        os.waitpid(child, 0)
