"""The kernel calls that Python 3.11 does not offer: namespaces, mounts, process controls and capabilities.

Each function is one call of the C library, typed, and raises OSError with the name of the call in its message, because
"Operation not permitted" alone does not say what was not permitted. Nothing here decides anything.
"""

from __future__ import annotations

import ctypes
import enum
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace(enum.IntFlag):
    """Kinds of namespaces, as unshare(2) and setns(2) number them."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


class MountFlag(enum.IntFlag):
    """Flags of mount(2) that are used here."""

    NONE = 0
    READ_ONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    REMOUNT = 0x20
    BIND = 0x1000
    RECURSIVE = 0x4000
    PRIVATE = 0x40000
    MOVE = 0x2000


class Capability(enum.IntEnum):
    """Capabilities that a process of ours may keep, by their number in the kernel."""

    NET_BIND_SERVICE = 10
    NET_ADMIN = 12


_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
# NOROOT, NO_SETUID_FIXUP and KEEP_CAPS' lock: uid 0 stands for nothing, and nobody can change that again.
_SECUREBITS_NOROOT_LOCKED = 0x1 | 0x2 | 0x4 | 0x8 | 0x20


def _check(call: str, result: int, detail: str = "") -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}({detail}): {os.strerror(number)}")


def unshare(kinds: Namespace) -> None:
    """Moves this process into new namespaces (NET, MOUNT ...); a new PID namespace is for its next children."""
    _check("unshare", _libc.unshare(ctypes.c_int(int(kinds))), str(kinds))


def setns(fd: int, kind: Namespace) -> None:
    """Moves this thread into an existing namespace, given by a descriptor of /proc/<pid>/ns/*."""
    _check("setns", _libc.setns(ctypes.c_int(fd), ctypes.c_int(int(kind))), str(kind))


@contextmanager
def within_netns(fd: int) -> Iterator[None]:
    """For the body of the `with`, this thread is in the network namespace `fd`. The body must not await.

    Sockets stay in the namespace where they were made: this is how one process talks from many of them.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, Namespace.NET)
        try:
            yield
        finally:
            setns(home, Namespace.NET)
    finally:
        os.close(home)


def mount(source: str, target: str, kind: str = "", flags: MountFlag = MountFlag.NONE, data: str = "") -> None:
    """Mounts, binds, moves or remounts, as mount(2) says."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(int(flags)), data.encode() or None
    )
    _check("mount", result, f"{kind or source} on {target}")


def unmount(target: str) -> None:
    """Takes a mount away, lazily: users of it keep it until they close their files."""
    _check("umount2", _libc.umount2(target.encode(), _DETACH), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Makes `new_root`, a mount, the root of this mount namespace and puts the old one below `put_old`."""
    _check("pivot_root", _libc.pivot_root(new_root.encode(), put_old.encode()), new_root)


def sethostname(name: str) -> None:
    """Sets the host name of this UTS namespace."""
    raw = name.encode()
    _check("sethostname", _libc.sethostname(raw, ctypes.c_size_t(len(raw))), name)


def _prctl(name: str, option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    result = int(_libc.prctl(ctypes.c_int(option), *values))
    _check("prctl", result, name)
    return result


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Asks the kernel to send `number` to this process when the thread that made it ends."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Makes this process the parent of those below it whose parent ends (PR_SET_CHILD_SUBREAPER)."""
    _prctl("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def own_again() -> None:
    """Gives this process back its own files in /proc, which it loses when it becomes another user."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 1)


def forbid_new_privileges() -> None:
    """From now on no execve, not of a set-user-ID file either, gives this process more than it has."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def keep_only(kept: frozenset[Capability] = frozenset()) -> None:
    """Gives up all capabilities for good but the `kept`, which programs executed later have as well.

    The bounding set is emptied, uid 0 loses its meaning (SECBIT_NOROOT, locked), and the kept ones become ambient. An
    unprivileged process calls this without harm as long as it keeps nothing: it has nothing to lose.
    """
    number = 0
    while number < 64:
        try:
            if _prctl("PR_CAPBSET_READ", _PR_CAPBSET_READ, number) and number not in kept:
                _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != 22:  # EINVAL: beyond the last capability that this kernel knows
                raise
            break
        number += 1
    _prctl("PR_SET_SECUREBITS", _PR_SET_SECUREBITS, _SECUREBITS_NOROOT_LOCKED)
    _set_capabilities(kept)
    _prctl("PR_CAP_AMBIENT_CLEAR_ALL", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in sorted(kept):
        _prctl("PR_CAP_AMBIENT_RAISE", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _set_capabilities(kept: frozenset[Capability]) -> None:
    mask = sum(1 << capability for capability in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, low, high, high, high))
    _check("capset", _libc.capset(header, data), ",".join(capability.name for capability in sorted(kept)))
