"""An engine that is replaced by one with another API version while Dormouse runs."""

import pytest

from lifecycle.exceptions import StartFailed
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import types


@pytest.mark.parametrize(
    "words", ["too old. Minimum supported API version is", "too new. Maximum supported API version is"]
)
def test_another_api_version_is_agreed_on_when_the_engine_was_replaced(behind_proxy, proxy, containers, words):
    name = containers.create()
    assert behind_proxy.engine.inspect(name)
    refused = {"message": f"client version 1.41 is {words} 1.44"}
    rule = proxy.answer("GET", "/json$", Canned(400, refused, times=1))
    asked = len(proxy.requests)
    assert behind_proxy.engine.inspect(name)
    assert rule.count == 1
    assert "GET /version" in [request.replace("/v1.41", "") for request in proxy.requests[asked:]]
    proxy.answer("POST", "/start$", Canned(400, refused, times=1))
    behind_proxy.waking.wake(name)
    assert types(name) == ["lazy_started"]


@pytest.mark.parametrize(
    ("method", "path", "call"),
    [
        ("GET", "/containers/json$", lambda engine, name: engine.instances()),
        ("GET", "/logs$", lambda engine, name: engine.output(name, 1)),
        ("GET", "/events$", lambda engine, name: engine.watch_changes()),
        ("GET", "/volumes/", lambda engine, name: engine.find_mark()),
        ("POST", "/pause$", lambda engine, name: engine.pause(name)),
        ("POST", "/stop$", lambda engine, name: engine.stop(name, 0)),
    ],
    ids=["list", "output", "events", "mark", "pause", "stop"],
)
def test_every_call_agrees_on_another_version(behind_proxy, proxy, containers, method, path, call):
    name = containers.create()
    containers.api.start(name)
    refused = {"message": "client version 1.41 is too old. Minimum supported API version is 1.44"}
    rule = proxy.answer(method, path, Canned(400, refused, times=1))
    asked = len(proxy.requests)
    call(behind_proxy.engine, name)
    assert rule.count == 1
    assert any(request.endswith("/version") for request in proxy.requests[asked:])


def test_a_version_that_is_refused_twice_is_a_refusal_in_the_engines_words(behind_proxy, proxy, containers):
    proxy.answer("POST", "/start$", Canned(400, {"message": "client version 1.41 is too old"}))
    with pytest.raises(StartFailed) as raised:
        behind_proxy.waking.wake(containers.create())
    assert raised.value.error == "client version 1.41 is too old"
