"""Port 15020 of a pod: all metrics of the pod in one page, and whether its proxy is ready.

One scrape gives what Envoy counts, what the agent knows and what the application exposes. Envoy puts `envoy_` before the
names of the mesh's standard metrics, and leaves labels empty; here they become what Istio's are. Pages are passed on in pieces and
never held whole: Envoy's can be megabytes. A source that fails is left out, counted, and does not hide the others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from datetime import datetime

import msgspec

from meltemi.agent.http import Answer, Dial, HttpError, Request, ask, text
from meltemi.agent.identity import Identity
from meltemi.agent.spec import Address, ProxySpec

log = logging.getLogger(__name__)

_STANDARD = re.compile(rb"^(# (?:TYPE|HELP) )?envoy_(?:istio_)?istio_", re.MULTILINE)
_SAMPLE = re.compile(rb"^istio_.*$", re.MULTILINE)
_REVISION_GAP = re.compile(rb'(_canonical_revision)="-?"')
_GAP = re.compile(rb'(?<=[{,])(?!response_flags=)(\w+)="-?"')
_END = re.compile(rb"^# EOF\n?", re.MULTILINE)

_PAGE = "text/plain; version=0.0.4; charset=utf-8"


def standardise(lines: bytes) -> bytes:
    """Whole lines of Envoy's page with the standard metrics as Istio has them: their names, and no empty labels."""
    return _SAMPLE.sub(lambda sample: _without_gaps(sample[0]), _STANDARD.sub(rb"\1istio_", lines))


def _without_gaps(sample: bytes) -> bytes:
    """A sample in which labels that nothing was found for say so: `latest` for a revision, `unknown` for others."""
    if b'=""' not in sample and b'="-"' not in sample:
        return sample
    return _GAP.sub(rb'\1="unknown"', _REVISION_GAP.sub(rb'\1="latest"', sample))


async def whole_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, cut at ends of lines only; the last line gets an end if it has none."""
    rest = b""
    async for piece in pieces:
        head, newline, tail = piece.rpartition(b"\n")
        if newline:
            yield rest + head + newline
            rest = tail
        else:
            rest += piece
    if rest:
        yield rest + b"\n"


class Scrape(msgspec.Struct, frozen=True):
    """Where an application exposes its metrics."""

    address: Address
    path: str


def application_scrape(annotations: Mapping[str, str]) -> Scrape | None:
    """What a pod's `prometheus.io/scrape`, `/port`, `/path` and `/scheme` annotations ask for, if anything.

    `prometheus.istio.io/merge-metrics: "false"` says that the application is scraped by itself.
    """
    if annotations.get("prometheus.io/scrape", "").lower() != "true":
        return None
    if annotations.get("prometheus.istio.io/merge-metrics", "true").lower() == "false":
        return None
    if annotations.get("prometheus.io/scheme", "http").lower() != "http":
        return None
    port = annotations.get("prometheus.io/port", "80")
    path = annotations.get("prometheus.io/path", "/metrics")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return Scrape(Address("127.0.0.1", int(port)), path if path.startswith("/") else f"/{path}")


class Status:
    """Answers the requests to port 15020 of one pod. `dial` connects from within the pod's network namespace."""

    def __init__(
        self,
        spec: ProxySpec,
        identity: Identity,
        dial: Dial,
        clock: Callable[[], datetime],
        knows_names: Callable[[], bool] = lambda: True,
    ) -> None:
        self._spec = spec
        self._identity = identity
        self._dial = dial
        self._clock = clock
        self._knows_names = knows_names
        self._scrape = application_scrape(spec.annotations) if spec.merges_metrics else None
        self._scrapes = 0
        self._failures = {"envoy": 0, "application": 0}

    async def answer(self, request: Request) -> Answer:
        """The page of a path, or why there is none."""
        match request.method, request.path:
            case "GET", "/stats/prometheus" | "/metrics":
                self._scrapes += 1
                return Answer(200, self._metrics(), _PAGE)
            case "GET", "/healthz/ready":
                if not self._knows_names():
                    return Answer(503, text("the names of the mesh are not known yet\n"))
                return await self._forward("GET", self._spec.ports.health, "/healthz/ready")
            case "POST", "/quitquitquit":
                if not request.local:
                    return Answer(403, text("only the pod itself may end its proxy\n"))
                return await self._forward("POST", self._spec.ports.admin, "/quitquitquit")
            case _:
                return Answer(404, text("not found\n"))

    async def _metrics(self) -> AsyncGenerator[bytes, None]:
        envoy = Address("127.0.0.1", self._spec.ports.prometheus)
        async with aclosing(self._pages("envoy", envoy, "/stats/prometheus")) as pages:
            async for lines in pages:
                yield standardise(lines)
        if self._scrape is not None:
            async with aclosing(self._pages("application", self._scrape.address, self._scrape.path)) as pages:
                async for lines in pages:
                    yield _END.sub(b"", lines)
        yield "".join(self._own()).encode()

    async def _pages(self, source: str, address: Address, path: str) -> AsyncGenerator[bytes, None]:
        try:
            async with ask(self._dial, address.host, address.port, path) as response:
                if response.status != 200:
                    raise HttpError(f"http://{address}{path} answered {response.status}")
                async for lines in whole_lines(response.body):
                    yield lines
        except HttpError as error:
            self._failures[source] += 1
            log.info("%s: no metrics of the %s: %s", self._spec.id, source, error)

    def _own(self) -> Iterator[str]:
        certificate = self._identity.certificate
        if certificate is not None:
            left = (certificate.not_after - self._clock()).total_seconds()
            yield from _gauge("istio_agent_cert_expiry_seconds", {"resource_name": "default"}, left)
        yield from _gauge("istio_build", {"component": "proxy", "tag": "meltemi"}, 1)
        yield from _counter("istio_agent_cert_rotations_total", {}, self._identity.rotations)
        yield from _counter("istio_agent_scrapes_total", {}, self._scrapes)
        yield "# TYPE istio_agent_scrape_failures_total counter\n"
        for source, failures in self._failures.items():
            yield _sample("istio_agent_scrape_failures_total", {"type": source}, failures)

    async def _forward(self, method: str, port: int, path: str) -> Answer:
        try:
            async with ask(self._dial, "127.0.0.1", port, path, method=method, seconds=3) as response:
                body = b"".join([piece async for piece in response.body])
                return Answer(response.status, text(body.decode(errors="replace")))
        except HttpError as error:
            return Answer(503, text(f"{error}\n"))


def _gauge(name: str, labels: Mapping[str, str], value: float) -> Iterator[str]:
    yield f"# TYPE {name} gauge\n"
    yield _sample(name, labels, value)


def _counter(name: str, labels: Mapping[str, str], value: float) -> Iterator[str]:
    yield f"# TYPE {name} counter\n"
    yield _sample(name, labels, value)


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {value:g}\n" if inner else f"{name} {value:g}\n"
