"""The echo application as a process. `VERSION` and `HOSTNAME` of the environment are the names it answers with."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from meltemi.testing.echo import streams
from meltemi.testing.echo.answering import Register

CERTIFICATES = Path("/etc/echo/certificates")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="echo", description=__doc__)
    ports = {
        "http": "HTTP/1.1, HTTP/2 with prior knowledge, gRPC and WebSocket",
        "tls": "the same within TLS",
        "tcp": "lines over TCP",
        "greet": "lines over TCP, where the server speaks first",
        "control": "orders",
        "gate": "tunnels into the mesh",
    }
    for name, text in ports.items():
        parser.add_argument(f"--{name}", type=int, action="append", default=[], metavar="PORT", help=text)
    parser.add_argument("--certificates", type=Path, default=CERTIFICATES, help="tls.crt, tls.key, maybe ca.crt")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    register = Register(os.environ.get("HOSTNAME", ""), os.environ.get("VERSION", "v1"))
    servers = [await streams.listen(port, streams.http(register)) for port in options.http]
    if options.tls:
        servers += [
            await streams.listen(port, streams.http(register), streams.server_tls(options.certificates))
            for port in options.tls
        ]
    servers += [await streams.listen(port, streams.lines(register, greets=False)) for port in options.tcp]
    servers += [await streams.listen(port, streams.lines(register, greets=True)) for port in options.greet]
    if options.control or options.gate:
        from meltemi.testing.echo import control

        servers += [await streams.listen(port, control.control(register)) for port in options.control]
        servers += [await streams.listen(port, control.gate) for port in options.gate]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await asyncio.gather(*(server.aclose() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
