"""Puts a container's files where it expects them, over the files of the host, in a mount namespace of its own.

A pod's mount path often does not exist on the host (`/var/run/secrets/...`), and an ordinary user could not make it
there. So the deepest directory that exists is *mirrored*: a tmpfs is put over it, and each of its entries is bound back
into the tmpfs. What was there is still there, and new names can be made beside it. For `/` the mirror becomes the new
root. An overlay would do the same in one mount, but hides what is mounted below, and older kernels refuse it to users.

Invariant: nothing is ever created on the host's file systems. Call this only in a process whose mount namespace is its
own and private.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from meltemi.local.syscalls import MountFlag, mount, pivot_root, unmount

_BIND = MountFlag.BIND | MountFlag.RECURSIVE
# Flags that a mount brought along and that a user namespace may not take off when it remounts.
_KEPT_FLAGS = {
    os.ST_NOSUID: MountFlag.NOSUID,
    os.ST_NODEV: MountFlag.NODEV,
    os.ST_NOEXEC: MountFlag.NOEXEC,
}


class Mount(msgspec.Struct, frozen=True):
    """A file or directory of the host that appears at another path of a container."""

    source: str
    target: str
    read_only: bool = False


class MountTable:
    """The mounts of one container. `stage` is an existing, empty directory that serves while a root is mirrored."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._mirrored: set[int] = set()

    def __repr__(self) -> str:
        return f"<MountTable with {len(self._mirrored)} mirrored directories>"

    def add(self, entry: Mount) -> None:
        """Binds the source over the target, making the target where it is missing."""
        source = Path(entry.source)
        target = self._place(Path(entry.target), is_directory=source.is_dir())
        mount(entry.source, str(target), flags=_BIND)
        if entry.read_only:
            _make_read_only(target)

    def hide(self, directories: Iterable[str]) -> None:
        """Puts something empty over the directories that exist; what was mounted from them elsewhere stays there."""
        for directory in directories:
            if Path(directory).is_dir():
                mount("tmpfs", directory, "tmpfs", MountFlag.READ_ONLY | MountFlag.NOSUID | MountFlag.NODEV, "mode=555")

    def _place(self, wanted: Path, *, is_directory: bool) -> Path:
        target = Path(os.path.realpath(wanted))
        if target.exists():
            return target
        ancestor = next(parent for parent in target.parents if parent.is_dir())
        if ancestor.stat().st_dev not in self._mirrored:
            self._mirror(ancestor)
        if is_directory:
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        return target

    def _mirror(self, directory: Path) -> None:
        if directory == Path("/"):
            self._mirror_root()
            return
        below = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _mount_tmpfs(directory, os.fstat(below).st_mode)
            _bind_entries(Path(f"/proc/self/fd/{below}"), directory)
        finally:
            os.close(below)
        self._mirrored.add(directory.stat().st_dev)

    def _mirror_root(self) -> None:
        root = Path(self._stage)
        _mount_tmpfs(root, Path("/").stat().st_mode)
        _bind_entries(Path("/"), root)
        os.chdir(root)
        pivot_root(".", ".")  # The old root now lies on top of the new one: take it off.
        unmount(".")
        os.chdir("/")
        self._mirrored.add(Path("/").stat().st_dev)


def _mount_tmpfs(target: Path, mode: int) -> None:
    mount("tmpfs", str(target), "tmpfs", MountFlag.NOSUID | MountFlag.NODEV, f"mode={stat.S_IMODE(mode):o}")


def _bind_entries(old: Path, new: Path) -> None:
    with os.scandir(old) as entries:
        for entry in entries:
            place = new / entry.name
            if entry.is_symlink():
                place.symlink_to(Path(entry.path).readlink())
                continue
            if entry.is_dir():
                place.mkdir()
            else:
                place.touch()
            mount(entry.path, str(place), flags=_BIND)


def _make_read_only(target: Path) -> None:
    has = os.statvfs(target).f_flag
    flags = MountFlag.BIND | MountFlag.REMOUNT | MountFlag.READ_ONLY
    for bit, flag in _KEPT_FLAGS.items():
        if has & bit:
            flags |= flag
    mount("none", str(target), flags=flags)
