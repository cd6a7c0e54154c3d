"""Requests as the evaluator sees them: values, with the readings of them that matches are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

Headers = tuple[tuple[str, str], ...]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request as it reaches the routes, its path already made plain (MeshConfig `pathNormalization`).

    `authority` is the `Host` header, with its port where it has one. `path` has no query; `query` is None where there is
    no question mark. A header that is sent twice stands in `headers` twice. `claims` are those of a verified token.
    """

    authority: str
    method: str = "GET"
    scheme: str = "http"
    path: str = "/"
    query: str | None = None
    headers: Headers = ()
    claims: Any = None

    @property
    def target(self) -> str:
        """Path and query in one, as in the request line."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def header(self, name: str) -> tuple[str, ...]:
        """The values of a header or pseudo header, one for each time that it was sent; none if it was not."""
        match name.lower():
            case ":method":
                return (self.method,)
            case ":authority" | "host":
                return (self.authority,)
            case ":scheme":
                return (self.scheme,)
            case ":path":
                return (self.target,)
        return tuple(value for key, value in self.headers if key.lower() == name.lower())

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter as it was sent: percent-encoded, and empty where there is no `=`."""
        return next((value for key, value in self._parameters() if key == name), None)

    def _parameters(self) -> Iterator[tuple[str, str]]:
        for item in (self.query or "").split("&"):
            key, _, value = item.partition("=")
            yield key, value
