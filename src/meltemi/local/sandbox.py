"""Puts a whole mesh into namespaces of its own, as an ordinary user, so that nothing of it can outlive its parent.

Four processes, each with one duty:

* *outside*, the user's command: holds the terminal, opens sockets for the inside (`door`), forwards signals;
* a *keeper* in the new user namespace, needed because a process cannot enter a PID namespace, only its children can;
* *pid 1* of the new PID namespace: reaps orphans, forwards SIGTERM, and ends when the machine process ends;
* the *machine* process, which runs the function that `enter_sandbox` was given.

Each dies with its parent (PR_SET_PDEATHSIG), and the kernel ends a PID namespace with its pid 1. So a `kill -9` of the
outside ends every process inside; the mounts and the networks go with the last process. Invariant: nothing of what the
inside does is kept by anything but a process of it, and so there is nothing to clean up.

Root needs no user namespace and skips it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from meltemi.local.door import Door, answer_one, door_pair
from meltemi.local.syscalls import MountFlag, Namespace, die_with_parent, mount, sethostname, unshare

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_READY = b"ready"
_HOST_NAME = "meltemi"

ReadSetting = Callable[[str], str | None]


class SandboxRefusedError(Exception):
    """The kernel does not let this user make the namespaces. `hint` says what would change that."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\n  hint: {hint}")
        self.hint = hint


class Sandbox:
    """The outside's hold on what runs inside."""

    def __init__(self, keeper: int, door: socket.socket) -> None:
        self._keeper = keeper
        self._door = door
        self._status: int | None = None

    def __repr__(self) -> str:
        state = "running" if self._status is None else f"ended with {self._status}"
        return f"<Sandbox {self._keeper}: {state}>"

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends a signal to the machine process."""
        if self._status is None:
            os.kill(self._keeper, number)

    def run(self) -> int:
        """Answers the door and forwards signals until the machine process ends; its exit status.

        For the main thread of a process that does nothing else. Ctrl-C reaches the inside as SIGINT, once.
        """
        wakeup, trigger = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous_fd = signal.set_wakeup_fd(trigger)
        previous = {number: signal.signal(number, self._forward) for number in _FORWARDED}
        keeper = os.pidfd_open(self._keeper)
        try:
            with selectors.DefaultSelector() as ready:
                for fd in (wakeup, keeper, self._door.fileno()):
                    ready.register(fd, selectors.EVENT_READ)
                while self._status is None:
                    for key, _ in ready.select():
                        if key.fd == wakeup:
                            os.read(wakeup, 512)
                        elif key.fd == keeper:
                            self._status = _wait(self._keeper)
                        elif not answer_one(self._door):
                            ready.unregister(self._door.fileno())
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            for fd in (wakeup, trigger, keeper):
                os.close(fd)
            self._door.close()
        return self._status

    def _forward(self, number: int, _frame: object) -> None:
        self.signal(signal.Signals(number))


def enter_sandbox(machine: Callable[[Door], int]) -> Sandbox:
    """Starts `machine` inside new namespaces and returns outside, once it is on its way.

    Call it while this process has one thread. `machine` gets the door, in a process of its own with all capabilities
    over the new namespaces, and returns its exit status. Raises SandboxRefusedError if the kernel refuses.
    """
    outside, inside = door_pair()
    news, report = os.pipe2(os.O_CLOEXEC)
    keeper = os.fork()
    if keeper == 0:
        os.close(news)
        outside.close()
        _in_child(lambda: _keep(machine, inside, report))
    os.close(report)
    inside.close()
    with os.fdopen(news, "rb") as reader:
        said = reader.read()
    if said != _READY:
        outside.close()
        os.waitpid(keeper, 0)
        number, _, words = said.decode(errors="replace").partition(" ")
        raise refusal(int(number) if number.isdecimal() else 0, words or "it ended", _read_setting)
    return Sandbox(keeper, outside)


def refusal(number: int, words: str, read: ReadSetting) -> SandboxRefusedError:
    """Why the kernel refused, judged by its settings (`read` gives a file below /proc/sys, or None)."""
    message = f"this machine does not let an ordinary user make the namespaces that the mesh runs in: {words}"
    if read("user/max_user_namespaces") == "0":
        hint = "allow them with: sudo sysctl -w user.max_user_namespaces=15000"
    elif read("kernel/unprivileged_userns_clone") == "0":
        hint = "allow them with: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    elif read("kernel/apparmor_restrict_unprivileged_userns") == "1":
        hint = "allow them with: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    elif number in (1, 13):
        hint = (
            "run it with sudo; in a container, start that with --privileged, or with --security-opt seccomp=unconfined "
            "and --security-opt systempaths=unconfined"
        )
    else:
        hint = "run it with sudo"
    return SandboxRefusedError(message, hint)


def _read_setting(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _in_child(body: Callable[[], int]) -> NoReturn:
    """Runs `body` in a forked child and ends it there, so that no code of the parent's runs twice."""
    status = 70
    try:
        status = body()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _keep(machine: Callable[[Door], int], inside: socket.socket, report: int) -> int:
    die_with_parent()
    os.setsid()  # Ctrl-C is for the outside, which forwards it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    try:
        uid, gid = os.getuid(), os.getgid()
        if uid != 0:
            unshare(Namespace.USER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            die_with_parent()  # Becoming someone else has cleared it.
        unshare(Namespace.PID | Namespace.MOUNT | Namespace.NET | Namespace.UTS | Namespace.IPC)
    except OSError as error:
        os.write(report, f"{error.errno} {error.strerror}".encode())
        return 71
    first = os.fork()
    if first == 0:
        _in_child(lambda: _first_process(machine, inside, report))
    os.close(report)
    inside.close()
    return _forward_until_end(first)


def _first_process(machine: Callable[[Door], int], inside: socket.socket, report: int) -> int:
    die_with_parent()
    try:
        mount("none", "/", flags=MountFlag.PRIVATE | MountFlag.RECURSIVE)
        mount("proc", "/proc", "proc", MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC)
        sethostname(_HOST_NAME)
    except OSError as error:
        os.write(report, f"{error.errno} {error.strerror}".encode())
        return 71
    os.write(report, _READY)
    os.close(report)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_FORWARDED, signal.SIGCHLD})
        _in_child(lambda: _machine_process(machine, inside))
    inside.close()
    return _forward_until_end(child)


def _machine_process(machine: Callable[[Door], int], inside: socket.socket) -> int:
    die_with_parent()
    return machine(Door(inside))


def _forward_until_end(child: int) -> int:
    """Reaps every child, and forwards signals to `child` until that one ends; its exit status."""
    while True:
        number = signal.sigwait({*_FORWARDED, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 70
            if pid == 0:
                break
            if pid == child:
                return _exit_status(status)


def _wait(pid: int) -> int:
    return _exit_status(os.waitpid(pid, 0)[1])


def _exit_status(status: int) -> int:
    """An exit status as shells tell it: 128 and the signal's number for a process that a signal ended."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
