"""Where a mesh on one machine keeps its things, outside of the sandbox and over restarts.

    ~/.local/state/meltemi/<name>/         (MELTEMI_HOME or XDG_STATE_HOME put it elsewhere)
        lock            held while the mesh runs; its text tells who runs it
        kubeconfig      how to talk to it (0600), there while it runs
        api/            the objects of the API
        controlplane/   the authority's key, the record of certificates
        logs/           what the mesh's own processes say, and the pods
        run/            empty: inside the sandbox, files in memory are mounted here

Invariant: whoever holds the lock is the one mesh of that name; the kernel lets go of it when the last process ends.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import msgspec

DEFAULT_NAME = "local"

# The kernel's `struct flock`: kind, origin, start, length (0: to the end), and a pid that must be 0.
_Flock = struct.Struct("@hhqqi4x")
_WHOLE = _Flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A mesh that runs: the process of its `meltemi up`, and when it was started (Unix time)."""

    pid: int
    started: float


class Home:
    """The directory of one mesh."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.api = directory / "api"
        self.controlplane = directory / "controlplane"
        self.logs = directory / "logs"
        self.run = directory / "run"
        self._lock = directory / "lock"

    def __repr__(self) -> str:
        return f"<Home {self.directory}>"

    @classmethod
    def named(cls, name: str = DEFAULT_NAME) -> Home:
        """The home of a mesh of that name, for this user."""
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        root = os.environ.get("MELTEMI_HOME") or str(Path(state) / "meltemi")
        return cls(Path(root).absolute() / name)

    def create(self) -> None:
        """Make the directories, for this user only. Raises OSError."""
        for directory in (self.directory, self.controlplane, self.logs, self.run):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)

    def take(self, running: Running) -> int | None:
        """Take the lock for this process and those that inherit it; its descriptor, or None if the mesh runs already."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WHOLE)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(running), 0)
        return descriptor

    def running(self) -> Running | None:
        """Who runs the mesh, or None if nobody does."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # Asked without taking it, so that whoever looks is never in the way of whoever starts.
            found = _Flock.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE))
            if found[0] == fcntl.F_UNLCK:
                return None
            return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Running)
        except msgspec.DecodeError:
            return None  # It has been taken this very moment.
        finally:
            os.close(descriptor)
