"""Carries requests to an API server: over HTTP with aiohttp, or by whatever else speaks `Transport`.

The client above it knows paths and objects, this knows sockets. Foreign errors end here: everything that aiohttp may
raise becomes `Unreachable`. A server address of the form `unix:///path` is a socket file.
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec
from yarl import URL

from meltemi.kube.config import Connection
from meltemi.kube.credentials import Credentials
from meltemi.kube.errors import Status, Unreachable, error_of_body

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0


class Request(msgspec.Struct, frozen=True):
    """One request: method, path, query, headers and body."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class Response(msgspec.Struct, frozen=True):
    """A whole answer. Warnings are the texts of its Warning headers (RFC 9111 code 299)."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()


class Transport(Protocol):
    """What the client needs of the way to the server."""

    async def request(self, request: Request) -> Response:
        """Sends a request and waits for the whole answer. Raises Unreachable; never for an HTTP status."""

    def stream(self, request: Request, *, silence: float) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Sends a request whose answer goes on; gives its pieces as they come.

        Raises ApiError for an answer that is not a success, and Unreachable after `silence` seconds without a byte.
        """

    async def aclose(self) -> None:
        """Closes connections."""


class HttpTransport:
    """HTTP/1.1 with kept-alive connections, TLS and credentials as the connection says."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._credentials = Credentials(connection)
        self._session: aiohttp.ClientSession | None = None
        self._base = "http://localhost" if connection.server.startswith("unix://") else connection.server

    async def request(self, request: Request) -> Response:
        """See Transport."""
        response = await self._request(request)
        if response.status == 401:
            self._credentials.forget()
        return response

    async def _request(self, request: Request) -> Response:
        with self._translated():
            async with (await self._open()).request(
                request.method,
                self._base + request.path,
                params=list(request.query),
                headers=await self._headers(request),
                data=request.body or None,
                timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS),
            ) as answer:
                warnings = tuple(_warning_text(value) for value in answer.headers.getall("Warning", ()))
                return Response(answer.status, await answer.read(), warnings)

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Transport."""
        with self._translated():
            async with (await self._open()).request(
                request.method,
                self._base + request.path,
                params=list(request.query),
                headers=await self._headers(request),
                data=request.body or None,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence),
            ) as answer:
                if answer.status >= 300:
                    if answer.status == 401:
                        self._credentials.forget()
                    raise error_of_body(answer.status, await answer.read())
                yield answer.content.iter_any()

    async def websocket(self, request: Request, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        """Opens a WebSocket (exec, attach). Raises Unreachable, or ApiError with the refusal's text."""
        with self._translated():
            try:
                return await (await self._open()).ws_connect(
                    URL(self._base + request.path).with_query(list(request.query)),
                    protocols=protocols,
                    headers=await self._headers(request),
                    max_msg_size=0,
                )
            except aiohttp.WSServerHandshakeError as error:
                raise error_of_body(error.status, str(error.message).encode()) from error

    async def aclose(self) -> None:
        """See Transport."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _headers(self, request: Request) -> dict[str, str]:
        headers = dict(request.headers)
        if authorization := await self._credentials.header():
            headers["Authorization"] = authorization
        return headers

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            server = self._connection.server
            connector = (
                aiohttp.UnixConnector(server.removeprefix("unix://"))
                if server.startswith("unix://")
                else aiohttp.TCPConnector(ssl=_tls(self._connection), limit=0)
            )
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Unreachable(Status(code=0, message=f"{self._connection.server} did not answer in time")) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(Status(code=0, message=f"cannot reach {self._connection.server}: {error}")) from error


def _tls(connection: Connection) -> ssl.SSLContext | bool:
    if not connection.server.startswith("https"):
        return True
    context = ssl.create_default_context(cadata=connection.ca.decode() or None)
    if connection.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if connection.client_certificate:
        _load_pair(context, connection.client_certificate, connection.client_key)
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads key pairs from files only: a private directory holds them for the moment it takes."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pair.pem"
        path.touch(0o600)
        path.write_bytes(certificate + b"\n" + key)
        context.load_cert_chain(path)


def _warning_text(header: str) -> str:
    """The text of a Warning header: `299 - "text"`."""
    _, _, text = header.partition('"')
    return text.removesuffix('"').replace('\\"', '"').replace("\\\\", "\\")


def query_of(parameters: Mapping[str, str | int | bool]) -> tuple[tuple[str, str], ...]:
    """Query parameters as pairs; those that are empty, zero or false are left out."""
    return tuple((name, "true" if value is True else str(value)) for name, value in parameters.items() if value)
