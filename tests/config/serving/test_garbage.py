"""A dispatch leaves no circle of references behind, so its objects are freed without a collection of garbage."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from config.serving.daphne.requests import Body as DaphneBody
from config.serving.garbage import THRESHOLDS, tune_garbage_collection
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
