"""What the bookshop's HTTP/1.1 programs share: a small threaded server, and calls that pass the reader's headers on."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION = os.environ.get("VERSION", "v1")
HOSTNAME = os.environ.get("HOSTNAME", "")

# Headers that a program hands on, so that traces hold together and routing by reader reaches the last service.
HANDED_ON = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-reader",
)


@dataclass
class Request:
    """A request, as far as a page needs to know it."""

    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]

    @property
    def handed_on(self) -> dict[str, str]:
        """The headers to send along with calls made for this request."""
        return {name: value for name in HANDED_ON if (value := self.headers.get(name))}


@dataclass
class Reply:
    """An answer; `body` is text, or a value that becomes JSON."""

    body: Any
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def serve(port: int, answer: Callable[[Request], Reply]) -> None:
    """Answer GET requests on a port of every address, for ever. `/healthz` answers by itself."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the head and the body of an answer are two writes

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            request = Request(url.path, parse_qs(url.query), self.headers)
            self.reply(Reply("ok", content_type="text/plain") if url.path == "/healthz" else answer(request))

        def reply(self, reply: Reply) -> None:
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            data = text.encode()
            self.send_response(reply.status)
            self.send_header("content-type", reply.content_type)
            self.send_header("content-length", str(len(data)))
            self.send_header("x-served-by", f"{HOSTNAME} {VERSION}")
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            if " /healthz" not in self.requestline:
                print(self.requestline, int(code), flush=True)

    ThreadingHTTPServer.request_queue_size = 128
    with ThreadingHTTPServer(("", port), Handler) as server:
        server.daemon_threads = True
        print(f"serving on port {port}, version {VERSION}", flush=True)
        server.serve_forever()


def fetch(url: str, headers: Mapping[str, str], timeout: float = 3.0) -> tuple[Any, str]:
    """Get JSON from another service; returns it, and what went wrong instead (one of the two is empty)."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=timeout) as response:
            return json.load(response), ""
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace").strip()
        return None, f"{error.code} {text[:120] or error.reason}"
    except (OSError, ValueError) as error:
        return None, str(getattr(error, "reason", error))
