"""Random rules and requests through the whole pipeline and a real Envoy, compared with what the model says of them.

The evaluator (`meltemi.explain`) and the translation (`meltemi.envoy`) read the same model and know nothing of each other:
where a request fares otherwise than it says, one of them is wrong. `MELTEMI_RANDOM_ROUTES=5000` tries as many sets of
rules as that; the seed of a failure is in its message.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meltemi.api import decoding
from meltemi.api.core import ConfigMap
from meltemi.base.refs import Origin
from meltemi.base.spiffe import SpiffeId
from meltemi.controlplane.admission import Admission
from meltemi.controlplane.revisions import Revisions
from meltemi.envoy.resource import LISTENER, VIRTUAL_HOST, Offer, Variant, finish
from meltemi.explain.evaluation import Answered, Explanation, Forwarded, Redirected, Share, answer_headers, explain
from meltemi.explain.names import of_sidecar
from meltemi.explain.requests import Headers, Request
from meltemi.flow import Fact, Put, Remove
from meltemi.local.door import Door
from meltemi.local.links import LOOPBACK, Links
from meltemi.model.routes import Target
from meltemi.pipeline import Pipeline, build
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.testing import random_routes
from meltemi.testing.envoys import bootstrap, envoy, free_ports, served
from meltemi.testing.random_routes import PORTS, TARGET, VERSIONS, RandomRoutes
from meltemi.testing.sandboxed import run_sandboxed
from meltemi.xds.hub import Hub

pytestmark = pytest.mark.e2e

COUNT = int(os.environ.get("MELTEMI_RANDOM_ROUTES", "150"))
REQUESTS = 10  # to each set of rules
DEADLINE = 30.0
SETTLED = 5.0  # seconds in which an acknowledged change has reached the worker
IDENTITY = SpiffeId("cluster.local", random_routes.NAMESPACE, "cart")
ANSWERED_WITH: Headers = (("x-old", "1"), ("x-kept", "1"), ("x-kept", "2"))
OF_ENVOY = ("x-envoy-", "x-forwarded-", "x-request-id", "x-b3-")

Key = tuple[str, tuple[str, str]]


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: Headers
    body: bytes


class BindingHub(Hub):
    """A hub whose port listeners bind their ports, for nothing captures connections here."""

    def on_revision(self, number: int, *, offers: Any, **others: Any) -> None:
        super().on_revision(number, offers={key: _bound(offer) for key, offer in offers.items()}, **others)


def _bound(offer: Offer | None) -> Offer | None:
    if offer is None or offer.type_url != LISTENER or not offer.name.startswith("0.0.0.0_"):
        return offer
    variants = []
    for variant in offer.variants:
        assert variant.resource is not None
        message = Listener.FromString(variant.resource.body)
        message.bind_to_port.value = True
        variants.append(Variant(variant.clients, finish(offer.name, message)))
    return msgspec.structs.replace(offer, variants=tuple(variants))


def test_envoy_does_what_the_model_says() -> None:
    run_sandboxed(partial(envoy_agrees, range(COUNT)), seconds=90 + COUNT)


async def envoy_agrees(seeds: range, _: Door) -> None:
    """In a network of its own, where the services' ports are free."""
    links = Links()
    links.set_up(LOOPBACK)
    links.close()
    pipeline, hub = build(), BindingHub()
    revisions = Revisions(pipeline, hub, quiet=0)
    comparison = Comparison(pipeline, hub, revisions)
    [admin] = free_ports(1)
    async with AsyncExitStack() as stack:
        for port in TARGET.values():
            await stack.enter_async_context(await asyncio.start_server(echo, "0.0.0.0", port))
        xds = await stack.enter_async_context(served(hub, Admission(revisions), IDENTITY))
        config = bootstrap(xds, admin, IDENTITY, labels={"app": "cart"})
        await comparison.put(facts(pipeline, random_routes.services()))
        comparison.process = await stack.enter_async_context(envoy(config, Path.cwd()))
        for seed in seeds:
            await comparison.run(seed)
    assert comparison.outcomes.keys() >= {"Forwarded", "Redirected", "Answered", "NoneType"}, comparison.outcomes


def facts(pipeline: Pipeline, documents: Iterable[dict[str, Any]]) -> Iterator[Put[Any, Any]]:
    """Objects as facts; all of them are valid."""
    for document in documents:
        decoded = decoding.decode(document, Origin())
        if isinstance(decoded.resource, ConfigMap):
            decoded = decoding.mesh_config_of(decoded.resource)
        assert decoded.resource is not None, (document, decoded.problems)
        resource = decoded.resource
        yield Put(pipeline.facts[resource.ref.kind], (resource.namespace, resource.name), resource)


class Comparison:
    """One Envoy, given one set of rules after another and asked; and the model, asked the same."""

    def __init__(self, pipeline: Pipeline, hub: Hub, revisions: Revisions) -> None:
        self.outcomes: Counter[str] = Counter()
        self.process: asyncio.subprocess.Process | None = None
        self._pipeline, self._hub, self._revisions = pipeline, hub, revisions
        self._changed = asyncio.Event()
        self._before: set[Any] = set()
        hub.on_progress = self._changed.set

    async def put(self, changes: Iterable[Fact]) -> None:
        """Let the Envoy have these facts, once there is one."""
        number = await self._revisions.put(changes)
        if self.process is None:
            return
        async with asyncio.timeout(DEADLINE):
            while not self._has_asked or self._hub.behind(number):
                assert self.process.returncode is None, "Envoy ended"
                await self._changed.wait()
                self._changed.clear()
        assert not self._hub.problems(), self._hub.problems()[0]

    @property
    def _has_asked(self) -> bool:
        return any(VIRTUAL_HOST in connection.stream.types for connection in self._hub.connections)

    async def run(self, seed: int) -> None:
        """One set of rules and the requests to it."""
        routes = RandomRoutes(seed)
        now = list(facts(self._pipeline, routes.virtual_services()))
        virtual = self._pipeline.facts["VirtualService"]
        gone = [Remove(virtual, key) for key in self._before - {fact.key for fact in now}]
        self._before = {fact.key for fact in now}
        await self.put([*gone, *now])
        async with AsyncExitStack() as stack:
            connections = {port: await stack.enter_async_context(Connection(port)) for port in PORTS}
            for port, request in routes.requests(REQUESTS):
                await self._compare(seed, connections[port], request)

    async def _compare(self, seed: int, connection: Connection, request: Request) -> None:
        """Ask both. Envoy acknowledges a change when its main thread has it; the worker may answer by the old one yet."""
        expected = self._expected(connection.port, request)
        self.outcomes[type(expected.outcome).__name__] += 1
        end = asyncio.get_running_loop().time() + SETTLED
        while True:
            answer = await connection.ask(request)
            wrong = difference(expected, answer)
            if not wrong:
                return
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(
                    f"seed {seed}, port {connection.port}: {wrong}\n{request}\n{answer}\n{expected.outcome}\n"
                    + "\n".join(map(str, expected.why))
                )

    def _expected(self, port: int, request: Request) -> Explanation:
        graph = self._pipeline.graph
        [(_, placement)] = self._pipeline.placements.items()
        audience = self._pipeline.audiences.get(placement.audience)
        assert audience is not None
        services = [row for _, row in graph.table("services").items()]
        rows = {**dict(graph.table("orphans").items()), **dict(graph.table("routes").items())}
        return explain(of_sidecar(audience, port, services, rows, "cluster.local"), audience, request)


class Connection:
    """A connection to a port of the sidecar, on which requests follow each other byte by byte as they are given."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Connection:
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0)  # the port is bound by a worker, soon after the listener is acknowledged
                else:
                    return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, request: Request) -> Answer:
        """Send a request and read the answer."""
        lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.authority}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        if request.method != "GET":
            lines.append("Content-Length: 0")
        self._writer.write("\r\n".join((*lines, "", "")).encode())
        async with asyncio.timeout(DEADLINE):
            first, headers = await read_head(self._reader)
            size = int(dict(headers).get("content-length", 0))
            return Answer(int(first.split()[1]), headers, await self._reader.readexactly(size))


async def read_head(reader: asyncio.StreamReader) -> tuple[str, Headers]:
    """The first line and the headers of a message, names in lower case."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    parts = (line.partition(":") for line in lines)
    return first, tuple((name.lower(), value.strip()) for name, _, value in parts)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that tells what it was sent, and at which of its addresses."""
    address, port = writer.get_extra_info("sockname")
    try:
        while True:
            line, headers = await read_head(reader)
            body = json.dumps({"line": line, "headers": headers, "address": address, "port": port}).encode()
            own = "".join(f"{name}: {value}\r\n" for name, value in ANSWERED_WITH)
            writer.write(f"HTTP/1.1 200 OK\r\n{own}content-length: {len(body)}\r\n\r\n".encode() + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


# === Comparing ===


def difference(expected: Explanation, answer: Answer) -> str:
    """What is otherwise than expected; empty if nothing is."""
    outcome = expected.outcome
    if outcome is None:
        return _unequal("status", answer.status, 404 if expected.domain else 502)
    if expected.fault is not None and expected.fault.abort is not None:
        return _unequal("status", answer.status, expected.fault.abort.status)
    if isinstance(outcome, Redirected):
        return (
            _unequal("status", answer.status, outcome.status)
            or _unequal("location", dict(answer.headers).get("location"), outcome.location)
            or _unequal("headers", _told(answer.headers), _told(answer_headers((), expected.response)))
        )
    if isinstance(outcome, Answered):
        return (
            _unequal("status", answer.status, outcome.status)
            or _unequal("body", answer.body, outcome.body)
            or _unequal("location", dict(answer.headers).get("location", ""), outcome.location)
            or _unequal("headers", _told(answer.headers), _told(answer_headers((), expected.response)))
        )
    assert isinstance(outcome, Forwarded)
    return _forwarded_otherwise(outcome, answer)


def _forwarded_otherwise(outcome: Forwarded, answer: Answer) -> str:
    if answer.status == 503:
        return "no target is missing" if all(_is_there(share.target) for share in outcome.shares) else ""
    if answer.status != 200:
        return f"status {answer.status}"
    seen = json.loads(answer.body)
    found = [_share_otherwise(share, seen, answer) for share in outcome.shares if _reaches(share.target, seen)]
    return "it went elsewhere" if not found else "" if "" in found else "; or ".join(found)


def _is_there(target: Target) -> bool:
    """Whether the client knows endpoints of the target."""
    return target.port != 0 and target.host != random_routes.full(*random_routes.HIDDEN)


def _reaches(target: Target, seen: Mapping[str, Any]) -> bool:
    if not _is_there(target):
        return False
    versions = (target.subset,) if target.subset else VERSIONS
    addresses = {random_routes.address(target.host, version) for version in versions}
    return seen["address"] in addresses and seen["port"] == TARGET.get(target.port)


def _share_otherwise(share: Share, seen: Mapping[str, Any], answer: Answer) -> str:
    wanted = share.request
    return (
        _unequal("request line", seen["line"], f"{wanted.method} {wanted.target} HTTP/1.1")
        or _unequal("authority", dict(seen["headers"])["host"], wanted.authority)
        or _unequal("request headers", _told(seen["headers"]), _told(wanted.headers))
        or _unequal("headers", _told(answer.headers), _told(answer_headers(ANSWERED_WITH, share.response)))
    )


def _told(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The headers that are about the rules, each with its values in order."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower().startswith("x-") and not name.lower().startswith(OF_ENVOY):
            found.setdefault(name.lower(), []).append(value)
    return found


def _unequal(what: str, seen: object, wanted: object) -> str:
    return "" if seen == wanted else f"{what}: {seen!r}, and not {wanted!r}"
