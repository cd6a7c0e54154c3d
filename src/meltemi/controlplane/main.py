"""The control plane as a process: everything joined, started in order, stopped in order.

    Kubernetes API (the local one or a cluster's) -> facts -> pipeline -> xDS          port 15011, mutual TLS
    certificate signing requests -> authority                                         port 15012, TLS and a token
    admin: proxies, problems, waiting, tables, metrics                                port 15014, loopback

It can be killed and started again at any time: proxies go on with what they have, and what has not changed is not sent
to them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvicorn
from prometheus_client import REGISTRY

from meltemi.base.refs import Ref
from meltemi.ca.audit import AuditLog
from meltemi.ca.authentication import TokenAuthenticator
from meltemi.ca.authority import Authority, open_authority
from meltemi.ca.metrics import CaMetrics
from meltemi.ca.service import CertificateService, certificate_server
from meltemi.ca.serving import ServingCertificate, control_plane_identity
from meltemi.controlplane.admin import Admin
from meltemi.controlplane.admission import Admission
from meltemi.controlplane.facts import Facts
from meltemi.controlplane.progress import Progress
from meltemi.controlplane.revisions import Revisions
from meltemi.controlplane.subjects import Subjects
from meltemi.flow import Revision
from meltemi.kube.client import Client
from meltemi.model.routes import Source
from meltemi.pipeline import build
from meltemi.resolve.allocation import Allocated
from meltemi.sources.kubernetes import KubernetesSource
from meltemi.status.writer import StatusWriter
from meltemi.xds.hub import Hub
from meltemi.xds.link import Listener
from meltemi.xds.server import XdsServer

log = logging.getLogger(__name__)

ORGANIZATION = "meltemi"
XDS_PORT, AUTHORITY_PORT, ADMIN_PORT = 15011, 15012, 15014


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the control plane listens and keeps what must not be lost. `state` is a directory of its own."""

    state: Path
    address: str = "0.0.0.0"
    admin_address: str = "127.0.0.1"
    xds_port: int = XDS_PORT
    authority_port: int = AUTHORITY_PORT
    admin_port: int = ADMIN_PORT


class ControlPlane:
    """Make it, then `run` it until cancelled. `client` reaches the API; closing it stays the caller's business."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.hub = Hub()
        self.revisions = Revisions(build(), self.hub)
        self.facts = Facts(self.revisions.pipeline, self.hub.vault, self.revisions.put)
        self.source = KubernetesSource(client, self.facts.take)
        self.progress = Progress(self.revisions)
        self.status = StatusWriter(client, Subjects(self.revisions, self.facts), time.monotonic)
        self.admin = Admin(self.revisions, self.progress, self.facts, lambda: self.source.is_synced)
        self._client = client
        self._allocated: dict[tuple[str, str], tuple[Allocated, ...]] = {}
        self._idle: frozenset[Source] = frozenset()  # patches that changed nothing
        self.revisions.on_revision.append(self._on_revision)
        self.facts.on_problems = lambda refs: self.status.mark(refs, self.revisions.number)
        self.hub.on_rejection = self._on_rejection

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError or RuntimeError if a port cannot be had, AuthorityError for a bad CA."""
        authority = open_authority(self.settings.state / "ca", organization=ORGANIZATION, now=_now())
        log.info("the authority is ready: %r", authority)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.source.run(), name="source")
            group.create_task(self.revisions.wait_failed(), name="revisions")
            group.create_task(self._serve_admin(), name="admin")
            await self.source.wait_synced()
            self.revisions.flush()
            # What has been read stays: the garbage collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            log.info("read everything: %r", self.revisions.pipeline.graph)
            group.create_task(self.status.run(), name="status")
            group.create_task(self._serve_proxies(authority), name="proxies")

    async def _serve_proxies(self, authority: Authority) -> None:
        trust_domain = self.revisions.pipeline.mesh.only().trust_domain
        serving = ServingCertificate(authority, control_plane_identity(trust_domain), _now)
        metrics = CaMetrics(authority, _now)
        metrics.register(REGISTRY)
        service = CertificateService(
            authority,
            TokenAuthenticator(self._client, _now),
            trust_domain=trust_domain,
            metrics=metrics,
            audit=AuditLog(self.settings.state / "certificates.jsonl"),
            clock=_now,
        )
        address = self.settings.address
        signing, _ = certificate_server(service, serving, f"{address}:{self.settings.authority_port}")
        discovery = Listener(XdsServer(self.hub, Admission(self.revisions)).methods(), serving.context)
        await signing.start()
        await discovery.open(address, self.settings.xds_port)
        log.info("serving proxies on ports %d and %d", self.settings.xds_port, self.settings.authority_port)
        try:
            await signing.wait_for_termination()
        finally:
            await asyncio.gather(discovery.close(), signing.stop(0))
            REGISTRY.unregister(metrics)

    async def _serve_admin(self) -> None:
        config = uvicorn.Config(
            self.admin.application(),
            host=self.settings.admin_address,
            port=self.settings.admin_port,
            log_level="warning",
            access_log=False,
            lifespan="off",
        )
        await _QuietServer(config).serve()

    def _on_revision(self, revision: Revision) -> None:
        refs: set[Ref] = set(revision.problems_changed)
        for name, table in self.revisions.pipeline.facts.items():
            refs.update(Ref(name, *key) for key in revision.of(table).changed)
        refs.update(self._reallocated(revision))
        idle, self._idle = self._idle, self.hub.idle_patches
        refs.update(source.ref for source in idle ^ self._idle)
        self.status.mark(refs, revision.number)

    def _reallocated(self, revision: Revision) -> Iterator[Ref]:
        """The ServiceEntries whose hosts are given other addresses since a revision."""
        for allocations in revision.of(self.revisions.pipeline.allocations).changed.values():
            old, self._allocated = self._allocated, allocations.addresses
            for key in old.keys() | self._allocated.keys():
                if old.get(key) != self._allocated.get(key):
                    yield Ref("ServiceEntry", *key)

    def _on_rejection(self) -> None:
        refs = {problem.ref for problem in self.hub.problems()}
        self.status.mark(refs, self.revisions.number)


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings, client: Client) -> None:
    """Run a control plane until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    running = loop.create_task(ControlPlane(settings, client).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await client.aclose()


def _now() -> datetime:
    return datetime.now(UTC)
