"""All that the agent does for one proxy: keeps its certificate fresh, serves its secrets, answers on port 15020.

It drives the pure parts (`identity`, `sds`, `metrics`) with the clock and the network. Invariant: whatever fails is
tried again later, and until then the proxy keeps what it has; nothing of one proxy is reachable through another's socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from meltemi.agent import bootstrap, sds, streams
from meltemi.agent.call import CallError, Target
from meltemi.agent.control import ProxyStatus
from meltemi.agent.csr import CertificateClient, read_from
from meltemi.agent.discovery import Discovery
from meltemi.agent.dns_proxy import DnsProxy
from meltemi.agent.http import HttpServer, dial
from meltemi.agent.identity import Certificate, Identity, Refused, Renewal
from meltemi.agent.metrics import Status
from meltemi.agent.names import Names
from meltemi.agent.namespaces import dial_within
from meltemi.agent.secrets import ROOTS, FileSecrets, Secret, Secrets, bundle, identity_secret, roots_secret
from meltemi.agent.spec import Naming, ProxySpec

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

PATIENCE = 4
"""Failures to get a first certificate that are nobody's trouble: the authority starts at the same time."""

FIRST_LOOKS = timedelta(milliseconds=50)
"""How often the mesh's roots are looked for until they are there."""

LONGEST_SLEEP = timedelta(seconds=30)
"""The clock is looked at again at least this often, because it may jump (a laptop that slept)."""


class ProxyAgent:
    """The agent of one proxy. `slots` bounds how many of all proxies call the authority at once."""

    def __init__(self, spec: ProxySpec, clock: Clock, random: Random, slots: asyncio.Semaphore) -> None:
        self.spec = spec
        self.identity = Identity(spec.identity, Renewal(ttl=timedelta(seconds=spec.certificate_ttl)), random, clock())
        self.ready = asyncio.Event()
        self._clock = clock
        self._random = random
        self._slots = slots
        self._secrets = Secrets(FileSecrets(spec.files))
        self._root_file = b""
        self._client = CertificateClient(
            spec.authority,
            spec.control_plane_identity,
            token=read_from(spec.token),
            roots=lambda: Path(spec.roots).read_bytes(),
            cluster_id=spec.cluster_id,
        )
        self._woken = asyncio.Event()
        self._sds: streams.GrpcServer | None = None
        self._http: HttpServer | None = None
        self._dns: DnsProxy | None = None
        self._namespace: int | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ProxyAgent {self.spec.id} {self.identity!r}>"

    async def start(self) -> None:
        """Serves secrets and begins to ask for the certificate. Raises OSError if the socket cannot be made."""
        self._sds = await streams.serve(Path(self.spec.sds_socket), sds.methods(self._secrets))
        self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name=f"identity of {self.spec.id}")
        if self.spec.naming is not None:
            self._dns = DnsProxy(self.spec, self.spec.naming, self._discovery(self.spec.naming))

    async def listen(
        self, listeners: Sequence[socket.socket], resolvers: Sequence[socket.socket], namespace: int | None
    ) -> None:
        """Answers on sockets for port 15020 and for DNS, in place of those from before. Takes the descriptors over."""
        await self._stop_listening()
        self._namespace = namespace
        dialled = dial if namespace is None else dial_within(namespace)
        status = Status(self.spec, self.identity, dialled, self._clock, self._knows_names)
        self._http = HttpServer(status.answer)
        for listener in listeners:
            await self._http.listen(listener)
        if resolvers and self._dns is not None:
            await self._dns.listen(resolvers, namespace)

    async def aclose(self) -> None:
        """Stops everything; the key is gone with it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._sds is not None:
            await self._sds.aclose()
            Path(self.spec.sds_socket).unlink(missing_ok=True)
        await self._stop_listening()
        if self._dns is not None:
            await self._dns.aclose()

    def status(self) -> ProxyStatus:
        """How the identity stands."""
        identity, certificate = self.identity, self.identity.certificate
        return ProxyStatus(
            proxy=self.spec.id,
            identity=str(identity.spiffe_id),
            not_after=certificate.not_after if certificate else None,
            serial=certificate.serial if certificate else "",
            rotations=identity.rotations,
            failures=identity.failures,
            error=identity.error,
            connections=self._sds.connections if self._sds else 0,
        )

    def refresh(self) -> None:
        """Looks at the files again: the mesh's roots, and the files that Envoy asked for."""
        self._secrets.refresh()
        try:
            roots = Path(self.spec.roots).read_bytes()
        except OSError as error:
            log.debug("%s: %s", self.spec.id, error)
            return
        if roots != self._root_file:
            known, self._root_file = self._root_file, roots
            self._serve_roots()
            if known:
                self.identity.roots_changed(self._clock())
                self._woken.set()

    async def _keep_fresh(self) -> None:
        while not self._root_file:  # The authority is on its way; nobody could be recognised as it before.
            await self._sleep(FIRST_LOOKS)
            self.refresh()
        while True:
            wait = min(self.identity.due - self._clock(), LONGEST_SLEEP)
            if wait > timedelta():
                await self._sleep(wait)
            else:
                await self._renew()

    async def _sleep(self, wait: timedelta) -> None:
        """Until the time is over or somebody wakes it."""
        self._woken.clear()
        try:
            async with asyncio.timeout(wait.total_seconds()):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _renew(self) -> None:
        async with self._slots:
            csr = self.identity.begin()
            try:
                chain = await self._client.sign(csr, self.identity.ttl)
                self.identity.issued(chain, self._clock())
            except (CallError, Refused) as error:
                self.identity.failed(str(error), self._clock())
                is_starting = self.identity.certificate is None and self.identity.failures <= PATIENCE
                level = logging.INFO if is_starting else logging.WARNING
                log.log(level, "%s: no certificate (attempt %d): %s", self.spec.id, self.identity.failures, error)
                return
        certificate = self.identity.certificate
        if certificate is not None:
            self._secrets.put(identity_secret(certificate), self._roots())
            self.ready.set()
            log.info("%s: certificate %s until %s", self.spec.id, certificate.serial, certificate.not_after)

    async def _certificate(self) -> Certificate:
        await self.ready.wait()
        assert self.identity.certificate is not None
        return self.identity.certificate

    def _knows_names(self) -> bool:
        return self._dns is None or self._dns.is_synced

    def _discovery(self, naming: Naming) -> Discovery:
        spec = self.spec
        search = naming.searches[0] if naming.searches else ""
        identity = spec.control_plane_identity
        return Discovery(
            Names(spec.namespace, spec.domain, search, self._random),
            bootstrap.node(spec),
            target=lambda: Target(
                spec.control_plane,
                f"{identity.service_account}.{identity.namespace}.svc",
                identity,
                bundle(self._root_file, self.identity.roots),
            ),
            certificate=self._certificate,
            random=self._random,
        )

    def _roots(self) -> Secret:
        return roots_secret(ROOTS, bundle(self._root_file, self.identity.roots))

    def _serve_roots(self) -> None:
        self._secrets.put(self._roots())

    async def _stop_listening(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        if self._dns is not None:
            await self._dns.stop_listening()
        if self._namespace is not None:
            os.close(self._namespace)
            self._namespace = None
