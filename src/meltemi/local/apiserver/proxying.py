"""The aggregated API `debug.meltemi.dev/v1alpha1`: passed on to the control plane's admin HTTP server.

So that one address and one credential serve the CLI for everything, on one machine as on Kubernetes, where an
APIService does the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.context import Context

_NOT_PASSED_ON = frozenset(
    {"host", "authorization", "connection", "content-length", "transfer-encoding", "accept-encoding"}
)


async def proxy(context: Context, request: Request) -> Response:
    """Passes a request on; what follows the version in the path is the path at the control plane."""
    address = context.admin_address()
    if address is None:
        raise refusals.unavailable("the control plane is not running")
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5))
    try:
        answer = await session.request(
            request.method,
            f"http://{address}/{request.path_params['path']}",
            params=list(request.query_params.multi_items()),
            headers={name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON},
            data=await request.body() or None,
        )
    except (aiohttp.ClientError, OSError) as error:
        await session.close()
        raise refusals.unavailable(f"the control plane does not answer: {error}") from error
    media_type = answer.headers.get("content-type", "application/json")
    return StreamingResponse(_body(session, answer), answer.status, media_type=media_type)


async def _body(session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with session, answer:
        async for piece in answer.content.iter_any():
            yield piece
