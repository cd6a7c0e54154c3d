"""What a Kubernetes API may answer instead of what was asked, as exceptions.

The API answers every refusal with a `Status` object (Kubernetes API conventions, "Response Status Kind"). Here it
becomes one exception of a small tree, whose text is the message the user should see. The local API server raises
the same exceptions, so a caller inside the process and one across the network handle the same things.

    ApiError
    ├── BadRequest        400  the request makes no sense
    ├── Unauthorized      401  no valid credentials
    ├── Forbidden         403  valid credentials, but not for this
    ├── NotFound          404
    ├── MethodNotAllowed  405
    ├── Conflict          409  the object has changed meanwhile, or another manager owns the field
    │   └── AlreadyExists
    ├── Gone              410  the revision asked for has been compacted: list again
    ├── UnsupportedMedia  415
    ├── Invalid           422  the object breaks rules; `status.causes` names the fields
    ├── TooManyRequests   429
    ├── ServerError       5xx
    └── Unreachable            no answer at all
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Cause(msgspec.Struct, frozen=True):
    """One reason of a refusal: the field's path, what is wrong with it, and a CamelCase reason."""

    field: str = ""
    message: str = ""
    reason: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal in Kubernetes' terms (`meta/v1` Status): HTTP code, CamelCase reason, message, and what it is about."""

    code: int = 500
    reason: str = ""
    message: str = ""
    group: str = ""
    kind: str = ""
    name: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after: int = 0
    """Seconds to wait before trying again; 0 where nothing was said."""

    def as_object(self) -> dict[str, Any]:
        """The Status object as it goes over the wire."""
        details: dict[str, Any] = {
            key: value
            for key, value in (
                ("name", self.name),
                ("group", self.group),
                ("kind", self.kind),
                ("causes", [_cause_object(cause) for cause in self.causes]),
                ("retryAfterSeconds", self.retry_after),
            )
            if value
        }
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            status["details"] = details
        return status

    @classmethod
    def of_object(cls, value: Mapping[str, Any], code: int) -> Status:
        """The refusal that a decoded Status object tells; `code` stands in where it names none."""
        details = value.get("details") or {}
        return cls(
            code=int(value.get("code") or code),
            reason=str(value.get("reason") or ""),
            message=str(value.get("message") or ""),
            group=str(details.get("group") or ""),
            kind=str(details.get("kind") or ""),
            name=str(details.get("name") or ""),
            causes=tuple(
                Cause(str(cause.get("field") or ""), str(cause.get("message") or ""), str(cause.get("reason") or ""))
                for cause in details.get("causes") or ()
            ),
            retry_after=int(details.get("retryAfterSeconds") or 0),
        )


class ApiError(Exception):
    """The API has refused. `str()` is the message for the user; `status` has the rest."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message or f"the API answered {status.code} {status.reason}".rstrip())
        self.status = status


class BadRequest(ApiError):
    """400: the request makes no sense."""


class Unauthorized(ApiError):
    """401: no valid credentials came with the request."""


class Forbidden(ApiError):
    """403: the credentials are valid, but not for this."""


class NotFound(ApiError):
    """404: no such object, or no such kind of object."""


class MethodNotAllowed(ApiError):
    """405: this kind of object does not know the verb."""


class Conflict(ApiError):
    """409: the object has changed since it was read, or another field manager owns a field."""


class AlreadyExists(Conflict):
    """409: an object of this name exists."""


class Gone(ApiError):
    """410: the revision asked for is no longer known; list again."""


class UnsupportedMedia(ApiError):
    """415: the body is in a format that the API does not read."""


class Invalid(ApiError):
    """422: the object breaks rules; `status.causes` names the fields."""


class TooManyRequests(ApiError):
    """429: come back after `status.retry_after` seconds."""


class ServerError(ApiError):
    """5xx: the API itself has failed."""


class Unreachable(ApiError):
    """No answer: the connection failed, broke or timed out."""


_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    410: Gone,
    415: UnsupportedMedia,
    422: Invalid,
    429: TooManyRequests,
}


def error_of(status: Status) -> ApiError:
    """The exception that stands for a refusal."""
    if status.reason == "AlreadyExists":
        return AlreadyExists(status)
    if status.code >= 500:
        return ServerError(status)
    return _BY_CODE.get(status.code, ApiError)(status)


def error_of_body(code: int, body: bytes) -> ApiError:
    """The exception for an HTTP answer that is not a success, whatever its body looks like."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        value = None
    if isinstance(value, dict) and value.get("kind") == "Status":
        return error_of(Status.of_object(value, code))
    text = body[:500].decode("utf-8", "replace").strip()
    return error_of(
        Status(code=code, message=f"the API answered {code}: {text}" if text else f"the API answered {code}")
    )


def _cause_object(cause: Cause) -> dict[str, str]:
    return {
        key: value
        for key, value in (("reason", cause.reason), ("message", cause.message), ("field", cause.field))
        if value
    }
