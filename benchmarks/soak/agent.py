"""An agent that does what its work says, which is seldom what an agent should do."""

import os
import sys
import time
from contextlib import suppress
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
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2d\r\nhelloHTTP/1.1 203 Smuggled\r\nContent-Length: 0\r\n\r\n\r\n0\r\n\r\n",
    "more than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    b"helloHTTP/1.1 203 Smuggled\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
}
#: Answers without an end: what is sent once, and then again and again.
ENDLESS = {
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 1000 + b"\r\n"),
    "endless interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless line": (b"HTTP/1.1 200 ", b"x" * 1000),
}
MB = 1_000_000


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
        if work.endswith(" MB"):
            self.send_megabytes(int(work.split()[0]))
        elif work in ENDLESS:
            begin, again = ENDLESS[work]
            self.wfile.write(begin)
            with suppress(OSError):  # the caller has had enough
                while True:
                    self.wfile.write(again)
        else:
            answer = ANSWERS.get(work, DONE)
            self.wfile.write(answer)
            # A good agent keeps the connection, as its answer says. The others close it.
            self.close_connection = answer is not DONE

    def send_megabytes(self, count):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * MB))
        for _ in range(count):
            self.wfile.write(b"x" * MB)

    def log_message(self, format, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 100
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
