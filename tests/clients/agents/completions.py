"""An agent that speaks a part of OpenAI's API. It sends its second token when its client has heard the first one."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer("application/json")
        if self.path == "/v1/models":
            models = [{"id": "dormouse-1", "object": "model", "created": 0, "owned_by": "tests"}]
            self.wfile.write(json.dumps({"object": "list", "data": models}).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer("text/event-stream")
        self.say(asked["messages"][0]["content"])
        while not Path("heard").exists():
            time.sleep(0.02)
        self.say(self.headers["Authorization"] or "no key")
        self.wfile.write(b"data: [DONE]\n\n")

    def answer(self, content_type):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()

    def say(self, token):
        choice = {"index": 0, "delta": {"content": token}, "finish_reason": None}
        piece = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "dormouse-1", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
