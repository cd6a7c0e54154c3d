"""The catalogue, HTTP/2 from the first byte: which books there are. An ASGI application, served by hypercorn."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

BOOKS = [
    {"id": "1", "title": "The Etesian Sea", "author": "Eleni Markou", "price": 14.5, "hue": 205},
    {"id": "2", "title": "A Field Guide to Winds", "author": "Tomas Rehn", "price": 22.0, "hue": 165},
    {"id": "3", "title": "Salt on the Pages", "author": "Ines Duarte", "price": 12.9, "hue": 20},
    {"id": "4", "title": "Four in the Afternoon", "author": "Paul Amsel", "price": 11.0, "hue": 42},
    {"id": "5", "title": "The Keeper of Kea", "author": "Nora Lindqvist", "price": 16.8, "hue": 265},
    {"id": "6", "title": "Pine, Thyme, Dust", "author": "Giorgos Vale", "price": 13.4, "hue": 110},
]

Message = dict[str, Any]


async def catalog(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """`/books` lists all books."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    found = scope["path"] in ("/books", "/healthz")
    body = {"books": BOOKS, "protocol": scope["http_version"], "version": os.environ.get("VERSION", "v1")}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body if found else {}).encode()})


def main() -> None:
    """Serve on port 9090."""
    config = Config()
    config.bind = ["0.0.0.0:9090"]
    config.accesslog = None
    print("serving on port 9090", flush=True)
    asyncio.run(serve(catalog, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
