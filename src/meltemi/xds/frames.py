"""HTTP/2 frames, and the numbers that both sides know them by.

Source: RFC 9113; gRPC's status codes.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import ClassVar

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Kinds of frames.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# Flags.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = (1 << 31) - 1
DEFAULT_FRAME = 16_384


class Setting(enum.IntEnum):
    """The settings that are heeded here."""

    HEADER_TABLE_SIZE = 1
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4


class Status(enum.IntEnum):
    """gRPC status codes in use here."""

    OK = 0
    UNKNOWN = 2
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class Fault(Exception):
    """The peer broke the protocol: its connection ends with this error code."""

    PROTOCOL: ClassVar[int] = 1
    FLOW_CONTROL: ClassVar[int] = 3
    FRAME_SIZE: ClassVar[int] = 6
    COMPRESSION: ClassVar[int] = 9
    ENHANCE_YOUR_CALM: ClassVar[int] = 11

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class FaultyCall(Exception):
    """A call cannot go on: it ends with this gRPC status."""

    def __init__(self, status: Status, words: str) -> None:
        super().__init__(words)
        self.status = status


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return b"%b%b%b" % (len(payload).to_bytes(3, "big") + bytes((kind, flags)), stream.to_bytes(4, "big"), payload)


def settings(values: Mapping[Setting, int]) -> bytes:
    """A frame of settings."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *each) for each in values.items()))
