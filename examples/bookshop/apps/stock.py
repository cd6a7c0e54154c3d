"""The stock, gRPC: how many copies of a book there are, at once (`Count`) or as they change (`Watch`).

Messages are protobuf's own well-known types, so no code needs to be generated.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

COPIES = {"1": 12, "2": 3, "3": 0, "4": 25, "5": 7, "6": 1}


def count(request: StringValue, context: grpc.ServicerContext) -> Int32Value:
    """The number of copies of one book."""
    if request.value not in COPIES:
        context.abort(grpc.StatusCode.NOT_FOUND, f"there is no book {request.value!r}")
    return Int32Value(value=COPIES[request.value])


def watch(request: StringValue, context: grpc.ServicerContext) -> Iterator[Int32Value]:
    """The number of copies of one book, again every second."""
    while context.is_active():
        yield Int32Value(value=max(0, COPIES.get(request.value, 0) + random.randint(-1, 1)))
        time.sleep(1)


def check(request: bytes, context: grpc.ServicerContext) -> bytes:
    """The standard health check: SERVING (field 1, value 1)."""
    return b"\x08\x01"


def main() -> None:
    """Serve on port 7000."""
    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    read, write = StringValue.FromString, Int32Value.SerializeToString
    methods = {
        "Count": grpc.unary_unary_rpc_method_handler(count, read, write),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, read, write),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("bookshop.Stock", methods),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    server.add_insecure_port("0.0.0.0:7000")
    server.start()
    print("serving on port 7000", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
