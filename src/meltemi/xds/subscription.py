"""The words of the conversation with one proxy, and the book that is kept about each type of resource.

Source: `envoy.service.discovery.v3.DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import msgspec

from meltemi.envoy.resource import Resource


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A DeltaDiscoveryRequest, as far as the protocol is concerned."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = msgspec.field(default_factory=dict)
    nonce: str = ""
    error: str | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A DeltaDiscoveryResponse to be sent: finished resources, and names that are gone."""

    type_url: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    nonce: str


class Refusal(msgspec.Struct, frozen=True):
    """Resources of one response that the proxy refused, with its words. `certain`: they were named, or stood alone."""

    type_url: str
    resources: tuple[Resource, ...]
    words: str
    certain: bool


class Outcome(msgspec.Struct, frozen=True):
    """What an answer of the proxy means for others: resources it accepted, and resources it refused.

    `revision` is that of the change which it answers; 0 where it answers what the proxy itself had asked for.
    """

    accepted: tuple[Resource, ...] = ()
    refusal: Refusal | None = None
    revision: int = 0


NOTHING = Outcome()


class Shelves(Protocol):
    """What a proxy should hold: the view of `Shelf`, possibly of several laid over one another."""

    def lookup(self, type_url: str, name: str) -> Resource | None:
        """The resource of that name."""

    def finder(self, type_url: str) -> Callable[[str], Resource | None]:
        """`lookup` for many names of one type. Not to be kept."""

    def names(self, type_url: str) -> Collection[str]:
        """All names of a type."""

    def hosts_of(self, route_configuration: str) -> Collection[str]:
        """The names of the virtual hosts of a route configuration."""

    def is_set_aside(self, type_url: str, name: str) -> bool:
        """Whether nothing is held under that name only because what should be was refused."""


class Pending(msgspec.Struct):
    """A name whose content at the proxy may differ from the shelves'. `held` is the version the proxy has, "" none."""

    held: str
    revision: int
    forced: bool = False
    changed: bool = False  # because the shelves changed, not because the proxy asked


class Flight(msgspec.Struct, frozen=True):
    """A response under way: what was sent under each name (None: removed), and what the proxy held before."""

    nonce: str
    sent: dict[str, Resource | None]
    before: dict[str, Pending]
    revision: int
    since: float


class TypeState:
    """One type of resource on one stream."""

    __slots__ = ("awaited", "covered", "everything", "flight", "initial", "names", "pending", "suspects", "wildcard")

    def __init__(self) -> None:
        self.wildcard = False
        self.awaited = False  # an answer is waited for, even an empty one
        self.everything = False  # the subscription is exactly the names on the shelves
        self.names: set[str] = set()
        self.covered: set[str] = set()  # route configurations whose virtual hosts are subscribed to
        self.initial: dict[
            str, str
        ] = {}  # virtual hosts held at the start, until their route configuration is asked for
        self.pending: dict[str, Pending] = {}
        self.flight: Flight | None = None
        self.suspects: list[str] = []  # names of a refused response, to be tried one by one

    def wait(self, name: str, held: str, revision: int, *, forced: bool = False, changed: bool = False) -> None:
        """Note that a name may have to be sent; what the proxy really holds was noted first and stays."""
        known = self.pending.get(name)
        if known is None:
            self.pending[name] = Pending(held, revision, forced, changed)
        elif forced:
            known.forced = True
