"""A dispatch leaves no circle of references behind, so its objects are freed without a collection of garbage.

Other requests leave some, which are collected when the process is calm.
"""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from config.serving import garbage
from config.serving.daphne.requests import Body as DaphneBody
from config.serving.garbage import GROWN_BYTES, THRESHOLDS, give_memory_back, tune_garbage_collection
from lifecycle.dispatch.body import Body


class Request:
    """Stands in for daphne's request, as far as its body uses it."""

    channel = None
    body: DaphneBody


@pytest.fixture
def no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_a_request_of_daphnes_and_its_body_keep_no_circle():
    request: Any = Request()
    request.body = DaphneBody(request)
    request.body.disconnect()
    kept = weakref.ref(request.body)
    del request
    assert kept() is None


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("content", [b"work", b""])
def test_the_body_of_work_and_its_listener_keep_no_circle(content):
    async def dispatch():
        body = Body.of(content)
        async with body.watched():
            assert await body.gather() == content
        return weakref.ref(body)

    async def dispatch_and_end():
        kept = await dispatch()
        await asyncio.sleep(0)  # the listener ends
        await asyncio.sleep(0)
        return kept()

    assert asyncio.run(dispatch_and_end()) is None


def test_what_was_made_at_the_start_is_left_out_of_collections():
    before = gc.get_threshold()
    try:
        tune_garbage_collection()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold() == THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


class Circle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("no_collection")
def test_giving_memory_back_frees_circles():
    kept = weakref.ref(Circle())
    assert kept() is not None
    give_memory_back()
    assert kept() is None


class Ended(Exception):
    """The watch of the memory has seen all that the test has to show."""


@pytest.mark.parametrize(
    ("used_seconds", "memory_bytes", "given_back"),
    [
        ([0.01, 0.01], [100, 100 + GROWN_BYTES, 100 + GROWN_BYTES], []),
        ([0.01, 0.01], [100, 101 + GROWN_BYTES, 50, 50 + GROWN_BYTES], [1]),
        ([0.01, 0.01], [100, 101 + GROWN_BYTES, 50, 51 + GROWN_BYTES, 60], [1, 2]),
        ([2.0, 0.01], [100, 101 + GROWN_BYTES, 50], [2]),  # not while it is busy
    ],
)
def test_a_calm_process_that_has_grown_gives_memory_back(monkeypatch, used_seconds, memory_bytes, given_back):
    """Each wait, the process uses so many seconds of a processor; each look at its memory finds so many bytes."""
    waits, found, sizes = [], [], iter(memory_bytes)

    def wait(seconds):
        if len(waits) == len(used_seconds):
            raise Ended
        waits.append(seconds)

    monkeypatch.setattr(garbage, "sleep", wait)
    monkeypatch.setattr(garbage, "process_time", lambda: sum(used_seconds[: len(waits)]))
    monkeypatch.setattr(garbage, "_memory_bytes", lambda: next(sizes))
    monkeypatch.setattr(garbage, "give_memory_back", lambda: found.append(len(waits)))
    with pytest.raises(Ended):
        garbage._watch()
    assert found == given_back
    assert list(sizes) == []
