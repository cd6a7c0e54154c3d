"""The control plane's own interface, through the API server: `/apis/debug.meltemi.dev/v1alpha1/...`.

Source of the answers: `meltemi.controlplane.admin`. They are decoded here, so that the rest of the command line works with
values; a field that a newer control plane adds is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Origin, Ref
from meltemi.cli.failures import Failure
from meltemi.kube.errors import Forbidden, ServerError, Status, error_of_body
from meltemi.kube.resources import DEBUG_API
from meltemi.kube.transport import Request, Transport, query_of

T = TypeVar("T")


class Rejection(msgspec.Struct, frozen=True):
    """A resource that a proxy refused, with Envoy's words."""

    name: str
    message: str


class TypeState(msgspec.Struct, frozen=True):
    """How far a proxy has come with one type. `state`: synced, sending, waiting or rejected."""

    state: str
    resources: int = 0
    pending: int = 0
    rejected: tuple[Rejection, ...] = ()


class ProxyState(msgspec.Struct, frozen=True):
    """A connected proxy. `types` by Envoy's abbreviations (cds, eds, lds, rds, vhds, sds)."""

    id: str
    kind: str = ""
    namespace: str = ""
    workload: str = ""
    identity: str = ""
    addresses: tuple[str, ...] = ()
    view: str = ""
    audience: str = ""
    connected: float = 0.0
    revision: int = 0
    settled: int = 0
    types: dict[str, TypeState] = msgspec.field(default_factory=dict)

    @property
    def pod(self) -> str:
        """The name of its pod."""
        return self.id.removesuffix(f".{self.namespace}")

    @property
    def rejections(self) -> tuple[tuple[str, Rejection], ...]:
        """What it refused, with the types."""
        return tuple((name, each) for name, state in self.types.items() for each in state.rejected)

    @property
    def in_sync(self) -> bool:
        """Whether it has taken everything that it was sent."""
        return all(state.state == "synced" for state in self.types.values())


class MeshProblem(msgspec.Struct, frozen=True):
    """Something that is wrong with an object. `origin` is its file and line, where they are known."""

    kind: str
    namespace: str
    name: str
    message: str
    path: str = ""
    severity: str = "Error"
    code: str = ""
    hint: str = ""
    origin: str = ""

    @property
    def ref(self) -> Ref:
        """The object."""
        return Ref(self.kind, self.namespace, self.name)

    def as_problem(self, place: Origin | None = None) -> Problem:
        """The same as a problem, at a place that is better known here than there."""
        severity = Severity(self.severity) if self.severity in tuple(Severity) else Severity.ERROR
        return Problem(
            ref=self.ref,
            path=self.path,
            message=self.message,
            hint=self.hint,
            code=self.code,
            severity=severity,
            origin=place or origin_of(self.origin),
        )

    @property
    def is_error(self) -> bool:
        """Whether the object, or a part of it, is out of effect."""
        return self.severity == "Error"


def origin_of(text: str) -> Origin:
    """An origin from its text, `shop.yaml:12`."""
    file, _, line = text.rpartition(":")
    return Origin(file, int(line)) if line.isdigit() and file else Origin(text)


class SourceRow(msgspec.Struct, frozen=True, order=True):
    """The part of a user's object that something came from."""

    kind: str
    namespace: str
    name: str
    path: str = ""

    @property
    def ref(self) -> Ref:
        """The object."""
        return Ref(self.kind, self.namespace, self.name)


class ResourceRow(msgspec.Struct, frozen=True):
    """One xDS resource. `content` is the whole message as JSON, if it was asked for."""

    type: str
    name: str
    version: str = ""
    size: int = 0
    sources: tuple[SourceRow, ...] = ()
    content: dict[str, Any] | None = None


class Live(msgspec.Struct, frozen=True):
    """Whether an object is live, and what stands in the way."""

    live: bool
    seen: bool = False
    revision: int = 0
    proxies: int = 0
    behind: tuple[str, ...] = ()
    problems: tuple[MeshProblem, ...] = ()


class Version(msgspec.Struct, frozen=True):
    """The control plane's version and the number of its newest revision."""

    version: str
    revision: int = 0


class MeshApi:
    """Asks the control plane. Raises Failure where it cannot be asked, and ApiError as the API does."""

    def __init__(self, transport: Transport, where: str) -> None:
        self._transport = transport
        self._where = where

    async def version(self) -> Version:
        """Its version."""
        return await self._get("/version", Version)

    async def proxies(self) -> list[ProxyState]:
        """All connected proxies."""
        return await self._get("/proxies", list[ProxyState])

    async def problems(self) -> list[MeshProblem]:
        """All problems."""
        return await self._get("/problems", list[MeshProblem])

    async def configuration(
        self, proxy: str, kind: str, *, name: str = "", full: bool = False
    ) -> dict[str, list[ResourceRow]]:
        """What a proxy should hold, by kind (listeners, routes, clusters, endpoints, secrets)."""
        query: dict[str, str | bool] = {"type": kind, "name": name, "full": full}
        return await self._get(f"/proxies/{proxy}/config", dict[str, list[ResourceRow]], query)

    async def wait(self, ref: Ref, resource_version: str, seconds: float) -> Live:
        """Waits until an object is live at every proxy, `seconds` at most."""
        query = {
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "resourceVersion": resource_version,
            "timeout": f"{seconds:.3f}",
        }
        return await self._get("/wait", Live, query)

    async def kinds(self) -> frozenset[str]:
        """The kinds of objects that the control plane acts on: those that have a table of facts."""
        answer = await self._get("/tables", _Tables)
        names = (table.name.rpartition("/")[2] for table in answer.tables if table.kind == "input")
        return frozenset(name for name in names if name[:1].isupper())

    async def _get(self, path: str, shape: type[T], query: Mapping[str, str | bool] | None = None) -> T:
        request = Request("GET", DEBUG_API + path, query_of(dict(query or {})), (("Accept", "application/json"),))
        answer = await self._transport.request(request)
        if answer.status >= 300:
            raise self._failure(answer.status, answer.body, path)
        try:
            return msgspec.json.decode(answer.body, type=shape)
        except msgspec.DecodeError as error:
            raise Failure(
                f"the control plane's answer to {path} is not understood: {error}",
                "are both of one version? `meltemi version` tells",
            ) from error

    def _failure(self, status: int, body: bytes, path: str) -> Exception:
        error = error_of_body(status, body)
        if isinstance(error, ServerError):
            return Failure(f"the control plane of {self._where} does not answer", _hint_of(error))
        if status == 404 and error.status.reason == "NotFound":
            return Failure(
                f"{self._where} has no control plane of Meltemi",
                "is this the right cluster? --kubeconfig and --context name another",
            )
        if isinstance(error, Forbidden):
            return error
        try:
            told = msgspec.json.decode(body)
            return Failure(str(told["message"]))
        except (msgspec.DecodeError, KeyError, TypeError):
            return error


class _Table(msgspec.Struct, frozen=True):
    name: str
    kind: str = ""


class _Tables(msgspec.Struct, frozen=True):
    tables: tuple[_Table, ...] = ()


def _hint_of(error: ServerError) -> str:
    status: Status = error.status
    return f"it may be starting; try again in a moment ({status.message})"
