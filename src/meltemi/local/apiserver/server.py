"""One API server: its state directory, its parts put together, its sockets.

    state/objects.db   all objects          state/sa.key        signs service account tokens
    state/tls.pem      server certificate   state/admin-token   what the kubeconfig carries

The sockets are opened by whoever starts the machine (outside of its network namespace, so that kubectl reaches
them) and handed over; a client within the process needs none.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
import yaml

from meltemi.kube.client import Client
from meltemi.kube.resources import NAMESPACES, Key, Obj
from meltemi.local.apiserver import admission, certificate, meshkinds
from meltemi.local.apiserver.catalogue import Catalogue, Kind
from meltemi.local.apiserver.context import Context
from meltemi.local.apiserver.http import application
from meltemi.local.apiserver.identity import Tokens
from meltemi.local.apiserver.inprocess import InProcessTransport
from meltemi.local.apiserver.openapi import OpenApi, SchemaOf
from meltemi.local.apiserver.podaccess import PodAccess
from meltemi.local.apiserver.store import Store
from meltemi.local.apiserver.verbs import Options, Verbs
from meltemi.local.apiserver.watching import Watches

STANDING_NAMESPACES = ("default", "istio-system", "kube-system")


class ApiServer:
    """The API server of one machine. Make it, `start` it with sockets, `stop` it."""

    def __init__(
        self,
        directory: Path,
        *,
        kinds: Sequence[Kind] | None = None,
        validate: admission.Validator = meshkinds.validate,
        mutate: admission.Mutator = admission.no_change,
        schema_of: SchemaOf = meshkinds.schema_of,
        pods: Callable[[], PodAccess | None] = lambda: None,
        admin_address: Callable[[], str | None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Opens the state directory. Raises StorageError, also if another server has it open.

        Serves `kinds`, by default the core kinds and all of the mesh; `pods` and `admin_address` are asked at each
        request, so they may come and go.
        """
        self._store = Store(directory)
        self._certificate_file = directory / "tls.pem"
        self._certificate = certificate.ensure(self._certificate_file, now())
        self.token = _admin_token(directory / "admin-token")
        self.verbs = Verbs(
            self._store,
            Catalogue(meshkinds.served() if kinds is None else kinds),
            validate=validate,
            mutate=mutate,
            now=now,
        )
        self.verbs.resume()
        self._watches = Watches(self._store)
        self._context = Context(
            self.verbs,
            self._watches,
            Tokens(directory / "sa.key", self._store, now),
            self.token,
            OpenApi(self.verbs.catalogue, schema_of),
            now,
            admin_address,
            pods,
        )
        self.application = application(self._context)
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._ensure_namespaces()

    def client(self, field_manager: str = "meltemi") -> Client:
        """A client within this process, without a socket."""
        return Client(InProcessTransport(self.application, self.token), field_manager=field_manager)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begins to serve on sockets that are bound already; returns when it does."""
        config = uvicorn.Config(
            self.application,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ssl_certfile=str(self._certificate_file),
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        for listener in sockets:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                # asyncio does this only for sockets that were made with an explicit protocol number; accepted ones inherit.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(list(sockets)))
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait((started, self._serving), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            started.cancel()
            await self._serving

    async def stop(self) -> None:
        """Ends watches, waits for requests under way, and closes the files."""
        self._watches.close()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._store.close()

    def kubeconfig(self, server: str, namespace: str = "default") -> str:
        """The text of a kubeconfig file that leads here; `server` is `https://127.0.0.1:<port>`."""
        authority = base64.b64encode(self._certificate).decode()
        document: Obj = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "meltemi", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "meltemi", "user": {"token": self.token}}],
            "contexts": [
                {"name": "meltemi", "context": {"cluster": "meltemi", "user": "meltemi", "namespace": namespace}}
            ],
            "current-context": "meltemi",
        }
        return yaml.safe_dump(document, sort_keys=False)

    def write_kubeconfig(self, path: Path, server: str, namespace: str = "default") -> None:
        """Writes the kubeconfig file (0600)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        certificate.write_secret(path, self.kubeconfig(server, namespace).encode())

    def _ensure_namespaces(self) -> None:
        kind = self._context.kind(NAMESPACES.plural)
        for name in STANDING_NAMESPACES:
            if self._store.get(kind.id, Key("", name)) is None:
                self.verbs.create(kind, "", {"metadata": {"name": name}}, Options(manager="meltemi"))


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the process has its own), and with an event for having started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells when it is done."""
        await super().startup(sockets)
        self.has_started.set()


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket on loopback; port 0 picks a free one."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(256)
    return listener


def _admin_token(path: Path) -> str:
    if not path.exists():
        certificate.write_secret(path, secrets.token_urlsafe(32).encode())
    return path.read_text().strip()
