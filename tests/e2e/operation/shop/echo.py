"""A server for tests: tells who answered, waits when asked to, and can be made unwell.

/?delay=0.05            answers after that many seconds
/set?ready=no           `/ready` says 503 from now on (`alive=no`: `/alive` does)
/file?path=...          the content of a file, as it is now
/environment            all variables
/resolve?name=...       the addresses of a name
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

HOST = os.environ.get("HOSTNAME", "")
VERSION = os.environ.get("VERSION", "v1")
STATE = {"ready": "yes", "alive": "yes"}


class Handler(BaseHTTPRequestHandler):
    """Answers GET requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        try:
            status, text = self.answer(url.path, query)
        except OSError as error:
            status, text = 404, str(error)
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-served-by", HOST)
        self.send_header("x-version", VERSION)
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        """The status and the text of an answer."""
        if path in ("/ready", "/alive"):
            is_well = STATE[path[1:]] == "yes"
            return (200 if is_well else 503), "well" if is_well else "unwell"
        if path == "/set":
            STATE.update(query)
            return 200, json.dumps(STATE)
        if path == "/file":
            return 200, Path(query["path"]).read_text()
        if path == "/environment":
            return 200, json.dumps(dict(os.environ))
        if path == "/resolve":
            found = socket.getaddrinfo(query["name"], 80, socket.AF_INET, socket.SOCK_STREAM)
            return 200, json.dumps(sorted({str(entry[4][0]) for entry in found}))
        time.sleep(float(query.get("delay", "0")))
        return 200, HOST

    def log_message(self, *args: object) -> None:
        if self.path.startswith("/set"):
            print(self.path, flush=True)


def main() -> None:
    """Serve until SIGTERM; then finish what is under way."""
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
