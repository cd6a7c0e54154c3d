"""Netlink: how the kernel is told of links, addresses, routes and packet rules.

A message is a header, a fixed structure and attributes (type, length, value, padded to four bytes). This module packs
messages, sends a group of them and waits for each one's acknowledgement. The kernel handles a request before `send`
returns, so nothing waits here in practice, and asyncio is not needed. Invariant: a request that the kernel refused
raises OSError with the kernel's own words (extended acknowledgement) beside the errno.
"""

from __future__ import annotations

import enum
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType

import msgspec

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_ERROR = 2
_DONE = 3
_ACK_HAS_TLVS = 0x200
_ACK_CAPPED = 0x100
_ACK_MESSAGE = 1
_RECEIVE = 1 << 16


class Protocol(enum.IntEnum):
    """Netlink families."""

    ROUTE = 0
    NETFILTER = 12


class Flag(enum.IntFlag):
    """Flags of a request."""

    NONE = 0
    REQUEST = 0x1
    ACK = 0x4
    DUMP = 0x300
    EXCLUSIVE = 0x200
    CREATE = 0x400
    APPEND = 0x800


class Message(msgspec.Struct, frozen=True):
    """One request: its type, flags beyond REQUEST, and its body (fixed structure and attributes)."""

    kind: int
    body: bytes
    flags: Flag = Flag.NONE


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(children))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a received message, without the nesting flag."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


class NetlinkSocket:
    """A netlink socket of the network namespace in which the calling thread is at the time."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.settimeout(5)
        self._sequence = 0

    def __repr__(self) -> str:
        return f"<NetlinkSocket {self._protocol.name}, {self._sequence} messages sent>"

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def request(self, *messages: Message) -> None:
        """Sends the messages in one go and waits for their acknowledgements. Raises OSError for the first refusal."""
        self._send(messages, Flag.ACK)
        self._acknowledgements(len(messages))

    def transact(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """Sends a netfilter batch, of which the kernel applies all or nothing. Raises OSError for the first refusal."""
        first = self._sequence + 1
        data = self._packed([begin], Flag.NONE) + self._packed(messages, Flag.ACK) + self._packed([end], Flag.NONE)
        self._socket.sendto(data, (0, 0))
        self._acknowledgements(len(messages), first=first)

    def dump(self, message: Message) -> Iterator[tuple[int, bytes]]:
        """Asks for a list; yields each message's type and body."""
        self._send([message], Flag.DUMP)
        while True:
            for kind, _, _, body in self._receive():
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise _refusal(body, 0)
                yield kind, body

    def ask(self, message: Message) -> bytes:
        """Asks for one thing; the body of the answer. Raises OSError if there is none."""
        self._send([message], Flag.NONE)
        for kind, flags, _, body in self._receive():
            if kind == _ERROR:
                raise _refusal(body, flags)
            return body
        raise OSError(5, "the kernel sent no answer")

    def _send(self, messages: Sequence[Message], flags: Flag) -> None:
        self._socket.sendto(self._packed(messages, flags), (0, 0))

    def _packed(self, messages: Sequence[Message], flags: Flag) -> bytes:
        pieces = []
        for message in messages:
            self._sequence += 1
            body = message.body + bytes(-len(message.body) % 4)
            all_flags = Flag.REQUEST | flags | message.flags
            pieces.append(_HEADER.pack(_HEADER.size + len(body), message.kind, all_flags, self._sequence, 0) + body)
        return b"".join(pieces)

    def _acknowledgements(self, count: int, first: int = 0) -> None:
        refused: OSError | None = None
        while count > 0:
            for kind, flags, sequence, body in self._receive():
                if kind != _ERROR:
                    continue
                (code,) = struct.unpack_from("=i", body)
                if code:
                    refused = refused or _refusal(body, flags)
                    if first and sequence <= first:  # The batch as a whole was refused: no other answer will come.
                        raise refused
                count -= 1
        if refused:
            raise refused

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        data = self._socket.recv(_RECEIVE)
        found = []
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            found.append((kind, flags, sequence, data[offset + _HEADER.size : offset + length]))
            offset += (length + 3) & ~3
        return found


def _refusal(body: bytes, flags: int) -> OSError:
    (code,) = struct.unpack_from("=i", body)
    words = os.strerror(-code)
    if flags & _ACK_HAS_TLVS:
        (request_length,) = struct.unpack_from("=I", body, 4)
        start = 4 + (_HEADER.size if flags & _ACK_CAPPED else request_length)
        for kind, value in attributes(body[start:]):
            if kind == _ACK_MESSAGE:
                words = f"{words} ({value.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(-code, words)
