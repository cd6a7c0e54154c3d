"""`python -m meltemi.controlplane`: the control plane, against the API that a kubeconfig names."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import uvloop

from meltemi.ca.errors import AuthorityError
from meltemi.controlplane.main import ADMIN_PORT, AUTHORITY_PORT, XDS_PORT, Settings, serve
from meltemi.kube import config
from meltemi.kube.client import Client
from meltemi.kube.transport import HttpTransport


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal ends it; the exit status."""
    parser = argparse.ArgumentParser(prog="meltemi.controlplane", description="The control plane of a mesh.")
    parser.add_argument("--kubeconfig", type=Path, help="how to reach the API (default: that of the pod we are in)")
    parser.add_argument("--state", type=Path, required=True, help="directory for the authority's key and records")
    parser.add_argument("--address", default="0.0.0.0", help="address to serve proxies on")
    parser.add_argument("--admin-address", default="127.0.0.1", help="address of the admin interface")
    parser.add_argument("--xds-port", type=int, default=XDS_PORT)
    parser.add_argument("--authority-port", type=int, default=AUTHORITY_PORT)
    parser.add_argument("--admin-port", type=int, default=ADMIN_PORT)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=chosen.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings(
        state=chosen.state,
        address=chosen.address,
        admin_address=chosen.admin_address,
        xds_port=chosen.xds_port,
        authority_port=chosen.authority_port,
        admin_port=chosen.admin_port,
    )
    status = 0
    try:
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        uvloop.run(_run(settings, chosen.kubeconfig))
    except* (config.ConfigError, AuthorityError, OSError) as errors:
        status = 1
        for error in errors.exceptions:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return status


async def _run(settings: Settings, kubeconfig: Path | None) -> None:
    transport = HttpTransport(config.load(kubeconfig))
    await serve(settings, Client(transport, field_manager="meltemi-controlplane"))


if __name__ == "__main__":
    sys.exit(main())
