"""An agent that says what it was sent: method, path, length and SHA-256 of the body. `/gzip` is a compressed answer."""

import gzip
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = b"".join(self.parts())
        said = {"method": self.command, "path": self.path, "length": len(body)}
        answer = json.dumps(said | {"sha256": hashlib.sha256(body).hexdigest()}).encode()
        self.send_response(200)
        if self.path == "/gzip":
            answer = gzip.compress(b"text " * 10_000)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def parts(self):
        if self.headers["Transfer-Encoding"] != "chunked":
            yield self.rfile.read(int(self.headers["Content-Length"] or 0))
            return
        while length := int(self.rfile.readline(), 16):
            yield self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
