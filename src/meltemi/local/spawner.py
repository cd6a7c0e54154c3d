"""The process that starts all others: small and with one thread, so that forking is cheap and safe.

The machine process has an event loop, threads and a large memory; forking it would be slow, and what may be done between
fork and exec there is little. So it asks this process, which does nothing else. A pod is a process of its own (the
*holder*, pid 1 of the pod) that holds the pod's network, mount, host name, IPC and PID namespaces and reaps its orphans;
containers are children of the spawner that enter them. When the holder ends, the kernel ends all the pod's processes.

Invariant: a message of an ended process is sent once, after everything else in its process group was killed; its pid is
not signalled afterwards. Everything started here dies with the spawner, and the spawner with the machine process.

Run as `python -m meltemi.local.spawner <descriptor of the channel>`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import socket
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from meltemi.local import spawn_wire as wire
from meltemi.local.mounts import MountTable
from meltemi.local.syscalls import (
    Capability,
    MountFlag,
    Namespace,
    die_with_parent,
    forbid_new_privileges,
    keep_only,
    mount,
    sethostname,
    setns,
    unshare,
)

_JOINED = (("net", Namespace.NET), ("uts", Namespace.UTS), ("ipc", Namespace.IPC), ("mnt", Namespace.MOUNT))
_SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",  # Applications have no capabilities, and may serve port 80.
    "net/ipv6/conf/default/disable_ipv6": "1",  # Pods have IPv4 addresses; ::1 stays, for those who listen on it.
}
_SHARED_MEMORY = "/dev/shm"
_NOT_STARTED = 127


class _Starting(msgspec.Struct):
    """A child that has not yet executed its program; it tells through a pipe if it cannot."""

    request: int
    pid: int
    is_pod: bool
    trouble: int


class Spawner:
    """Answers the channel until it closes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._ready = selectors.DefaultSelector()
        self._starting: dict[int, _Starting] = {}
        self._running: set[int] = set()
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> None:
        """Serves until the machine process closes its end."""
        wakeup, trigger = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(trigger)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._ready.register(self._channel, selectors.EVENT_READ)
        self._ready.register(wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in self._ready.select():
                if key.fileobj is self._channel:
                    data, fds = wire.receive(self._channel)
                    if not data:
                        return
                    self._handle(wire.decode_request(data), fds)
                elif key.fd == wakeup:
                    os.read(wakeup, 4096)
                    self._reap()
                else:
                    self._settle(self._starting[key.fd])

    def _handle(self, message: wire.Request, fds: list[int]) -> None:
        try:
            match message:
                case wire.OpenPod():
                    self._open_pod(message)
                case wire.Start():
                    self._start(message, fds)
                case wire.Signal(pid=pid, number=number, group=group):
                    self._signal(pid, number, group=group)
        finally:
            for fd in fds:
                os.close(fd)

    def _open_pod(self, order: wire.OpenPod) -> None:
        unshare(Namespace.PID)
        try:
            self._fork(order.request, lambda trouble: _hold_pod(order, trouble), is_pod=True)
        finally:
            setns(self._own_pids, Namespace.PID)

    def _start(self, order: wire.Start, stdio: list[int]) -> None:
        namespaces: list[tuple[int, Namespace]] = []
        try:
            for name, kind in _JOINED:
                of = order.beside if order.beside and kind is Namespace.MOUNT else order.pod
                namespaces.append((os.open(f"/proc/{of}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind))
            pids = os.open(f"/proc/{order.pod}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            namespaces.append((pids, Namespace.PID))
            setns(pids, Namespace.PID)
            try:
                self._fork(order.request, lambda _trouble: _execute(order, namespaces[:-1], stdio))
            finally:
                setns(self._own_pids, Namespace.PID)
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ESRCH)
            message = "the pod has ended" if gone else f"the program could not be started: {error}"
            wire.send(self._channel, wire.Refused(order.request, "StartError", message))
        finally:
            for fd, _ in namespaces:
                os.close(fd)

    def _fork(self, request: int, body: Callable[[int], None], *, is_pod: bool = False) -> None:
        trouble, teller = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _run_child(body, teller)
        os.close(teller)
        self._running.add(pid)
        starting = _Starting(request, pid, is_pod, trouble)
        self._starting[trouble] = starting
        self._ready.register(trouble, selectors.EVENT_READ)

    def _settle(self, starting: _Starting) -> None:
        """The pipe of a starting child has something to tell, or nothing: then the program runs."""
        told = os.read(starting.trouble, 8192)
        self._ready.unregister(starting.trouble)
        os.close(starting.trouble)
        del self._starting[starting.trouble]
        if told:
            reason, _, message = told.decode(errors="replace").partition("\n")
            wire.send(self._channel, wire.Refused(starting.request, reason, message))
            self._running.discard(starting.pid)
        elif starting.is_pod:
            netns = os.open(f"/proc/{starting.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            wire.send(self._channel, wire.PodOpened(starting.request, starting.pid), [netns])
            os.close(netns)
        else:
            wire.send(self._channel, wire.Started(starting.request, starting.pid))

    def _signal(self, pid: int, number: int, *, group: bool) -> None:
        if pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number) if group else os.kill(pid, number)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            for starting in list(self._starting.values()):
                if starting.pid == pid:
                    self._settle(starting)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if pid in self._running:
                self._running.discard(pid)
                wire.send(self._channel, wire.Ended(pid, code if code >= 0 else 128 - code))


class _CannotStartError(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _run_child(body: Callable[[int], None], teller: int) -> NoReturn:
    status = _NOT_STARTED
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        body(teller)
        status = 0
    except _CannotStartError as error:
        os.write(teller, f"{error.reason}\n{error}".encode())
    except BaseException as error:
        os.write(teller, f"StartError\nthe program could not be started: {error}".encode())
    finally:
        os._exit(status)


def _hold_pod(order: wire.OpenPod, teller: int) -> None:
    os.setsid()
    unshare(Namespace.NET | Namespace.MOUNT | Namespace.UTS | Namespace.IPC)
    sethostname(order.hostname)
    mount("proc", "/proc", "proc", MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC)
    if Path(_SHARED_MEMORY).is_dir():  # Of their own, as the IPC namespace is: names in it must not meet another pod's.
        mount("tmpfs", _SHARED_MEMORY, "tmpfs", MountFlag.NOSUID | MountFlag.NODEV, "mode=1777")
    for name, value in _SYSCTLS.items():
        setting = Path("/proc/sys", name)
        if setting.exists():
            setting.write_text(value)
    table = MountTable(order.stage)
    for entry in order.mounts:
        table.add(entry)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(teller)
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _execute(order: wire.Start, namespaces: list[tuple[int, Namespace]], stdio: list[int]) -> None:
    for fd, kind in namespaces:
        setns(fd, kind)
    if not order.beside:
        unshare(Namespace.MOUNT)
        table = MountTable(order.stage)
        for entry in order.mounts:
            try:
                table.add(entry)
            except OSError as error:
                message = f"{entry.source} could not be mounted at {entry.target}: {error}"
                raise _CannotStartError("CreateContainerError", message) from error
        table.hide(order.hidden)
    os.setsid()
    os.umask(0o022)
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    if order.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        os.chdir(order.directory or "/")
    except OSError as error:
        message = f"the working directory {order.directory} cannot be entered: {error.strerror}"
        raise _CannotStartError("CreateContainerError", message) from error
    keep_only(frozenset(Capability(number) for number in order.keep))
    forbid_new_privileges()
    _exec(order)


def _exec(order: wire.Start) -> NoReturn:
    command = order.argv[0]
    path = order.env.get("PATH", os.defpath)
    try:
        os.execvpe(command, order.argv, order.env)
    except FileNotFoundError as error:
        if "/" not in command:
            where = f"it is not in PATH={path}"
        elif Path(command).exists():
            where = "the interpreter that its first line names does not exist"
        else:
            where = f"there is no such file, seen from {order.directory or '/'}"
        raise _CannotStartError("CommandNotFound", f"the command {command!r} was not found: {where}") from error
    except OSError as error:
        message = f"the command {command!r} could not be executed: {error.strerror}"
        raise _CannotStartError("StartError", message) from error


def main() -> None:
    """Serves the channel whose descriptor is the first argument."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Spawner(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
