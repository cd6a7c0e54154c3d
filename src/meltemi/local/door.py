"""The door between the sandbox and the machine it runs on.

The network inside the sandbox has no way out. Where a user's port must be reachable from outside (a LoadBalancer
service, the dashboard), or where something inside must reach the outside (a resolver, a service of another machine),
the process inside asks the one outside to open a socket there and to pass it in. A socket belongs to the network in
which it was made, whoever holds it, so that no byte is ever copied by the process outside.

Requests and answers are single packets over a socket pair, answered in order. The outside never waits for a peer: a TCP
socket is handed in while it still connects.
"""

from __future__ import annotations

import contextlib
import os
import socket
from ipaddress import IPv4Address

import msgspec

_PACKET = 4096
_BACKLOG = 512


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """Listen on an address of the machine, by "tcp" for connections or by "udp"; port 0 takes a free one."""

    address: str
    port: int
    protocol: str = "tcp"


class Dial(msgspec.Struct, frozen=True, tag="dial"):
    """Connect to an address outside, by "tcp" or "udp"; a TCP connection may still be under way."""

    protocol: str
    address: str
    port: int


Request = Listen | Dial


class Answer(msgspec.Struct, frozen=True):
    """The outcome: 0 and a socket beside it, or the errno of the refusal."""

    error: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(Request).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode


def door_pair() -> tuple[socket.socket, socket.socket]:
    """The two sides of a door: the one that stays outside, and the one that goes inside."""
    outside, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return outside, inside


class Door:
    """The inside's end. Calls return at once, so that they need not be awaited."""

    def __init__(self, side: socket.socket) -> None:
        self._side = side

    def listen(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        """A listening, non-blocking TCP socket of the machine outside.

        Raises OSError as bind(2) would: EADDRINUSE if the port is taken, EACCES if it needs privileges.
        """
        return self._ask(Listen(address, port), f"listen on {address}:{port} outside")

    def bind(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        """A non-blocking socket of the machine outside that takes datagrams there. Raises OSError as bind(2) would."""
        return self._ask(Listen(address, port, "udp"), f"take datagrams on {address}:{port} outside")

    def dial(self, protocol: str, address: IPv4Address, port: int) -> socket.socket:
        """A non-blocking socket of the machine outside, connected or connecting ("tcp") or connected ("udp")."""
        return self._ask(Dial(protocol, str(address), port), f"connect to {address}:{port} outside")

    def _ask(self, request: Request, what: str) -> socket.socket:
        self._side.send(_encode(request))
        data, fds, _, _ = socket.recv_fds(self._side, _PACKET, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise ConnectionError(f"cannot {what}: the process outside is gone")
        answer = _decode_answer(data)
        if answer.error or not fds:
            raise OSError(answer.error, f"cannot {what}: {os.strerror(answer.error)}")
        opened = socket.socket(fileno=fds[0])
        opened.setblocking(False)
        return opened


def answer_one(side: socket.socket) -> bool:
    """Reads one request on the outside's end and answers it. False: the inside is gone."""
    data = side.recv(_PACKET)
    if not data:
        return False
    try:
        opened = _open(_decode_request(data))
    except OSError as error:
        with contextlib.suppress(BrokenPipeError):
            side.send(_encode(Answer(error.errno or 5)))
        return True
    with opened, contextlib.suppress(BrokenPipeError):
        socket.send_fds(side, [_encode(Answer())], [opened.fileno()])
    return True


def _open(request: Request) -> socket.socket:
    kind = socket.SOCK_DGRAM if request.protocol == "udp" else socket.SOCK_STREAM
    opened = socket.socket(socket.AF_INET, kind)
    try:
        if isinstance(request, Listen):
            if kind == socket.SOCK_STREAM:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((request.address, request.port))
            if kind == socket.SOCK_STREAM:
                opened.listen(_BACKLOG)
        else:
            opened.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                opened.connect((request.address, request.port))
    except OSError:
        opened.close()
        raise
    return opened
