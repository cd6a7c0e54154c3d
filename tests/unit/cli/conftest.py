"""A mesh without sockets: the real API server in this process, and a control plane that answers what the test says."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from meltemi.api import registry
from meltemi.cli import main
from meltemi.cli.surroundings import Surroundings
from meltemi.kube.client import Client
from meltemi.kube.config import Connection
from meltemi.kube.resources import DEBUG_API
from meltemi.kube.transport import Request, Response, Transport
from meltemi.local.apiserver.catalogue import CORE, Kind
from meltemi.local.apiserver.server import ApiServer

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

MESH_KINDS = tuple(
    Kind(
        group=kind.group,
        versions=kind.versions,
        plural=kind.plural,
        kind=kind.kind,
        namespaced=kind.namespaced,
        short_names=kind.short_names,
        status=kind.status,
    )
    for kind in registry.KINDS
    if kind.mesh
)

Answer = Callable[[dict[str, str]], Any]


class ControlPlane:
    """Answers of the control plane by path; a callable gets the query. Remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/version": {"version": "0.1.0", "revision": 7},
            "/proxies": [],
            "/problems": [],
        }
        self.asked: list[str] = []

    def answer(self, request: Request) -> Response:
        path = request.path.removeprefix(DEBUG_API)
        self.asked.append(f"{path}?{urlencode(list(request.query))}" if request.query else path)
        if path not in self.answers:
            return Response(404, json.dumps({"message": f"there is no {path}"}).encode())
        answer = self.answers[path]
        value = answer(dict(request.query)) if callable(answer) else answer
        return value if isinstance(value, Response) else Response(200, msgspec.json.encode(value))


class MeshTransport:
    """Sends what is meant for the control plane to `ControlPlane`, all else to the API server."""

    def __init__(self, inner: Transport, control_plane: ControlPlane) -> None:
        self._inner = inner
        self._control_plane = control_plane

    async def request(self, request: Request) -> Response:
        if request.path.startswith(DEBUG_API):
            return self._control_plane.answer(request)
        return await self._inner.request(request)

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._inner.stream(request, silence=silence) as pieces:
            yield pieces

    async def aclose(self) -> None:
        await self._inner.aclose()


class Outcome(msgspec.Struct):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]


class Mesh:
    """A mesh to run commands against."""

    def __init__(self, directory: Path) -> None:
        self.server = ApiServer(directory / "state", kinds=(*CORE, *MESH_KINDS), now=lambda: NOW)
        self.control_plane = ControlPlane()
        self.directory = directory
        home = directory / "home"
        self.server.write_kubeconfig(home / "local" / "kubeconfig", "https://127.0.0.1:1")
        self.surroundings = Surroundings({"MELTEMI_HOME": str(home)}, lambda directory: True, self._client)

    def _client(self, connection: Connection, warn: Callable[[str], None]) -> Client:
        inner = self.server.client().transport
        return Client(MeshTransport(inner, self.control_plane), warn=warn)

    def run(self, *arguments: str) -> Outcome:
        """Runs `meltemi` with arguments."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main.run(list(arguments), self.surroundings)
        return Outcome(status, out.getvalue(), err.getvalue())

    def put(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Creates an object, past the command line."""
        from meltemi.local.apiserver.verbs import Options

        kind = self.server.verbs.catalogue.of_object(obj)
        assert kind is not None
        namespace = obj["metadata"].get("namespace", "")
        return self.server.verbs.create(kind, namespace, obj, Options(manager="test")).item.obj

    def set_status(self, obj: dict[str, Any], status: dict[str, Any]) -> None:
        """Writes the status of an object that exists."""
        from meltemi.kube.resources import key_of
        from meltemi.local.apiserver.objects import Part
        from meltemi.local.apiserver.verbs import Options

        kind = self.server.verbs.catalogue.of_object(obj)
        assert kind is not None
        self.server.verbs.update(
            kind, key_of(obj), {**obj, "status": status}, Options(manager="test", part=Part.STATUS)
        )

    def namespace(self, name: str) -> None:
        """Makes a namespace."""
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def file(self, name: str, text: str) -> str:
        """Writes a manifest; its path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mesh]:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    made = Mesh(tmp_path)
    yield made
    made.server.verbs.store.close()


def virtual_service(name: str = "reviews", namespace: str = "bookshop", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": name}}]}]},
    }


def pod(name: str, namespace: str = "bookshop", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
    }
