"""An agent that does what its work says, which is seldom what an agent should do."""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
#: The bytes that are sent as an answer, after which the connection is closed.
ANSWERS = {
    "": DONE,
    "break off": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf",
    "no answer": b"",
    "not HTTP": b"\0\1\2\r\n\r\n",
    "long headers": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "odd status": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "cookies": b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: a=b\r\n" * 90 + b"Content-Length: 0\r\n\r\n",
    "forged line": b"HTTP/1.1 500 a\x1b[2J\r\nContent-Length: 0\r\n\r\n",
}


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        work = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if work == "exit":
            os._exit(3)
        if work == "slow":
            time.sleep(2)
        self.wfile.write(ANSWERS.get(work, DONE))

    def log_message(self, format, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
