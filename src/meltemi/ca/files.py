"""The authority's directory on disk: what is in it, who may read it, and how it comes into being.

A half-written authority is worse than none: workloads would trust a root whose key is gone. So a new one is written
beside its place and moved there in one step. Invariant: a private key is never on disk with a mode that lets anybody
but its owner read it, not even for a moment, and a key found otherwise is refused.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from meltemi.ca.errors import AuthorityError, InsecureKey

CERTIFICATE = "ca-cert.pem"
KEY = "ca-key.pem"
ROOTS = "root-cert.pem"
CHAIN = "cert-chain.pem"
NAMES = (CERTIFICATE, KEY, ROOTS, CHAIN)
"""The files of an authority, named as in Istio's `cacerts`."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def is_absent(directory: Path) -> bool:
    """Whether there is no authority yet: no directory, or an empty one."""
    return not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))


def read(directory: Path) -> dict[str, bytes]:
    """The four files. Raises AuthorityError naming what is missing, InsecureKey if others may read the key."""
    missing = [name for name in NAMES if not (directory / name).is_file()]
    if missing:
        raise AuthorityError(
            f"{directory} holds no complete certificate authority: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing\n"
            f"  hint: put {', '.join(NAMES)} there, or name an empty directory to have an authority made"
        )
    _refuse_shared_key(directory / KEY)
    try:
        return {name: (directory / name).read_bytes() for name in NAMES}
    except OSError as error:
        raise AuthorityError(f"cannot read the certificate authority in {directory}: {error}") from error


def _refuse_shared_key(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        raise InsecureKey(
            f"the private key {path} can be used by others than its owner (mode {mode:04o}); refusing it\n"
            f"  hint: chmod 0600 {path}  (a Kubernetes Secret: mount it with defaultMode 0400)"
        )


def create(directory: Path, files: Mapping[str, bytes]) -> bool:
    """Puts a new authority in place, all of it or nothing. False if somebody else was faster; theirs stands."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for name, content in files.items():
            write_private(new / name, content)
        _sync_directory(new)
        new.rename(directory)
    except OSError:
        if is_absent(directory):
            raise
        return False
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _sync_directory(directory.parent)
    return True


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read, replacing the old one in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
