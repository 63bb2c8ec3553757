"""Threads for orders that may take long: a start, or a stop with its grace."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from django.db import connections

from lifecycle import assembly

T = TypeVar("T")


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
        assembly.lifecycle().recovering.recover_own_until_settled(name)
    else:
        connections.close_all()
        future.set_result(result)
