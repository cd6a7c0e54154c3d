"""The way to the API server from within its own process: the same requests and answers, without a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

from meltemi.kube.errors import error_of_body
from meltemi.kube.transport import Request, Response


class InProcessTransport:
    """Calls an ASGI application in place of a server (see `meltemi.kube.transport.Transport`)."""

    def __init__(self, application: ASGIApp, token: str) -> None:
        self._application = application
        self._authorization = f"Bearer {token}".encode()

    async def request(self, request: Request) -> Response:
        """See Transport."""
        exchange = _Exchange(request.body)
        await self._application(self._scope(request), exchange.receive, exchange.send)
        exchange.finish()
        body = b"".join([piece async for piece in exchange.pieces()])
        return Response(exchange.status, body, exchange.warnings)

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Transport. Within the process nothing is silent for want of a network: `silence` has no meaning here."""
        exchange = _Exchange(request.body)

        async def run() -> None:
            try:
                await self._application(self._scope(request), exchange.receive, exchange.send)
            finally:
                exchange.finish()

        running = asyncio.create_task(run())
        try:
            await exchange.started.wait()
            if exchange.status >= 300:
                raise error_of_body(exchange.status, b"".join([piece async for piece in exchange.pieces()]))
            yield exchange.pieces()
        finally:
            exchange.gone.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def aclose(self) -> None:
        """See Transport."""

    def _scope(self, request: Request) -> dict[str, Any]:
        headers = [(name.lower().encode(), value.encode()) for name, value in request.headers]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": urlencode(list(request.query)).encode(),
            "root_path": "",
            "headers": [*headers, (b"authorization", self._authorization), (b"user-agent", b"meltemi")],
            "server": ("in-process", 0),
            "client": None,
        }


class _Exchange:
    """One request and its answer, as ASGI's `receive` and `send`."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.status = 500
        self.warnings: tuple[str, ...] = ()
        self.started = asyncio.Event()
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        """The body, once; then the client's going away."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Takes the answer in."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            texts = [value.decode() for name, value in message.get("headers", ()) if name == b"warning"]
            self.warnings = tuple(text.partition('"')[2].removesuffix('"').replace('\\"', '"') for text in texts)
            self.started.set()
        elif message.get("body"):
            self._pieces.put_nowait(message["body"])

    def finish(self) -> None:
        """The answer is complete."""
        self._pieces.put_nowait(None)
        self.started.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces of the answer's body."""
        while (piece := await self._pieces.get()) is not None:
            yield piece
