"""A mesh as a process of its own, for tests: `python -m meltemi.testing.machine [--ordinary-user]`.

It is `meltemi up` that ends with whoever started it, however that ends. Its home is what `MELTEMI_HOME` says.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from meltemi.local.syscalls import die_with_parent
from meltemi.local.up import UpError, UpOptions, up
from meltemi.testing.sandboxed import become_ordinary_user


def main() -> int:
    """The process; its exit status."""
    parser = argparse.ArgumentParser(prog="machine", description=__doc__)
    parser.add_argument("--ordinary-user", action="store_true", help="as root: become `nobody` first")
    options = parser.parse_args()
    parent = os.getppid()
    if options.ordinary_user and os.getuid() == 0:
        become_ordinary_user()
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    try:
        return up(UpOptions(follow=False))
    except UpError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
