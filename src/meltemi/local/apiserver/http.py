"""HTTP to verbs and back: paths, query parameters, body formats, credentials, refusals.

/api/v1/namespaces/<ns>/<plural>/<name>/<subresource>       core kinds
/apis/<group>/<version>/...                                 all others
/apis/debug.meltemi.dev/v1alpha1/...                        passed on to the control plane
/openapi/v3, /version, /healthz, /livez, /readyz, /openid/v1/jwks, /.well-known/openid-configuration
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from meltemi.kube.client import PatchType
from meltemi.kube.errors import ApiError
from meltemi.kube.resources import Obj
from meltemi.local.apiserver import discovery, protobuf, refusals, rendering, selectors, subresources
from meltemi.local.apiserver.context import Context
from meltemi.local.apiserver.execution import exec_endpoint
from meltemi.local.apiserver.identity import ISSUER
from meltemi.local.apiserver.objects import Part
from meltemi.local.apiserver.proxying import proxy
from meltemi.local.apiserver.removal import DeleteOptions
from meltemi.local.apiserver.store import StorageError
from meltemi.local.apiserver.targets import Target, target_of
from meltemi.local.apiserver.verbs import Options, Result
from meltemi.local.apiserver.watching import WatchOptions

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_LONGEST_WATCH = 3600.0

Handler = Callable[[Context, Request], Awaitable[Response]]


def application(context: Context) -> Starlette:
    """The ASGI application of an API server."""

    def endpoint(handler: Handler, *, is_open: bool = False) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            try:
                if not is_open:
                    context.admit(request.headers.get("authorization", ""))
                return await handler(context, request)
            except ApiError as error:
                return _refusal(error)
            except StorageError as error:
                return _refusal(refusals.storage_failed(str(error)))

        return serve

    return Starlette(
        routes=[
            Route("/version", endpoint(_version, is_open=True)),
            *[Route(path, endpoint(_health, is_open=True)) for path in ("/healthz", "/livez", "/readyz")],
            Route("/openid/v1/jwks", endpoint(_jwks, is_open=True)),
            Route("/.well-known/openid-configuration", endpoint(_openid, is_open=True)),
            Route("/openapi/v3", endpoint(_openapi_index)),
            Route("/openapi/v3/{path:path}", endpoint(_openapi)),
            WebSocketRoute("/api/v1/namespaces/{namespace}/pods/{name}/exec", exec_endpoint(context)),
            Route("/apis/debug.meltemi.dev/v1alpha1/{path:path}", endpoint(proxy), methods=_METHODS),
            Route("/api", endpoint(_core)),
            Route("/apis", endpoint(_groups)),
            Route("/api/{path:path}", endpoint(_api), methods=_METHODS),
            Route("/apis/{path:path}", endpoint(_api), methods=_METHODS),
            Route("/{path:path}", endpoint(_nothing), methods=_METHODS),
        ]
    )


# === about the server ===


async def _version(context: Context, request: Request) -> Response:
    return JSONResponse(discovery.VERSION)


async def _health(context: Context, request: Request) -> Response:
    return Response("ok", media_type="text/plain")


async def _nothing(context: Context, request: Request) -> Response:
    raise refusals.no_such_path()


async def _jwks(context: Context, request: Request) -> Response:
    return JSONResponse(context.tokens.jwks(), media_type="application/jwk-set+json")


async def _openid(context: Context, request: Request) -> Response:
    return JSONResponse(
        {
            "issuer": ISSUER,
            "jwks_uri": str(request.url.replace(path="/openid/v1/jwks", query="")),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
    )


async def _openapi_index(context: Context, request: Request) -> Response:
    return JSONResponse(context.openapi.index())


async def _openapi(context: Context, request: Request) -> Response:
    match request.path_params["path"].split("/"):
        case ["api", version]:
            group = ""
        case ["apis", group, version]:
            pass
        case _:
            raise refusals.no_such_path()
    try:
        return _json(context.openapi.document(group, version))
    except KeyError:
        raise refusals.no_such_path() from None


async def _core(context: Context, request: Request) -> Response:
    return _aggregated(context, request, core=True) or JSONResponse(discovery.api_versions())


async def _groups(context: Context, request: Request) -> Response:
    return _aggregated(context, request, core=False) or JSONResponse(discovery.api_groups(context.catalogue))


def _aggregated(context: Context, request: Request, *, core: bool) -> Response | None:
    accepted = request.headers.get("accept", "").replace(" ", "")
    for version, media in (("v2", discovery.AGGREGATED_V2), ("v2beta1", discovery.AGGREGATED_V2BETA1)):
        if media in accepted:
            return JSONResponse(discovery.aggregated(context.catalogue, core=core, version=version), media_type=media)
    return None


def _group_or_version(context: Context, request: Request) -> Response:
    parts = request.url.path.strip("/").split("/")
    try:
        match parts:
            case ["api", version]:
                return JSONResponse(discovery.api_resources(context.catalogue, "", version))
            case ["apis", group]:
                return JSONResponse(discovery.api_group(context.catalogue, group))
            case ["apis", group, version]:
                return JSONResponse(discovery.api_resources(context.catalogue, group, version))
    except KeyError:
        pass
    raise refusals.no_such_path()


# === objects ===


async def _api(context: Context, request: Request) -> Response:
    target = target_of(context.catalogue, request.url.path)
    if target is None:
        return _group_or_version(context, request)
    if target.kind.virtual:
        return await subresources.review_token(context, await _body(request))
    if target.subresource and target.subresource != "status":
        return await subresources.serve(context, request, target, await _body(request))
    if not target.name:
        return await _collection(context, request, target)
    match request.method:
        case "GET":
            item = context.verbs.get(target.kind, target.key)
            return _json(_renderer(context, request, target).one(item))
        case "PUT":
            result = context.verbs.update(target.kind, target.key, await _object(request), _options(request, target))
        case "PATCH":
            result = await _patch(context, request, target)
        case "DELETE" if not target.subresource:
            return await _delete(context, request, target)
        case verb:
            raise refusals.method_not_allowed(verb)
    return _written(context, request, target, result)


async def _collection(context: Context, request: Request, target: Target) -> Response:
    match request.method:
        case "GET" if request.query_params.get("watch") in ("true", "1"):
            return _watch(context, request, target)
        case "GET":
            return _list(context, request, target)
        case "POST":
            obj = await _object(request)
            namespace = target.namespace
            result = context.verbs.create(target.kind, namespace, obj, _options(request, target))
            return _written(context, request, target, result)
        case "DELETE":
            options = _delete_options(request, await _body(request))
            listing = context.verbs.delete_all(target.kind, target.namespace, _selector(request), options)
            return _json(_renderer(context, request, target).page(listing))
        case verb:
            raise refusals.method_not_allowed(verb)


def _list(context: Context, request: Request, target: Target) -> Response:
    after, revision = None, None
    if token := request.query_params.get("continue"):
        revision, after = rendering.read_continue_token(token)
    limit = _whole_number(request, "limit") or 0
    listing = context.verbs.list(target.kind, target.namespace, _selector(request, target), limit, after)
    return _json(_renderer(context, request, target).page(listing, revision))


def _watch(context: Context, request: Request, target: Target) -> Response:
    parameters = request.query_params
    given = parameters.get("resourceVersion", "")
    if given and not given.isdigit():
        raise refusals.bad_request(f"invalid resource version {given!r}")
    wants_initial = parameters.get("sendInitialEvents") == "true"
    options = WatchOptions(
        namespace=target.namespace,
        selector=_selector(request, target),
        revision=None if given in ("", "0") or wants_initial else int(given),
        bookmarks=parameters.get("allowWatchBookmarks") in ("true", "1"),
        initial_end=wants_initial,
        seconds=min(float(_whole_number(request, "timeoutSeconds") or 1800), _LONGEST_WATCH),
    )
    lines: AsyncIterator[bytes] = context.watches.follow(target.kind, options, _renderer(context, request, target))
    return StreamingResponse(lines, media_type="application/json")


async def _patch(context: Context, request: Request, target: Target) -> Result:
    content_type = request.headers.get("content-type", "").split(";")[0].strip()
    try:
        how = PatchType(content_type)
    except ValueError:
        raise refusals.unsupported_media(content_type, [str(known) for known in PatchType]) from None
    options = _options(request, target)
    if how is PatchType.APPLY and not request.query_params.get("fieldManager"):
        raise refusals.bad_request(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )
    return context.verbs.patch(target.kind, target.key, how, await _body(request), options)


async def _delete(context: Context, request: Request, target: Target) -> Response:
    item, is_gone = context.verbs.delete(target.kind, target.key, _delete_options(request, await _body(request)))
    if not is_gone:
        return _json(_renderer(context, request, target).one(item))
    details = {
        "name": target.name,
        "group": target.kind.group,
        "kind": target.kind.plural,
        "uid": item.obj["metadata"]["uid"],
    }
    return JSONResponse({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def _written(context: Context, request: Request, target: Target, result: Result) -> Response:
    response = _json(_renderer(context, request, target).one(result.item), 201 if result.created else 200)
    for warning in result.warnings:
        text = warning.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.append("Warning", f'299 - "{text}"')
    return response


# === reading requests ===


def _renderer(context: Context, request: Request, target: Target) -> rendering.Renderer:
    form = rendering.form_of(request.headers.get("accept", ""))
    include = request.query_params.get("includeObject", "Metadata")
    return rendering.Renderer(target.kind, target.version, form, include, context.now)


def _options(request: Request, target: Target) -> Options:
    parameters = request.query_params
    agent = request.headers.get("user-agent", "unknown").split("/")[0]
    return Options(
        dry_run=bool(parameters.get("dryRun")),
        manager=(parameters.get("fieldManager") or agent)[:128],
        force=parameters.get("force") in ("true", "1"),
        part=Part.STATUS if target.subresource == "status" else Part.MAIN,
    )


def _delete_options(request: Request, body: Any) -> DeleteOptions:
    parameters = request.query_params
    given: Obj = dict(body) if isinstance(body, dict) else {}
    if policy := parameters.get("propagationPolicy"):
        given.setdefault("propagationPolicy", policy)
    if (grace := _whole_number(request, "gracePeriodSeconds")) is not None:
        given.setdefault("gracePeriodSeconds", grace)
    return DeleteOptions.of_object(given, dry_run=bool(parameters.get("dryRun")))


def _selector(request: Request, target: Target | None = None) -> selectors.Selector:
    try:
        return selectors.parse(
            request.query_params.get("labelSelector", ""), request.query_params.get("fieldSelector", "")
        )
    except ValueError as error:
        raise refusals.bad_request(str(error)) from error


def _whole_number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not text.isdigit():
        raise refusals.bad_request(f"{name}: {text!r} is not a whole number")
    return int(text)


async def _body(request: Request) -> Any:
    """The decoded body, JSON or YAML; None if there is none."""
    body = await request.body()
    if not body.strip():
        return None
    content_type = request.headers.get("content-type", "")
    try:
        if "protobuf" in content_type:
            return protobuf.decode(body)
        if "yaml" in content_type and not body.lstrip().startswith(b"{"):
            return yaml.load(body, yaml.CSafeLoader)
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, yaml.YAMLError, ValueError) as error:
        raise refusals.bad_request(f"the body cannot be read: {error}") from error


async def _object(request: Request) -> Obj:
    body = await _body(request)
    if not isinstance(body, dict):
        raise refusals.bad_request("the body is not an object")
    return body


# === answering ===


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _refusal(error: ApiError) -> Response:
    headers = {"Retry-After": str(error.status.retry_after)} if error.status.retry_after else None
    return JSONResponse(error.status.as_object(), error.status.code or 500, headers)
