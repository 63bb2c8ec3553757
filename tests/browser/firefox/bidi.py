"""Drives Firefox by WebDriver BiDi, a standard of the W3C that it speaks by itself: https://w3c.github.io/webdriver-bidi/."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from websockets.sync.client import ClientConnection, connect

from tests.servers import wait_for

T = TypeVar("T")


class Refused(Exception):
    """Firefox refused a command: its error and message."""


class Firefox:
    """A running Firefox. `complaints` has the errors and warnings of all its tabs."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._commands = 0
        self.complaints: list[str] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command. Note what tabs complained of until it came."""
        self._commands += 1
        self._socket.send(json.dumps({"id": self._commands, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv(60))).get("id") != self._commands:
            self._note(message)
        if message["type"] == "error":
            raise Refused(f"{method}: {message['error']}: {message['message']}")
        result: dict[str, Any] = message["result"]
        return result

    def _note(self, message: dict[str, Any]) -> None:
        entry = message["params"]
        if message["method"] == "log.entryAdded" and entry["level"] in ("error", "warn"):
            self.complaints.append(entry["text"])


class Tab:
    """A tab. A selector is one of CSS."""

    def __init__(self, firefox: Firefox, person: str) -> None:
        self.firefox, self.person = firefox, person
        self.id = firefox.send("browsingContext.create", type="window", userContext=person)["context"]

    def another(self, url: str) -> "Tab":
        """Open a tab of the same person."""
        tab = Tab(self.firefox, self.person)
        tab.visit(url)
        return tab

    def visit(self, url: str) -> None:
        self.firefox.send("browsingContext.navigate", context=self.id, url=url, wait="complete")

    def reload(self) -> None:
        self.firefox.send("browsingContext.reload", context=self.id, wait="complete")

    def go_back(self) -> None:
        self.firefox.send("browsingContext.traverseHistory", context=self.id, delta=-1)

    def resize(self, width: int, height: int) -> None:
        self.firefox.send("browsingContext.setViewport", context=self.id, viewport={"width": width, "height": height})

    def close(self) -> None:
        self.firefox.send("browsingContext.close", context=self.id)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise."""
        answer = self.firefox.send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await ({expression})) ?? null))()",
            target={"context": self.id},
            awaitPromise=True,
            userActivation=False,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all parts that can be seen."""
        found: list[str] = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter(part => part.checkVisibility()).map(part => part.innerText.trim())"
        )
        return found

    def shows(self, selector: str, *texts: str) -> None:
        """Wait until the parts that can be seen have these texts and no others."""
        with suppress(AssertionError):
            wait_for(lambda: _unless_refused(lambda: self.texts(selector)) == list(texts))
        assert (found := self.texts(selector)) == list(texts), f"{selector} shows {found}, not {texts}"

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true, even if another page comes meanwhile."""
        wait_for(lambda: _unless_refused(lambda: self.evaluate(expression)), what=expression)

    def click(self, role: str, name: str) -> None:
        """Click on the only part with this role and name, as they are told to a screen reader, when it is there."""
        part = wait_for(lambda: self._find(role, name), what=f"the {role} “{name}”")
        self._call("part => part.scrollIntoView({block: 'center', behavior: 'instant'})", part)
        pointer = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": {"type": "element", "element": part}},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._act({"type": "pointer", "id": "mouse", "actions": pointer})

    def type(self, text: str) -> None:
        """Press the keys of a text, one after the other. ENTER and TAB are keys, too."""
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keyboard", "actions": keys})

    def point_away(self) -> None:
        """Move the pointer to the corner, where it holds nothing."""
        self._act({"type": "pointer", "id": "mouse", "actions": [{"type": "pointerMove", "x": 1, "y": 1}]})

    def _find(self, role: str, name: str) -> dict[str, str] | None:
        locator = {"type": "accessibility", "value": {"role": role, "name": name}}
        parameters = {"context": self.id, "locator": locator}
        answer = _unless_refused(lambda: self.firefox.send("browsingContext.locateNodes", **parameters))
        nodes = answer["nodes"] if answer else []
        assert len(nodes) < 2, f"{len(nodes)} are a {role} “{name}”"
        return {"sharedId": nodes[0]["sharedId"]} if nodes else None

    def _call(self, function: str, part: Any) -> None:
        self.firefox.send(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[part],
            target={"context": self.id},
            awaitPromise=False,
        )

    def _act(self, source: dict[str, Any]) -> None:
        self.firefox.send("input.performActions", context=self.id, actions=[source])


def _unless_refused(do: Callable[[], T]) -> T | None:
    """Return what `do` returns, or None if its page is just being replaced by the next one."""
    try:
        return do()
    except Refused:
        return None


ENTER, TAB = "\ue007", "\ue004"


@contextmanager
def firefox_in(folder: Path, program: str) -> Iterator[Firefox]:
    """Run a Firefox without windows, with a new profile in `folder`."""
    command = [program, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0"]
    with (folder / "firefox.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        address = str(wait_for(lambda: _address(folder, process), what="Firefox"))
        with connect(address, max_size=None) as socket:
            firefox = Firefox(socket)
            firefox.send("session.new", capabilities={})
            firefox.send("session.subscribe", events=["log.entryAdded"])
            yield firefox
            firefox.send("browser.close")
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def _address(folder: Path, process: subprocess.Popen) -> str | None:
    log = (folder / "firefox.log").read_text()
    assert process.poll() is None, f"Firefox ended:\n{log}"
    found = re.search(r"WebDriver BiDi listening on (ws://\S+)", log)
    return f"{found[1]}/session" if found else None
