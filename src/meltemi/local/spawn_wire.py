"""What the machine process and the spawner say to each other: one message, and the descriptors beside it, per packet."""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence

import msgspec

from meltemi.local.mounts import Mount

_MAX_FDS = 8
_PACKET = 1 << 18


class OpenPod(msgspec.Struct, frozen=True, tag="open-pod"):
    """Make a pod: a process that holds its namespaces, with that host name and those mounts."""

    request: int
    hostname: str
    mounts: tuple[Mount, ...]
    stage: str


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Start a program in a pod (the pid of its holder); stdin, stdout and stderr travel beside the message.

    With `beside`, the program sees the files of that process, and `mounts` and `hidden` are not looked at. `hidden` are
    directories that it shall find empty, unless a mount lies there. `keep` are the capabilities
    that it keeps, by number. `terminal` makes its stdin its controlling terminal.
    """

    request: int
    pod: int
    argv: tuple[str, ...]
    env: dict[str, str]
    directory: str
    mounts: tuple[Mount, ...] = ()
    stage: str = ""
    hidden: tuple[str, ...] = ()
    beside: int = 0
    keep: tuple[int, ...] = ()
    terminal: bool = False


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Send a signal to a process that was started here, or to its whole group; nothing happens if it has ended."""

    pid: int
    number: int
    group: bool = False


class PodOpened(msgspec.Struct, frozen=True, tag="pod-opened"):
    """The pod is there. Its network namespace travels beside the message."""

    request: int
    pid: int


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The program runs."""

    request: int
    pid: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It could not be done: a reason in CamelCase as in a container status, and a sentence."""

    request: int
    reason: str
    message: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A process ended: its exit code, or 128 and the number of the signal that ended it."""

    pid: int
    exit_code: int


Request = OpenPod | Start | Signal
Report = PodOpened | Started | Refused | Ended

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


def send(channel: socket.socket, message: Request | Report, fds: Sequence[int] = ()) -> None:
    """Sends a message. Raises OSError (EMSGSIZE) for one that is too large for a packet."""
    data = encode(message)
    if fds:
        channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    else:
        channel.send(data)


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptors (close-on-exec); empty if the other side is gone."""
    data, fds, _, _ = socket.recv_fds(channel, _PACKET, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    return data, fds


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel, with room for a program's whole environment in one packet."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PACKET)
    return ends
