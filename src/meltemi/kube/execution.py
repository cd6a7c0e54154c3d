"""A command in a pod, with its streams over one WebSocket (`kubectl exec`).

Each message starts with a byte that names its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the size of
the terminal; `255, channel` closes a channel.
Source: Kubernetes `remotecommand`, subprotocol `v5.channel.k8s.io`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import quote

import aiohttp
import msgspec

from meltemi.kube.errors import ServerError, Status, Unreachable, error_of
from meltemi.kube.transport import HttpTransport, Request

_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_PROTOCOL = "v5.channel.k8s.io"

Output = Callable[[bytes], None]


class Command(msgspec.Struct, frozen=True):
    """What to run and where. An empty container means the pod's only one."""

    namespace: str
    pod: str
    command: tuple[str, ...]
    container: str = ""
    tty: bool = False


async def run(
    transport: HttpTransport,
    command: Command,
    *,
    stdout: Output,
    stderr: Output,
    stdin: AsyncIterator[bytes] | None = None,
    resizes: AsyncIterator[tuple[int, int]] | None = None,
) -> int:
    """Runs a command to its end; its exit code. `resizes` gives (columns, rows).

    Raises ApiError where the command cannot be run, Unreachable where the connection breaks.
    """
    path = f"/api/v1/namespaces/{quote(command.namespace)}/pods/{quote(command.pod)}/exec"
    socket = await transport.websocket(Request("GET", path, _query(command, with_stdin=stdin is not None)), [_PROTOCOL])
    feeding = [asyncio.create_task(_feed(socket, stdin))] if stdin is not None else []
    if resizes is not None:
        feeding.append(asyncio.create_task(_resize(socket, resizes)))
    try:
        return await _outcome(socket, stdout, stderr)
    finally:
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)
        await socket.close()


def _query(command: Command, *, with_stdin: bool) -> Sequence[tuple[str, str]]:
    flags = {"stdin": with_stdin, "stdout": True, "stderr": not command.tty, "tty": command.tty}
    return (
        *(("command", part) for part in command.command),
        *((("container", command.container),) if command.container else ()),
        *((name, "true" if value else "false") for name, value in flags.items()),
    )


async def _feed(socket: aiohttp.ClientWebSocketResponse, stdin: AsyncIterator[bytes]) -> None:
    async for piece in stdin:
        await socket.send_bytes(bytes((_STDIN,)) + piece)
    await socket.send_bytes(bytes((_CLOSE, _STDIN)))


async def _resize(socket: aiohttp.ClientWebSocketResponse, sizes: AsyncIterator[tuple[int, int]]) -> None:
    async for columns, rows in sizes:
        await socket.send_bytes(bytes((_RESIZE,)) + msgspec.json.encode({"Width": columns, "Height": rows}))


async def _outcome(socket: aiohttp.ClientWebSocketResponse, stdout: Output, stderr: Output) -> int:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == _STDOUT:
            stdout(data)
        elif channel == _STDERR:
            stderr(data)
        elif channel == _ERROR:
            return _exit_code(msgspec.json.decode(data))
    raise Unreachable(Status(code=0, message="the connection broke before the command ended"))


def _exit_code(outcome: dict[str, object]) -> int:
    if outcome.get("status") == "Success":
        return 0
    status = Status.of_object(outcome, 500)
    for cause in status.causes:
        if cause.reason == "ExitCode" and cause.message.isdigit():
            return int(cause.message)
    raise error_of(status) if status.code != 500 else ServerError(status)
