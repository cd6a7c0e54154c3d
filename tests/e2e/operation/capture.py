"""A packet capture on the pods' network: all TCP payload from pod to pod, as it crosses the bridge.

Run as a program beside a mesh, it enters the network namespace of one of its processes, says "capturing", listens until
its standard input ends, and prints what it has seen. As a context (`Capture`) it runs that program.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import Self

import msgspec

from meltemi.testing.entering import enter_network

_ETH_P_ALL = 0x0003
_NETWORK = IPv4Network("10.244.0.0/16")
_GATEWAY = IPv4Address("10.244.0.1")
_SNAP = 1 << 16


class Flow(msgspec.Struct, frozen=True):
    """What one side of a connection has sent, in order of capture."""

    source: str
    destination: str
    port: int
    payload: bytes


class Capture:
    """Captures while the context is open; `flows` are there afterwards. `pid` is a process in the network to listen in."""

    def __init__(self, pid: int) -> None:
        self.flows: list[Flow] = []
        self._pid = pid
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        arguments = (sys.executable, __file__, str(self._pid))
        self._process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, limit=1 << 28)
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"capturing\n"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        told, _ = await self._process.communicate(b"")
        self.flows = msgspec.json.decode(told, type=list[Flow])

    def holding(self, text: bytes) -> list[Flow]:
        """The flows in which a text is readable."""
        return [flow for flow in self.flows if text in flow.payload]


def payload_of(frame: bytes) -> tuple[tuple[str, int, str, int], bytes] | None:
    """Of an Ethernet frame: who sends to whom, and the TCP payload; None if it is not TCP from pod to pod."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return None
    source, destination = IPv4Address(frame[26:30]), IPv4Address(frame[30:34])
    if _GATEWAY in (source, destination) or source not in _NETWORK or destination not in _NETWORK:
        return None
    length = struct.unpack("!H", frame[16:18])[0]
    start = 14 + (frame[14] & 0x0F) * 4
    source_port, destination_port = struct.unpack("!HH", frame[start : start + 4])
    data = frame[start + (frame[start + 12] >> 4) * 4 : 14 + length]
    return (str(source), source_port, str(destination), destination_port), data


def main(pid: int) -> None:
    """Capture until standard input ends."""
    enter_network(pid)
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 25)
    sent: dict[tuple[str, int, str, int], bytearray] = {}
    sys.stdout.write("capturing\n")
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([listener.fileno(), 0], [], [])
        if listener.fileno() in ready:
            frame, (interface, *_rest) = listener.recvfrom(_SNAP)
            # The bridge shows each frame on the port where it comes in, and on the one where it goes out: once is enough.
            if interface != "lo" and _rest[1] != socket.PACKET_OUTGOING and (found := payload_of(frame)):
                sent.setdefault(found[0], bytearray()).extend(found[1])
        elif 0 in ready and not os.read(0, 4096):
            break
    flows = [Flow(source, to, port, bytes(data)) for (source, _, to, port), data in sent.items() if data]
    sys.stdout.buffer.write(msgspec.json.encode(flows))


if __name__ == "__main__":
    main(int(sys.argv[1]))
