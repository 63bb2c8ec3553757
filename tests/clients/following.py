"""A client in a process of its own, which writes a line for each message that it hears: its type and its id."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from tests import npm
from tests.servers import PROJECT, Server

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = {"httpx-sse": "with_httpx_sse.py", "requests-sse": "with_requests_sse.py", "chromium": "with_chromium.py"}
NODE = {"eventsource 4": "eventsource_4.mjs", "eventsource 2": "eventsource_2.cjs"}
CURL = "curl, in the loop of docs/events.md"
TYPES = ["stream-open", "stream-reset", "stream-end", "a.b"]


class Following:
    """A client that follows the stream from `cursor` on. `heard` grows by entries such as ("a.b", 42)."""

    def __init__(self, server: Server, cursor: int, command: list[str], **environment: str) -> None:
        self.heard: list[tuple[str, int]] = []
        self.errors = ""
        self.process = subprocess.Popen(
            command,
            cwd=PROGRAMS,
            env=os.environ | {"PYTHONDEVMODE": "", "TOKEN": server.TOKEN} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.threads = [threading.Thread(target=self._listen), threading.Thread(target=self._complain)]
        for thread in self.threads:
            thread.start()

    @property
    def ids(self) -> list[int]:
        return [id for type, id in self.heard if type == "a.b"]

    def stop(self) -> None:
        os.killpg(self.process.pid, 9)
        self.process.wait()
        for thread in self.threads:
            thread.join()
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()

    def _listen(self) -> None:
        """Lines of a program here, or the stream itself as curl writes it."""
        type = ""
        for line in self.process.stdout:
            if line.startswith("event: "):
                type = line[7:].strip()
            elif line.startswith("id: ") and type in TYPES:
                self.heard.append((type, int(line[4:])))
            elif found := re.fullmatch(r"(\S+) (\d+)\n", line):
                self.heard.append((found[1], int(found[2])))

    def _complain(self) -> None:
        for line in self.process.stderr:
            self.errors += line


def follow(client: str, server: Server, cursor: int, cookie: str) -> Following:
    url = f"{server.url}/events?after={cursor}"
    if client == CURL:
        return Following(server, cursor, ["bash", "-c", readme_loop(server, cursor)])
    if client in NODE:
        return Following(server, cursor, [str(npm.NODE), str(PROGRAMS / NODE[client]), url, server.TOKEN, *TYPES])
    secret = cookie if client == "chromium" else server.TOKEN
    return Following(server, cursor, [sys.executable, PYTHON[client], url, secret, *TYPES])


def readme_loop(server: Server, cursor: int) -> str:
    """Return the loop of the document, with this server's address and this cursor."""
    (loop,) = re.findall(r"```bash\n(.*?)```", (PROJECT / "docs" / "events.md").read_text(), re.DOTALL)
    assert "cursor=0\n" in loop
    assert "http://127.0.0.1:8000/events" in loop
    return loop.replace("cursor=0\n", f"cursor={cursor}\n").replace("http://127.0.0.1:8000", server.url)
