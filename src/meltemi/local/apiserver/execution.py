"""`kubectl exec`: a command in a pod, over one WebSocket with numbered channels.

Each message starts with a byte that names its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the size
of the terminal; with protocol v5 the message 255, channel closes one direction of a channel.
Source: Kubernetes `remotecommand` subprotocols `v4.channel.k8s.io` and `v5.channel.k8s.io`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from meltemi.kube.errors import ApiError, Cause, Status
from meltemi.kube.resources import Key
from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.context import Context
from meltemi.local.apiserver.podaccess import ExecOptions, WindowSize

_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


class _Streams:
    """The client's streams over one WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._stdin: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._resizes: asyncio.Queue[WindowSize | None] = asyncio.Queue()

    async def stdin(self) -> AsyncIterator[bytes]:
        """See ExecStreams."""
        while (piece := await self._stdin.get()) is not None:
            yield piece

    async def resizes(self) -> AsyncIterator[WindowSize]:
        """See ExecStreams."""
        while (size := await self._resizes.get()) is not None:
            yield size

    async def stdout(self, data: bytes) -> None:
        """See ExecStreams."""
        await self._socket.send_bytes(bytes((_STDOUT,)) + data)

    async def stderr(self, data: bytes) -> None:
        """See ExecStreams."""
        await self._socket.send_bytes(bytes((_STDERR,)) + data)

    async def receive(self) -> None:
        """Sorts what the client sends, until it goes away."""
        try:
            while True:
                self._take(await self._socket.receive_bytes())
        except WebSocketDisconnect:
            self._stdin.put_nowait(None)
            self._resizes.put_nowait(None)

    def _take(self, message: bytes) -> None:
        channel, data = message[0], message[1:]
        if channel == _STDIN:
            self._stdin.put_nowait(data)
        elif channel == _CLOSE and data[:1] == bytes((_STDIN,)):
            self._stdin.put_nowait(None)
        elif channel == _RESIZE:
            size = msgspec.json.decode(data, type=dict[str, int])
            self._resizes.put_nowait(WindowSize(size.get("Width", 80), size.get("Height", 24)))


def exec_endpoint(context: Context) -> Callable[[WebSocket], Awaitable[None]]:
    """The WebSocket endpoint of `pods/<name>/exec`."""

    async def serve(socket: WebSocket) -> None:
        offered = socket.scope.get("subprotocols") or []
        protocol = next((known for known in _PROTOCOLS if known in offered), None)
        try:
            context.admit(socket.headers.get("authorization", ""))
            options = _options(socket)
            if protocol is None:
                raise refusals.bad_request(f"unable to negotiate a protocol: this server speaks {list(_PROTOCOLS)}")
            namespace, pod = socket.path_params["namespace"], socket.path_params["name"]
            context.verbs.get(context.kind("pods"), Key(namespace, pod))
            if context.pods() is None:
                raise refusals.unavailable("nothing runs pods here")
        except ApiError as error:
            await _deny(socket, error)
            return
        await socket.accept(subprotocol=protocol)
        await _run(context, socket, namespace, pod, options)

    return serve


async def _run(context: Context, socket: WebSocket, namespace: str, pod: str, options: ExecOptions) -> None:
    """Runs the command beside the reading of what the client sends; whichever ends first ends the other."""
    access = context.pods()
    assert access is not None
    streams = _Streams(socket)
    command = asyncio.ensure_future(access.exec(namespace, pod, options, streams))
    receiving = asyncio.ensure_future(streams.receive())
    try:
        await asyncio.wait((command, receiving), return_when=asyncio.FIRST_COMPLETED)
        if command.done():
            await socket.send_bytes(bytes((_ERROR,)) + msgspec.json.encode(_outcome(command)))
            await socket.close()
    except WebSocketDisconnect:
        pass
    finally:
        command.cancel()
        receiving.cancel()
        await asyncio.gather(command, receiving, return_exceptions=True)


def _outcome(command: asyncio.Future[int]) -> dict[str, object]:
    """The final Status: success, the exit code, or why the command could not be run."""
    error = command.exception()
    if isinstance(error, ApiError):
        return error.status.as_object()
    if error is not None:
        return Status(code=500, reason="InternalError", message=f"the command could not be run: {error}").as_object()
    code = command.result()
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    message = f"command terminated with non-zero exit code: exit status {code}"
    cause = Cause(message=str(code), reason="ExitCode")
    return Status(code=500, reason="NonZeroExitCode", message=message, causes=(cause,)).as_object()


async def _deny(socket: WebSocket, error: ApiError) -> None:
    """Refuses the handshake with the Status as the body, where the server can send one."""
    if "websocket.http.response" in (socket.scope.get("extensions") or {}):
        headers = [(b"content-type", b"application/json")]
        await socket.send({"type": "websocket.http.response.start", "status": error.status.code, "headers": headers})
        body = msgspec.json.encode(error.status.as_object())
        await socket.send({"type": "websocket.http.response.body", "body": body})
    else:
        await socket.close()


def _options(socket: WebSocket) -> ExecOptions:
    parameters = socket.query_params
    command = tuple(parameters.getlist("command"))
    if not command:
        raise refusals.bad_request("you must specify at least one command for the container")

    def is_on(name: str) -> bool:
        return parameters.get(name) in ("true", "1")

    return ExecOptions(
        command, parameters.get("container", ""), is_on("stdin"), is_on("stdout"), is_on("stderr"), is_on("tty")
    )
