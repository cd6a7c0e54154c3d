"""What hangs below an object: scale, token, binding, finalize and log (exec has a module of its own)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from meltemi.kube.client import PatchType
from meltemi.kube.resources import Obj
from meltemi.local.apiserver import patches, refusals
from meltemi.local.apiserver.context import Context
from meltemi.local.apiserver.podaccess import LogOptions
from meltemi.local.apiserver.store import Item
from meltemi.local.apiserver.targets import Target
from meltemi.local.apiserver.verbs import Options


async def serve(context: Context, request: Request, target: Target, body: Any) -> Response:
    """Answers a request for a subresource other than status and exec."""
    match (target.kind.id, target.subresource, request.method):
        case ("pods", "log", "GET"):
            return await _log(context, request, target)
        case ("pods", "binding", "POST"):
            return _bind(context, request, target, body)
        case ("serviceaccounts", "token", "POST"):
            if not isinstance(body, dict):
                raise refusals.bad_request("the body is not a TokenRequest")
            return JSONResponse(context.tokens.issue(target.kind, target.key, body), 201)
        case ("namespaces", "finalize", "PUT"):
            return JSONResponse(context.verbs.get(target.kind, target.key).obj)
        case (_, "scale", method) if target.kind.scale:
            return _scale(context, request, target, method, body)
    raise refusals.no_such_path()


async def review_token(context: Context, body: Any) -> Response:
    """Answers a TokenReview."""
    if not isinstance(body, dict):
        raise refusals.bad_request("the body is not a TokenReview")
    return JSONResponse(context.tokens.review(body), 201)


# === scale ===


def _scale(context: Context, request: Request, target: Target, method: str, body: Any) -> Response:
    item = context.verbs.get(target.kind, target.key)
    scale = _scale_of(item)
    if method == "GET":
        return JSONResponse(scale)
    if method == "PATCH":
        content_type = request.headers.get("content-type", "").split(";")[0]
        try:
            body = patches.json_patch(scale, body) if content_type == PatchType.JSON else patches.merge(scale, body)
        except ValueError as error:
            raise refusals.bad_request(str(error)) from error
    elif method != "PUT":
        raise refusals.method_not_allowed(method)
    wanted = ((body if isinstance(body, dict) else {}).get("spec") or {}).get("replicas", 0)
    if not isinstance(wanted, int) or wanted < 0:
        raise refusals.bad_request("spec.replicas: must be a whole number, 0 or more")
    manager = request.query_params.get("fieldManager") or request.headers.get("user-agent", "unknown").split("/")[0]
    options = Options(dry_run=bool(request.query_params.get("dryRun")), manager=manager)
    result = context.verbs.patch(target.kind, target.key, PatchType.MERGE, {"spec": {"replicas": wanted}}, options)
    return JSONResponse(_scale_of(result.item))


def _scale_of(item: Item) -> Obj:
    """The `Scale` of autoscaling/v1 of a Deployment or ReplicaSet."""
    metadata, spec, status = item.obj["metadata"], item.obj.get("spec") or {}, item.obj.get("status") or {}
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {
            "replicas": status.get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


# === pods ===


def _bind(context: Context, request: Request, target: Target, body: Any) -> Response:
    """Places a pod on a node, once and for all."""
    node = ((body if isinstance(body, dict) else {}).get("target") or {}).get("name")
    if not node:
        raise refusals.bad_request("target.name: Required value")
    pod = context.verbs.get(target.kind, target.key).obj
    if pod["spec"].get("nodeName"):
        raise refusals.conflict(target.kind, target.name, f"pod {target.name} is already assigned to node {node}")
    manager = Options(manager="scheduler")
    context.verbs.patch(target.kind, target.key, PatchType.MERGE, {"spec": {"nodeName": node}}, manager)
    return JSONResponse({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


async def _log(context: Context, request: Request, target: Target) -> Response:
    context.verbs.get(target.kind, target.key)
    access = context.pods()
    if access is None:
        raise refusals.unavailable("nothing runs pods here, so there are no logs")
    parameters = request.query_params
    options = LogOptions(
        container=parameters.get("container", ""),
        follow=parameters.get("follow") in ("true", "1"),
        previous=parameters.get("previous") in ("true", "1"),
        tail_lines=_number(request, "tailLines"),
        since_seconds=_number(request, "sinceSeconds"),
        since_time=parameters.get("sinceTime", ""),
        limit_bytes=_number(request, "limitBytes"),
        timestamps=parameters.get("timestamps") in ("true", "1"),
    )
    pieces = access.logs(target.namespace, target.name, options)
    first = await anext(aiter(pieces), b"")
    return StreamingResponse(_with_first(first, pieces), media_type="text/plain")


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A log whose first piece has been waited for, so that a refusal could still become an HTTP status."""
    yield first
    async for piece in rest:
        yield piece


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise refusals.bad_request(f"{name}: {text!r} is not a whole number")
    return int(text)
