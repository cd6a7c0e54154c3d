"""gRPC's length-prefixed messages within HTTP/2 data, and the names both sides use.

The agent speaks gRPC through h2 instead of grpcio: it needs one unary call and two streaming methods, and grpcio would
cost more memory than all the rest of the agent together. Source: gRPC's PROTOCOL-HTTP2.
"""

from __future__ import annotations

import struct

_PREFIX = struct.Struct(">BI")

MAX_MESSAGE = 256 * 1024
"""No message of the methods that the agent serves comes near it."""

OK, UNKNOWN, INVALID_ARGUMENT, UNIMPLEMENTED, UNAVAILABLE = 0, 2, 3, 12, 14
"""The gRPC status codes in use here."""

CONTENT_TYPE = ("content-type", "application/grpc")


class MalformedError(Exception):
    """The peer sent something that is not a gRPC message that this side takes."""


def frame(message: bytes) -> bytes:
    """A message as it goes into HTTP/2 data."""
    return _PREFIX.pack(0, len(message)) + message


class Deframer:
    """Puts messages together again from pieces of data."""

    __slots__ = ("_buffer", "_most")

    def __init__(self, most: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._most = most

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with this piece. Raises MalformedError on compressed or oversized ones."""
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(buffer)
            if compressed:
                raise MalformedError("the message is compressed, which was not offered")
            if size > self._most:
                raise MalformedError(f"a message of {size} bytes is too large")
            end = _PREFIX.size + size
            if len(buffer) < end:
                break
            messages.append(bytes(buffer[_PREFIX.size : end]))
            del buffer[:end]
        return messages
