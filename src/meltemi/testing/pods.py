"""A pod runner with an API of dictionaries, for tests: pods go in, statuses come out and can be waited for."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from meltemi.api.core import ConfigMap, Pod, PodSpec, Secret
from meltemi.api.core.pods import ContainerStatus, PodStatus
from meltemi.api.meta import ObjectMeta
from meltemi.kube.client import Token
from meltemi.kube.reflector import Change, What
from meltemi.kube.resources import Key
from meltemi.local.apiserver.podaccess import ExecOptions, LogOptions, WindowSize
from meltemi.local.backoff import Backoff
from meltemi.local.network import MeshNetwork
from meltemi.local.pod import PodRun
from meltemi.local.processes import Processes
from meltemi.local.runner import PodRunner
from meltemi.local.sidecar import SidecarLauncher
from meltemi.local.workshop import RunnerSettings

_numbers = itertools.count(1)


def pod_of(spec: dict[str, object], *, name: str = "shop", namespace: str = "default", **metadata: object) -> Pod:
    """A pod from its spec as one would write it in YAML, and further metadata in snake_case."""
    meta = ObjectMeta(name=name, namespace=namespace, uid=f"uid-{next(_numbers)}")
    meta = msgspec.structs.replace(meta, **metadata)
    return Pod(kind="Pod", api_version="v1", metadata=meta, spec=msgspec.convert(spec, PodSpec))


class RunnerWorld:
    """What a test sees of the runner: `statuses` and `events` as they are told, `removed` uids, and objects to serve."""

    def __init__(self) -> None:
        self.config_maps: dict[tuple[str, str], ConfigMap] = {}
        self.secrets: dict[tuple[str, str], Secret] = {}
        self.statuses: dict[str, PodStatus] = {}
        self.events: list[tuple[str, str, str]] = []
        self.removed_uids: set[str] = set()
        self.tokens_issued = 0
        self.token_life = timedelta(hours=1)
        self.runner: PodRunner
        self.network: MeshNetwork
        self._changes: asyncio.Queue[Change[Pod]] = asyncio.Queue()
        self._news = asyncio.Event()

    # --- PodObjects ---

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """See PodObjects."""
        return self.config_maps.get((namespace, name))

    async def secret(self, namespace: str, name: str) -> Secret | None:
        """See PodObjects."""
        return self.secrets.get((namespace, name))

    async def token(self, pod: Pod, audience: str, seconds: int) -> Token:
        """See PodObjects; `token_life` stands for `seconds`."""
        self.tokens_issued += 1
        expires = (datetime.now(UTC) + self.token_life).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return Token(f"{audience}/{pod.metadata.name}/{self.tokens_issued}", expires)

    # --- PodReports ---

    async def status(self, pod: Pod, status: PodStatus) -> None:
        """See PodReports."""
        self.statuses[pod.metadata.uid] = status
        self._wake()

    async def removed(self, pod: Pod) -> None:
        """See PodReports."""
        self.removed_uids.add(pod.metadata.uid)
        self._wake()

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """See PodReports."""
        self.events.append((pod.metadata.name, reason, message))
        self._wake()

    # --- what tests do ---

    def add(self, pod: Pod) -> Pod:
        """The API has this pod now."""
        self._changes.put_nowait(Change(What.ADDED, Key(pod.metadata.namespace, pod.metadata.name), pod))
        return pod

    def delete(self, pod: Pod, *, grace: int = 5) -> None:
        """The API wants the pod ended within `grace` seconds."""
        meta = msgspec.structs.replace(
            pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z", deletion_grace_period_seconds=grace
        )
        changed = msgspec.structs.replace(pod, metadata=meta)
        self._changes.put_nowait(Change(What.MODIFIED, Key(meta.namespace, meta.name), changed))

    def run_of(self, pod: Pod) -> PodRun:
        """The runner's own view of a pod."""
        return next(run for run in self.runner.pods() if run.pod.metadata.uid == pod.metadata.uid)

    def container(self, pod: Pod, name: str = "app") -> ContainerStatus:
        """The last status told of a container; an empty one if none was told."""
        status = self.statuses.get(pod.metadata.uid, PodStatus())
        both = (*status.container_statuses, *status.init_container_statuses)
        return next((one for one in both if one.name == name), ContainerStatus(name=name))

    def is_ready(self, pod: Pod) -> bool:
        """Whether the last status told says Ready."""
        return self.statuses.get(pod.metadata.uid, PodStatus()).ready

    async def until(self, holds: Callable[[], bool], seconds: float = 15) -> None:
        """Waits until a condition on what was told holds. Fails with what was told last."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it did not come to pass: {self.statuses} {self.events}") from None

    async def ready(self, pod: Pod) -> PodStatus:
        """Waits until a pod is ready; its status."""
        await self.until(lambda: self.is_ready(pod))
        return self.statuses[pod.metadata.uid]

    async def finished(self, pod: Pod) -> PodStatus:
        """Waits until a pod has Succeeded or Failed; its status."""
        await self.until(lambda: self.statuses.get(pod.metadata.uid, PodStatus()).phase in ("Succeeded", "Failed"))
        return self.statuses[pod.metadata.uid]

    async def log(self, pod: Pod, container: str = "app", *, previous: bool = False) -> str:
        """What a container has printed."""
        options = LogOptions(container=container, previous=previous)
        pieces = [piece async for piece in self.runner.logs(pod.metadata.namespace, pod.metadata.name, options)]
        return b"".join(pieces).decode()

    async def output(
        self, pod: Pod, *command: str, container: str = "app", stdin: bytes = b"", tty: bool = False
    ) -> str:
        """Runs a command in a container; what it printed, and its exit code in brackets if that is not 0."""
        streams = GatheredStreams(stdin)
        options = ExecOptions(command, container, stdin=bool(stdin), tty=tty)
        code = await self.runner.exec(pod.metadata.namespace, pod.metadata.name, options, streams)
        text = streams.gathered.decode()
        return text if code == 0 else f"{text}[{code}]"

    async def changes(self) -> AsyncIterator[Change[Pod]]:
        """The changes that tests make."""
        while True:
            yield await self._changes.get()

    def _wake(self) -> None:
        self._news.set()


class GatheredStreams:
    """Streams of a client that types `stdin` and keeps what it sees."""

    def __init__(self, stdin: bytes = b"") -> None:
        self.gathered = b""
        self._stdin = stdin

    async def stdin(self) -> AsyncIterator[bytes]:
        """See ExecStreams."""
        if self._stdin:
            yield self._stdin

    async def resizes(self) -> AsyncIterator[WindowSize]:
        """See ExecStreams."""
        yield WindowSize(101, 31)

    async def stdout(self, data: bytes) -> None:
        """See ExecStreams."""
        self.gathered += data

    async def stderr(self, data: bytes) -> None:
        """See ExecStreams."""
        self.gathered += data


@asynccontextmanager
async def runner_world(
    *, launcher: SidecarLauncher | None = None, backoff: Backoff | None = None
) -> AsyncIterator[RunnerWorld]:
    """A runner in the network namespace and the current directory of this process, for as long as the body runs."""
    world = RunnerWorld()
    settings = RunnerSettings(
        runtime=Path.cwd() / "run",
        logs=Path.cwd() / "logs",
        base_environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.cwd())},
        backoff=backoff or Backoff(first=0.05, longest=0.2),
        drain_seconds=0.0,
    )
    processes = Processes.start()
    world.network = MeshNetwork()
    world.runner = PodRunner(settings, processes, world.network, world, world, launcher)
    following = asyncio.ensure_future(world.runner.run(world.changes()))
    try:
        yield world
    finally:
        await world.runner.stop(grace=2)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await processes.aclose()
        world.network.close()
