"""The Kubernetes client: one async method per verb, plain JSON objects in and out, refusals as exceptions.

A watch is an async iterator that ends when the server ends it; `reflector.py` builds the unbroken one on top.
Invariant: nothing is cached here and nothing is retried here; each call is one request (a list: one per page).
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec

from meltemi.kube.errors import BadRequest, Status, error_of, error_of_body
from meltemi.kube.resources import SERVICE_ACCOUNTS, TOKEN_REVIEWS, Obj, Resource
from meltemi.kube.transport import Request, Response, Transport, query_of

_JSON = ("Content-Type", "application/json")
_ACCEPT = ("Accept", "application/json")
_PAGE = 500
_WATCH_SECONDS = 300

T = TypeVar("T")


class PatchType(enum.StrEnum):
    """The patch formats of the API, by content type."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


class Page(msgspec.Struct, frozen=True):
    """One page of a list: its items undecoded, where the next one continues, and the revision of the whole."""

    items: tuple[msgspec.Raw, ...]
    resource_version: str
    next: str = ""


class WatchEvent(msgspec.Struct, frozen=True):
    """One event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, with the object undecoded."""

    type: str
    object: msgspec.Raw


class ObjectList(msgspec.Struct, frozen=True):
    """A whole list and the revision at which it was true."""

    items: list[Obj]
    resource_version: str


class Token(msgspec.Struct, frozen=True):
    """An issued service account token and when it expires (RFC 3339)."""

    token: str
    expires: str


class TokenIdentity(msgspec.Struct, frozen=True):
    """What a TokenReview says about a token. Unless `authenticated`, `error` says why not."""

    authenticated: bool
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    pod: str = ""
    pod_uid: str = ""
    error: str = ""

    @property
    def service_account(self) -> tuple[str, str] | None:
        """Namespace and name, if the token is a service account's (`system:serviceaccount:<ns>:<name>`)."""
        parts = self.username.split(":")
        return (parts[2], parts[3]) if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] else None


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    items: tuple[msgspec.Raw, ...] | None = None
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


_list_decoder = msgspec.json.Decoder(_List)
_event_decoder = msgspec.json.Decoder(WatchEvent)


def decode_object(raw: msgspec.Raw | bytes) -> Obj:
    """An object as plain JSON. Raises ValueError if it is none."""
    value = msgspec.json.decode(raw)
    if not isinstance(value, dict):
        raise ValueError("the API sent something that is not an object")
    return value


class Client:
    """Talks to one API server through a transport. `warn` is told the texts of Warning headers."""

    def __init__(
        self, transport: Transport, *, field_manager: str = "meltemi", warn: Callable[[str], None] | None = None
    ) -> None:
        self.transport = transport
        self.field_manager = field_manager
        self._warn = warn

    async def aclose(self) -> None:
        """Closes the transport."""
        await self.transport.aclose()

    # === reading ===

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Obj:
        """One object. Raises NotFound and the rest of ApiError, as all methods here."""
        return await self._object("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> ObjectList:
        """All objects of a kind in one namespace, or in all of them if `namespace` is empty."""
        items: list[Obj] = []
        revision = ""
        async with aclosing(self.pages(resource, namespace, labels=labels, fields=fields)) as pages:
            async for page in pages:
                revision = page.resource_version
                for raw in page.items:
                    obj = decode_object(raw)
                    items.append({"apiVersion": resource.api_version, "kind": resource.kind, **obj})
        return ObjectList(items, revision)

    async def pages(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", size: int = _PAGE
    ) -> AsyncGenerator[Page, None]:
        """The list page by page, items undecoded."""
        token = ""
        while True:
            query = {"labelSelector": labels, "fieldSelector": fields, "limit": size, "continue": token}
            answer = await self._call("GET", resource.path(namespace), query)
            listed = _list_decoder.decode(answer.body)
            token = listed.metadata.continue_
            yield Page(listed.items or (), listed.metadata.resource_version, token)
            if not token:
                return

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        seconds: int = _WATCH_SECONDS,
        initial: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version` until the server ends the watch, after about `seconds`.

        With `initial` the server first sends what exists as ADDED, then a bookmark annotated
        `k8s.io/initial-events-end`. Raises Gone when the revision has been compacted (also in mid-stream).
        """
        query: dict[str, str | int | bool] = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": resource_version,
            "labelSelector": labels,
            "fieldSelector": fields,
            "timeoutSeconds": seconds,
        }
        if initial:
            query |= {"sendInitialEvents": True, "resourceVersionMatch": "NotOlderThan"}
        request = Request("GET", resource.path(namespace), query_of(query), (_ACCEPT,))
        async with self.transport.stream(request, silence=seconds + 30) as pieces:
            async for line in _lines(pieces):
                event = _event_decoder.decode(line)
                if event.type == "ERROR":
                    raise error_of(Status.of_object(decode_object(event.object), 500))
                yield event

    # === writing ===

    async def create(
        self,
        resource: Resource,
        obj: Obj,
        *,
        namespace: str = "",
        subresource: str = "",
        name: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Creates an object (or posts to a subresource of the object `name`)."""
        path = resource.path(namespace or _namespace(obj), name, subresource)
        return await self._object("POST", path, self._write_query(dry_run), obj)

    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "", dry_run: bool = False) -> Obj:
        """Replaces an object. Raises Conflict if its `resourceVersion` is no longer the current one."""
        path = resource.path(_namespace(obj), obj["metadata"]["name"], subresource)
        return await self._object("PUT", path, self._write_query(dry_run), obj)

    async def update_status(self, resource: Resource, obj: Obj) -> Obj:
        """Replaces the status of an object, and nothing else of it."""
        return await self.update(resource, obj, subresource="status")

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Obj | Sequence[Obj],
        *,
        namespace: str = "",
        how: PatchType = PatchType.MERGE,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Changes parts of an object: a merge patch unless `how` says otherwise (RFC 7386, RFC 6902, strategic)."""
        path = resource.path(namespace, name, subresource)
        return await self._object("PATCH", path, self._write_query(dry_run), patch, content_type=how)

    async def apply(
        self,
        resource: Resource,
        obj: Obj,
        *,
        field_manager: str = "",
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Server-side apply: makes the fields of `obj` so, and those of an earlier apply that are gone, absent.

        Raises Conflict where another manager owns a field that would change, unless `force`.
        """
        query = {**self._write_query(dry_run), "fieldManager": field_manager or self.field_manager, "force": force}
        path = resource.path(_namespace(obj), obj["metadata"]["name"], subresource)
        return await self._object("PATCH", path, query, obj, content_type=PatchType.APPLY)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        propagation: str = "",
        grace_seconds: int | None = None,
        uid: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Deletes an object: `propagation` is Background, Foreground or Orphan; with `uid` only that very object."""
        options: Obj = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid:
            options["preconditions"] = {"uid": uid}
        return await self._object("DELETE", resource.path(namespace, name), self._write_query(dry_run), options)

    # === identity ===

    async def create_token(
        self, namespace: str, service_account: str, audiences: Sequence[str], seconds: int, pod: Obj | None = None
    ) -> Token:
        """A service account token for `audiences`, good for `seconds`, bound to the pod if one is given (TokenRequest)."""
        spec: Obj = {"audiences": list(audiences), "expirationSeconds": seconds}
        if pod is not None:
            metadata = pod["metadata"]
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
            }
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = SERVICE_ACCOUNTS.path(namespace, service_account, "token")
        status = (await self._object("POST", path, {}, request))["status"]
        return Token(status["token"], status["expirationTimestamp"])

    async def review_token(self, token: str, audiences: Sequence[str] = ()) -> TokenIdentity:
        """Whose token it is, if it is good and for one of `audiences` (TokenReview)."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        status = (await self._object("POST", TOKEN_REVIEWS.path(), {}, review)).get("status") or {}
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        return TokenIdentity(
            authenticated=bool(status.get("authenticated")),
            username=user.get("username") or "",
            uid=user.get("uid") or "",
            groups=tuple(user.get("groups") or ()),
            audiences=tuple(status.get("audiences") or ()),
            pod="".join((extra.get("authentication.kubernetes.io/pod-name") or ())[:1]),
            pod_uid="".join((extra.get("authentication.kubernetes.io/pod-uid") or ())[:1]),
            error=status.get("error") or "",
        )

    # === pods and anything else ===

    async def pod_log(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """What a container has printed, in pieces; with `follow` as it goes on."""
        query = query_of({"container": container, "follow": follow, "previous": previous})
        if tail is not None:
            query += (("tailLines", str(tail)),)
        request = Request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query)
        async with self.transport.stream(request, silence=float("inf") if follow else 60) as pieces:
            async for piece in pieces:
                yield piece

    async def raw(self, path: str, query: dict[str, str | int | bool] | None = None) -> Any:
        """The decoded JSON at any path (aggregated APIs, discovery, `/version`)."""
        return msgspec.json.decode((await self._call("GET", path, query or {})).body)

    async def discover(self) -> dict[tuple[str, str], Resource]:
        """Every kind that the server knows, by (apiVersion, kind), from the aggregated discovery documents."""
        found: dict[tuple[str, str], Resource] = {}
        accept = ("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        for path in ("/api", "/apis"):
            answer = await self._checked(Request("GET", path, (), (accept,)))
            for group in msgspec.json.decode(answer.body).get("items") or ():
                for resource in _discovered(group):
                    found.setdefault((resource.api_version, resource.kind), resource)
        return found

    def _write_query(self, dry_run: bool) -> dict[str, str | int | bool]:
        return {"fieldManager": self.field_manager, "dryRun": "All" if dry_run else ""}

    async def _object(
        self,
        method: str,
        path: str,
        query: dict[str, str | int | bool] | None = None,
        body: Any = None,
        *,
        content_type: str = "",
    ) -> Obj:
        answer = await self._call(method, path, query or {}, body, content_type)
        try:
            return decode_object(answer.body)
        except ValueError as error:
            raise BadRequest(Status(code=answer.status, message=f"{path} did not answer with an object")) from error

    async def _call(
        self, method: str, path: str, query: dict[str, Any], body: Any = None, content_type: str = ""
    ) -> Response:
        headers: tuple[tuple[str, str], ...] = (_ACCEPT,)
        if body is not None:
            headers += (("Content-Type", content_type) if content_type else _JSON,)
        encoded = b"" if body is None else msgspec.json.encode(body)
        return await self._checked(Request(method, path, query_of(query), headers, encoded))

    async def _checked(self, request: Request) -> Response:
        answer = await self.transport.request(request)
        if answer.status >= 300:
            raise error_of_body(answer.status, answer.body)
        if self._warn is not None:
            for text in answer.warnings:
                self._warn(text)
        return answer


def _namespace(obj: Obj) -> str:
    return (obj.get("metadata") or {}).get("namespace") or ""


def _discovered(group: Obj) -> list[Resource]:
    name = (group.get("metadata") or {}).get("name") or ""
    return [
        Resource(
            entry["responseKind"].get("group") or name,
            version["version"],
            entry["resource"],
            entry["responseKind"]["kind"],
            entry.get("scope") == "Namespaced",
        )
        for version in group.get("versions") or ()
        for entry in version.get("resources") or ()
        if entry.get("responseKind")
    ]


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Splits a stream at newlines; lines may be of any length."""
    rest: list[bytes] = []
    async for piece in pieces:
        *whole, last = piece.split(b"\n")
        for line in whole:
            text = b"".join([*rest, line]) if rest else line
            rest = []
            if text:
                yield text
        if last:
            rest.append(last)
