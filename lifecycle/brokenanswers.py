"""Answers that break off after they have begun.

ASGI has no word for that, and daphne no answer to it: its caller would wait for ever, and its own reaper of finished
applications would die. So the connection is closed where it ends in daphne: seen there, the answer is broken.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from lifecycle.dispatch import AgentBrokeOff

logger = logging.getLogger(__name__)


class BreakOff:
    """ASGI middleware: closes the connection of an answer whose agent broke off."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except AgentBrokeOff as error:
            logger.warning("%s", error)
            _close(send)


def _close(send: Any) -> None:
    """`send` is daphne's `partial(handle_reply, protocol)`."""
    channel = send.args[0].channel
    if channel is not None:  # else the caller has hung up meanwhile
        channel.loseConnection()
