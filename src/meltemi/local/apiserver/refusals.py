"""The refusals of the API server, worded as Kubernetes words them where clients look at the words."""

from __future__ import annotations

from collections.abc import Sequence

from meltemi.kube.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Cause,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    MethodNotAllowed,
    NotFound,
    ServerError,
    Status,
    Unauthorized,
    UnsupportedMedia,
)
from meltemi.local.apiserver.catalogue import Kind


def not_found(kind: Kind, name: str) -> ApiError:
    """404 for an object."""
    return NotFound(
        Status(
            code=404,
            reason="NotFound",
            message=f'{kind.id} "{name}" not found',
            group=kind.group,
            kind=kind.plural,
            name=name,
        )
    )


def no_such_path() -> ApiError:
    """404 for a path that names no served kind."""
    return NotFound(Status(code=404, reason="NotFound", message="the server could not find the requested resource"))


def already_exists(kind: Kind, name: str) -> ApiError:
    """409 on creation."""
    return AlreadyExists(
        Status(
            code=409,
            reason="AlreadyExists",
            message=f'{kind.id} "{name}" already exists',
            group=kind.group,
            kind=kind.plural,
            name=name,
        )
    )


def conflict(kind: Kind, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """409: the object has changed, or fields are owned by others."""
    return Conflict(
        Status(
            code=409,
            reason="Conflict",
            message=f'Operation cannot be fulfilled on {kind.id} "{name}": {why}',
            group=kind.group,
            kind=kind.plural,
            name=name,
            causes=tuple(causes),
        )
    )


def stale(kind: Kind, name: str) -> ApiError:
    """409: the resourceVersion is no longer the current one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def disputed(kind: Kind, name: str, causes: Sequence[Cause]) -> ApiError:
    """409 of a server-side apply, one cause per field."""
    lines = "\n".join(f"- {cause.message}: {cause.field}" for cause in causes)
    count = f"{len(causes)} conflict{'s' if len(causes) != 1 else ''}"
    return Conflict(
        Status(
            code=409,
            reason="Conflict",
            message=f"Apply failed with {count}: {lines.removeprefix('- ')}"
            if len(causes) == 1
            else f"Apply failed with {count}:\n{lines}",
            group=kind.group,
            kind=kind.plural,
            name=name,
            causes=tuple(causes),
        )
    )


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with a cause per field."""
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return Invalid(
        Status(
            code=422,
            reason="Invalid",
            message=f'{qualified} "{name}" is invalid: {listed}',
            group=kind.group,
            kind=kind.kind,
            name=name,
            causes=tuple(causes),
        )
    )


def bad_request(message: str) -> ApiError:
    """400."""
    return BadRequest(Status(code=400, reason="BadRequest", message=message))


def forbidden(message: str, kind: Kind | None = None, name: str = "", causes: Sequence[Cause] = ()) -> ApiError:
    """403."""
    return Forbidden(
        Status(
            code=403,
            reason="Forbidden",
            message=f'{kind.id} "{name}" is forbidden: {message}' if kind else message,
            group=kind.group if kind else "",
            kind=kind.plural if kind else "",
            name=name,
            causes=tuple(causes),
        )
    )


def unauthorized() -> ApiError:
    """401."""
    return Unauthorized(Status(code=401, reason="Unauthorized", message="Unauthorized"))


def method_not_allowed(verb: str) -> ApiError:
    """405."""
    return MethodNotAllowed(
        Status(
            code=405,
            reason="MethodNotAllowed",
            message=f"the server does not allow {verb} on the requested resource",
        )
    )


def expired(message: str) -> ApiError:
    """410: list again."""
    return Gone(Status(code=410, reason="Expired", message=message))


def storage_failed(message: str) -> ApiError:
    """507: the disk has refused."""
    return ServerError(Status(code=507, reason="InternalError", message=message))


def unavailable(message: str) -> ApiError:
    """503: what would answer is not there."""
    return ServerError(Status(code=503, reason="ServiceUnavailable", message=message))


def unsupported_media(given: str, known: Sequence[str]) -> ApiError:
    """415."""
    message = (
        f"the body of the request was in an unknown format ({given}) - accepted media types include: {', '.join(known)}"
    )
    return UnsupportedMedia(Status(code=415, reason="UnsupportedMediaType", message=message))
