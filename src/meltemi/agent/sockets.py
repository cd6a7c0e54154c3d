"""Unix sockets that nobody but their owner can reach, not even between their making and a change of their mode."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_BACKLOG = 16


def listen_privately(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A listening socket of mode 0600, in place of one that an earlier process left; missing folders are made 0700.

    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, kind)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener
