"""What labels say of sessions."""

from __future__ import annotations

import pytest

from meltemi.model.services import Session
from meltemi.resolve.sessions import of_labels


@pytest.mark.parametrize(
    ("labels", "session"),
    [
        ({}, None),
        ({"istio.io/persistent-session": "a"}, Session(cookie="a")),
        ({"istio.io/persistent-session": "a:/shop"}, Session(cookie="a", path="/shop")),
        ({"istio.io/persistent-session-header": "x-a"}, Session(header="x-a")),
        ({"istio.io/persistent-session": "a", "istio.io/persistent-session-header": "x-a"}, Session(cookie="a")),
    ],
)
def test_a_cookie_goes_before_a_header(labels: dict[str, str], session: Session | None) -> None:
    assert of_labels(labels) == session
