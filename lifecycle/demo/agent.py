"""A small HTTP agent that takes a while to boot, sometimes fails to, and answers what is dispatched to it.

Usage: python agent.py --port 9001 --boot-ms 300 --fails-every 2 --starts-file starts
"""

import argparse
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Agent(BaseHTTPRequestHandler):
    """Answers GET at once, which the probe sends, and POST after a little work."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer the readiness probe."""
        self._answer(b"ready\n")

    def do_POST(self) -> None:
        """Work for a moment, then answer."""
        work = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(random.uniform(0.1, 0.6))  # noqa: S311  # no secret
        self._answer(b"done: " + work + b"\n")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def count_start(file: Path) -> int:
    """Count this start in the file, and return how many there have been."""
    starts = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(starts))
    return starts


def main() -> None:
    """Boot, and serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--boot-ms", type=int, default=300, help="how long it takes to boot (default %(default)s)")
    parser.add_argument("--fails-every", type=int, default=0, metavar="N", help="every Nth start fails, and the first")
    parser.add_argument("--starts-file", type=Path, default=Path("starts"), help="where its starts are counted")
    options = parser.parse_args()
    print(f"booting, to listen on port {options.port}", flush=True)
    time.sleep(options.boot_ms / 1000)
    if options.fails_every and (count_start(options.starts_file) - 1) % options.fails_every == 0:
        sys.exit("could not load the model: checkpoint is truncated")
    ThreadingHTTPServer((options.host, options.port), Agent).serve_forever()


if __name__ == "__main__":
    main()
