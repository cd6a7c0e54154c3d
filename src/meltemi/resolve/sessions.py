"""Persistent sessions, which labels of a Service or ServiceEntry ask for (Istio `istio.io/persistent-session`)."""

from __future__ import annotations

from collections.abc import Mapping

from meltemi.model.services import Session

COOKIE = "istio.io/persistent-session"
HEADER = "istio.io/persistent-session-header"


def of_labels(labels: Mapping[str, str]) -> Session | None:
    """The sessions that the labels ask for: by a cookie, `name` or `name:/path`, or else by a header."""
    if cookie := labels.get(COOKIE):
        name, _, path = cookie.partition(":")
        return Session(cookie=name, path=path or "/")
    header = labels.get(HEADER)
    return Session(header=header) if header else None
