"""Threads for orders that may take long: a start, or a stop with its grace."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from django.db import connections
from tenacity import Retrying, retry_if_result, wait_fixed

from lifecycle import assembly

T = TypeVar("T")

#: How often it is tried to settle a claim that an error left behind.
RECOVER_AGAIN_SECONDS = 5


async def in_own_thread(name: str, work: Callable[[], T]) -> T:
    """Return the result of work on an instance, done in a thread of its own. It goes on if the caller is cancelled.

    If it raises an error, the claim that it may have left behind is settled: this process is alive, so no other process
    would do that.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on a caller that hangs up cannot cancel it
    threading.Thread(target=_run, args=(name, work, future), name=f"order {name}", daemon=True).start()
    return await asyncio.shield(asyncio.wrap_future(future))


def _run(name: str, work: Callable[[], T], future: "Future[T]") -> None:
    try:
        result = work()
    except BaseException as error:
        connections.close_all()
        future.set_exception(error)
        _settle(name)
    else:
        connections.close_all()
        future.set_result(result)


def _settle(name: str) -> None:
    try:
        retrying = Retrying(
            retry=retry_if_result(lambda is_settled: not is_settled), wait=wait_fixed(RECOVER_AGAIN_SECONDS)
        )
        retrying(assembly.lifecycle().recovering.recover_own, name)
    finally:
        connections.close_all()
