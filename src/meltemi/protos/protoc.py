"""Runs grpc_tools' protoc on descriptors alone: without the .proto files that its command line would add by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MAIN = "import sys; from grpc_tools import protoc; sys.exit(protoc.main(sys.argv))"


class ProtocError(Exception):
    """protoc refused; the message is what it said."""


def run(*arguments: str | Path) -> None:
    """Runs protoc with these arguments. ProtocError if it fails, or if grpc_tools is not installed."""
    command = [sys.executable, "-c", _MAIN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise ProtocError(done.stderr.strip())
