"""`meltemi logs` and `meltemi exec`: over real sockets, to a pod runner that plays its part."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meltemi.kube.resources import PODS
from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.podaccess import ExecOptions, ExecStreams, LogOptions
from meltemi.local.apiserver.server import ApiServer, listen

from .conftest import pod


class Runner:
    """A pod runner: logs are the pod's name and what was asked, commands echo in capitals."""

    async def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        if pod == "broken":
            raise refusals.bad_request("previous terminated container not found")
        yield f"{pod} {options.container}\n".encode()
        yield f"tail={options.tail_lines} previous={options.previous}\nno end".encode()

    async def exec(self, namespace: str, pod: str, options: ExecOptions, streams: ExecStreams) -> int:
        if options.command[0] == "missing":
            raise refusals.bad_request("executable file not found: missing")
        await streams.stdout(f"{pod}/{options.container}: {' '.join(options.command)}\n".encode())
        await streams.stderr(b"and an error\n")
        if options.stdin:
            async for piece in streams.stdin():
                await streams.stdout(piece.upper())
        return int(options.command[-1]) if options.command[-1].isdigit() else 0


class Served:
    """An API server in a thread of its own, and the command line as a process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        server = ApiServer(self.directory / "state", pods=Runner)
        listener = listen()
        await server.start([listener])
        server.write_kubeconfig(self.directory / "kubeconfig", f"https://127.0.0.1:{listener.getsockname()[1]}")
        sidecar = {"name": "istio-proxy", "image": "envoy", "restartPolicy": "Always"}
        for name in ("a-1", "a-2", "broken"):
            obj = pod(name, "default", {"app": name[0]}, initContainers=[sidecar])
            await server.client().create(PODS, obj)
        self._ready.set()
        await self._stop.wait()
        await server.stop()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs `meltemi` as a user does."""
        return meltemi(self.directory / "kubeconfig", *arguments, stdin=stdin)


def meltemi(kubeconfig: Path, verb: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs `meltemi` against the API of a kubeconfig file."""
    command = [sys.executable, "-m", "meltemi.cli", verb, "--kubeconfig", str(kubeconfig), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    return subprocess.run(command, input=stdin, capture_output=True, timeout=30, env=environment, check=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("api"))
    yield made
    made.close()


def test_the_log_of_one_pod_is_shown_as_it_is(served: Served) -> None:
    told = served.run("logs", "a-1", "--tail", "3", "-p")
    assert told.stdout == b"a-1 app\ntail=3 previous=True\nno end"
    assert told.returncode == 0


def test_the_lines_of_several_pods_are_marked(served: Served) -> None:
    told = served.run("logs", "app=a", "-c", "istio-proxy").stdout.decode().splitlines()
    assert told[:2] == ["a-1 | a-1 istio-proxy", "a-1 | tail=None previous=False"]
    assert told[3] == "a-2 | a-2 istio-proxy"


def test_a_container_that_is_not_there_is_answered_with_the_closest(served: Served) -> None:
    told = served.run("logs", "a-1", "-c", "istio-prxy")
    assert told.returncode == 2
    assert b"has no container 'istio-prxy'" in told.stderr
    assert b"did you mean 'istio-proxy'?" in told.stderr


def test_a_log_that_cannot_be_read_says_why(served: Served) -> None:
    told = served.run("logs", "broken", "-p")
    assert told.returncode == 1
    assert b"previous terminated container not found" in told.stderr


def test_a_command_has_its_output_its_errors_and_its_exit_code(served: Served) -> None:
    told = served.run("exec", "a-1", "--", "exit", "-x", "7")
    assert told.stdout == b"a-1/app: exit -x 7\n"
    assert told.stderr == b"and an error\n"
    assert told.returncode == 7


def test_standard_input_is_handed_on_to_its_end(served: Served) -> None:
    assert served.run("exec", "-i", "a-1", "--", "cat", stdin=b"hello").stdout.endswith(b"cat\nHELLO")


def test_a_command_that_cannot_be_run_says_why(served: Served) -> None:
    told = served.run("exec", "a-1", "--", "missing")
    assert told.returncode == 1
    assert b"executable file not found: missing" in told.stderr


def test_a_command_has_to_be_given(served: Served) -> None:
    told = served.run("exec", "a-1")
    assert told.returncode == 2
    assert b"no command was given" in told.stderr


def test_an_api_that_is_not_there_is_said_to_be_so(tmp_path: Path, served: Served) -> None:
    text = (served.directory / "kubeconfig").read_text()
    server = next(line for line in text.splitlines() if "server:" in line)
    (tmp_path / "kubeconfig").write_text(text.replace(server, "    server: https://127.0.0.1:1"))
    told = meltemi(tmp_path / "kubeconfig", "get", "pods")
    assert told.returncode == 1
    assert told.stderr.startswith(b"error: https://127.0.0.1:1 does not answer (cannot reach")
    assert b"hint: is it running? `meltemi up` starts a mesh" in told.stderr


def test_wrong_credentials_are_said_to_be_so(tmp_path: Path, served: Served) -> None:
    text = (served.directory / "kubeconfig").read_text().replace("token: ", "token: x")
    (tmp_path / "kubeconfig").write_text(text)
    told = meltemi(tmp_path / "kubeconfig", "get", "pods")
    assert told.returncode == 1
    assert b"does not accept these credentials" in told.stderr
