"""The storefront, HTTP/1.1: the page a person sees. It calls every other service, each in its own protocol."""

from __future__ import annotations

import html
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from apps.page import render
from apps.web import Reply, Request, fetch, serve

POOL = ThreadPoolExecutor(max_workers=32)
STOCK = grpc.insecure_channel("stock:7000", options=[("grpc.initial_reconnect_backoff_ms", 200)])
COUNT = STOCK.unary_unary("/bookshop.Stock/Count", StringValue.SerializeToString, Int32Value.FromString)


def count(book: str, headers: dict[str, str]) -> tuple[int | None, str]:
    """Copies in stock, over gRPC."""
    try:
        return COUNT(StringValue(value=book), timeout=3, metadata=tuple(headers.items())).value, ""
    except grpc.RpcError as error:
        return None, f"gRPC {error.code().name} {error.details() or ''}".strip()


class Till:
    """One connection to the till, kept open, over plain TCP."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: Any = None

    def total(self) -> tuple[str, str]:
        """What was sold today, and the till's greeting."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    if self._lines is None:
                        self._lines = socket.create_connection(("till", 4000), timeout=3).makefile("rw", newline="\n")
                        if not self._lines.readline():
                            raise OSError("the till hung up")
                    self._lines.write("TOTAL\n")
                    self._lines.flush()
                    if line := self._lines.readline().strip():
                        return line, ""
                    raise OSError("the till hung up")
                except OSError as error:
                    self._lines = None
                    if attempt == 2:
                        return "", str(error)
        return "", ""


TILL = Till()


def gather(request: Request) -> dict[str, Any]:
    """Everything the page shows, asked for at the same time."""
    headers = request.handed_on
    sold = POOL.submit(TILL.total)
    catalog, problem = fetch("http://catalog:9090/books", headers)
    books = catalog["books"] if catalog else []
    reviews = [POOL.submit(fetch, f"http://reviews:9080/reviews/{book['id']}", headers) for book in books]
    copies = [POOL.submit(count, book["id"], headers) for book in books]
    for book, review, stock in zip(books, reviews, copies, strict=True):
        book["review"], book["review_problem"] = review.result()
        book["copies"], book["stock_problem"] = stock.result()
    total, till_problem = sold.result()
    return {
        "books": books,
        "catalog": catalog,
        "catalog_problem": problem,
        "sold": total,
        "till_problem": till_problem,
        "reader": request.headers.get("x-reader", ""),
        "request_id": request.headers.get("x-request-id", ""),
    }


def answer(request: Request) -> Reply:
    """`/` is the page, `/api` the same as JSON; `?reader=ada` reads as Ada."""
    if reader := request.query.get("reader"):
        request.headers = {**dict(request.headers.items()), "x-reader": reader[0]}
    if request.path == "/api":
        return Reply(gather(request))
    if request.path != "/":
        return Reply(
            f"<p>There is no page {html.escape(request.path)}. <a href='/'>Back to the shelf</a>", 404, "text/html"
        )
    return Reply(render(gather(request)), content_type="text/html; charset=utf-8")


if __name__ == "__main__":
    serve(8080, answer)
