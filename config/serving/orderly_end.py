"""The end of a web process under either server: applications end first, then the process cleans up and exits with 0."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: How long applications may take to end after they were cancelled, and then the clean-up.
END_SECONDS = 5
CLEAN_UP_SECONDS = 5
#: Time for the last bytes of a stream to leave.
FLUSH_SECONDS = 0.05


def exit_at_next_signal() -> None:
    """Let the next SIGINT or SIGTERM end the process at once, with 128 and the signal's number."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))


async def end_applications() -> None:
    """Cancel every other task of the event loop, and wait until they have ended, for at most END_SECONDS."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        if not task.cancelling():  # a second cancel would break off the clean-up after the first, which daphne made
            task.cancel()
    for _ in range(END_SECONDS):
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=1)
        for task in tasks:  # one whose cancellation got lost: httpcore was seen to lose it while it connects
            task.cancel()
    if tasks:
        logger.warning("%d requests did not end within %d s", len(tasks), END_SECONDS)
    await asyncio.sleep(FLUSH_SECONDS)


def leave(clean_up: Callable[[], None]) -> None:
    """Run `clean_up` in a thread, and exit when it has ended, or takes too long.

    `os._exit` is used because Python would wait for the threads of every pool, for example for a locked database.
    """
    cleaning = threading.Thread(target=clean_up, name="clean up", daemon=True)
    cleaning.start()
    cleaning.join(CLEAN_UP_SECONDS)
    if cleaning.is_alive():
        logger.warning("The clean-up did not end within %d s; other workers finish it", CLEAN_UP_SECONDS)
    logging.shutdown()
    os._exit(0)
