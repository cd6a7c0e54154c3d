"""Connections from within a pod's network namespace, by a process that lives outside of it.

A socket belongs to the namespace in which it was made, wherever it is used. So the thread enters the pod's namespace,
makes a socket and comes back, all in one synchronous step in which nothing else of the process can run. Needs
CAP_SYS_ADMIN in the user namespace that owns both. Source: setns(2).
"""

from __future__ import annotations

import ctypes
import os
import socket

from meltemi.agent.http import Dial, connect

_CLONE_NEWNET = 0x40000000


def dial_within(namespace: int) -> Dial:
    """Connects from the network namespace that a file descriptor stands for. The descriptor stays the caller's."""

    async def dial(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return await connect(socket_within(namespace, family), host, port)

    return dial


def socket_within(
    namespace: int, family: socket.AddressFamily, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """A socket that belongs to another network namespace. Raises OSError if that may not be entered."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            return socket.socket(family, kind)
        finally:
            _enter(here)
    finally:
        os.close(here)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter the network namespace: {os.strerror(number)}")
