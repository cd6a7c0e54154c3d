"""Asking a container how it is: how each kind of probe asks, and what its answers come to.

Probes go out from inside the pod's own network namespace to the pod's own address. By Istio's capture rules such a
connection stays between the two processes, so that a probe sees the application and not its sidecar, and strict mTLS
does not make a healthy application look dead. `Tally` is pure: it counts, and tells when the answer has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from meltemi.api.core import Container
from meltemi.api.core.pods import GrpcAction, HttpGetAction, Probe, TcpSocketAction
from meltemi.local.syscalls import within_netns

_HEAD_LIMIT = 1 << 16

RunCommand = Callable[[tuple[str, ...]], Awaitable[tuple[int, str]]]


class Outcome(msgspec.Struct, frozen=True):
    """What one probe said; the message tells why it failed."""

    success: bool
    message: str = ""


class Tally:
    """Counts outcomes in a row, and says what they come to by the probe's two thresholds."""

    def __init__(self, probe: Probe, *, initially: bool) -> None:
        self._probe = probe
        self.is_good = initially
        self._row = 0
        self._last: bool | None = None

    def __repr__(self) -> str:
        return f"<Tally: {'good' if self.is_good else 'bad'}, {self._row} times {self._last}>"

    def count(self, outcome: Outcome) -> bool:
        """Takes one more outcome; True if a threshold was reached by it, so that `is_good` is now what it says."""
        self._row = self._row + 1 if outcome.success == self._last else 1
        self._last = outcome.success
        threshold = self._probe.success_threshold if outcome.success else self._probe.failure_threshold
        if self._row >= max(threshold, 1):
            self.is_good = outcome.success
            return True
        return False


class Target(msgspec.Struct, frozen=True):
    """Where a container's probes go: its pod's namespace and address; and how a command is run in it."""

    netns: int
    address: str
    container: Container
    run_command: RunCommand


async def ask(probe: Probe, target: Target) -> Outcome:
    """Asks once, for at most the probe's timeout. Never raises for what the container does."""
    seconds = max(probe.timeout_seconds, 1)
    try:
        async with asyncio.timeout(seconds):
            if probe.http_get:
                return await _http(probe.http_get, target)
            if probe.tcp_socket:
                return await _tcp(probe.tcp_socket, target)
            if probe.grpc:
                return await _grpc(probe.grpc, target)
            if probe.exec:
                code, output = await target.run_command(probe.exec.command)
                return Outcome(code == 0, "" if code == 0 else f"the command ended with {code}: {output.strip()}")
            return Outcome(True)
    except TimeoutError:
        return Outcome(False, f"no answer within {seconds} s")
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return Outcome(False, str(error) or type(error).__name__)


def port_number(port: int | str, container: Container) -> int:
    """A port given by number or by the name it has in the container. Raises ValueError for an unknown name."""
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    for declared in container.ports:
        if declared.name == port:
            return declared.container_port
    raise ValueError(f"container {container.name} has no port named {port!r}")


async def _connect(target: Target, host: str, port: int) -> socket.socket:
    with within_netns(target.netns):
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(opened, (host or target.address, port))
    except BaseException:
        opened.close()
        raise
    return opened


async def _tcp(action: TcpSocketAction, target: Target) -> Outcome:
    opened = await _connect(target, action.host, port_number(action.port, target.container))
    opened.close()
    return Outcome(True)


async def http_get(action: HttpGetAction, target: Target) -> tuple[int, str]:
    """One GET; the status and the reason."""
    port = port_number(action.port, target.container)
    opened = await _connect(target, action.host, port)
    context = _trusting() if action.scheme.upper() == "HTTPS" else None
    reader, writer = await asyncio.open_connection(
        sock=opened, ssl=context, server_hostname=(action.host or target.address) if context else None
    )
    try:
        headers = {"Host": f"{action.host or target.address}:{port}", "User-Agent": "kube-probe/1.34", "Accept": "*/*"}
        headers |= {header.name: header.value for header in action.http_headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {action.path or '/'} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        line = (await reader.readuntil(b"\n"))[:_HEAD_LIMIT].decode("latin-1").strip()
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
    protocol, _, rest = line.partition(" ")
    code, _, reason = rest.partition(" ")
    if not protocol.startswith("HTTP/") or not code.isdecimal():
        raise ValueError(f"the answer is not HTTP: {line[:80]!r}")
    return int(code), reason


async def _http(action: HttpGetAction, target: Target) -> Outcome:
    code, reason = await http_get(action, target)
    ok = 200 <= code < 400
    return Outcome(ok, "" if ok else f"GET {action.path or '/'} gave {code} {reason}".rstrip())


def _trusting() -> ssl.SSLContext:
    """Probes look whether a server is alive, not who it is: Kubernetes' do not verify certificates either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --- gRPC: the few frames of HTTP/2 (RFC 9113) that one call of grpc.health.v1.Health/Check needs ---

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_SERVING = 1


async def _grpc(action: GrpcAction, target: Target) -> Outcome:
    opened = await _connect(target, "", action.port)
    reader, writer = await asyncio.open_connection(sock=opened)
    try:
        fields = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", f"{target.address}:{action.port}"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
        name = action.service.encode()
        request = b"\x0a" + bytes([len(name)]) + name if name else b""
        message = struct.pack("!BI", 0, len(request)) + request
        writer.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, b"".join(_literal(*field) for field in fields))
            + _frame(_DATA, _END_STREAM, 1, message)
        )
        return await _health(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Outcome:
    answer = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags, stream = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            answer += payload
        if kind in (_RESET, _GOAWAY):
            return Outcome(False, "the server refused the health check")
        if stream == 1 and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            break
    body = answer[5:]
    serving = len(body) >= 2 and body[0] == 0x08 and body[1] == _SERVING
    return Outcome(serving, "" if serving else "the health service does not say SERVING")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field as RFC 7541 section 6.2.2 writes it: literal, without indexing, without Huffman coding."""
    return b"\x00" + _text(name.encode()) + _text(value.encode())


def _text(raw: bytes) -> bytes:
    assert len(raw) < 127
    return bytes([len(raw)]) + raw


def probes_of(container: Container) -> Sequence[Probe]:
    """The probes that a container has."""
    found = (container.startup_probe, container.readiness_probe, container.liveness_probe)
    return tuple(probe for probe in found if probe)
