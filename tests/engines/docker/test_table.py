"""The table of docs/docker-engine.md is what the code does."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from lifecycle.engines.docker.answers import Answer, error_of
from lifecycle.engines.docker.engine import _post
from lifecycle.exceptions import Outcome, StartRejected

DOCUMENT = Path(__file__).parents[3] / "docs/docker-engine.md"
#: What the API documents for each call, beside success. 503 and others are of proxies.
DOCUMENTED = {
    "list": {400, 500},
    "inspect": {404, 500},
    "start": {204, 304, 404, 500},
    "stop": {204, 304, 404, 500},
    "pause": {204, 404, 500},
    "unpause": {204, 404, 500},
    "logs": {404, 500},
    "events": {400, 500},
    "version": {500},
}


def rows():
    lines = DOCUMENT.read_text().split("## Answers")[1].splitlines()
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [(call, int(status), *rest) for call, status, *rest in cells[2:]]


def response(status, message):
    found = requests.Response()
    found.status_code = status
    if message == "(HTML)":
        found._content = b"<html><h1>No</h1></html>"
    elif message.startswith("(text) "):
        found._content = message.removeprefix("(text) ").encode()
    elif message:
        found._content = json.dumps({"message": message}).encode()
    return found


@pytest.mark.parametrize(("call", "status", "message", "outcome", "cause"), rows())
def test_an_answer_means_what_the_table_says(call, status, message, outcome, cause):
    answered = response(status, message)
    if outcome in ("done", "already_so"):
        api = SimpleNamespace(base_url="http://x", api_version="1.41", timeout=1, post=lambda *_, **__: answered)
        assert _post(api, f"NAME/{call}") == Outcome(outcome)
        return
    error = error_of(call, "NAME", Answer.of(answered))
    assert error.outcome == Outcome(outcome)
    assert (str(error.cause) if isinstance(error, StartRejected) else "") == cause
    assert "<" not in str(error)
    assert "\n" not in str(error)


def test_every_documented_status_is_in_the_table():
    found = {(call, status) for call, status, *_ in rows()}
    assert not {(call, status) for call, statuses in DOCUMENTED.items() for status in statuses} - found
