"""The client's gRPC, of all four kinds, by the library that applications use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import SplitResult

import grpc
import grpc.aio

from meltemi.testing.echo.calling import Caller
from meltemi.testing.echo.orders import Order, Reply


def _encode(text: str) -> bytes:
    return text.encode()


def _decode(data: bytes) -> str:
    return data.decode()


class GrpcCaller(Caller):
    """Calls of one order over one channel."""

    def __init__(self, order: Order, url: SplitResult) -> None:
        self._order = order
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        authority = [value for name, value in order.headers if name.lower() == "host"]
        if authority or order.to:
            options.append(("grpc.default_authority", authority[0] if authority else url.netloc))  # type: ignore[arg-type]
        self._channel = grpc.aio.insecure_channel(order.to or url.netloc, options=options)

    async def call(self) -> Reply:
        """See Caller."""
        order = self._order
        metadata = tuple((name.lower(), value) for name, value in order.headers if name.lower() != "host")
        more: dict[str, Any] = {"metadata": metadata, "timeout": order.timeout}
        shape: dict[str, Any] = {"request_serializer": _encode, "response_deserializer": _decode}
        path = f"/echo/{order.kind}"
        first = order.messages[0] if order.messages else ""
        call: Any
        match order.kind:
            case "server":
                call = self._channel.unary_stream(path, **shape)(first, **more)
            case "client":
                call = self._channel.stream_unary(path, **shape)(_each(order.messages), **more)
            case "bidi":
                call = self._channel.stream_stream(path, **shape)(_each(order.messages), **more)
            case _:
                call = self._channel.unary_unary(path, **shape)(first, **more)
        heard: list[str] = []
        try:
            if order.kind in ("server", "bidi"):
                async for message in call:
                    heard.append(message)
            else:
                heard.append(await call)
        except grpc.aio.AioRpcError as error:
            return Reply(
                status=error.code().value[0],
                body=error.details() or "",
                messages=tuple(heard),
                headers=_pairs(error.initial_metadata()),
                trailers=_pairs(error.trailing_metadata()),
                protocol="gRPC",
            )
        headers, trailers = _pairs(await call.initial_metadata()), _pairs(await call.trailing_metadata())
        body = heard[0] if heard else ""
        return Reply(status=0, headers=headers, trailers=trailers, body=body, messages=tuple(heard), protocol="gRPC")

    async def aclose(self) -> None:
        """See Caller."""
        await self._channel.close()


async def _each(messages: tuple[str, ...]) -> AsyncIterator[str]:
    for message in messages:
        yield message


def _pairs(metadata: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in metadata or ()}
