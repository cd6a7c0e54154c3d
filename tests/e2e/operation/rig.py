"""A real `meltemi up` in a process of its own, and what tests ask of it.

Everything is waited for: lines that `up` prints, objects of the API as they change, processes that end. Invariant: when
`Mesh.close` has returned, no process of the mesh is left, whatever the test has done to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from meltemi.kube.client import Client
from meltemi.kube.config import load
from meltemi.kube.reflector import What, objects
from meltemi.kube.resources import DEBUG_API, PODS, SERVICES, Key, Obj, Resource
from meltemi.kube.transport import HttpTransport
from meltemi.local.settling import settled

PROJECT = Path(__file__).parents[3]
BOOKSHOP = PROJECT / "examples" / "bookshop"
SHOP = Path(__file__).parent / "shop"

START_SECONDS = 90.0
SECONDS = 30.0
_NOBODY = 65534
_AS_ORDINARY_USER = """
import os, sys
from meltemi.testing.sandboxed import become_ordinary_user
become_ordinary_user()
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Process(msgspec.Struct, frozen=True):
    """A process of the mesh, as it is seen from outside. `started` counts the kernel's ticks."""

    pid: int
    parent: int
    command: str
    started: int

    def environment(self) -> dict[str, str]:
        """Its environment."""
        raw = Path(f"/proc/{self.pid}/environ").read_bytes().decode(errors="replace")
        return dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)


class Finished(msgspec.Struct, frozen=True):
    """What a command came to. `text` is both of its streams."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything it printed."""
        return self.out + self.err


class Mesh:
    """One mesh. `files` is a directory of its own that tests may write into; `ordinary_user`: root becomes one first."""

    def __init__(self, *, ordinary_user: bool = False, name: str = "local") -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix="meltemi-operation-"))
        self.home = self.directory / "home" / name
        self.files = self.directory / "files"
        self.lines: list[str] = []
        self.up: subprocess.Popen[str] | None = None
        self._prefix = (sys.executable, "-c", _AS_ORDINARY_USER) if ordinary_user and os.getuid() == 0 else ()
        self._news = threading.Condition()
        self._reader: threading.Thread | None = None
        self.environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        self.environment |= {"MELTEMI_HOME": str(self.directory / "home"), "HOME": str(self.directory), "NO_COLOR": "1"}
        self.directory.chmod(0o755)
        self.files.mkdir()
        if self._prefix:
            for path in (self.directory, self.files):
                os.chown(path, _NOBODY, _NOBODY)

    def __repr__(self) -> str:
        return f"<Mesh {self.directory}>"

    # --- its life ---

    def start(self, *arguments: str | Path) -> None:
        """Start `meltemi up` in the foreground; again, if it has ended."""
        self._finish_reading()
        command = (*self._prefix, sys.executable, "-m", "meltemi.cli", "up", "--name", self.name, *map(str, arguments))
        self.up = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.up.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self.lines.append("<the end>")
            self._news.notify_all()

    def wait_line(self, pattern: str, seconds: float = SECONDS, *, after: int = 0) -> re.Match[str]:
        """Wait until `up` has printed a line that a pattern is found in, not among the first `after` lines."""
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            found.extend(match for line in self.lines[after:] if (match := re.search(pattern, line)))
            return bool(found) or self.lines[-1:] == ["<the end>"]

        with self._news:
            self._news.wait_for(is_there, seconds)
        assert found, f"no line {pattern!r} within {seconds:g} s:\n" + "\n".join(self.lines) + self.log_tail()
        return found[0]

    def wait_ready(self) -> None:
        """Wait until everything that was asked for runs."""
        self.wait_line(r"^  ready ", START_SECONDS)

    def signal(self, number: signal.Signals) -> int:
        """Send `up` a signal, and wait for its end; the exit status."""
        assert self.up is not None
        self.up.send_signal(number)
        return self.up.wait(SECONDS)

    def close(self) -> None:
        """End the mesh, and remove all that the test has written."""
        if self.up is not None and self.up.poll() is None:
            self.up.terminate()
            try:
                self.up.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait(SECONDS)
        self._finish_reading()
        shutil.rmtree(self.directory)

    def _finish_reading(self) -> None:
        if self._reader is not None:
            self._reader.join(SECONDS)
        if self.up is not None and self.up.stdout is not None:
            self.up.stdout.close()
        self.lines.clear()

    def log_tail(self) -> str:
        """The end of what the mesh's own processes have said, for the message of a failure."""
        tails = []
        for log in sorted((self.home / "logs").glob("*.log")):
            tails.append(f"\n--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        return "".join(tails)

    # --- commands ---

    def run(
        self, *command: str | Path, typed: str = "", seconds: float = 60, environment: Mapping[str, str] | None = None
    ) -> Finished:
        """Run a command as the user of the mesh would."""
        done = subprocess.run(
            [*self._prefix, *map(str, command)],
            input=typed,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            timeout=seconds,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def meltemi(self, *arguments: str | Path, typed: str = "", status: int | None = 0, seconds: float = 60) -> Finished:
        """Run `meltemi ...`; asserts its exit status, unless that may be any (None)."""
        done = self.run(sys.executable, "-m", "meltemi.cli", *arguments, typed=typed, seconds=seconds)
        assert status is None or done.status == status, f"meltemi {arguments} gave {done.status}:\n{done.text}"
        return done

    def kubectl(self, *arguments: str | Path, typed: str = "", status: int | None = 0) -> Finished:
        """Run `kubectl ...`; asserts its exit status, unless that may be any (None)."""
        environment = {"KUBECONFIG": str(self.home / "kubeconfig")}
        done = self.run("kubectl", *arguments, typed=typed, environment=environment)
        assert status is None or done.status == status, f"kubectl {arguments} gave {done.status}:\n{done.text}"
        return done

    # --- the API ---

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of its API."""
        client = Client(HttpTransport(load(self.home / "kubeconfig")), field_manager="operation-tests")
        try:
            yield client
        finally:
            await client.aclose()

    async def admin(self, path: str, **query: str) -> Any:
        """What the control plane tells at a path of its admin interface."""
        async with self.client() as client:
            return await client.raw(f"{DEBUG_API}{path}", dict(query))

    async def until(
        self, resource: Resource, holds: Callable[[dict[Key, Obj]], Any], *, seconds: float = SECONDS
    ) -> dict[Key, Obj]:
        """Wait until the objects of a kind are as a condition wants them; those objects."""
        known: dict[Key, Obj] = {}
        try:
            async with (
                self.client() as client,
                asyncio.timeout(seconds),
                aclosing(objects(client, resource).changes()) as changes,
            ):
                synced = False
                async for change in changes:
                    if change.what is What.DELETED:
                        known.pop(change.key, None)
                    elif change.value is not None:
                        known[change.key] = change.value
                    synced = synced or change.what is What.SYNCED
                    if synced and holds(known):
                        return known
        except TimeoutError:
            pass
        raise AssertionError(f"{resource.plural} did not become as expected: {_summary(known)}{self.log_tail()}")

    async def pods(self, labels: str, count: int, *, seconds: float = SECONDS) -> list[Obj]:
        """Wait until exactly so many pods with a label (`app=echo`) are there, ready and served; the pods by name."""
        name, _, value = labels.partition("=")

        def mine(known: Mapping[Key, Obj]) -> list[Obj]:
            return [pod for pod in known.values() if (pod["metadata"].get("labels") or {}).get(name) == value]

        def holds(known: dict[Key, Obj]) -> bool:
            found = mine(known)
            return len(found) == count and all(is_ready(pod) and not is_ending(pod) for pod in found)

        found = sorted(mine(await self.until(PODS, holds, seconds=seconds)), key=lambda pod: pod["metadata"]["name"])
        async with self.client() as client, asyncio.timeout(seconds):
            await settled(client)
        return found

    async def proxies(self) -> dict[str, Any]:
        """All connected proxies, by id, as the control plane sees them."""
        return {proxy["id"]: proxy for proxy in await self.admin("/proxies")}

    async def host_port(self, namespace: str, service: str, number: int = 0) -> int:
        """The port of 127.0.0.1 that leads to a port of a LoadBalancer service (its first one, or that `number`)."""
        key = Key(namespace, service)

        def ports(known: Mapping[Key, Obj]) -> list[int]:
            status = (known.get(key) or {}).get("status") or {}
            ingress = (status.get("loadBalancer") or {}).get("ingress") or []
            return [port["port"] for each in ingress for port in each.get("ports") or ()]

        known = await self.until(SERVICES, ports)
        wanted = [port["port"] for port in known[key]["spec"]["ports"]]
        return ports(known)[wanted.index(number) if number else 0]

    # --- its processes ---

    def processes(self) -> list[Process]:
        """All processes of the mesh, without `up` itself."""
        assert self.up is not None
        return descendants(self.up.pid)

    def find(self, command: str, **environment: str) -> list[Process]:
        """The processes whose command line has a text in it and whose environment has these values."""
        found = []
        for process in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if command in process.command and environment.items() <= process.environment().items():
                    found.append(process)
        return found

    def control_plane(self) -> Process:
        """The process of the control plane."""
        return self.find("meltemi.controlplane")[0]

    def agent(self) -> Process:
        """The process of the agent."""
        return self.find("meltemi.agent")[0]

    def envoy(self, pod: str) -> Process:
        """The Envoy of a pod."""
        return self.find("envoy", MELTEMI_POD_NAME=pod)[0]


def kill(process: Process) -> None:
    """End a process of the mesh as a crash would, and wait until it is gone."""
    descriptor = os.pidfd_open(process.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], SECONDS)[0], f"{process} does not end"
    finally:
        os.close(descriptor)


def descendants(root: int) -> list[Process]:
    """All processes below one."""
    children: dict[int, list[Process]] = {}
    for process in all_processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    looking = [root]
    while looking:
        below = children.pop(looking.pop(), [])
        found += below
        looking += [process.pid for process in below]
    return found


def all_processes() -> Iterator[Process]:
    """Every process of this machine that can be read."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                state, parent, started = words[0], words[1], words[19]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if state != "Z":  # It has ended, and waits only for its parent to be told.
                    yield Process(int(entry.name), int(parent), command, int(started))


class Traces:
    """What a mesh has on this machine while it runs: to be compared with what is there after its end."""

    def __init__(self, processes: Sequence[Process], ports: Sequence[int]) -> None:
        self._ports = ports
        self._descriptors = {}
        self._namespaces: set[str] = set()
        self._latest = max(process.started for process in processes)
        own = set(_namespaces(os.getpid()))
        for process in processes:
            with contextlib.suppress(OSError):
                self._descriptors[process.pid] = os.pidfd_open(process.pid)
                self._namespaces |= set(_namespaces(process.pid)) - own

    @property
    def namespaces(self) -> int:
        """How many namespaces were seen."""
        return len(self._namespaces)

    def assert_gone(self) -> None:
        """Wait until all processes have ended; assert that no namespace, mount or port of theirs is left."""
        deadline = time.monotonic() + SECONDS
        for pid, descriptor in self._descriptors.items():
            left = max(0.0, deadline - time.monotonic())
            assert select.select([descriptor], [], [], left)[0], f"process {pid} is still there"
            os.close(descriptor)
        # The kernel gives a namespace's number to the next one: processes that came later are others.
        earlier = [process for process in all_processes() if process.started <= self._latest]
        holders = [process for process in earlier if self._namespaces & set(_namespaces(process.pid))]
        assert not holders, holders
        mounted = Path("/proc/self/mountinfo").read_text()
        assert "/meltemi-" not in mounted, mounted
        assert not [name for name in self._namespaces if name in mounted]
        for port in self._ports:
            socket.create_server(("127.0.0.1", port), reuse_port=False).close()


def _namespaces(pid: int) -> Iterator[str]:
    for kind in ("net", "mnt", "pid", "user", "uts", "ipc"):
        with contextlib.suppress(OSError):
            yield str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def is_ready(pod: Obj) -> bool:
    """Whether a pod's status says Ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_ending(pod: Obj) -> bool:
    """Whether a pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def containers(pod: Obj) -> dict[str, Any]:
    """A pod's container statuses by name."""
    return {status["name"]: status for status in (pod.get("status") or {}).get("containerStatuses") or ()}


def _summary(known: Mapping[Key, Obj]) -> str:
    return "\n".join(f"{key}: {obj.get('status') or obj.get('spec')}" for key, obj in sorted(known.items()))
