"""What whoever starts proxies and the agent say to each other, over a unix socket that keeps messages whole.

One JSON message per packet (SOCK_SEQPACKET), with file descriptors beside it: sockets that listen already in a pod's
network namespace, and the namespace itself. Invariant: every request can be sent again and has the same effect.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime

import msgspec

from meltemi.agent.spec import ProxySpec

MAX_PACKET = 128 * 1024
MAX_DESCRIPTORS = 16


class Add(msgspec.Struct, frozen=True, tag="add"):
    """Serve this proxy. A proxy that is served already keeps its certificate if its description is the same.

    Beside it come `listeners` listening sockets for port 15020, `resolvers` sockets for DNS (none, or the two of a
    `DnsProxy`) and then, if `namespace`, the pod's network namespace.
    """

    id: int
    proxy: ProxySpec
    listeners: int = 0
    resolvers: int = 0
    namespace: bool = False


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """Serve this proxy no longer; its key is forgotten. Nothing happens if it is not known."""

    id: int
    proxy: str


class Wait(msgspec.Struct, frozen=True, tag="wait"):
    """Answer when this proxy has a certificate."""

    id: int
    proxy: str


class List(msgspec.Struct, frozen=True, tag="list"):
    """Tell about all proxies."""

    id: int


Request = Add | Remove | Wait | List


class ProxyStatus(msgspec.Struct, frozen=True):
    """How a proxy's identity stands.

    `not_after` is absent until there is a certificate, `error` is the failure since the last one, and `connections`
    counts the connections to its secret socket.
    """

    proxy: str
    identity: str
    not_after: datetime | None = None
    serial: str = ""
    rotations: int = 0
    failures: int = 0
    error: str = ""
    connections: int = 0


class Reply(msgspec.Struct, frozen=True):
    """The answer to the request of that number: `error` is empty if it was done."""

    id: int
    error: str = ""
    proxies: tuple[ProxyStatus, ...] = ()


_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(Reply)


class ControlError(Exception):
    """The agent could not do what it was asked, or sent something else than an answer."""


def encode(message: Request | Reply) -> bytes:
    """A message as one packet. Raises ControlError if it is too large for one."""
    packet = msgspec.json.encode(message)
    if len(packet) > MAX_PACKET:
        raise ControlError(f"a message of {len(packet)} bytes does not fit into a packet")
    return packet


def decode_request(packet: bytes) -> Request:
    """Raises ControlError."""
    try:
        return _requests.decode(packet)
    except (msgspec.DecodeError, ValueError) as error:
        raise ControlError(f"not a request: {error}") from error


def decode_reply(packet: bytes) -> Reply:
    """Raises ControlError."""
    try:
        return _replies.decode(packet)
    except (msgspec.DecodeError, ValueError) as error:
        raise ControlError(f"not a reply: {error}") from error


def new_socket() -> socket.socket:
    """A socket for this protocol, which does not block."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made


def send(connection: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends a packet with file descriptors. Raises BlockingIOError if the peer does not read, OSError if it is gone."""
    if descriptors:
        socket.send_fds(connection, [packet], list(descriptors))
    else:
        connection.send(packet)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet (empty: the peer is gone) and its file descriptors. Raises BlockingIOError if there is none yet."""
    packet, descriptors, flags, _ = socket.recv_fds(connection, MAX_PACKET, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(descriptors)
        raise ControlError("a packet was too large and came in part only")
    return packet, list(descriptors)


def close_all(descriptors: Sequence[int]) -> None:
    """Closes file descriptors that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)
