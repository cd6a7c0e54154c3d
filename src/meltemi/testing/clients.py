"""An echo application as a test sees it: what it can be told to call, and what it has been asked.

reply = shop.get("http://books:8080/list")
assert reply.status == 200 and reply.echo.version == "v2"
assert shop.many("http://books:8080/", count=200, at_once=8).versions["v1"] > 150
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from meltemi.testing.echo.orders import Echo, Order, Reply, Seen
from meltemi.testing.workloads import CONTROL

Ask = Callable[[str, int, str, bytes | None, float], Reply]
"""Sends a request to an address inside the mesh: host, port, target, body, seconds."""

_SLACK = 20.0


class Replies(list[Reply]):
    """What came of several calls."""

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came; -1 for no answer."""
        return Counter(reply.status for reply in self)

    @property
    def versions(self) -> Counter[str]:
        """How often each version of the server answered."""
        return Counter(_answerer(reply)[0] for reply in self)

    @property
    def pods(self) -> Counter[str]:
        """How often each pod answered."""
        return Counter(_answerer(reply)[1] for reply in self)

    @property
    def errors(self) -> list[str]:
        """What went wrong with those that got no answer."""
        return [reply.error for reply in self if reply.error]


def _answerer(reply: Reply) -> tuple[str, str]:
    """The version and the pod that have answered; empty where the answer does not tell."""
    if reply.protocol in ("TCP", "WebSocket"):
        version, _, rest = (reply.messages[0] if reply.messages else "").partition(" ")
        return version, rest.partition(" ")[0]
    try:
        echo = reply.echo
    except msgspec.DecodeError:
        return "", ""
    return echo.version, echo.pod


class EchoPod:
    """One pod that runs the echo application."""

    def __init__(self, name: str, namespace: str, ip: str, ask: Ask) -> None:
        self.name = name
        self.namespace = namespace
        self.ip = ip
        self._ask = ask

    def __repr__(self) -> str:
        return f"<EchoPod {self.namespace}/{self.name} {self.ip}>"

    # --- as a client ---

    def order(self, order: Order) -> Replies:
        """Carries an order out; replies in the order in which they came."""
        turns = -(-order.count // max(order.at_once, 1))
        seconds = order.timeout * turns + _SLACK
        answer = self._ask(self.ip, CONTROL, "/orders", msgspec.json.encode(order), seconds)
        return Replies(msgspec.json.decode(answer.body, type=list[Reply]))

    def get(self, url: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        """One call (see Order for what else can be said)."""
        return self.many(url, headers, count=1, **more)[0]

    def many(
        self, url: str, headers: Mapping[str, str] | None = None, *, count: int, at_once: int = 1, **more: Any
    ) -> Replies:
        """Several calls."""
        pairs = tuple((headers or {}).items())
        return self.order(Order(url=url, headers=pairs, count=count, at_once=at_once, **more))

    # --- as a server ---

    def seen(self, key: str, *, count: int = 0, seconds: float = 5.0) -> tuple[Echo, ...]:
        """The requests with that `x-echo-key`; waits until there are `count`, for some seconds."""
        target = f"/seen?key={key}&count={count}&seconds={seconds}"
        answer = self._ask(self.ip, CONTROL, target, None, seconds + _SLACK)
        return msgspec.json.decode(answer.body, type=Seen).echoes
