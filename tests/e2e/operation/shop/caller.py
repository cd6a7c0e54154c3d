"""A client for tests, inside the mesh: sends requests when told to, and tells what came of each.

/start?url=...&workers=4     begin; each worker sends one request after the other over a connection that it keeps
/more?count=100              answers when so many more requests have been answered
/stop                        end; a list of [sent at (Unix time), seconds, status (0: none), text]
/get?url=...                 one request: its status and text
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class Load:
    """The requests since the last start."""

    def __init__(self, url: str, workers: int) -> None:
        self.asked: list[tuple[float, float, int, str]] = []
        self.news = threading.Condition()
        self.stopped = False
        self._url = urlsplit(url)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def more(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        with self.news:
            wanted = len(self.asked) + count
            self.news.wait_for(lambda: len(self.asked) >= wanted, 30)

    def stop(self) -> list[tuple[float, float, int, str]]:
        """End, and tell what came of each request."""
        self.stopped = True
        for thread in self._threads:
            thread.join()
        return self.asked

    def _work(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self.stopped:
            at, began = time.time(), time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=20)
                connection.request("GET", f"{self._url.path or '/'}?{self._url.query}")
                response = connection.getresponse()
                status, text = response.status, response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                status, text = 0, repr(error)
                if connection is not None:
                    connection.close()
                connection = None
            with self.news:
                self.asked.append((at, time.monotonic() - began, status, text))
                self.news.notify_all()


def get(url: str) -> tuple[int, str]:
    """One request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=10)
    try:
        connection.request("GET", f"{parts.path or '/'}?{parts.query}", headers={"connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    """Takes the orders."""

    protocol_version = "HTTP/1.1"
    load: Load | None = None

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        result: object = "ok"
        if url.path == "/start":
            Handler.load = Load(query["url"], int(query.get("workers", "4")))
        elif url.path == "/more" and Handler.load:
            Handler.load.more(int(query["count"]))
        elif url.path == "/stop" and Handler.load:
            result = Handler.load.stop()
        elif url.path == "/get":
            result = get(query["url"])
        body = json.dumps(result).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    print("serving", flush=True)
    ThreadingHTTPServer(("", 8081), Handler).serve_forever()
