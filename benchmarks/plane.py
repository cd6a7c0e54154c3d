"""A control plane as `meltemi.controlplane.main` joins it, with facts made in memory instead of an API server's.

It makes changes when it is told to, and measures each: from the moment the facts are handed in until the last proxy
concerned has acknowledged. Run as `python -m benchmarks.plane`; it obeys commands as `benchmarks.fleet` does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.big_mesh import BigMesh
from benchmarks.processes import resident, serve_commands
from meltemi.ca.authority import open_authority
from meltemi.ca.serving import ServingCertificate, control_plane_identity
from meltemi.controlplane.admission import Admission
from meltemi.controlplane.progress import Progress
from meltemi.controlplane.revisions import Revisions
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST
from meltemi.pipeline import build
from meltemi.xds.hub import Connection, Hub
from meltemi.xds.link import Listener
from meltemi.xds.server import XdsServer
from meltemi.xds.subscription import Ask, Response

EVERYTHING = frozenset({CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST})
_SECONDS = 240.0


class WatchedHub(Hub):
    """A hub that tells when the proxies that are waited for have taken everything."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[Connection] = set()
        self.expected = 0  # how many proxies are yet to join
        self.types: frozenset[str] = EVERYTHING
        self.done: asyncio.Event = asyncio.Event()

    def join(self, *arguments: Any) -> Connection:
        """A proxy that is expected joins: it is waited for."""
        connection = super().join(*arguments)
        if self.expected:
            self.expected -= 1
            self.waiting.add(connection)
        return connection

    def on_request(self, connection: Connection, ask: Ask) -> None:
        """After each request, and what the server says to it, see whether its proxy has everything now."""
        super().on_request(connection, ask)
        if connection in self.waiting:
            asyncio.get_running_loop().call_soon(self._look_at, connection)

    def _look_at(self, connection: Connection) -> None:
        if connection in self.waiting and self.is_content(connection):
            self.waiting.discard(connection)
            if not self.waiting and not self.expected:
                self.done.set()

    def _wake(self, connections: Iterable[Connection]) -> None:  # type: ignore[override]
        """Proxies that are told of a change are waited for."""
        woken = list(connections)
        self.waiting.update(woken)
        super()._wake(woken)

    def is_content(self, connection: Connection) -> bool:
        """Whether a proxy has asked for everything and taken it."""
        stream = connection.stream
        return self.types <= stream.types.keys() and not any(
            state.pending or state.flight or state.awaited for state in stream.types.values()
        )

    def begin(self) -> None:
        """From now on, wait for whoever is told of a change."""
        self.waiting.clear()
        self.done.clear()

    def end(self) -> None:
        """No further change will come."""
        if self.waiting:
            self.done.clear()
        else:
            self.done.set()


class CountingServer(XdsServer):
    """A server that counts what it sends."""

    octets = 0
    messages = 0
    resources = 0

    def compose(self, response: Response) -> tuple[bytes, ...]:
        """The bytes of a response, counted."""
        pieces = super().compose(response)
        self.octets += sum(map(len, pieces))
        self.messages += 1
        self.resources += len(response.resources) + len(response.removed)
        return pieces


class Plane:
    """The control plane, and the commands that it obeys."""

    def __init__(self, services: int, state: Path) -> None:
        self.mesh = BigMesh(services)
        self.hub = WatchedHub()
        self.revisions = Revisions(build(), self.hub)
        self.progress = Progress(self.revisions)
        self.server = CountingServer(self.hub, Admission(self.revisions))
        self._state = state

    async def load(self) -> dict[str, Any]:
        """Take in all facts, and open the port. The seconds of CPU and the memory that took."""
        gc.collect()
        began = resident()
        started = time.process_time()
        done = self.revisions.put(self.mesh.facts(self.revisions.pipeline))
        self.revisions.flush()
        await done
        cpu = time.process_time() - started
        gc.collect()
        gc.freeze()
        authority = open_authority(self._state / "ca", organization="meltemi", now=_now())
        serving = ServingCertificate(authority, control_plane_identity("cluster.local"), _now)
        self._listener = Listener(self.server.methods(), serving.context)
        port = await self._listener.open("127.0.0.1", 0)
        problems = [str(problem) for problem in self.revisions.pipeline.graph.problems()]
        return {"port": port, "cpu": cpu, "memory": resident() - began, "problems": problems[:3]}

    async def expect(self, proxies: int, types: list[str] | None = None) -> dict[str, Any]:
        """So many proxies will join now; `settle` waits for them."""
        self.hub.expected = proxies
        self.hub.types = EVERYTHING if types is None else frozenset(types)
        self.hub.done.clear()
        self._mark()
        return {}

    async def settle(self) -> dict[str, Any]:
        """Wait until all that are expected have everything; what that took since `expect`."""
        await self._done()
        return self._measured()

    def _mark(self) -> None:
        self._resources, self._bytes, self._messages = self.server.resources, self.server.octets, self.server.messages
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def _measured(self) -> dict[str, Any]:
        return {
            "wall": time.monotonic() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "resources": self.server.resources - self._resources,
            "bytes": self.server.octets - self._bytes,
            "messages": self.server.messages - self._messages,
        }

    async def _done(self) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await self.hub.done.wait()
        except TimeoutError:
            one = next(iter(self.hub.waiting), None)
            raise TimeoutError(f"{len(self.hub.waiting)} wait, {self.hub.expected} expected, such as {one!r}") from None

    async def change(self, what: str) -> dict[str, Any]:
        """Make one change and wait until every proxy concerned has it."""
        facts = getattr(self.mesh, what)(self.revisions.pipeline)
        await asyncio.sleep(0.01)
        self.hub.begin()
        self._mark()
        await self.revisions.put(facts)
        self.hub.end()
        await self._done()
        return self._measured()

    async def churn(self, per_second: int, seconds: float) -> dict[str, Any]:
        """Move pods at a fixed rate; how far behind proxies were at each, and how long until the last had everything."""
        loop = asyncio.get_running_loop()
        behind: list[int] = []
        lags: list[float] = []
        self.hub.begin()
        self._mark()
        started = loop.time()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, started + number / per_second - loop.time()))
            lags.append(loop.time() - (started + number / per_second))
            self.revisions.put(self.mesh.change_endpoint(self.revisions.pipeline))
            if number % (per_second // 2) == 0:
                behind.append(sum(self._owed(each) for each in self.hub.connections))
        ended = loop.time()
        self.revisions.flush()
        self.hub.end()
        await self._done()
        found = self._measured()
        return {**found, "behind": behind, "drain": loop.time() - ended, "lag": max(lags)}

    @staticmethod
    def _owed(connection: Connection) -> int:
        return sum(len(state.pending) for state in connection.stream.types.values())

    async def memory(self) -> dict[str, Any]:
        """Memory in MB, now and at most so far."""
        gc.collect()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        return {"resident": resident(), "peak": peak, "connections": len(self.hub.connections)}

    async def profile(self, path: str = "") -> dict[str, Any]:
        """Begin to profile, or end it and write what was found to a file."""
        import cProfile

        if not path:
            self._profile = cProfile.Profile()
            self._profile.enable()
        else:
            self._profile.disable()
            self._profile.dump_stats(path)
        return {}


def _now() -> datetime:
    return datetime.now(UTC)


async def _main(services: int, state: Path) -> None:
    plane = Plane(services, state)
    await serve_commands(plane)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    chosen = parser.parse_args()
    uvloop.run(_main(chosen.services, chosen.state))
