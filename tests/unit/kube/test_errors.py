"""Refusals of the API as exceptions."""

from __future__ import annotations

import msgspec
import pytest

from meltemi.kube.errors import (
    AlreadyExists,
    ApiError,
    Cause,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    Status,
    Unauthorized,
    error_of_body,
)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (401, "Unauthorized", Unauthorized),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (503, "ServiceUnavailable", ServerError),
        (418, "", ApiError),
    ],
)
def test_each_code_has_its_exception(code: int, reason: str, kind: type[ApiError]) -> None:
    status = Status(code=code, reason=reason, message="because")
    error = error_of_body(code, msgspec.json.encode(status.as_object()))
    assert type(error) is kind
    assert str(error) == "because"


def test_a_status_survives_the_wire() -> None:
    causes = (Cause("spec.a", "is wrong", "FieldValueInvalid"),)
    status = Status(
        code=422, reason="Invalid", message="m", group="g", kind="k", name="n", causes=causes, retry_after=3
    )
    assert Status.of_object(status.as_object(), 500) == status


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[1]", b'{"kind": "Other"}'])
def test_an_answer_that_is_no_status_still_becomes_an_error(body: bytes) -> None:
    error = error_of_body(502, body)
    assert isinstance(error, ServerError)
    assert "502" in str(error)
