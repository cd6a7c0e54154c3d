"""Somebody outside of the mesh, on the machine itself, who comes to the ports of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from meltemi.testing.echo.calling import perform
from meltemi.testing.echo.orders import Order, Reply

_TLS = ("https", "h2s")


class Visitor:
    """Calls a gateway by any name: plain schemes come to its port 8080, those with TLS to 8443.

    `ports` are the ports of 127.0.0.1 that lead there.
    """

    def __init__(self, ports: Mapping[int, int]) -> None:
        self._ports = ports

    def port(self, number: int) -> int:
        """The port of 127.0.0.1 that leads to a port of the gateway."""
        return self._ports[number]

    def get(self, url: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        """One call (see Order)."""
        port = self._ports[8443 if urlsplit(url).scheme in _TLS else 8080]
        order = Order(url=url, headers=tuple((headers or {}).items()), to=f"127.0.0.1:{port}", **more)
        return asyncio.run(perform(order))[0]
